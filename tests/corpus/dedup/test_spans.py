import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.dedup.spans import without_spans

TEXT = "one two three\n\nfour five six"


@pytest.mark.parametrize(
    ("spans", "left"),
    [
        ([], TEXT),
        ([(4, 7)], "one three\n\nfour five six"),
        ([(0, 3)], "two three\n\nfour five six"),
        ([(8, 13)], "one two\n\nfour five six"),
        ([(8, 19)], "one two five six"),
        ([(4, 7), (6, 13), (20, 28)], "one\n\nfour"),
        ([(0, len(TEXT))], ""),
    ],
)
def test_what_is_left_reads_well(spans: list[tuple[int, int]], left: str) -> None:
    assert without_spans(TEXT, spans) == left


@given(st.text(alphabet="ab \n", max_size=30), st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))))
def test_no_letter_is_lost_or_kept_by_mistake(text: str, spans: list[tuple[int, int]]) -> None:
    spans = sorted((min(a, b, len(text)), min(max(a, b), len(text))) for a, b in spans)
    covered = {place for start, stop in spans for place in range(start, stop)}
    expected = [c for place, c in enumerate(text) if place not in covered and not c.isspace()]
    assert [c for c in without_spans(text, spans) if not c.isspace()] == expected
