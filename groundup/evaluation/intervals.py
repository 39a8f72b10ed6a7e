"""Uncertainty of a score: every number of a report comes with one of these.

Counts or values per item enter, an :class:`Interval` leaves. Sources: Wilson, "Probable inference, the law of
succession, and statistical inference" (1927); Efron, "Bootstrap methods: another look at the jackknife" (1979).
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import DataError, UsageError
from groundup.core.progress import track
from groundup.core.seeding import numpy_rng

Values: TypeAlias = Sequence[float] | NDArray[np.floating] | NDArray[np.integer]

CONFIDENCE = 0.95
RESAMPLES = 10_000
#: Items drawn at once by the bootstrap: bounds its memory to some 20 MB.
_BLOCK = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A score and where its true value lies with the stated confidence."""

    value: float
    low: float
    high: float
    n: int
    """Items that the score was measured on."""
    confidence: float = CONFIDENCE

    def excludes(self, value: float) -> bool:
        """Whether ``value``, such as no difference or chance level, lies outside."""
        return not self.low <= value <= self.high

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def wilson(successes: float, n: int, confidence: float = CONFIDENCE) -> Interval:
    """Share of successes in ``n`` trials with Wilson's score interval: never empty, never outside [0, 1].

    Raises:
        DataError: no trials, or not 0 <= successes <= n.
        UsageError: a confidence outside (0, 1).
    """
    if n < 1 or not 0 <= successes <= n:
        raise DataError(f"{successes} successes of {n} trials have no interval; it needs 0 <= successes <= trials > 0")
    z = NormalDist().inv_cdf(0.5 + _checked(confidence) / 2)
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    margin = z / scale * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    # Rounding must not push a bound past the share itself where they meet: at no success and at all successes.
    low, high = max(0.0, min(centre - margin, share)), min(1.0, max(centre + margin, share))
    return Interval(share, low, high, n, confidence)


def win_rate(wins: int, ties: int, losses: int, confidence: float = CONFIDENCE) -> Interval:
    """(wins + ties / 2) / games with Wilson's interval; 0.5 is no difference.

    A tie counts half a success. Half points vary less than wins and losses of the same mean, so that with ties
    the interval is wider than need be, never too narrow.

    Raises:
        DataError: no games, or a negative number of them.
    """
    if min(wins, ties, losses) < 0:
        raise DataError(f"{wins} wins, {ties} ties and {losses} losses: none of them can be negative")
    return wilson(wins + ties / 2, wins + ties + losses, confidence)


def bootstrap_ratio(
    numerators: Values,
    denominators: Values,
    seed: int,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
) -> Interval:
    """Sum of ``numerators`` over sum of ``denominators``, as bits over bytes, with its percentile interval.

    Items (documents, windows of text) are drawn with replacement, each with both of its numbers. A function of
    the arguments alone.

    Raises:
        DataError: no items, numbers that are not finite, lists of different length, or a denominator not positive.
        UsageError: a confidence outside (0, 1), or fewer than one resample.
    """
    above, below = np.asarray(numerators, dtype=np.float64), np.asarray(denominators, dtype=np.float64)
    if above.ndim != 1 or above.shape != below.shape or above.size == 0:
        raise DataError(f"a bootstrap over {above.shape} and {below.shape} items cannot be; give it two equal lists")
    if not (np.isfinite(above).all() and np.isfinite(below).all() and (below > 0).all()):
        raise DataError("a bootstrap needs finite values and denominators above zero; look for NaN in the scores")
    if resamples < 1:
        raise UsageError(f"a bootstrap of {resamples} resamples cannot be; choose 1 or more")
    tail = (1 - _checked(confidence)) / 2
    n = above.size
    rng = numpy_rng(seed, "bootstrap")
    rows = max(1, _BLOCK // n)
    ratios = []
    for start in track(range(0, resamples, rows), "bootstrap", total=math.ceil(resamples / rows), unit="blocks"):
        drawn = rng.integers(n, size=(min(rows, resamples - start), n))
        ratios.append(above[drawn].sum(axis=1) / below[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(ratios), [tail, 1 - tail]).tolist()
    return Interval(float(above.sum() / below.sum()), low, high, n, confidence)


def bootstrap_mean(values: Values, seed: int, confidence: float = CONFIDENCE, resamples: int = RESAMPLES) -> Interval:
    """Mean of ``values`` with its percentile interval.

    For shares of successes take :func:`wilson`: resampling items that are all alike gives an interval of no width.

    Raises:
        DataError: no values, or one that is not finite.
    """
    return bootstrap_ratio(values, np.ones(len(values)), seed, confidence, resamples)


def paired_bootstrap(
    before: Values, after: Values, seed: int, confidence: float = CONFIDENCE, resamples: int = RESAMPLES
) -> Interval:
    """Mean of ``after`` - ``before``, item by item, with its percentile interval; an improvement excludes zero.

    Raises:
        DataError: lists of different length, no items, or a value that is not finite.
    """
    if len(before) != len(after):
        raise DataError(f"{len(before)} values before and {len(after)} after are no pairs; score the same items twice")
    return bootstrap_mean(np.asarray(after, float) - np.asarray(before, float), seed, confidence, resamples)


def _checked(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise UsageError(f"confidence {confidence} is not between 0 and 1; 0.95 is customary")
    return confidence
