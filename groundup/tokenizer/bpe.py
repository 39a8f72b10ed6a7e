"""The tokenizer in use: byte-level byte-pair encoding, equal to ``bpe_plain`` and fast.

Ids: 0–255 the bytes, then one per merge in the order learnt, then ``SPECIAL_TOKENS``.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from groundup.core import files
from groundup.core.errors import DataError, UsageError
from groundup.tokenizer import interop
from groundup.tokenizer.bpe_plain import Pair
from groundup.tokenizer.pretokenize import PATTERN, pieces, well_formed
from groundup.tokenizer.protocol import SPECIAL_TOKENS
from groundup.tokenizer.trainer import NOTHING, count_pieces, learn_merges

#: The smallest vocabulary there can be: every byte and every special token.
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)
#: The ids of this many distinct pieces are remembered: text repeats itself.
CACHE_PIECES = 1 << 16
#: Longer pieces are seldom met twice and would fill the memory.
CACHED_CHARACTERS = 64


def merges_for(vocab_size: int) -> int:
    """How many merges fill a vocabulary of ``vocab_size`` ids.

    Raises:
        UsageError: the bytes and the special tokens alone are more.
    """
    if vocab_size < SMALLEST_VOCABULARY:
        raise UsageError(
            f"vocab_size {vocab_size} is too small: 256 bytes and {len(SPECIAL_TOKENS)} special tokens "
            f"need at least {SMALLEST_VOCABULARY}"
        )
    return vocab_size - SMALLEST_VOCABULARY


class BytePairTokenizer:
    """Byte-level BPE. Any text and any bytes encode, and decode to themselves."""

    def __init__(self, merges: Sequence[Pair]) -> None:
        """``merges[rank]`` is the pair of ids that becomes id ``256 + rank``."""
        self.merges = tuple(merges)
        self._rank = {pair: rank for rank, pair in enumerate(self.merges)}
        self._bytes = [bytes([byte]) for byte in range(256)]
        for left, right in self.merges:
            self._bytes.append(self._bytes[left] + self._bytes[right])
        self.special_tokens: Mapping[str, int] = MappingProxyType(
            {name: token_id for token_id, name in enumerate(SPECIAL_TOKENS, start=len(self._bytes))}
        )
        self._bytes += [b""] * len(SPECIAL_TOKENS)
        self._remembered = lru_cache(CACHE_PIECES)(self._merge)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int) -> "BytePairTokenizer":
        """Train on ``texts``, each of which is read once; no merge spans two of them.

        ``vocab_size`` counts bytes, merges and special tokens. The result is smaller when the texts hold too
        few pairs that occur more than once.

        Raises:
            UsageError: ``vocab_size`` has no room for the bytes and the special tokens.
        """
        merge_count = merges_for(vocab_size)
        return cls(learn_merges(count_pieces(texts), merge_count))

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return len(self._bytes)

    @property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the pattern, the merges and the special tokens: all that decides an id."""
        content = json.dumps([PATTERN, self.merges, SPECIAL_TOKENS])
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> list[int]:
        """Ids of ``text``. Surrogates, which are no characters, are resolved by ``well_formed``."""
        return self._encode(well_formed(text))

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, which ``decode_bytes`` gives back; those of the text where it is UTF-8."""
        return self._encode(data.decode("utf-8", "surrogateescape"))

    def decode(self, ids: Sequence[int]) -> str:
        """Text of ``ids``; special ids are silent, bytes that are not UTF-8 become U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        """Bytes of ``ids``, exactly; special ids are silent.

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
        files.write_json(folder / interop.FILE_NAME, interop.to_json(self.merges))

    def _encode(self, text: str) -> list[int]:
        """Ids of ``text``, whose lone surrogates stand for bytes that are not UTF-8 (PEP 383)."""
        ids: list[int] = []
        for piece in pieces(text):
            ids += self._remembered(piece) if len(piece) <= CACHED_CHARACTERS else self._merge(piece)
        return ids

    def _merge(self, piece: str) -> tuple[int, ...]:
        """Merge the pair of the lowest rank, from left to right, until none is left.

        A merge makes an id that only later ranks name. So each rank needs one sweep over the places where its
        pair was seen, and every sweep meets them in ascending order: O(n + r log r) for n bytes and r ranks.
        """
        tokens = [NOTHING, *piece.encode("utf-8", "surrogateescape"), NOTHING]
        following = list(range(1, len(tokens) + 1))
        previous = list(range(-1, len(tokens) - 1))
        places: dict[int, list[int]] = {}
        for place, pair in enumerate(pairwise(tokens)):
            if pair in self._rank:
                places.setdefault(self._rank[pair], []).append(place)
        ranks = list(places)
        heapify(ranks)
        while ranks:
            rank = heappop(ranks)
            left, right = self.merges[rank]
            for place in places.pop(rank):
                swallowed = following[place]
                if tokens[place] != left or tokens[swallowed] != right:
                    continue  # an overlapping pair was merged since
                after = following[swallowed]
                tokens[place], tokens[swallowed] = 256 + rank, NOTHING
                following[place], previous[after] = after, place
                for start in (previous[place], place):
                    found = self._rank.get((tokens[start], tokens[following[start]]))
                    if found is None:
                        continue
                    if found not in places:
                        places[found] = []
                        heappush(ranks, found)
                    places[found].append(start)
        return tuple(token for token in tokens if token != NOTHING)


def load(folder: Path) -> BytePairTokenizer:
    """The tokenizer that ``save`` wrote into ``folder``.

    Raises:
        ArtifactError: the file is missing, damaged, or another kind of tokenizer.
    """
    return BytePairTokenizer(interop.read_merges(folder / interop.FILE_NAME))
