import unicodedata
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.show import Token, draw, named, shortened, tokens_of, visible


def console(width: int = 80, terminal: bool = False, **options: object) -> Console:
    return Console(width=width, file=StringIO(), force_terminal=terminal, _environ={}, **options)  # type: ignore[arg-type]


def plain(tokens: list[Token], width: int = 80, with_bytes: bool = True) -> list[str]:
    return [line.plain for line in draw(tokens, console(width), with_bytes)]


@pytest.mark.parametrize(
    ("data", "seen"),
    [
        (b" the", "·the"),
        (b"\n\t", "↵→"),
        (b"\r\x00\x1b", "‹U+000D›‹U+0000›‹U+001B›"),
        ("\u200d\u202e\ufeff\u00a0".encode(), "‹U+200D›‹U+202E›‹U+FEFF›‹U+00A0›"),
        ("\ufe0f".encode(), "‹U+FE0F›"),
        ("\u0301".encode(), "◌\u0301"),
        ("e\u0301".encode(), "e\u0301"),
        (b"\xe2\x80", "‹E2 80›"),
        (b" \xf0\x9f", "·‹F0 9F›"),
        (b"\x80a\xff", "‹80›a‹FF›"),
        ("é字🙂".encode(), "é字🙂"),
        (b"", ""),
    ],
)
def test_what_cannot_be_seen_is_made_visible(data: bytes, seen: str) -> None:
    assert visible(data) == seen


def test_a_terminal_without_unicode_gets_ascii() -> None:
    assert visible(" é\n\u0301\u200d".encode() + b"\xff", "ascii") == "_<U+00E9>\\n<U+0301><U+200D><FF>"
    assert visible(" é字".encode(), "latin-1") == "_é<U+5B57>"
    assert visible(b"\n", "no such encoding") == "\\n"


@given(st.binary(min_size=1), st.sampled_from(["utf-8", "latin-1", "ascii"]))
def test_nothing_moves_the_cursor_or_fails_to_print(data: bytes, encoding: str) -> None:
    seen = visible(data, encoding)
    assert seen.encode(encoding)
    assert not {unicodedata.category(character) for character in seen} & {"Cc", "Cf", "Cs", "Zl", "Zp"}


def test_pieces_stand_over_their_ids_and_bytes() -> None:
    tokens = [Token(7, b"Hi"), Token(1234, " ß".encode()), Token(9, b"", "<|end|>")]
    assert plain(tokens) == [
        "|Hi   |·ß      |<|end|>|",
        "|7    |1234    |9      |",
        "|48 69|20 C3 9F|       |",
    ]
    assert plain(tokens, with_bytes=False) == ["|Hi|·ß  |<|end|>|", "|7 |1234|9      |"]


def test_a_row_ends_where_the_text_has_a_line_end() -> None:
    tokens = [Token(1, b"a"), Token(2, b"\n"), Token(3, b"b")]
    assert plain(tokens, with_bytes=False) == ["|a|↵|", "|1|2|", "", "|b|", "|3|"]


@given(st.lists(st.binary(min_size=1, max_size=90)), st.integers(30, 100), st.booleans(), st.booleans())
def test_no_line_is_wider_than_the_terminal(pieces: list[bytes], width: int, terminal: bool, with_bytes: bool) -> None:
    tokens = [Token(number, piece) for number, piece in enumerate(pieces)]
    for line in draw(tokens, console(width, terminal), with_bytes):
        assert line.cell_len <= width


def test_long_tokens_are_shortened_and_their_bytes_counted() -> None:
    [piece, _, *lines] = plain([Token(5, b"=" * 200)], 40)
    assert "…" in piece and cell_len(piece) <= 40
    assert len(lines) == 5
    assert "(200 bytes)" in lines[-1]


@given(st.text(), st.integers(3, 30))
def test_a_shortened_text_fits(text: str, width: int) -> None:
    short = shortened(text, width)
    assert cell_len(short) <= width
    assert short == text or "…" in short


def test_colours_only_where_they_can_be_seen() -> None:
    tokens = [Token(1, b"a"), Token(2, b"b")]
    coloured = draw(tokens, console(terminal=True, color_system="truecolor"))
    assert coloured[0].plain == "a  b "
    assert len({str(span.style) for span in coloured[0].spans}) == 2
    for other in (console(), console(terminal=True, no_color=True)):
        assert draw(tokens, other)[0].plain == "|a |b |"
        assert draw(tokens, other)[0].spans == []


def test_the_tokens_of_a_text_are_its_bytes(tokenizer: BytePairTokenizer) -> None:
    text = "def naïve(self):\n\treturn '🙂 <|end|>'"
    tokens = tokens_of(tokenizer, text)
    assert [token.id for token in tokens] == tokenizer.encode(text)
    assert b"".join(token.bytes for token in tokens) == text.encode()
    assert not any(token.name for token in tokens)
    end = tokenizer.special_tokens["<|end|>"]
    assert named(tokenizer, [end]) == [Token(end, b"", "<|end|>")]


def test_text_that_is_no_unicode_can_be_shown(tokenizer: BytePairTokenizer) -> None:
    assert b"".join(token.bytes for token in tokens_of(tokenizer, "a\udcff")) == b"a\xff"  # a byte that is not UTF-8
    assert b"".join(token.bytes for token in tokens_of(tokenizer, "a\ud800")) == "a\ufffd".encode()
