"""Curves fit their place and show what they are made of."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.monitor.chart import ASCII, LABEL, UNICODE, Glyphs, chart, glyphs_for, short

FINITE = st.floats(-1e12, 1e12)


@settings(max_examples=40)
@given(
    st.lists(FINITE, min_size=1, max_size=50),
    st.integers(LABEL + 5, 100),
    st.integers(2, 12),
    st.sampled_from([UNICODE, ASCII]),
    st.lists(st.floats(0, 60), max_size=5),
)
def test_every_line_is_as_wide_as_it_should_be(
    values: list[float], width: int, height: int, glyphs: Glyphs, marks: list[float]
) -> None:
    lines = chart("loss", list(enumerate(values)), (0, 60), width, height, glyphs, marks)
    assert len(lines) == height + 3
    assert {line.cell_len for line in lines} == {width}
    assert bool(marks) == (glyphs.mark in lines[-2].plain)
    if glyphs is ASCII:
        assert all(line.plain.isascii() for line in lines)


def test_a_falling_curve_falls() -> None:
    lines = chart("loss", [(0, 3.0), (10, 2.0), (20, 1.0)], (0, 20), LABEL + 22, 5, ASCII)
    assert [line.plain for line in lines] == [
        "loss 1".ljust(29),
        "      3|***                  ",
        "       |   *****             ",
        "       |        *****        ",
        "       |             *****   ",
        "      1|                  ***",
        "       +---------------------",
        "        0                  20",
    ]


def test_braille_has_eight_dots_to_a_letter() -> None:
    lines = chart("x", [(0, 0.0), (1, 1.0)], (0, 1), LABEL + 6, 2, UNICODE)
    assert [line.plain[LABEL + 1 :] for line in lines[1:3]] == ["  ⢀⠤⠊", "⡠⠒⠁  "]


def test_a_constant_curve_has_one_label() -> None:
    lines = chart("match", [(0, 0.0), (9, 0.0)], (0, 9), 30, 6, UNICODE)
    assert [line.plain[:LABEL].strip() for line in lines[1:7]].count("0") == 1


def test_many_decades_are_drawn_on_a_logarithmic_axis() -> None:
    points = [(step, 10.0**-step) for step in range(5)]
    title = chart("rate", points, (0, 4), 40, 6, UNICODE)[0].plain
    assert title.startswith("rate 0.0001 (log)")
    assert "(log)" not in chart("rate", [*points, (5, -1.0)], (0, 5), 40, 6, UNICODE)[0].plain


@pytest.mark.parametrize(
    ("encoding", "dumb", "expected"),
    [
        ("utf-8", False, UNICODE),
        ("utf-8", True, ASCII),
        ("ascii", False, ASCII),
        ("cp1252", False, ASCII),
        (None, False, ASCII),
    ],
)
def test_the_letters_that_a_terminal_knows(encoding: str | None, dumb: bool, expected: Glyphs) -> None:
    assert glyphs_for(encoding, dumb) is expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *((0, "0"), (3.21349, "3.213"), (0.01, "0.01"), (12_345, "12.3k"), (999.6, "999.6"), (9_999, "9999")),
        *(
            (1_234_567, "1.23M"),
            (999_600, "1M"),
            (2.5e9, "2.5G"),
            (1e-5, "1e-05"),
            (-0.0456222, "-0.0456"),
            (-5.6e-157, "-6e-157"),
        ),
    ],
)
def test_short_numbers(value: float, expected: str) -> None:
    assert short(value) == expected


@given(st.floats(-1e14, 1e14))
def test_short_numbers_are_short(value: float) -> None:
    assert len(short(value)) <= LABEL
