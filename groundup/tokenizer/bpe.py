"""The tokenizer in use: byte-level byte-pair encoding, equal to ``bpe_plain`` and fast.

Our own vocabularies have the ids 0–255 for the bytes, then one per merge in the order learnt, then
``SPECIAL_TOKENS``. Those of others (``opening.py``) have whatever ids their files say.

Where kernels can be compiled, ``encoder.py`` does the work; the class below it, ``Merger``, is the plain Python that
gives the same ids elsewhere, and that shows how.
"""

from collections import deque
from collections.abc import Collection, Iterable, Sequence
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from itertools import accumulate, pairwise
from os import cpu_count
from pathlib import Path

import numpy as np
import regex

from groundup.core import compiled, files
from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.tokenizer.byte_level import ByteLevelTokenizer, own_vocabulary, room_in
from groundup.tokenizer.counting import MOST_THREADS
from groundup.tokenizer.encoder import Encoded, Encoder, Ids
from groundup.tokenizer.formats import huggingface
from groundup.tokenizer.pretokenize import Pattern, utf8
from groundup.tokenizer.trainer import learn
from groundup.tokenizer.vocabulary import Pair, Vocabulary

#: The ids of this many distinct pieces are remembered: text repeats itself.
CACHE_PIECES = 1 << 16
#: Longer pieces are seldom met twice and would fill the memory.
CACHED_CHARACTERS = 64


