"""Text ↔ token ids: byte-level byte-pair encoding, its trainer, and the chat template."""

from groundup.tokenizer.bpe import BytePairTokenizer, load
from groundup.tokenizer.chat import ChatTemplate
from groundup.tokenizer.protocol import Tokenizer

__all__ = ["BytePairTokenizer", "ChatTemplate", "Tokenizer", "load"]
