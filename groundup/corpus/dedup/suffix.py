"""Suffix arrays: every repetition in a text that fits into memory, of any length (Manber & Myers 1993).

Sorted, suffixes that begin alike are neighbours; what neighbours have in common says how long each repetition is. This
is how Lee et al. (2022, "Deduplicating Training Data Makes Language Models Better") find repeated passages.
``substring`` removes those of one length from a corpus of any size, through hashes; here the tests have their
oracle for that, and the report the longest passages of a sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.core import compiled
from groundup.corpus.dedup.words import located_words

Integers = NDArray[np.int64]

_sort_suffixes = compiled.Kernel(
    "groundup.corpus.dedup.kernels.suffix:sort_suffixes", "i64", "i64*", "i64", "i64*", "i64*", "i64*"
)
_common_prefixes = compiled.Kernel(
    "groundup.corpus.dedup.kernels.suffix:common_prefixes", "i64", "i64*", "i64", "i64*", "i64*", "i64*"
)


def suffix_array(tokens: Integers) -> Integers:
    """Where the suffixes of ``tokens`` begin, in their order; 32 bytes a token meanwhile."""
    size = len(tokens)
    ranks = np.unique(tokens, return_inverse=True)[1].astype(np.int64).reshape(-1)
    if size and compiled.available():
        order, following = np.empty(size, dtype=np.int64), np.empty(size, dtype=np.int64)
        _sort_suffixes(ranks, size, order, following, np.empty(size + 1, dtype=np.int64))
        return order
    order, shift = np.argsort(ranks, kind="stable"), 1
    while shift <= size and (not size or ranks.max() < size - 1):
        later = np.full(size, -1, dtype=np.int64)
        later[: size - shift] = ranks[shift:]
        order = np.lexsort((later, ranks))
        differs = (ranks[order[1:]] != ranks[order[:-1]]) | (later[order[1:]] != later[order[:-1]])
        ranks[order] = np.concatenate([[0], np.cumsum(differs)])
        shift *= 2
    return order


def common_prefixes(tokens: Integers, order: Integers) -> Integers:
    """How many tokens each suffix, in ``order``, shares with the one before it."""
    size = len(tokens)
    shared = np.zeros(size, dtype=np.int64)
    if compiled.available():
        tokens = np.ascontiguousarray(tokens, dtype=np.int64)
        _common_prefixes(tokens, size, order, np.empty(size, dtype=np.int64), shared)
        return shared
    for index in range(1, size):
        one, other = tokens[order[index - 1] :], tokens[order[index] :]
        length = min(len(one), len(other))
        differs = np.flatnonzero(one[:length] != other[:length])
        shared[index] = differs[0] if len(differs) else length
    return shared


def first_occurrences(tokens: Integers, length: int) -> Integers:
    """For every place the first one at which the same ``length`` tokens stand; -1 where fewer are left."""
    first = np.full(len(tokens), -1, dtype=np.int64)
    if len(tokens):
        order = suffix_array(tokens)
        starts = np.flatnonzero(common_prefixes(tokens, order) < length)
        groups = np.cumsum(np.isin(np.arange(len(order)), starts, assume_unique=True)) - 1
        first[order] = np.minimum.reduceat(order, starts)[groups]
        first[max(len(tokens) - length + 1, 0) :] = -1
    return first


@dataclass(frozen=True)
class Repeat:
    """A passage that occurs several times."""

    text: str
    words: int
    count: int


def longest_repeats(texts: Sequence[str], least: int = 50, most: int = 10) -> list[Repeat]:
    """The longest passages of at least ``least`` words that occur more than once, none a part of another.

    Args:
        texts: what fits into memory; passages do not go beyond one text.
        most: return no more than this.
    """
    located = [located_words(text) for text in texts]
    # Behind each text a token that stands nowhere else.
    tokens = np.concatenate([np.append(words.view(np.int64), -number) for number, (words, _, _) in enumerate(located)])
    starts = np.cumsum([0, *(len(words) + 1 for words, _, _ in located)])
    order = suffix_array(tokens)
    shared = common_prefixes(tokens, order)
    covered = np.zeros(len(tokens), dtype=bool)
    repeats: list[Repeat] = []
    for index in np.argsort(-shared, kind="stable").tolist():
        length, place = int(shared[index]), int(order[index])
        if length < least or len(repeats) == most:
            break
        if covered[place]:
            continue
        occurrences = _sharing(order, shared, index, length)
        for start in occurrences:
            covered[start : start + length] = True
        number = int(np.searchsorted(starts, place, side="right")) - 1
        _, begins, ends = located[number]
        first = place - int(starts[number])
        passage = texts[number][int(begins[first]) : int(ends[first + length - 1])]
        repeats.append(Repeat(passage, length, len(occurrences)))
    return repeats


def _sharing(order: Integers, shared: Integers, index: int, length: int) -> list[int]:
    """All suffixes that share ``length`` tokens with the one at ``index`` of the order."""
    first = index
    while shared[first] >= length:
        first -= 1
    last = index + 1
    while last < len(order) and shared[last] >= length:
        last += 1
    return order[first:last].tolist()
