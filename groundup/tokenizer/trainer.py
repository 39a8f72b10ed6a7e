"""Learn byte-pair merges fast: texts → counted pieces → merges, equal to ``bpe_plain.train``.

Three ideas make the textbook loop fast. Each distinct piece is kept once, with its count. Pair counts are
updated at the places a merge touches instead of counted anew. And a heap finds the most frequent pair.
Every merge of two neighbours costs O(log n), whatever the length of a piece.

``learn_merges`` shows them in plain Python, and works where numba is missing. ``learn`` is the way in: it counts a
stream of texts (``counting``) and learns with the compiled kernels, from the same ideas, to the same merges.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core import compiled
from groundup.core.errors import DataError, UsageError
from groundup.core.progress import Progress, track
from groundup.tokenizer import counting
from groundup.tokenizer.bpe_plain import MINIMUM_COUNT, Pair
from groundup.tokenizer.counting import MEMORY, Pieces, count_pieces
from groundup.tokenizer.pretokenize import Pattern
from groundup.tokenizer.texts import read_texts

__all__ = ["Learnt", "count_pieces", "learn", "learn_merges", "read_texts"]

#: Stands before, between and after the pieces, and where a token was swallowed by its left neighbour.
NOTHING = -1


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a corpus taught."""

    merges: list[Pair]
    """The pairs of ids, in the order learnt: 0–255 are the bytes, ``256 + rank`` is what merge ``rank`` makes."""
    counts: npt.NDArray[np.int64]
    """How often the pair of each merge occurred when it was learnt; never rises."""
    pieces: int
    """Distinct pieces that were learnt from."""
    occurrences: int
    """Pieces of the corpus."""
    documents: int
    """Texts of the corpus."""
    bytes: int
    """Their length in UTF-8."""
    dropped: int
    """Occurrences of rare pieces that were dropped to stay within the memory."""
    error: int
    """No count of a piece was too low by more than this; 0 when nothing was dropped."""


def learn(
    texts: Iterable[str],
    merge_count: int,
    pattern: Pattern | None = None,
    *,
    threads: int | None = None,
    memory: int = MEMORY,
    state: Path | None = None,
    total_bytes: int | None = None,
) -> Learnt:
    """Learn at most ``merge_count`` merges from a stream of texts; fewer when no pair occurs twice any more.

    The most frequent pair merges first; of equally frequent ones, the one with the lowest (left, right) ids. The
    result does not depend on ``threads``, on interruptions, or on whether kernels can be compiled.

    Args:
        texts: each is read once; no merge spans two of them.
        merge_count: the size of the vocabulary without the 256 bytes and the special tokens.
        pattern: how texts are cut into pieces; our own when not given.
        threads, memory, state, total_bytes: see ``counting.count``.

    Raises:
        UsageError: ``merge_count`` is negative, or ``threads`` or ``memory`` too small.
        DataError: the texts are empty.
        ArtifactError: ``state`` is damaged, or belongs to other texts or settings.
    """
    if merge_count < 0:
        raise UsageError(f"a vocabulary has at least the 256 bytes: {merge_count} merges cannot be learnt")
    counted = counting.count(texts, pattern, threads=threads, memory=memory, state=state, total_bytes=total_bytes)
    if not counted.bytes:
        raise DataError("there is no text to learn a vocabulary from; give a corpus with some")
    pieces = counted.pieces
    facts = len(pieces), counted.occurrences, counted.documents, counted.bytes, counted.dropped, counted.error
    del counted
    if compiled.available():
        merges, counts = learn_compiled(pieces, merge_count)
        return Learnt([(left, right) for left, right in merges.tolist()], counts, *facts)
    learnt = list(
        track(islice(merges_of(pieces.counter()), merge_count), "tokenizer: learn merges", merge_count, "merge")
    )
    return Learnt([pair for pair, _ in learnt], np.array([count for _, count in learnt], np.int64), *facts)


