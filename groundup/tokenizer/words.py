"""Words as tokens: the oldest way, and why it was left.

Every frequent word of the training text is an id, and everything else is the one unknown id: new names, typing errors,
other languages, and the longest tail that any language has. What became unknown is lost; ``decode`` cannot bring it
back. ``groundup tokenizer compare`` shows how much of a text that is. Byte-pair encoding has nothing unknown.

Ids: 0 the unknown one, then the words, the most frequent first, then ``SPECIAL_TOKENS``. A word is a piece of the
pattern, so it has the space before it, and signs and white space are words too.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from groundup.core import files
from groundup.core.errors import DataError, UsageError
from groundup.tokenizer.counting import count
from groundup.tokenizer.formats import huggingface
from groundup.tokenizer.formats.definition import Definition, reading
from groundup.tokenizer.formats.spelling import spell
from groundup.tokenizer.pretokenize import Pattern, well_formed
from groundup.tokenizer.protocol import SPECIAL_TOKENS
from groundup.tokenizer.vocabulary import Vocabulary

#: The name of the unknown id in files, and what it is read as.
UNKNOWN, UNKNOWN_TEXT = "<|unknown|>", "\ufffd"
#: The last step before the model in the files of byte-level tokenizers.
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
#: The smallest vocabulary there can be: the unknown id, one word and every special token.
SMALLEST_VOCABULARY = 2 + len(SPECIAL_TOKENS)


class WordTokenizer:
    """Words as they stand in the text; a word that was not among the most frequent ones is unknown."""

    #: The id of every word that is not in the vocabulary.
    unknown_id: int | None = 0

    def __init__(self, words: Sequence[str], pattern: Pattern | None = None) -> None:
        """``words[i]`` has the id ``i + 1``.

        Raises:
            DataError: a word is empty, there twice, or the name of the unknown id.
        """
        self.words = tuple(words)
        self.pattern = pattern or Pattern()
        self._ids = {word: token_id for token_id, word in enumerate((UNKNOWN, *self.words))}
        if len(self._ids) <= len(self.words) or "" in self._ids:
            raise DataError(f"a word is empty, there twice, or {UNKNOWN!r}")
        self.special_tokens: Mapping[str, int] = MappingProxyType(
            {name: token_id for token_id, name in enumerate(SPECIAL_TOKENS, len(self._ids))}
        )
        texts = [UNKNOWN_TEXT, *self.words, *[""] * len(SPECIAL_TOKENS)]
        self._bytes = [text.encode("utf-8") for text in texts]

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, pattern: Pattern | None = None) -> "WordTokenizer":
        """The most frequent words of ``texts``; of equally frequent ones those whose characters come first.

        ``vocab_size`` counts the unknown id, the words and the special tokens. The result is smaller when the texts
        have fewer words.

        Raises:
            UsageError: ``vocab_size`` has no room for a word.
            DataError: the texts are empty.
        """
        if vocab_size < SMALLEST_VOCABULARY:
            raise UsageError(
                f"vocab_size {vocab_size} is too small: the unknown id, one word and {len(SPECIAL_TOKENS)} special "
                f"tokens need at least {SMALLEST_VOCABULARY}"
            )
        pattern = pattern or Pattern()
        counts = count(texts, pattern).pieces.counter()
        if not counts:
            raise DataError("the texts are empty, so no words can be learnt from them; give some text")
        del counts[UNKNOWN.encode()]  # only a pattern of the user's own could make that a word
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls([word.decode() for word in ranked[: vocab_size - 1 - len(SPECIAL_TOKENS)]], pattern)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._bytes)

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the words, the pattern and the special tokens: all that decides an id."""
        content = json.dumps([self.words, self.pattern.splits, SPECIAL_TOKENS])
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``, one for each word. Surrogates, which are no characters, are resolved by ``well_formed``."""
        known = self._ids.get
        return [known(word, 0) for word in self.pattern.pieces(well_formed(text))]

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special ids are silent, the unknown id is U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of ``ids`` in UTF-8; special ids are silent, the unknown id is U+FFFD.

        Raises:
            DataError: an id outside the vocabulary.
        """
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for; empty for a special id.

        Raises:
            DataError: an id outside the vocabulary.
        """
        if not 0 <= token_id < len(self._bytes):
            raise DataError(
                f"token id {token_id} is outside the vocabulary of {self.vocab_size}; use its own tokenizer"
            )
        return self._bytes[token_id]

    def save(self, folder: Path) -> None:
        """Write ``folder/tokenizer.json``, which Hugging Face's ``tokenizers`` reads too."""
        files.write_json(folder / huggingface.FILE_NAME, self.to_json())

    def to_json(self) -> dict[str, Any]:
        """The content of ``tokenizer.json``."""
        # All but the model is what a byte-level tokenizer has, whose bytes come behind our ids.
        bytes_behind = [b""] * self.vocab_size + [bytes([byte]) for byte in range(256)]
        frame = Vocabulary.make(bytes_behind, [], self.special_tokens, self.pattern)
        content = huggingface.write(Definition(frame))
        content["pre_tokenizer"]["pretokenizers"].pop()  # words are spelled as they are, not in visible bytes
        content["decoder"] = {"type": "Fuse"}
        content["model"] = {"type": "WordLevel", "vocab": self._ids, "unk_token": UNKNOWN}
        return content


def load(folder: Path) -> WordTokenizer:
    """The tokenizer that ``save`` wrote into ``folder``.

    Raises:
        ArtifactError: the file is missing, damaged, or another kind of tokenizer.
    """
    path = folder / huggingface.FILE_NAME
    with reading(path):
        return from_json(files.read_json(path))


def from_json(content: Mapping[str, Any]) -> WordTokenizer:
    """The tokenizer in the content of a ``tokenizer.json`` that ``save`` wrote.

    Raises:
        DataError: it is damaged, or another kind of tokenizer.
    """
    try:
        ids, steps = content["model"]["vocab"], content["pre_tokenizer"]["pretokenizers"]
        behind = len(ids) + len(SPECIAL_TOKENS)
        frame = {
            **content,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*steps, BYTE_LEVEL]},
            "model": {"vocab": {spell(bytes([byte])): behind + byte for byte in range(256)}, "merges": []},
        }
        tokenizer = WordTokenizer([*ids][1:], huggingface.read(frame).vocabulary.pattern)
        intact = tokenizer.to_json() == content
    except (KeyError, TypeError, ValueError, AttributeError):
        intact = False
    if not intact:
        raise DataError("it is damaged, or no vocabulary of words that groundup wrote")
    return tokenizer
