"""Text from tokens: nothing handed out is ever wrong, nothing is lost."""

from hypothesis import given
from hypothesis import strategies as st

from groundup.serving.text import TextStream
from groundup.tokenizer.bpe import BytePairTokenizer

BYTES = BytePairTokenizer.from_merges([])


def streamed(data: bytes, stops: list[str]) -> tuple[list[str], TextStream]:
    """The pieces of a turn; the space that the chat template puts before it must leave no piece."""
    stream = TextStream(BYTES, stops)
    assert stream.push(BYTES.encode_bytes(b" ")[0]) == ""
    pieces = [stream.push(token) for token in BYTES.encode_bytes(data)]
    return [*pieces, stream.finish()], stream


@given(st.text())
def test_characters_arrive_whole(text: str) -> None:
    text = text.encode("utf-8", "ignore").decode("utf-8")
    pieces, stream = streamed(text.encode(), [])
    assert "".join(pieces) == stream.text == text
    assert pieces[:-1].count("") == len(text.encode()) - len(text)


@given(st.binary())
def test_any_bytes_become_text(data: bytes) -> None:
    assert "".join(streamed(data, [])[0]) == data.decode("utf-8", errors="replace")


@given(st.text("abé", max_size=30), st.lists(st.text("abé", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_string(text: str, stops: list[str]) -> None:
    pieces, stream = streamed(text.encode(), stops)
    places = [text.find(stop) for stop in stops if stop in text]
    # Among stop strings, the one that is complete first ends the text.
    ends = [text.find(stop) + len(stop) for stop in stops if stop in text]
    expected = text if not places else text[: min(text[: min(ends)].find(s) for s in stops if s in text[: min(ends)])]
    assert "".join(pieces) == stream.text == expected
    assert stream.stopped == bool(places)


def test_what_may_become_a_stop_string_waits() -> None:
    pieces, _ = streamed(b"ab\nUser: x", ["\nUser:"])
    assert pieces[:3] == ["a", "b", ""]
    assert streamed(b"ab\nUx", ["\nUser:"])[0] == ["a", "b", "", "", "\nUx", ""]
    assert streamed(b"ab\n", ["\nUser:"])[0] == ["a", "b", "", "\n"]
