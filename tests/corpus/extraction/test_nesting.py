import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.corpus.extraction.nesting import MAX_DEPTH, is_nested_too_deeply, nesting, nesting_plain


@given(st.integers(1, 60), st.integers(0, 40))
@settings(deadline=None)
def test_what_is_open_at_once(depth: int, siblings: int) -> None:
    html = "<div>" * depth + "<p>text<br><img src=x>" * siblings + "</div>" * depth + "<p>more</p>" * siblings
    assert nesting(html) == depth + (siblings > 0)
    assert nesting("</div></x>" * siblings + html) == nesting(html)


@pytest.mark.parametrize(
    ("html", "depth"),
    [
        ("", 0),
        ("a < b </ > <1> <", 0),
        ("<ul><li>a<li>b<ul><li>c</ul><li>d</ul>", 4),
        ("<DIV><Span></DIV><p>", 2),
        ("<table><tr><td>a<td>b<tr><td>c</table>", 3),
        ("<p><b>a<p><b>b<p><b>c", 4),
        ("<p><b>a</b><p><b>b</b>", 2),
        ("<div a='>'><br/><hr>x", 1),
    ],
)
def test_cases(html: str, depth: int) -> None:
    assert nesting(html) == depth


TAG = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["<", "</", "< ", "<<"]),
        st.sampled_from(
            ["div", "DIV", "p", "li", "ul", "ol", "a", "b", "font", "span", "table", "td", "tr", "br", "x-y", "é", "1"]
        ),
        st.sampled_from([">", " a=1>", "/>", "\n>", "", "text>"]),
    ),
)


@given(st.lists(st.one_of(TAG, st.text(max_size=3)), max_size=80).map("".join), st.sampled_from([3, 10, MAX_DEPTH]))
@settings(deadline=None)
def test_the_kernel_equals_plain_python(html: str, limit: int) -> None:
    if not compiled.available():
        pytest.skip("no compiled kernels here")
    assert nesting(html, limit) == nesting_plain(html.encode("utf-8", "surrogatepass"), limit)


@pytest.mark.parametrize(
    "piece", ["<div>", "<ul><li>", "<table><tr><td>", "<x-y></z>", "<div></p>", "<p><font a=1>", "<b>"]
)
def test_pages_that_a_parser_would_not_finish(piece: str) -> None:
    assert is_nested_too_deeply(piece * 100_000)
    assert not is_nested_too_deeply(piece * (MAX_DEPTH // 4))


def test_large_pages_of_ordinary_nesting() -> None:
    assert not is_nested_too_deeply("<div><p>a<br><a href=x>b</a><ul><li>c<li>d</ul></div>" * 20_000)
