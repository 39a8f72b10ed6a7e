"""What the rest of the project knows about a tokenizer: text in, token ids out, and back."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

#: Marks of structure. They take the last ids of every vocabulary, in this order, and no text encodes to them.
SPECIAL_TOKENS = ("<|document|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>")


class Tokenizer(Protocol):
    """Text ↔ token ids. Ids are ``0 … vocab_size - 1``, special tokens included."""

    @property
    def vocab_size(self) -> int:
        """Number of ids: the rows of the model's embedding."""
        ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Name → id of each of ``SPECIAL_TOKENS``."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of everything that decides the ids; weights of another fingerprint are refused."""
        ...

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; never a special id, whatever the text says."""
        ...

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special ids are silent, bytes that are not UTF-8 become U+FFFD."""
        ...

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of ``ids``, exactly; special ids are silent."""
        ...

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for; empty for a special id."""
        ...

    def save(self, folder: Path) -> None:
        """Write ``folder/tokenizer.json``."""
        ...