def learn_merges(piece_counts: Mapping[bytes, int], merge_count: int) -> list[Pair]:
    """The first ``merge_count`` merges of ``merges_of``."""
    return [pair for pair, _ in islice(merges_of(piece_counts), merge_count)]


def merges_of(piece_counts: Mapping[bytes, int]) -> Iterator[tuple[Pair, int]]:
    """Each merge as it is learnt, and how often its pair occurs, until no pair occurs ``MINIMUM_COUNT`` times.

    The most frequent pair merges first; of equally frequent ones, the one with the lowest (left, right) ids.
    """
    # All pieces lie in one array, as a doubly linked list: following[i] is the place of the next token.
    tokens, weights = [NOTHING], [0]
    for piece, count in piece_counts.items():
        tokens += [*piece, NOTHING]
        weights += [count] * (len(piece) + 1)
    following = list(range(1, len(tokens) + 1))
    previous = list(range(-1, len(tokens) - 1))

    # places[pair] is always in ascending order, because every sweep below runs from left to right and a
    # pair with a new token is found in one sweep only. It may hold places that merged otherwise since.
    counts: defaultdict[Pair, int] = defaultdict(int)
    places: defaultdict[Pair, list[int]] = defaultdict(list)
    for place in range(1, len(tokens) - 1):
        pair = (tokens[place], tokens[place + 1])
        if NOTHING not in pair:
            counts[pair] += weights[place]
            places[pair].append(place)

    # After a pair was pushed its count can only fall, so the top of the heap is never too low.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    new = 256
    while heap:
        negative_count, pair = heappop(heap)
        count = counts[pair]
        if count < MINIMUM_COUNT:
            continue
        if count != -negative_count:
            heappush(heap, (-count, pair))
            continue
        yield pair, count
        left, right = pair
        fresh: set[Pair] = set()
        for place in places.pop(pair):
            swallowed = following[place]
            if tokens[place] != left or tokens[swallowed] != right:
                continue
            before, after = previous[place], following[swallowed]
            weight = weights[place]
            tokens[place], tokens[swallowed] = new, NOTHING
            following[place], previous[after] = after, place
            neighbour = tokens[before]
            if neighbour != NOTHING:
                counts[neighbour, left] -= weight
                counts[neighbour, new] += weight
                places[neighbour, new].append(before)
                fresh.add((neighbour, new))
            neighbour = tokens[after]
            if neighbour != NOTHING:
                counts[right, neighbour] -= weight
                counts[new, neighbour] += weight
                places[new, neighbour].append(place)
                fresh.add((new, neighbour))
        del counts[pair]
        for pair in fresh:
            heappush(heap, (-counts[pair], pair))
        new += 1


_KERNELS = "groundup.tokenizer.kernels.learn"
_WEIGHTS = ("i32*", "i64*", "i32*")  # edges, weights, coarse
_PAIRS = ("i64*", "i64*", "i32*", "i32*", "i32*", "i64*", "i32*", "i64*")  # as in ``_Pairs.arrays``
_lay_out = compiled.Kernel(f"{_KERNELS}:lay_out", "i64", "u8*", "i64*", "i64*", "i64*", "i64", "i32*", *_WEIGHTS)
_index = compiled.Kernel(f"{_KERNELS}:index", "i64", "i32*", "i64", "i32*", "i64", *_WEIGHTS, "i32*", "i64", *_PAIRS)
_learn = compiled.Kernel(
    f"{_KERNELS}:learn",
    "i64",
    *("i32*", "i32*", "i64", "i64", *_WEIGHTS, "i32*", "i32*", "i32*", *_PAIRS, "i32*", "i64*"),
)
# The numbers that ``kernels/learn.py`` shares with us.
COARSE_BITS = 4
PAIRS, PLACES, HEAP, MOST_PAIRS, MERGES = range(5)
DONE, NO_PAIRS, PAIRS_FULL = range(3)
#: Merges learnt at a time, between which progress is shown.
STRIDE = 1024
PLACES_PER_CELL = 3
#: Places are numbered with 31 bits.
MOST_CELLS = (1 << 31) // PLACES_PER_CELL


