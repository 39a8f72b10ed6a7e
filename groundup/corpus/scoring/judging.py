"""Scores of texts whose class is known → how good the classifier is, in figures that one can choose a threshold by."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.bool_]

THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
#: Quantile of the normal distribution of a 95 % interval.
_Z = 1.959964


@dataclass(frozen=True)
class Interval:
    """A share, and the 95 % interval that it is known to within."""

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, hits: int, of: int) -> "Interval":
        """E. B. Wilson, "Probable inference, the law of succession, and statistical inference" (1927)."""
        if not of:
            return cls(0.0, 0.0, 1.0)
        share, scale = hits / of, 1 + _Z**2 / of
        centre = (share + _Z**2 / (2 * of)) / scale
        half = _Z * (share * (1 - share) / of + _Z**2 / (4 * of**2)) ** 0.5 / scale
        return cls(share, max(0.0, centre - half), min(1.0, centre + half))


@dataclass(frozen=True)
class AtThreshold:
    """What a filter with this threshold would do to the held-out texts."""

    threshold: float
    precision: Interval
    """Of the texts that it keeps, the share of good ones."""
    recall: Interval
    """Of the good texts, the share that it keeps."""
    f1: float
    bad_kept: float
    """Of the bad texts, the share that it keeps."""


@dataclass(frozen=True)
class Bin:
    """Texts of similar scores: is their mean score the share of good ones among them?"""

    low: float
    high: float
    count: int
    mean_score: float
    share_good: float


@dataclass(frozen=True)
class Report:
    """How well a classifier tells good from bad texts that it has not seen."""

    trained_on: int
    good: int
    bad: int
    """How many held-out texts of each class there were."""
    auc: float
    """The probability that a good text scores above a bad one; 0.5 is chance."""
    thresholds: tuple[AtThreshold, ...]
    calibration: tuple[Bin, ...]
    calibration_error: float
    """Mean distance, over the texts, between a bin's mean score and its share of good ones; 0 is perfect."""

    @classmethod
    def of(cls, scores: Floats, labels: Labels, trained_on: int) -> "Report":
        """
        Args:
            scores: [texts], from 0 to 1.
            labels: [texts], true for a good one; both classes must occur.
        """
        bins = tuple(calibration_bins(scores, labels))
        error = sum(each.count * abs(each.mean_score - each.share_good) for each in bins) / scores.size
        return cls(
            trained_on,
            int(labels.sum()),
            int((~labels).sum()),
            area_under_curve(scores, labels),
            tuple(at_threshold(scores, labels, threshold) for threshold in THRESHOLDS),
            bins,
            error,
        )

    def at(self, threshold: float) -> AtThreshold:
        """The row of one of ``THRESHOLDS``."""
        return next(row for row in self.thresholds if row.threshold == threshold)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def to_text(self) -> str:
        """Tables for the terminal."""
        lines = [
            f"held out: {self.good} good and {self.bad} bad texts (trained on {self.trained_on})",
            f"ROC AUC {self.auc:.4f} (chance 0.5), calibration error {self.calibration_error:.3f}",
            "",
            "threshold  precision  95 %           recall  95 %           F1     bad kept",
        ]
        for row in self.thresholds:
            lines.append(
                f"{row.threshold:<9}  {row.precision.value:<9.3f}  {_range(row.precision)}  {row.recall.value:<6.3f}  "
                f"{_range(row.recall)}  {row.f1:.3f}  {row.bad_kept:.3f}"
            )
        lines += ["", "scores        texts  mean score  share of good"]
        for each in self.calibration:
            lines.append(
                f"{each.low:.1f} to {each.high:.1f}  {each.count:>7}  {each.mean_score:<10.3f}  {each.share_good:.3f}"
            )
        return "\n".join(lines)


def _range(interval: Interval) -> str:
    return f"{interval.low:.3f} to {interval.high:.3f}"


def at_threshold(scores: Floats, labels: Labels, threshold: float) -> AtThreshold:
    """Keep what scores ``threshold`` or more, and count."""
    kept = scores >= threshold
    good_kept, good, bad = int((kept & labels).sum()), int(labels.sum()), int((~labels).sum())
    precision, recall = Interval.of(good_kept, int(kept.sum())), Interval.of(good_kept, good)
    both = precision.value + recall.value
    f1 = 2 * precision.value * recall.value / both if both else 0.0
    return AtThreshold(threshold, precision, recall, f1, int((kept & ~labels).sum()) / max(1, bad))


def area_under_curve(scores: Floats, labels: Labels) -> float:
    """The share of pairs of a good and a bad text in which the good one scores higher; equal scores count half."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    rank = np.cumsum(counts) - (counts - 1) / 2  # of equal scores the mean rank, from 1
    good = int(labels.sum())
    bad = labels.size - good
    return float((rank[place[labels]].sum() - good * (good + 1) / 2) / (good * bad))


def calibration_bins(scores: Floats, labels: Labels, count: int = 10) -> Sequence[Bin]:
    """``count`` bins of equal width; empty ones are left out."""
    place = np.minimum((scores * count).astype(np.int64), count - 1)
    return [
        Bin(
            number / count,
            (number + 1) / count,
            int((place == number).sum()),
            float(scores[place == number].mean()),
            float(labels[place == number].mean()),
        )
        for number in np.unique(place).tolist()
    ]
