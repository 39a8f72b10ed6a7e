import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.tokenizer.pretokenize import pieces, well_formed

ANY_STRING = st.text(st.characters(exclude_categories=()))
SPACED = st.text(st.sampled_from(" \t\r\n\u00a0\u3000ab'sLL1!é中\u0301"))


@given(ANY_STRING | SPACED)
def test_the_pieces_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text
    assert all(pieces(text))


@given(ANY_STRING | SPACED, st.integers(1, 6))
def test_reading_in_blocks_changes_no_piece(text: str, block: int) -> None:
    assert list(pieces(text, block)) == list(pieces(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello world", ["Hello", " world"]),
        ("we'll CAN'T", ["we", "'ll", " CAN", "'T"]),
        ("in 1623.", ["in", " ", "1", "6", "2", "3", "."]),
        ("a  b", ["a", " ", " b"]),
        ("a\n\n  b", ["a", "\n\n", " ", " b"]),
        ("end.\n", ["end", ".\n"]),
        ('("x")', ['("', "x", '")']),
        ("naïve Ωmega 東京", ["naïve", " Ωmega", " 東京"]),
        ("", []),
    ],
)
def test_known_pieces(text: str, expected: list[str]) -> None:
    assert list(pieces(text)) == expected


def test_surrogates_become_characters() -> None:
    assert well_formed("plain é 🦉") == "plain é 🦉"
    assert well_formed("\ud83e\udd89") == "🦉"
    assert well_formed("a\udc80b\ud800") == "a\ufffdb\ufffd"


@given(ANY_STRING)
def test_well_formed_text_can_be_written(text: str) -> None:
    assert well_formed(text).encode("utf-8").decode("utf-8") == well_formed(text)
