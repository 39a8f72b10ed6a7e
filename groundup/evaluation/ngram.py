"""Interpolated modified Kneser-Ney over token ids: the classical language model to beat.

Documents of token ids enter, a fitted model and log2 probabilities per token leave. Sources: Kneser & Ney,
"Improved backing-off for m-gram language modeling" (1995); Chen & Goodman, "An empirical study of smoothing
techniques for language modeling" (1998). ``ngram_plain`` says the same in dictionaries and is the tests' oracle.

Each level k = 1 … order adds what it knows about a token w after a context h of k - 1 tokens to what the
level below says after the context without its oldest token::

    p_k(w | h) = (c(h w) - D(c(h w))) / c(h) + backoff(h) · p_{k-1}(w | h without its oldest token)

and p_0 = 1 / vocab_size. A count c is the number of occurrences at the highest level; below it, the number of
distinct tokens seen before the n-gram: "Francisco" is frequent, but only after "San", so it is a poor guess elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import DataError, UsageError
from groundup.core.progress import track

Ids: TypeAlias = NDArray[np.int64]
Floats: TypeAlias = NDArray[np.float64]
Documents: TypeAlias = Sequence[Sequence[int] | NDArray[np.integer]]

#: D(1), D(2), D(3 and more) where the counts of counts are too few to estimate them.
FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)
#: The id of an n-gram that the model never saw. As an index it finds the last entry of an array.
UNSEEN = -1
#: Keys, which number pairs of (id of an n-gram, token), stay below 2^63 for every text of fewer than 2^39 tokens.
LARGEST_VOCABULARY = 1 << 24


def estimate_discounts(counts: NDArray[np.integer]) -> Floats:
    """The discounts D of a count of 0, 1, 2, and 3 or more: shape [4] (Chen & Goodman 1998, section 3).

    Where the counts of counts n1 … n4 give no positive D, as in small texts, ``FALLBACK_DISCOUNTS`` are used.
    """
    n1, n2, n3, n4 = np.bincount(np.minimum(counts, 5), minlength=5)[1:5].tolist()
    estimates = FALLBACK_DISCOUNTS
    if min(n1, n2, n3, n4) > 0:
        y = n1 / (n1 + 2 * n2)
        closed_form = (1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3)
        estimates = closed_form if min(closed_form) > 0 else FALLBACK_DISCOUNTS
    return np.array([0.0, *estimates])


@dataclass(frozen=True)
class _Stream:
    """Documents one after another, each behind one boundary token, whose id is the vocabulary size."""

    tokens: Ids
    position: Ids
    """[tokens]: distance from the document's boundary, which itself has 0."""
    vocab_size: int

    @classmethod
    def of(cls, documents: Documents, vocab_size: int) -> "_Stream":
        tokens, position = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
        for number, document in enumerate(documents):
            ids = np.asarray(document, dtype=np.int64)
            outside = ids[(ids < 0) | (ids >= vocab_size)]
            if outside.size:
                raise DataError(
                    f"document {number} holds token {outside[0]}, outside the vocabulary of {vocab_size} tokens; "
                    "encode it with the tokenizer that the n-gram model is made for"
                )
            tokens += [np.array([vocab_size]), ids]
            position.append(np.arange(ids.size + 1))
        return cls(np.concatenate(tokens), np.concatenate(position), vocab_size)

    def contexts(self, ends: Ids) -> Ids:
        """[tokens]: the id of the n-gram just before each token, given the ids of those that end at it."""
        return np.where(self.position > 0, np.roll(ends, 1), UNSEEN)

    def keys(self, contexts: Ids) -> Ids:
        """[tokens]: one number for (context, token). Exact, for ids are dense: nothing is hashed."""
        return np.where(contexts == UNSEEN, UNSEEN, contexts * self.vocab_size + self.tokens)

    def with_boundary(self, ends: Ids, boundary: int) -> Ids:
        """``ends``, where the boundary, a context that is never predicted, has the id ``boundary``."""
        return np.where(self.position == 0, boundary, ends)


@dataclass(frozen=True)
class _Grams:
    """The distinct n-grams of one length in a stream, in the order of their keys: the order of their dense ids."""

    keys: Ids
    first: Ids
    """Where in the stream each one ends for the first time."""
    occurrences: Ids
    suffixes: Ids
    """The id of each one without its oldest token."""


