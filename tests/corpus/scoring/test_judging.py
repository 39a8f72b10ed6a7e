"""Figures of a classifier, against counting pairs by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.scoring.judging import Interval, Report, area_under_curve

Scored = st.lists(st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.9, 1.0]), st.booleans()), min_size=2, max_size=40)


@given(Scored.filter(lambda rows: len({label for _, label in rows}) == 2))
def test_figures_are_those_of_counting(rows: list[tuple[float, bool]]) -> None:
    scores, labels = np.array([score for score, _ in rows]), np.array([label for _, label in rows])
    good, bad = scores[labels], scores[~labels]
    wins = np.mean([(one > other) + (one == other) / 2 for one in good for other in bad])
    assert area_under_curve(scores, labels) == pytest.approx(wins)
    report = Report.of(scores, labels, trained_on=3)
    row = report.at(0.5)
    kept = scores >= 0.5
    assert row.recall.value == pytest.approx(kept[labels].mean())
    assert row.bad_kept == pytest.approx(kept[~labels].mean())
    if kept.any():
        assert row.precision.value == pytest.approx(labels[kept].mean())
    assert sum(each.count for each in report.calibration) == len(rows)
    assert report.to_json()["auc"] == report.auc
    assert "ROC AUC" in report.to_text()


def test_scores_that_are_probabilities_have_no_calibration_error() -> None:
    scores = np.repeat([0.25, 0.75], 400)
    labels = np.concatenate([np.arange(400) < 100, np.arange(400) < 300])
    assert Report.of(scores, labels, trained_on=0).calibration_error == pytest.approx(0)


def test_the_interval_is_wilsons() -> None:
    interval = Interval.of(8, 10)
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert (Interval.of(0, 10).low, Interval.of(10, 10).high) == pytest.approx((0, 1))
    assert Interval.of(0, 0) == Interval(0, 0, 1)
