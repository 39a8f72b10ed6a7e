"""Charts: the same SVG for the same numbers, whatever the numbers and words are."""

import itertools
import re

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.report import charts
from groundup.report.charts import Dot, Line, Panel
from groundup.report.facts import Series

HOSTILE = ["$x_1$ & <b>", "\\frac{1", "漢字 😀", "#let"]


def panel(values: list[float]) -> Panel:
    series = Series([float(step) for step in range(len(values))], values)
    return Panel("$Loss", [Line(series, "a_b")], levels=[("xz $", 1.0)])


def test_equal_numbers_give_equal_bytes_whatever_the_users_style_is() -> None:
    rows = [[panel([3.0, 2.0, 1.0])]]
    before = charts.curves(rows, (2.0,))
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None, "axes.facecolor": "red"}):
        assert charts.curves(rows, (2.0,)) == before
    assert "<text" not in before
    assert "dc:date" not in before


@pytest.mark.parametrize("values", [[], [1.0], [2.0, 2.0], [float(n % 7) for n in range(5_000)]])
def test_curves_of_any_length(values: list[float]) -> None:
    svg = charts.curves([[panel(values)], [panel(values), panel(values)]], (1.5, 1.5))
    assert svg.count("<svg") == 1
    assert len(svg) < 400_000


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=6), st.floats(0.1, 10))
def test_labels_keep_apart_and_in_order(places: list[float], gap: float) -> None:
    moved = charts.apart(places, gap)
    assert all(new >= old for new, old in zip(moved, places, strict=True))
    assert all(high - low >= gap - 1e-9 for low, high in itertools.pairwise(sorted(moved)))
    assert np.all(np.diff([moved[index] for index in sorted(range(len(places)), key=places.__getitem__)]) > 0)


def test_thinning_keeps_the_mean_and_the_limit() -> None:
    series = Series([float(n) for n in range(1200)], [float(n) for n in range(1200)])
    steps, values = charts.thin(series, most=600)
    assert len(values) == 600
    assert values.mean() == pytest.approx(np.mean(series.values))
    assert np.all(np.diff(steps) > 0)


def test_the_moving_average_of_a_constant_is_the_constant() -> None:
    assert charts.smooth([2.5] * 97) == pytest.approx([2.5] * 97)


def test_hostile_words_are_drawn_as_they_are() -> None:
    dots = [Dot(word, 0.5, 0.4, 0.6) for word in HOSTILE]
    for svg in (
        charts.bits_per_byte(dots, [(HOSTILE[0], 0.3)]),
        charts.exact_match([(HOSTILE[0], [(word, 0.1, dots) for word in HOSTILE])]),
        charts.funnel(HOSTILE, [4.0, 3.0, 2.0, 0.0], [0.0, 1.0, 1.0, 2.0], HOSTILE),
        charts.attention_heads([(HOSTILE[0], np.eye(4))] * 3, HOSTILE),
        charts.costs([{word: {text: [30.0, 20.0, 25.0] for text in HOSTILE}} for word in HOSTILE[:2]], *HOSTILE[:2]),
        charts.costs([{HOSTILE[0]: {HOSTILE[1]: [0.5]}}], *HOSTILE[:2]),
    ):
        assert re.match(r"<\?xml", svg)


def test_the_overview_is_bounded_for_large_models() -> None:
    layers = [[np.tril(np.full((24, 24), 0.04)) for _ in range(16)] for _ in range(32)]
    assert len(charts.attention_overview(layers)) < 1_500_000