@dataclass(frozen=True)
class _Level:
    """One level of the recursion. The last entry of both tables belongs to UNSEEN."""

    keys: Ids
    """[n-grams], sorted; a key's place is the dense id of its n-gram."""
    probability: Floats
    """[n-grams + 1]: (c - D(c)) / c(context)."""
    backoff: Floats
    """[contexts + 1]: the share that discounting took away; 1 for a context that nothing followed."""

    @classmethod
    def of(cls, keys: Ids, counts: Ids, contexts: Ids, number_of_contexts: int) -> "_Level":
        discounts = estimate_discounts(counts)[np.minimum(counts, 3)]
        total = np.bincount(contexts, counts, number_of_contexts + 1)
        taken = np.bincount(contexts, discounts, number_of_contexts + 1)
        backoff = np.divide(taken, total, out=np.ones(total.size), where=total > 0)
        return cls(keys, np.append((counts - discounts) / total[contexts], 0.0), backoff)

    def find(self, keys: Ids) -> Ids:
        """The dense id of each key, or UNSEEN."""
        if not self.keys.size:
            return np.full_like(keys, UNSEEN)
        place = np.minimum(np.searchsorted(self.keys, keys), self.keys.size - 1)
        return np.where(self.keys[place] == keys, place, UNSEEN)


def _count(stream: _Stream, order: int) -> list[_Grams]:
    """The n-grams of 1 … ``order`` tokens: those of each length are extended by one token to the next."""
    grams = []
    ends = np.zeros_like(stream.tokens)  # every token follows the empty n-gram, whose id is 0
    for length in track(range(1, order + 1), "n-gram", total=order, unit="orders"):
        all_keys = stream.keys(stream.contexts(ends))
        inside = np.flatnonzero(all_keys != UNSEEN)
        keys, first, ids, occurrences = np.unique(
            all_keys[inside], return_index=True, return_inverse=True, return_counts=True
        )
        first = inside[first]
        grams.append(_Grams(keys, first, occurrences, suffixes=ends[first]))
        ends = np.full_like(ends, UNSEEN)
        ends[inside] = ids
        if length == 1:
            ends = stream.with_boundary(ends, keys.size)
    return grams


@dataclass(frozen=True)
class KneserNey:
    """A fitted model; :meth:`fit` makes one."""

    vocab_size: int
    order: int
    _levels: tuple[_Level, ...]

    @classmethod
    def fit(cls, documents: Documents, vocab_size: int, order: int = 5) -> "KneserNey":
        """Count the n-grams of ``documents`` and discount them.

        Each document begins after a boundary that is a context and never a prediction. No token can precede an
        n-gram that begins at the boundary, so such n-grams keep their occurrences as counts at every level.

        Raises:
            DataError: there is no token, or one outside [0, vocab_size).
            UsageError: an impossible order or vocabulary size.
        """
        if order < 1:
            raise UsageError(f"an n-gram model of order {order} cannot be; choose 1 or more")
        if not 0 < vocab_size <= LARGEST_VOCABULARY:
            raise UsageError(f"an n-gram model over {vocab_size} tokens cannot be; choose 1 to {LARGEST_VOCABULARY}")
        stream = _Stream.of(documents, vocab_size)
        if not stream.position.any():
            raise DataError("no token to fit an n-gram model on; give it at least one document with text")

        grams = _count(stream, order)
        levels = []
        number_of_contexts = 1
        for length, (own, longer) in enumerate(zip(grams, [*grams[1:], None], strict=True), start=1):
            counts = own.occurrences
            if longer is not None:
                preceded = np.bincount(longer.suffixes, minlength=own.keys.size)
                counts = np.where(stream.position[own.first] == length - 1, own.occurrences, preceded)
            levels.append(_Level.of(own.keys, counts, own.keys // vocab_size, number_of_contexts))
            number_of_contexts = own.keys.size + (length == 1)
        return cls(vocab_size, order, tuple(levels))

    def log2_probabilities(self, documents: Documents) -> Floats:
        """[tokens of all documents, in order]: log2 p(token | the tokens before it in its document).

        Raises:
            DataError: a token outside [0, vocab_size).
        """
        stream = _Stream.of(documents, self.vocab_size)
        probability = np.full(stream.tokens.size, 1 / self.vocab_size)
        ends = np.zeros_like(stream.tokens)
        for length, level in enumerate(self._levels, start=1):
            contexts = stream.contexts(ends)
            ends = level.find(stream.keys(contexts))
            probability = level.probability[ends] + level.backoff[contexts] * probability
            if length == 1:
                ends = stream.with_boundary(ends, level.keys.size)
        return np.log2(probability[stream.position > 0])

    def bits(self, documents: Documents) -> float:
        """Bits that an ideal coder with this model needs for ``documents``; divide by their bytes for a rate."""
        return float(-self.log2_probabilities(documents).sum())