def learn_compiled(pieces: Pieces, merge_count: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64]]:
    """The same merges by ``kernels/learn.py``: pairs of ids, shape (merges, 2), and how often each occurred.

    Raises:
        DataError: the pieces have more than 700 MB together.
    """
    cell_count = int(pieces.bounds[-1]) + len(pieces) + 1
    if cell_count > MOST_CELLS:
        raise DataError(f"the distinct pieces have {cell_count:,} bytes, more than {MOST_CELLS:,}; allow less memory")
    edges = np.empty(len(pieces) + 2, np.int32)
    weights = np.empty(len(pieces) + 1, np.int64)
    coarse = np.empty((cell_count >> COARSE_BITS) + 1, np.int32)
    cells = np.empty(2 * cell_count, np.int32)
    order = np.argsort(pieces.counts)[::-1].copy()
    cell_count = _lay_out(
        pieces.text, pieces.bounds, pieces.counts, order, len(pieces), cells, edges, weights, coarse
    )  # fewer: without the pieces of one byte
    del order

    merge_count = min(merge_count, cell_count)  # each merge leaves one token fewer at least
    tokens = 256 + merge_count
    widths = np.ones(tokens, np.int32)
    before_new, after_new = np.full(tokens, NOTHING, np.int32), np.full(tokens, NOTHING, np.int32)
    renumbered = np.empty(2 * tokens + 1, np.int32)
    merges, merge_counts = np.empty((merge_count, 2), np.int32), np.empty(merge_count, np.int64)
    laid_out = edges, weights, coarse
    pairs = _Pairs(cell_count)
    slots = pairs.slots()
    while _index(cells, cell_count, widths, MINIMUM_COUNT, *laid_out, slots, len(slots) - 1, *pairs.arrays) != DONE:
        pairs.enlarge()
        slots = pairs.slots()
    del slots
    with Progress("tokenizer: learn merges", merge_count, "merge") as progress:
        for stop in (*range(STRIDE, merge_count, STRIDE), merge_count):
            reason = PAIRS_FULL
            while reason == PAIRS_FULL:
                reason = _learn(
                    *(cells, widths, MINIMUM_COUNT, stop, *laid_out, before_new, after_new, renumbered),
                    *(*pairs.arrays, merges, merge_counts),
                )
                if reason == PAIRS_FULL:
                    pairs.enlarge()
            progress.advance(pairs.merges - progress.done)
            if reason == NO_PAIRS:
                break
    return merges[: pairs.merges], merge_counts[: pairs.merges]


class _Pairs:
    """The arrays of ``kernels/learn.py`` that tell of pairs."""

    def __init__(self, cell_count: int) -> None:
        most = 1 << 16
        self._state = np.zeros(5, np.int64)
        self._state[MOST_PAIRS] = most
        self._each = [np.empty(most, dtype) for dtype in (np.int64, np.int64, np.int32, np.int32, np.int64, np.int32)]
        self._places = np.empty(PLACES_PER_CELL * cell_count, np.int32)  # what is not needed is never written

    @property
    def arrays(self) -> tuple[npt.NDArray[Any], ...]:
        """As the kernels want them."""
        counts, names, starts, sizes, heap_counts, heap_pairs = self._each
        return counts, names, starts, sizes, self._places, heap_counts, heap_pairs, self._state

    @property
    def merges(self) -> int:
        """How many merges are learnt."""
        return int(self._state[MERGES])

    def slots(self) -> npt.NDArray[np.int32]:
        """A hash table for all pairs."""
        return np.full(2 * int(self._state[MOST_PAIRS]), NOTHING, np.int32)

    def enlarge(self) -> None:
        """Make room for twice as many pairs."""
        most = int(self._state[MOST_PAIRS])
        for i, array in enumerate(self._each):
            self._each[i] = np.empty(2 * most, array.dtype)
            self._each[i][:most] = array
        self._state[MOST_PAIRS] = 2 * most
