"""A byte-level tokenizer with what some files ask for besides: Unicode normalisation, added tokens, missing bytes.

A text goes the way that it goes in Hugging Face's ``tokenizers``: added tokens are cut out, then what is between them
is normalised, then those added tokens are cut out that are meant for normalised text, and the rest is encoded.

NFC is the same in every version of Unicode for the characters that it has. The other forms are not quite: Python knows
72 characters in NFKC that the tables of ``tokenizers``, of 2019, do not.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from groundup.core import files
from groundup.core.errors import DataError, UsageError
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.formats import huggingface
from groundup.tokenizer.formats.definition import Definition
from groundup.tokenizer.protocol import Tokenizer


def tokenizer_of(definition: Definition) -> Tokenizer:
    """The plain tokenizer where the definition has nothing but a vocabulary, else one that does the rest too."""
    if definition == Definition(definition.vocabulary, post_processor=definition.post_processor):
        return BytePairTokenizer(definition.vocabulary)
    return PreparedTokenizer(definition)


class PreparedTokenizer:
    """Byte-level BPE with a ``Definition`` that has more than a vocabulary."""

    unknown_id: None = None
    """There is no unknown text."""

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self._inner = BytePairTokenizer(definition.vocabulary)
        self._added = {token.content: token.id for token in definition.added_tokens}
        self._visible = {token.id: token.content.encode() for token in definition.added_tokens}
        self.special_tokens: Mapping[str, int] = MappingProxyType(
            {
                name: token_id
                for name, token_id in definition.vocabulary.special_tokens.items()
                if name not in self._added
            }
        )
        late = [token.content for token in definition.added_tokens if token.normalized]
        self._early = _any_of(self.special_tokens.keys() | self._added.keys() - set(late))
        self._late = _any_of(late)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self.definition.vocab_size

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of all that decides an id."""
        added = [[token.content, token.id, token.normalized] for token in self.definition.added_tokens]
        rest = json.dumps([self.definition.normalization, added, self.definition.missing.hex()])
        return hashlib.sha256(f"{self._inner.fingerprint} {rest}".encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``; never a special id, whatever the text says.

        Raises:
            DataError: the text has a byte for which the vocabulary has no token.
        """
        return self.encode_with_special(text, ())

    def encode_with_special(self, text: str, allowed: Collection[str]) -> list[int]:
        """Ids of ``text``, where the special tokens named in ``allowed`` become their ids.

        Raises:
            UsageError: ``allowed`` names what is no special token.
            DataError: the text has a byte for which the vocabulary has no token.
        """
        if unknown := set(allowed) - self.special_tokens.keys():
            raise UsageError(f"{min(unknown)!r} is no special token of this tokenizer; it has {[*self.special_tokens]}")
        early = self._added | {name: self.special_tokens[name] for name in allowed}
        form = self.definition.normalization
        ids: list[int] = []
        for part in _cut(text, self._early, early):
            if isinstance(part, int):
                ids.append(part)
                continue
            for inner in _cut(unicodedata.normalize(form, part) if form else part, self._late, self._added):
                ids += [inner] if isinstance(inner, int) else self._inner.encode(inner)
        if self.definition.missing and (highest := max(ids, default=0)) >= self.vocab_size:
            byte = self._inner.token_bytes(highest)
            raise DataError(f"the text has the byte {byte!r}, for which this vocabulary has no token; remove it")
        return ids

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special ids are silent, bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of ``ids``, exactly; special ids are silent."""
        return b"".join(map(self.token_bytes, ids))

    def token_bytes(self, token_id: int) -> bytes:
        """The bytes one id stands for; empty for a special id.

        Raises:
            DataError: an id outside the vocabulary.
        """
        if not 0 <= token_id < self.vocab_size:
            raise DataError(
                f"token id {token_id} is outside the vocabulary of {self.vocab_size}; use its own tokenizer"
            )
        return self._visible.get(token_id) or self._inner.token_bytes(token_id)

    def save(self, folder: Path) -> None:
        """Write ``folder/tokenizer.json``, which Hugging Face's ``tokenizers`` reads too."""
        files.write_json(folder / huggingface.FILE_NAME, huggingface.write(self.definition))


def _any_of(names: Collection[str]) -> re.Pattern[str] | None:
    """Finds the first of ``names``, and where several begin, the longest."""
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None


def _cut(text: str, names: re.Pattern[str] | None, ids: Mapping[str, int]) -> Iterator[str | int]:
    """``text`` with the names that have ids replaced by them."""
    start = 0
    for found in names.finditer(text) if names else ():
        if (token_id := ids.get(found[0])) is not None:
            if start < found.start():
                yield text[start : found.start()]
            yield token_id
            start = found.end()
    if start < len(text):
        yield text[start:]
