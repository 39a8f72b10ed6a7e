"""Numbers read well, and no text can hurt the page."""

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.report import wording as w

ANY_TEXT = st.text(st.characters(exclude_categories=()))


@given(ANY_TEXT)
def test_clean_text_has_no_controls_and_can_be_encoded(text: str) -> None:
    cleaned = w.clean(text)
    cleaned.encode("utf-8")
    assert all(char == "\n" or unicodedata.category(char) not in ("Cc", "Cs", "Co", "Cn") for char in cleaned)
    assert w.clean(cleaned) == cleaned


@given(ANY_TEXT)
def test_breakable_text_has_no_long_run_and_loses_nothing(text: str) -> None:
    broken = w.breakable(text)
    assert broken.replace(w.BREAK, "") == text.replace(w.BREAK, "")
    assert max(map(len, re.split(rf"[\s{w.BREAK}]", broken)), default=0) <= w.RUN


@given(st.text(), st.integers(1, 50))
def test_shortened_text_is_marked_exactly_when_something_is_missing(text: str, characters: int) -> None:
    plain = w.shorten(text, characters).replace(w.BREAK, "")
    assert plain.endswith("[…]") or plain == text[:characters].replace(w.BREAK, "")
    assert len(plain) <= characters + 4


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (w.decimal(-0.125, 2), "−0.12"),
        (w.count(1234567), "1 234 567"),
        (w.short(3_443_136), "3.44 million"),
        (w.size(9_512_004), "9.51 MB"),
        (w.size(12), "12 bytes"),
        (w.seconds(262.4), "4 min 22 s"),
        (w.seconds(7200), "2 h"),
        (w.seconds(7.46), "7.5 s"),
        (w.percent(0.5634), "56.3 %"),
        (w.points(0.099), "+9.9"),
        (w.points(-0.02), "−2.0"),
        (w.moved(8.3, 4.05), "falls from 8.30 to 4.05"),
        (w.moved(1.0, 2.0), "rises from 1.00 to 2.00"),
        (w.moved(1.0, 1.001), "stays at 1.00"),
        (w.moved(None, 1.0), "was not recorded"),
        (w.listed(["a", "b", "c"]), "a, b and c"),
        (w.listed(["a"]), "a"),
        (w.listed([]), ""),
    ],
)
def test_numbers_in_words(shown: str, expected: str) -> None:
    assert shown.replace(w.NARROW, " ") == expected


@pytest.mark.parametrize("show", [w.decimal, w.count, w.short, w.size, w.seconds, w.percent, w.points, w.significant])
def test_an_absent_number_is_a_dash(show: object) -> None:
    assert show(None) == w.ABSENT  # type: ignore[operator]
