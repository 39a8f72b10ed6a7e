from io import BytesIO, StringIO, TextIOWrapper

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from groundup.core.errors import UsageError
from groundup.tokenizer import bpe_plain
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.trace import LONGEST_TEXT, Trace, Tracer, draw
from groundup.tokenizer.vocabulary import Vocabulary

BYTES = [bytes([byte]) for byte in range(256)]


@pytest.fixture(scope="module")
def tracer(tokenizer: BytePairTokenizer) -> Tracer:
    tokens = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
    return Tracer(Vocabulary.make(tokens, tokenizer.merges, tokenizer.special_tokens))


@pytest.fixture
def lowest() -> Tracer:
    """Merges l+o, lo+w, s+t, e+st."""
    tokens = [*BYTES, b"lo", b"low", b"st", b"est"]
    return Tracer(Vocabulary.make(tokens, [(108, 111), (256, 119), (115, 116), (101, 258)], {}))


def lines(tracer: Tracer, text: str, width: int = 80, encoding: str = "utf-8") -> list[str]:
    console = Console(width=width, file=TextIOWrapper(BytesIO(), encoding=encoding), _environ={})
    return [line.plain.rstrip() for line in draw(list(tracer.pieces(text)), tracer.vocabulary, console)]


def test_every_step_is_the_merge_that_was_learnt_first(lowest: Tracer) -> None:
    trace = lowest.trace(b"lowest")
    assert trace.start == tuple(b"lowest")
    assert [(step.rank, step.pair, step.new_id, step.place) for step in trace.steps] == [
        (0, (108, 111), 256, 0),
        (1, (256, 119), 257, 0),
        (2, (115, 116), 258, 2),
        (3, (101, 258), 259, 1),
    ]
    assert [step.tokens for step in trace.steps][-1] == trace.tokens == (257, 259)


def test_the_picture_of_a_trace(lowest: Tracer) -> None:
    assert lines(lowest, "lowest") == [
        "   rank  merge          tokens",
        "piece 1                 l o w e s t",
        "      0  l + o → lo     [lo] w e s t",
        "      1  lo + w → low   [low] e s t",
        "      2  s + t → st     low e [st]",
        "      3  e + st → est   low [est]",
        "    ids                 257 259",
    ]


def test_a_piece_that_was_there_is_only_named(lowest: Tracer) -> None:
    drawn = lines(lowest, "low low low")
    assert [line for line in drawn if "piece 3" in line] == ["piece 3  as piece 2     · low"]


def test_on_a_narrow_terminal_the_tokens_are_below(lowest: Tracer) -> None:
    assert lines(lowest, "lowest", width=20)[2:6] == [
        "piece 1 l o w e s t",
        "      0  l + o → lo",
        "        [lo] w e s t",
        "      1  lo + w → low",
    ]


def test_a_terminal_without_unicode(lowest: Tracer) -> None:
    drawn = lines(lowest, " lo é", encoding="ascii")
    assert any("l + o -> lo" in line and "_ [lo]" in line for line in drawn)
    assert all(line.isascii() for line in drawn)


def test_colour_marks_what_was_made(lowest: Tracer) -> None:
    console = Console(file=StringIO(), force_terminal=True, color_system="truecolor", _environ={})
    drawn = draw(list(lowest.pieces("lo")), lowest.vocabulary, console)
    [made] = [span for span in drawn[2].spans if "on" in str(span.style)]
    assert drawn[2].plain[made.start : made.end] == "lo"
    assert "[" not in drawn[2].plain


@given(st.text(alphabet=st.sampled_from("self.args parser\n0é字 ('_"), max_size=60))
def test_traces_end_in_the_ids_of_the_tokenizer(tracer: Tracer, tokenizer: BytePairTokenizer, text: str) -> None:
    traces = list(tracer.pieces(text))
    assert b"".join(trace.piece for trace in traces) == text.encode()
    assert [token for trace in traces for token in trace.tokens] == tokenizer.encode(text)
    for trace in traces:
        before: tuple[int, ...] = trace.start
        for step in trace.steps:
            assert tracer.vocabulary.merges[step.rank].tolist() == [*step.pair, step.new_id]
            assert step.pair == before[step.place : step.place + 2]
            before = step.tokens


@given(st.binary(min_size=1, max_size=12), st.lists(st.tuples(st.integers(97, 100), st.integers(97, 100)), unique=True))
def test_equal_to_the_textbook(data: bytes, pairs: list[tuple[int, int]]) -> None:
    tokens = [*BYTES, *(BYTES[left] + BYTES[right] for left, right in pairs)]
    piece = bytes(97 + byte % 4 for byte in data)
    word = list(piece)
    for rank, pair in enumerate(pairs):
        word = bpe_plain.merge(word, pair, 256 + rank)
    assert list(Tracer(Vocabulary.make(tokens, pairs, {})).trace(piece).tokens) == word


def test_a_piece_that_is_a_token_itself() -> None:
    tokens = [*BYTES, b"ab", b"bc", b"abc"]
    whole, merged = (
        Tracer(Vocabulary.make(tokens, [(97, 98), (98, 99)], {}, whole_pieces=flag)) for flag in (True, False)
    )
    assert whole.trace(b"abc").tokens == (258,)
    assert whole.trace(b"ab") == Trace(b"ab", (97, 98), whole.trace(b"ab").steps, None)
    assert merged.trace(b"abc").tokens == (256, 99)
    assert any("a token itself" in line and "[abc]" in line for line in lines(whole, "abc"))


def test_pieces_wrap_to_the_width(lowest: Tracer) -> None:
    for width in (24, 40, 80):
        assert all(len(line) <= width for line in lines(lowest, "abcdefghij" * 12, width=width))


def test_nothing_has_no_steps(lowest: Tracer) -> None:
    assert list(lowest.pieces("")) == []
    assert len(lines(lowest, "")) == 1


def test_a_text_too_long_to_read_is_refused(lowest: Tracer) -> None:
    with pytest.raises(UsageError, match="2,001 characters"):
        list(lowest.pieces("a" * (LONGEST_TEXT + 1)))
