"""The compiled scanner cuts where the regular expressions cut."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.tokenizer.pretokenize import NAMED, Pattern, Whitespace
from groundup.tokenizer.scanner import piece_ends

pytestmark = pytest.mark.skipif(not compiled.available(), reason="numba is not installed")

# What the patterns tell apart, many times over, so that windows of 64 bytes begin and end everywhere.
ASCII = st.text(st.sampled_from("aAbBsStTdDmMlLvVrReE'''  \t\r\n\n0193.,/!-"), max_size=200)
ANY = st.text(
    st.sampled_from("aAsS'' \t\r\n09./ſéÉ中ǅʰª½٣\u0300\u0301\u00a0\u3000\u2028\u200d\u0558😀")
    | st.characters(exclude_categories=("Cs",)),
    max_size=60,
)
TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def cut(data: bytes, pattern: Pattern) -> list[bytes]:
    assert pattern.rules is not None
    ends = piece_ends(data, pattern.rules).tolist()
    return [data[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def check(pattern: Pattern) -> None:
    @settings(max_examples=150, deadline=None)
    @given(ASCII | ANY)
    def law(text: str) -> None:
        assert cut(text.encode(), pattern) == [piece.encode() for piece in pattern.pieces(text)]

    law()


@pytest.mark.parametrize("name", NAMED)
def test_named_patterns(name: str) -> None:
    check(Pattern.named(name))


@pytest.mark.parametrize("name", ["groundup", "gpt2", "o200k"])
@pytest.mark.parametrize(("digits", "whitespace"), [(0, "runs"), (2, "runs"), (5, "runs"), (None, "single")])
def test_patterns_with_options(name: str, digits: int | None, whitespace: Whitespace) -> None:
    check(Pattern.named(name, digits, whitespace))


def test_a_pattern_without_contractions() -> None:
    check(Pattern((TEKKEN,)))


@pytest.mark.parametrize("name", NAMED)
def test_bytes_that_are_no_text_are_signs(name: str) -> None:
    pattern = Pattern.named(name)

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.sampled_from([b"\xe4\xb8\xad", b"\xe4\xb8", b"\xff", b"\xed\xa0\x80", b"a", b" ", b"'s"])))
    def law(parts: list[bytes]) -> None:
        data = b"".join(parts)
        expected = [
            piece.encode("utf-8", "surrogateescape")
            for piece in pattern.pieces(data.decode("utf-8", "surrogateescape"))
        ]
        assert cut(data, pattern) == expected

    law()
