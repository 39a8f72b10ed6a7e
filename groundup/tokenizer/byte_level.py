"""What all tokenizers share whose ids stand for bytes: the layout of our own vocabularies, decoding, saving.

Bytes go in and exactly those bytes come back; what differs is which ids ``encode_bytes`` finds.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from groundup.core import files
from groundup.core.errors import UsageError
from groundup.tokenizer.formats import huggingface
from groundup.tokenizer.formats.definition import Definition
from groundup.tokenizer.pretokenize import Pattern, utf8
from groundup.tokenizer.protocol import SPECIAL_TOKENS
from groundup.tokenizer.vocabulary import Pair, Vocabulary

#: The smallest vocabulary there can be: every byte and every special token.
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)


def room_in(vocab_size: int) -> int:
    """How many learnt tokens a vocabulary of ``vocab_size`` ids has beside the bytes and the special tokens.

    Raises:
        UsageError: the bytes and the special tokens alone are more.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise UsageError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens "
            f"need at least {SMALLEST_VOCABULARY}"
        )
    return vocab_size - SMALLEST_VOCABULARY


def own_vocabulary(
    learnt: Sequence[bytes], merges: Sequence[Pair], pattern: Pattern | None, whole_pieces: bool = False
) -> Vocabulary:
    """The ids 0–255 for the bytes, then those of the ``learnt`` tokens, then ``SPECIAL_TOKENS``.

    Raises:
        DataError: see ``Vocabulary.make``.
    """
    tokens = [*(bytes([byte]) for byte in range(256)), *learnt]
    special_tokens = {name: token_id for token_id, name in enumerate(SPECIAL_TOKENS, start=len(tokens))}
    return Vocabulary.make(tokens, merges, special_tokens, pattern, whole_pieces, possible=True)


class ByteLevelTokenizer(ABC):
    """A tokenizer whose ids stand for bytes. Any text and any bytes encode, and decode to themselves."""

    unknown_id: None = None
    """There is no unknown text."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @abstractmethod
    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, which ``decode_bytes`` gives back; those of the text where it is UTF-8."""

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self.vocabulary)

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Name → id of the special tokens."""
        return self.vocabulary.special_tokens

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that decides an id."""
        return self.vocabulary.fingerprint

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``. Surrogates, which are no characters, are resolved by ``well_formed``."""
        return self.encode_bytes(utf8(text))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special ids are silent, bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of ``ids``, exactly; special ids are silent.

        Raises:
            DataError: an id outside the vocabulary.
        """
        try:
            # A negative id would count from the end.
            if len(ids) == 0 or min(ids) >= 0:
                return b"".join(map(self.vocabulary.tokens.__getitem__, ids))
        except IndexError:
            pass
        return b"".join(map(self.token_bytes, ids))  # tells which one

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for; empty for a special id.

        Raises:
            DataError: an id outside the vocabulary.
        """
        return self.vocabulary.token(token_id)

    def to_json(self) -> dict[str, Any]:
        """The content of ``tokenizer.json``."""
        return huggingface.write(Definition(self.vocabulary))

    def save(self, folder: Path) -> None:
        """Write ``folder/tokenizer.json``, which Hugging Face's ``tokenizers`` reads too."""
        files.write_json(folder / huggingface.FILE_NAME, self.to_json())
