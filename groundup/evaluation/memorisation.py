"""How much a model copies: the longest run of each sampled text that stands verbatim in the train split.

Train, validation and sampled sequences enter (texts for runs in characters, token ids for runs in tokens); the
distribution of the longest runs and the longest of all leave. Text that the model never saw shares runs with the
train split too, the longer the text the more, so excerpts of the validation split as long as the samples are
measured beside them: only what exceeds these is memorised.

Runs are looked up in a suffix array (Manber & Myers, "Suffix arrays", 1993), as Lee et al., "Deduplicating training
data makes language models better" (2022), do at scale.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import DataError
from groundup.core.progress import Progress, track
from groundup.core.seeding import numpy_rng

Ids: TypeAlias = NDArray[np.int64]
#: A text, or token ids (below 2^20).
Symbols: TypeAlias = str | Sequence[int] | NDArray[np.integer]

#: Stands between documents, so that no run crosses from one to the next: the last code point, never a character.
SEPARATOR = "\U0010ffff"


def suffix_array(symbols: NDArray[np.integer]) -> Ids:
    """Starts of all suffixes of ``symbols`` [n], non-negative integers, in lexicographic order: [n].

    Suffixes sorted by their first h symbols are sorted by their first 2h when ties are broken by the rank of the
    suffix that starts h later: h doubles each round, and only what still ties is touched again (Larsson & Sadakane,
    "Faster suffix sorting", 2007).
    """
    n = symbols.size
    if n == 0:
        return np.zeros(0, np.int64)
    # Dense symbols from 1 up take few bits: many fit one 63-bit key. Zero stands for the end, before all others.
    present = np.zeros(int(symbols.max()) + 1, dtype=bool)
    present[symbols] = True
    dense = np.cumsum(present)[symbols]
    bits = int(dense.max()).bit_length()
    sorted_by = min(n, 63 // bits)
    keys = np.zeros(n, np.int64)
    for offset in range(sorted_by):
        keys <<= bits
        keys[: n - offset] |= dense[offset:]

    rank = np.zeros(n, np.int64)  # the place in ``order`` where the suffix's group of ties begins
    order = np.zeros(n, np.int64)
    places = tied = np.arange(n)
    with Progress("suffix array", total=n, unit="suffixes") as progress:
        while True:
            by_key = np.argsort(keys)
            tied, keys = tied[by_key], keys[by_key]
            begins = np.append(True, keys[1:] != keys[:-1])
            order[places] = tied
            rank[tied] = places[np.maximum.accumulate(np.where(begins, np.arange(places.size), 0))]
            alone = begins & np.append(begins[1:], True)
            progress.advance(int(alone.sum()))
            places, tied = places[~alone], tied[~alone]
            if not places.size:
                return order
            later = tied + sorted_by
            following = np.where(later < n, rank[np.minimum(later, n - 1)] + 1, 0)
            keys = rank[tied] * (n + 1) + following
            sorted_by *= 2


def _as_text(sequence: Symbols) -> str:
    """Token ids as the characters of those code points: a run of tokens is then a run of characters."""
    return sequence if isinstance(sequence, str) else "".join(map(chr, sequence))


@dataclass(frozen=True)
class Run:
    """A stretch of a sampled sequence that stands verbatim in a train document."""

    start: int
    """Where it begins in the sampled sequence."""
    length: int
    """Characters, or tokens; 0 when not even one symbol occurs in the train split."""
    document: int
    """Number of a train document that holds it."""
    offset: int
    """Where it begins in that document."""


class RunIndex:
    """Finds runs in train documents. Memory: 8 bytes a symbol once made, some 80 bytes while making it."""

    def __init__(self, documents: Sequence[Symbols]) -> None:
        """
        Raises:
            DataError: the documents hold no symbol.
        """
        texts = [_as_text(document) for document in documents]
        if not any(texts):
            raise DataError("the train split is empty: nothing can be copied from it; give it at least one document")
        self._text = SEPARATOR.join(texts)
        self._starts = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])]).tolist()
        code_points = np.frombuffer(self._text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
        self._order = suffix_array(code_points).data  # a memoryview: its items are plain int

    def find(self, run: str) -> int | None:
        """Where ``run`` (at least one symbol) stands in the joined train text, by binary search; None if nowhere."""
        length = len(run)
        place = bisect_left(self._order, run, key=lambda start: self._text[start : start + length])
        if place == len(self._order) or SEPARATOR in run:
            return None
        start = self._order[place]
        return start if self._text.startswith(run, start) else None

    def longest_run(self, sequence: Symbols) -> Run:
        """The longest run of ``sequence`` in one train document; the first of several."""
        text = _as_text(sequence)
        best = Run(0, 0, 0, 0)
        for start in range(len(text)):
            # Only a longer run than the best so far is of interest, so that all starts together need
            # no more look-ups than the sequence has symbols, plus the length of the longest run.
            while start + best.length < len(text):
                found = self.find(text[start : start + best.length + 1])
                if found is None:
                    break
                document = bisect_right(self._starts, found) - 1
                best = Run(start, best.length + 1, document, found - self._starts[document])
        return best


@dataclass(frozen=True)
class RunLengths:
    """Distribution of the longest copied run over sequences."""

    lengths: tuple[int, ...]
    mean: float
    median: float
    percentile_90: float
    longest: int

    @classmethod
    def of(cls, lengths: Sequence[int]) -> "RunLengths":
        """From one length for each sequence."""
        median, percentile_90 = np.quantile(lengths, [0.5, 0.9]).tolist()
        return cls(tuple(lengths), float(np.mean(lengths)), median, percentile_90, max(lengths))


@dataclass(frozen=True)
class Memorisation:
    """Copied runs of samples, of unseen text of the same lengths, and the longest of the samples."""

    samples: RunLengths
    baseline: RunLengths
    longest_sample: int
    """Number of the sample that holds the longest run."""
    longest_run: Run
    longest_copied: str | list[int]
    """What that run says: text, or token ids."""

    def to_json(self) -> dict[str, Any]:
        """The fields by name, nested."""
        return asdict(self)


def draw_excerpts(sequences: Sequence[Symbols], lengths: Sequence[int], seed: int) -> list[Symbols]:
    """One excerpt for each of ``lengths``, from a place drawn uniformly; no longer than the document it falls in.

    Documents that are long enough are drawn by their number of places; when none is, the longest is taken whole.

    Raises:
        DataError: there is no symbol to draw.
    """
    sizes = np.array([len(sequence) for sequence in sequences], dtype=np.int64)
    if not sizes.any():
        raise DataError("the validation split is empty: there is no baseline; hold out at least one document")
    rng = numpy_rng(seed, "excerpts")
    excerpts = []
    for wanted in lengths:
        length = min(wanted, int(sizes.max()))
        ends = np.cumsum(np.maximum(sizes - length + 1, 0))
        drawn = int(rng.integers(ends[-1]))
        document = int(np.searchsorted(ends, drawn, side="right"))
        start = int(ends[document]) - 1 - drawn
        excerpts.append(sequences[document][start : start + length])
    return excerpts


def measure_memorisation(
    train: Sequence[Symbols], validation: Sequence[Symbols], samples: Sequence[Symbols], seed: int
) -> Memorisation:
    """Longest runs copied from ``train`` by ``samples``, beside excerpts of ``validation`` of the same lengths.

    Give texts for runs in characters, token ids for runs in tokens. A function of the arguments alone.

    Raises:
        DataError: no samples, or an empty split.
    """
    if not samples:
        raise DataError("no sampled text to look for copies in; draw at least one sample")
    excerpts = draw_excerpts(validation, [len(sample) for sample in samples], seed)
    index = RunIndex(train)
    runs = [
        index.longest_run(sequence)
        for sequence in track([*samples, *excerpts], "copied runs", total=2 * len(samples), unit="texts")
    ]
    copied, baseline = runs[: len(samples)], runs[len(samples) :]
    longest = max(range(len(copied)), key=lambda number: copied[number].length)
    run = copied[longest]
    symbols = samples[longest][run.start : run.start + run.length]
    return Memorisation(
        samples=RunLengths.of([run.length for run in copied]),
        baseline=RunLengths.of([run.length for run in baseline]),
        longest_sample=longest,
        longest_run=run,
        longest_copied=symbols if isinstance(symbols, str) else [int(symbol) for symbol in symbols],
    )
