import pickle
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.extraction import Extract, ExtractConfig, main_content, page_title
from groundup.corpus.extraction.html import Backend
from groundup.corpus.extraction.nesting import MAX_DEPTH
from tests.corpus.extraction.score import labelled_pages, mean, score, scores

#: Mean precision, recall and F1 over the labelled pages, a little below what was measured (docs/extraction.md).
FLOORS = {
    "resiliparse": (0.88, 0.92, 0.90),
    "trafilatura": (0.97, 0.96, 0.96),
    "selectolax": (0.98, 0.99, 0.98),
}
PARAGRAPH = "A paragraph that is long enough to be taken for content by anybody who looks at its length alone. "


@pytest.fixture(params=get_args(Backend))
def backend(request: pytest.FixtureRequest) -> str:
    try:
        main_content(f"<p>{PARAGRAPH}</p>", request.param)
    except UsageError as error:
        pytest.skip(str(error))
    return str(request.param)


def page(html: str, **fields: str) -> Document:
    title = fields.pop("title", "")
    return Document("pages:7", title, "web", html, {"kind": "html", **fields})


def test_every_backend_finds_the_content_of_the_labelled_pages(backend: str) -> None:
    measured = scores(lambda html: main_content(html, backend))
    assert len(measured) >= 25
    for measure, floor in zip(("precision", "recall", "f1"), FLOORS[backend], strict=True):
        assert mean(measured, measure) >= floor, measure


@pytest.mark.parametrize("name", ["article", "docs-code", "japanese", "arabic", "malformed", "cookie-wall"])
def test_what_is_said_of_no_page_stands_in_none(backend: str, name: str) -> None:
    text = main_content({name: html for name, html, _ in labelled_pages()}[name], backend)
    for boilerplate in ("Subscribe", "Copyright", "Privacy policy", "dataLayer", "Accept all", "Quick search"):
        assert boilerplate not in text


@pytest.mark.parametrize("name", ["manual-docbook", "manual-texinfo"])
def test_a_manual_has_no_way_to_its_other_pages(name: str) -> None:
    pytest.importorskip("resiliparse")
    html, expected = {name: (html, expected) for name, html, expected in labelled_pages()}[name]
    assert score(main_content(html, "resiliparse"), expected).f1 == 1


def test_code_keeps_its_indentation(backend: str) -> None:
    html = {name: html for name, html, _ in labelled_pages()}["docs-code"]
    assert "\n    for frame in reader:\n        print(frame.index" in main_content(html, backend)


def test_paragraphs_are_separate_and_blanks_are_single(backend: str) -> None:
    html = f"<article><p>{PARAGRAPH}one\n   two</p>\n\n<p>{PARAGRAPH}three</p></article>"
    assert "one two\n\nA paragraph" in main_content(html, backend)


def test_score_counts_tokens_of_every_script() -> None:
    value = score("Der Hund, der Hund 山", "der Hund 山の家")
    assert (value.given, value.wanted, value.shared) == (5, 5, 3)
    assert (value.precision, value.recall, value.f1) == (0.6, 0.6, 0.6)


# --- the step ---------------------------------------------------------------------------------------------------------


def test_a_page_becomes_prose_with_its_title(backend: str) -> None:
    document = page(f"<title> The  mill &amp; I\n</title><body><nav><a href=/>Home</a></nav><p>{PARAGRAPH * 3}</p>")
    step = Extract(ExtractConfig(backend=backend))
    result = step(document)
    assert isinstance(result, Document)
    assert result.title == "The mill & I"
    assert result.text == (PARAGRAPH * 3).strip()
    assert "kind" not in result.facts
    assert result.measures["extract.share"] == len(result.text) / len(document.text)
    assert pickle.loads(pickle.dumps(step)) == step


@pytest.mark.parametrize(
    ("given_title", "kept"),
    [("", False), ("pages 7", False), ("https://mill.example/pages/7", False), ("A better title", True)],
)
def test_a_title_that_only_names_the_source_is_replaced(given_title: str, kept: bool) -> None:
    html = f"<title>The mill</title><p>{PARAGRAPH * 3}</p>"
    result = Extract()(page(html, title=given_title, url="https://mill.example/pages/7"))
    assert result.title == (given_title if kept else "The mill")


def test_a_document_that_is_no_page_passes() -> None:
    for document in (Document("a", "", "s", "<p>x"), Document("a", "", "s", "x < y", {"kind": "code"})):
        assert Extract()(document) is document


@pytest.mark.parametrize(
    ("html", "reason"),
    [
        ("", "no main content"),
        ("<nav><a href=/>Home</a></nav>", "no main content"),
        ("<p>word</p>" * 2000, "page too large"),
        ("<div>" * 6000 + PARAGRAPH, "nested too deeply"),
        ("<div>" * 6000 + PARAGRAPH + "</div>" * 6000, "nested too deeply"),
        ("".join(f"<p><font size={n}>word" for n in range(700)), "nested too deeply"),
    ],
)
def test_hopeless_pages_leave_with_a_reason(html: str, reason: str) -> None:
    result = Extract(ExtractConfig(max_megabytes=0.02 if "large" in reason else 10.0))(page(html))
    assert isinstance(result, Dropped)
    assert result.reason == reason
    assert result.bytes == len(html)
    assert reason == "no main content" or "the limit is" in result.detail


def test_text_that_is_no_unicode_is_dropped_or_read_but_no_crash(backend: str) -> None:
    result = Extract(ExtractConfig(backend=backend))(page(f"<p>{PARAGRAPH * 3}\ud800</p>"))
    assert isinstance(result, Document) or result.reason in ("extraction failed", "no main content")


TAGS = st.sampled_from(
    ["<p>", "</p>", "<div class='nav'>", "</div>", "<table><tr><td>", "</table>", "<b>", "<a href=x>"]
)
SOUP = st.lists(
    st.one_of(TAGS, st.sampled_from(["<", ">", "&amp;", "<!--", "-->", "</", '"', PARAGRAPH]), st.text(max_size=5))
)


@given(SOUP)
@settings(max_examples=60, deadline=None)
def test_no_soup_of_tags_is_a_crash(parts: list[str]) -> None:
    html = "".join(parts)
    for backend in ("resiliparse", "selectolax"):
        result = Extract(ExtractConfig(backend=backend))(page(html))
        assert isinstance(result, Document) or result.reason in ("no main content", "extraction failed")


def test_long_pages_of_ordinary_nesting_are_read() -> None:
    html = f"<ul>{'<li><b>word</b> and words<br>' * 4000}</ul>" + f"<p>{PARAGRAPH}<br>" * (2 * MAX_DEPTH)
    assert isinstance(Extract()(page(html)), Document)


@pytest.mark.parametrize(
    ("html", "title"),
    [
        ("<TITLE lang=en>A &lt; B</TITLE>", "A < B"),
        ("<p>no head", ""),
        ("<title>unclosed", ""),
        ("<title>" + "x" * 1000 + "</title>", "x" * 300),
    ],
)
def test_page_title(html: str, title: str) -> None:
    assert page_title(html) == title


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"backend": "magic"}, "backend"),
        ({"min_characters": 0}, "min-characters"),
        ({"max_megabytes": 0.0}, "max-megabytes"),
    ],
)
def test_a_wrong_setting_is_named(values: dict[str, object], key: str) -> None:
    with pytest.raises(UsageError, match=f"corpus.extract.{key}"):
        ExtractConfig(**values)
    with pytest.raises(UsageError, match="no extraction backend"):
        main_content("<p>", "magic")
