import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError, UsageError
from groundup.tokenizer import pretokenize
from groundup.tokenizer.pretokenize import Pattern, pieces, well_formed

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


@pytest.mark.parametrize("expression", ["(", "(a{1000}){1000}", "a|" * 20_000, "[z-a]", "a{999999999999}"])
def test_an_expression_that_cannot_be_used_is_refused(expression: str) -> None:
    with pytest.raises(UsageError, match="the pattern"):
        Pattern.named(expression)


def test_an_expression_that_hangs_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretokenize, "PATIENCE_SECONDS", 0.2)
    with pytest.raises(DataError, match="took more than"):
        list(Pattern.named(r"(?:a|aa)+$").pieces("a" * 60 + "b"))


@pytest.mark.parametrize("name", ["gpt3", ""])
def test_a_name_that_is_unknown_is_no_expression(name: str) -> None:
    with pytest.raises(UsageError, match=r"unknown pattern .*gpt2"):
        Pattern.named(name)


def test_what_an_expression_leaves_out_is_a_piece_too() -> None:
    assert list(Pattern.named(r"\d+").pieces("ab12cd")) == ["ab", "12", "cd"]
    assert list(Pattern.named(r"x*").pieces("axb")) == ["a", "x", "b"]


def test_each_expression_cuts_what_the_one_before_left() -> None:
    assert list(Pattern((r"\d", r" ?\w+|\s+(?!\S)|\s+")).pieces("a  12 b")) == ["a", "  ", "1", "2", " b"]


@pytest.mark.parametrize("options", [{"digits": 10}, {"digits": -1}])
def test_impossible_options_are_refused(options: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="digits"):
        Pattern.named("gpt2", **options)


def test_letters_are_those_of_unicode_16() -> None:
    """U+0558 became a letter later, and ʕ (U+0295) has lost its case."""
    assert list(pieces("a\u0558b")) == ["a", "\u0558b"]
    assert list(Pattern.named("o200k").pieces("A\u0295B")) == ["A\u0295", "B"]
