"""Interpolated modified Kneser-Ney in dictionaries: what ``ngram`` computes, in the fewest words.

Documents of token ids enter, probabilities leave, one token at a time. It is the oracle of the tests of
:mod:`groundup.evaluation.ngram`, whose docstring gives the formula and the sources.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from groundup.evaluation.ngram import estimate_discounts


class PlainKneserNey:
    """A language model over the ids 0 … vocab_size - 1; ``vocab_size`` itself marks a document's boundary."""

    def __init__(self, documents: Sequence[Sequence[int]], vocab_size: int, order: int = 5) -> None:
        self.vocab_size, self.order = vocab_size, order
        occurrences: Counter[tuple[int, ...]] = Counter()
        for document in documents:
            tokens = (vocab_size, *document)
            for end in range(2, len(tokens) + 1):  # the boundary alone is never predicted
                for start in range(max(0, end - order), end):
                    occurrences[tokens[start:end]] += 1

        preceded = Counter(gram[1:] for gram in occurrences)  # by how many distinct tokens
        self.followers: defaultdict[tuple[int, ...], dict[int, int]] = defaultdict(dict)
        counts: defaultdict[int, list[int]] = defaultdict(list)
        for gram, times in occurrences.items():
            count = times if len(gram) == order or gram[0] == vocab_size else preceded[gram]
            self.followers[gram[:-1]][gram[-1]] = count
            counts[len(gram)].append(count)
        self.discounts = {length: estimate_discounts(np.array(values)) for length, values in counts.items()}

    def probability(self, token: int, before: Sequence[int]) -> float:
        """p(token | every token of its document before it)."""
        context = (self.vocab_size, *before)
        return self._interpolated(token, context[max(0, len(context) - self.order + 1) :])

    def _interpolated(self, token: int, context: tuple[int, ...]) -> float:
        below = self._interpolated(token, context[1:]) if context else 1 / self.vocab_size
        counts = self.followers.get(context)
        if not counts:
            return below
        discount = {count: float(self.discounts[len(context) + 1][min(count, 3)]) for count in counts.values()}
        total, count = sum(counts.values()), counts.get(token, 0)
        backoff = sum(discount[c] for c in counts.values()) / total
        return (count - discount.get(count, 0.0)) / total + backoff * below
