import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from groundup.inspection.drawing import Sheet, drawable, heat, label_tokens, numbers_with_room, style, token_label

HOSTILE = ["$x_1$ & <b>", "\\frac{1", "漢字 😀", "a\u0301", "שלום", "\U000e0100"]


def drawn(folder: Path, words: list[str]) -> tuple[bytes, bytes]:
    with style():
        sheet = Sheet(f"Title {words[0]}", " ".join(words) * 5, 4.0, 2.0)
        axes = sheet.axes(1, 0, 2, 1)
        label_tokens(axes, [token_label(word) for word in words], 0.2, "left")
        label_tokens(axes, [token_label(word) for word in words], 0.2, "bottom")
        sheet.scale(0, 1.5, (0, "0"), (1, "1"))
        svg, png = sheet.save(folder, "drawn")
    return svg.read_bytes(), png.read_bytes()


def test_equal_input_gives_equal_bytes_whatever_the_users_style_is(tmp_path: Path) -> None:
    before = drawn(tmp_path, ["word"])
    with matplotlib.rc_context({"font.size": 30, "svg.hashsalt": None, "figure.facecolor": "red"}):
        assert drawn(tmp_path, ["word"]) == before
    assert b"<text" not in before[0]
    assert b"dc:date" not in before[0]
    assert drawn(tmp_path, ["other"])[1] != before[1]


def test_hostile_words_are_drawn_without_a_warning(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for word in HOSTILE:
            drawn(tmp_path, [word])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("·the", "·the"),
        ("é", "é"),
        ("漢字", "‹U+6F22›‹U+5B57›"),
        ("a🦜", "a‹U+1F99C›"),
        ("‹E5 AD›", "‹E5 AD›"),
        ("↵→◌", "↵→◌"),
    ],
)
def test_a_character_without_a_picture_is_told_by_its_number(text: str, label: str) -> None:
    assert drawable(text) == label


@given(st.text(max_size=40), st.integers(4, 20))
def test_labels_keep_their_length(text: str, letters: int) -> None:
    assert cell_len(token_label(text, letters)) <= letters


def test_heat_has_whole_pixels_and_holes() -> None:
    image = heat(np.array([[0.0, 1.0], [np.nan, 0.5]]), 3)
    assert image.shape == (6, 6, 4)
    assert image[0, 0, :3].min() == 255
    assert image[0, 5, :3].max() < 60
    assert image[5, 0, 3] == 0


@given(st.integers(1, 400), st.floats(0.005, 1.0), st.sampled_from("xy"), st.integers(0, 1))
def test_numbers_have_room(count: int, pitch: float, axis: str, first: int) -> None:
    numbers = numbers_with_room(count, pitch, axis, first)
    assert set(numbers) <= set(range(first, count + first))
    width = 5 * len(str(numbers[-1])) if numbers and axis == "x" else 7
    assert all(72 * pitch * gap >= width for gap in np.diff(numbers))


def test_all_numbers_are_written_where_they_fit() -> None:
    assert numbers_with_room(12, 0.3, "x") == list(range(1, 13))
    assert numbers_with_room(30, 0.07, "y", 0) == list(range(0, 30, 2))
