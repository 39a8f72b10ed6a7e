"""Characters as tokens: the smallest vocabulary that reads, and the longest sequences.

Every character of the training text is an id, or the most frequent ones are. Any other character becomes the bytes of
its UTF-8, as in byte-level BPE, and not an unknown id: what is encoded can always be decoded, a model's bits per byte
stay comparable, and the 128 ids that this takes beside ASCII cost a small model nothing that one could measure.

Ids: 0–255 the bytes, of which the first 128 are the characters of ASCII, then the other characters, the most frequent
first, then ``SPECIAL_TOKENS``. In Hugging Face's terms this is byte-level BPE without merges, cut into characters.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core import files
from groundup.core.errors import DataError
from groundup.tokenizer.byte_level import ByteLevelTokenizer, own_vocabulary, room_in
from groundup.tokenizer.formats import huggingface
from groundup.tokenizer.formats.definition import reading
from groundup.tokenizer.pretokenize import Pattern, well_formed
from groundup.tokenizer.unicode import CODE_POINTS

#: Every character is a piece.
PATTERN = Pattern((r"[\s\S]",))


class _Ids(dict[str, tuple[int, ...]]):
    """Character → its one id, or else those of its bytes; lone surrogates stand for bytes (PEP 383)."""

    def __missing__(self, character: str) -> tuple[int, ...]:
        return tuple(character.encode("utf-8", "surrogateescape"))


class CharacterTokenizer(ByteLevelTokenizer):
    """Characters, and bytes for those that the training text did not have."""

    def __init__(self, characters: Sequence[str]) -> None:
        """``characters[i]``, which is none of ASCII, has the id ``256 + i``.

        Raises:
            DataError: one is there twice, is of ASCII, or is no single character.
        """
        for character in characters:
            if len(character) != 1 or character.isascii() or "\ud800" <= character <= "\udfff":
                raise DataError(f"{character[:40]!r} is no single character beyond ASCII")
        encoded = [character.encode("utf-8") for character in characters]
        super().__init__(own_vocabulary(encoded, [], PATTERN, whole_pieces=True))
        self._ids = _Ids({character: (token_id,) for token_id, character in enumerate(characters, 256)})

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int | None = None) -> "CharacterTokenizer":
        """The characters of ``texts``, or as many of the most frequent as fit into ``vocab_size``.

        Of equally frequent ones those come first that come first in Unicode. ``vocab_size`` counts bytes, characters
        and special tokens; the result is smaller when the texts have fewer characters.

        Raises:
            UsageError: ``vocab_size`` has no room for the bytes and the special tokens.
            DataError: the texts are empty.
        """
        room = None if vocab_size is None else room_in(vocab_size)
        counts = Counter[str]()
        for text in texts:
            counts.update(well_formed(text))
        if not counts:
            raise DataError("the texts are empty, so no characters can be learnt from them; give some text")
        others = [character for character in counts if not character.isascii()]
        ranked = sorted(others, key=lambda character: (-counts[character], character))
        return cls(ranked[:room])

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, which ``decode_bytes`` gives back; those of the text where it is UTF-8."""
        text = data.decode("utf-8", "surrogateescape")
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")
        found = self._table[codes]
        if found.min(initial=0) >= 0:
            return found.tolist()
        ids = self._ids
        return [token_id for character in text for token_id in ids[character]]

    @cached_property
    def _table(self) -> npt.NDArray[np.int32]:
        """Code point → the one id of its character; -1: none."""
        table = np.full(CODE_POINTS, -1, np.int32)
        table[:128] = np.arange(128)
        table[[ord(character) for character in self._ids]] = [token_id for (token_id,) in self._ids.values()]
        return table


def load(folder: Path) -> CharacterTokenizer:
    """The tokenizer that ``save`` wrote into ``folder``.

    Raises:
        ArtifactError: the file is missing, damaged, or another kind of tokenizer.
    """
    path = folder / huggingface.FILE_NAME
    with reading(path):
        return from_json(files.read_json(path))


def from_json(content: Mapping[str, Any]) -> CharacterTokenizer:
    """The tokenizer in the content of a ``tokenizer.json`` that ``save`` wrote.

    Raises:
        DataError: it is damaged, or another kind of tokenizer.
    """
    try:
        tokens = huggingface.read(content).vocabulary.tokens[256:]
        tokenizer = CharacterTokenizer([token.decode("utf-8") for token in tokens if token])
        intact = tokenizer.to_json() == content
    except (KeyError, TypeError, ValueError, AttributeError):
        intact = False
    if not intact:
        raise DataError("it is damaged, or no vocabulary of characters that groundup wrote")
    return tokenizer