class BytePairTokenizer(ByteLevelTokenizer):
    """Byte-level BPE. Any text and any bytes encode, and decode to themselves."""

    @classmethod
    def from_merges(cls, merges: Sequence[Pair], pattern: Pattern | None = None) -> "BytePairTokenizer":
        """A vocabulary of our own: ``merges[rank]`` is the pair of ids that becomes id ``256 + rank``."""
        tokens = [bytes([byte]) for byte in range(256)]
        for left, right in merges:
            tokens.append(tokens[left] + tokens[right])
        return cls(own_vocabulary(tokens[256:], merges, pattern))

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, pattern: Pattern | None = None) -> "BytePairTokenizer":
        """Train on ``texts``, each of which is read once; no merge spans two of them.

        ``vocab_size`` counts bytes, merges and special tokens. The result is smaller when the texts hold too
        few pairs that occur more than once.

        Raises:
            UsageError: ``vocab_size`` has no room for the bytes and the special tokens.
        """
        pattern = pattern or Pattern()
        return cls.from_merges(learn(texts, room_in(vocab_size), pattern).merges, pattern)

    @property
    def merges(self) -> list[Pair]:
        """The pairs of ids that merge, in order of rank."""
        return [(left, right) for left, right, _ in self.vocabulary.merges.tolist()]

    def encode_array(self, text: str) -> Ids:
        """Ids of ``text`` as an array; shape (tokens,)."""
        return self._encode(utf8(text))

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, which ``decode_bytes`` gives back; those of the text where it is UTF-8."""
        return self._encode(data).tolist()

    def encode_batch(self, texts: Iterable[str], threads: int | None = None) -> Encoded:
        """Ids of each text, which may come from a generator.

        Args:
            texts: each is encoded by itself.
            threads: how many work at once; all processors when not given.

        Raises:
            UsageError: ``threads`` is less than 1, or more than any machine can use.
        """
        threads = min(cpu_count() or 1, MOST_THREADS) if threads is None else threads
        if not 1 <= threads <= MOST_THREADS:
            raise UsageError(f"threads is {threads}; use 1 to {MOST_THREADS}")
        encoded = (utf8(text) for text in texts)
        if self._encoder is not None:
            return self._encoder.encode_batch(encoded, threads)
        ids = [self._merger.encode(data) for data in encoded]
        offsets = np.fromiter(accumulate(map(len, ids), initial=0), np.int64)
        return Encoded(np.concatenate([np.empty(0, np.uint32), *ids]), offsets)

    def encode_with_special(self, text: str, allowed: Collection[str]) -> list[int]:
        """Ids of ``text`` in which the special tokens named in ``allowed`` are themselves; all others are text.

        Only for text that the program wrote itself, such as a template: a user could forge any of them.

        Raises:
            UsageError: ``allowed`` names what is no special token.
        """
        if unknown := set(allowed) - self.special_tokens.keys():
            raise UsageError(f"{min(unknown)!r} is no special token of this tokenizer; it has {[*self.special_tokens]}")
        if not allowed:
            return self.encode(text)
        longest_first = sorted(allowed, key=len, reverse=True)
        ids: list[int] = []
        for part in regex.split("(" + "|".join(map(regex.escape, longest_first)) + ")", text):
            ids += [self.special_tokens[part]] if part in allowed else self.encode(part)
        return ids

    @cached_property
    def _encoder(self) -> Encoder | None:
        return Encoder(self.vocabulary) if compiled.available() else None

    @cached_property
    def _merger(self) -> "Merger":
        return Merger(self.vocabulary)

    def _encode(self, data: bytes) -> Ids:
        return self._merger.encode(data) if self._encoder is None else self._encoder.encode(data)


class Merger:
    """The encoder in plain Python."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._pattern = vocabulary.pattern
        self._merges = vocabulary.merges.tolist()
        self._rank = {(left, right): rank for rank, (left, right, _) in enumerate(self._merges)}
        ids = {token: token_id for token_id, token in enumerate(vocabulary.tokens) if token}
        self._whole = ids if vocabulary.whole_pieces else {}
        self._byte = [ids[bytes([byte])] for byte in range(256)]
        self._remembered = lru_cache(CACHE_PIECES)(self._ids)

    def encode(self, data: bytes) -> Ids:
        """Ids of a text in UTF-8. Other bytes are lone surrogates to the pattern, and so no letters (PEP 383)."""
        ids: list[int] = []
        for piece in self._pattern.pieces(data.decode("utf-8", "surrogateescape")):
            ids += self._remembered(piece) if len(piece) <= CACHED_CHARACTERS else self._ids(piece)
        return np.array(ids, np.uint32)

    def _ids(self, piece: str) -> Sequence[int]:
        data = piece.encode("utf-8", "surrogateescape")
        whole = self._whole.get(data)
        return (whole,) if whole is not None else self._merge(data)

    def _merge(self, piece: bytes) -> tuple[int, ...]:
        """Merge the pair of the lowest rank, the leftmost first, until none is left.

        The places of each rank wait in a queue, in ascending order because that is how they are found, and a heap
        holds the ranks for which some wait: O(n + r log r) for n bytes and r ranks.
        """
        nothing = -1
        tokens = [nothing, *map(self._byte.__getitem__, piece), nothing]
        following = list(range(1, len(tokens) + 1))
        previous = list(range(-1, len(tokens) - 1))
        waiting: dict[int, deque[int]] = {}
        for place, pair in enumerate(pairwise(tokens)):
            if pair in self._rank:
                waiting.setdefault(self._rank[pair], deque()).append(place)
        ranks = list(waiting)
        heapify(ranks)
        while ranks:
            rank = ranks[0]
            if not waiting[rank]:
                del waiting[heappop(ranks)]
                continue
            place = waiting[rank].popleft()
            left, right, new = self._merges[rank]
            swallowed = following[place]
            if tokens[place] != left or tokens[swallowed] != right:
                continue  # an overlapping pair was merged since
            after = following[swallowed]
            tokens[place], tokens[swallowed] = new, nothing
            following[place], previous[after] = after, place
            for start in (previous[place], place):
                found = self._rank.get((tokens[start], tokens[following[start]]))
                if found is None:
                    continue
                if found not in waiting:
                    waiting[found] = deque()
                    heappush(ranks, found)
                waiting[found].append(start)
        return tuple(token for token in tokens if token != nothing)


def load(folder: Path) -> BytePairTokenizer:
    """The tokenizer that ``save`` wrote into ``folder``.

    Raises:
        ArtifactError: the file is missing, damaged, or another kind of tokenizer.
    """
    path = folder / huggingface.FILE_NAME
    content = files.read_json(path)
    try:
        if not isinstance(content, dict):
            raise DataError("it is no object")
        vocabulary = huggingface.read(content).vocabulary
        tokenizer = BytePairTokenizer.from_merges(
            [(left, right) for left, right, _ in vocabulary.merges.tolist()], vocabulary.pattern
        )
        # Whatever else the file says must be what the merges imply: one comparison checks it all.
        intact = tokenizer.to_json() == content
    except (DataError, UsageError, IndexError):  # a merge of what no merge has made yet
        intact = False
    if not intact:
        raise ArtifactError(
            f"{path} is damaged or not a groundup tokenizer; delete it and run the tokenizer stage again"
        )
    return tokenizer
