"""A web page (``kind`` html) → its main content as prose: paragraphs, headings, lists and code stay readable, while
navigation, boilerplate, cookie banners and scripts go.

Three extractors stand behind one function. ``docs/extraction.md`` compares them on labelled pages.

    resiliparse    C++ rules on names and structure; by far the fastest (Bevendorff et al. 2018, "Elastic ChatNoir")
    trafilatura    several extractors vote; the usual choice of web corpora (Barbaresi 2021, "Trafilatura")
    selectolax     our own link and text densities over a fast parser: ``readability.py``
"""

import html as entities
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.extraction.nesting import MAX_DEPTH, is_nested_too_deeply
from groundup.corpus.extraction.readability import readable_text

Backend = Literal["resiliparse", "trafilatura", "selectolax"]


def main_content(html: str, backend: Backend = "resiliparse") -> str:
    """The main content of a page as plain text, paragraphs separated by blank lines; "" where there is none.

    Raises:
        UsageError: the backend is unknown, or its package is not installed.
    """
    if backend not in _EXTRACTORS:
        raise UsageError(f"no extraction backend {backend!r}; use one of {', '.join(_EXTRACTORS)}")
    return _EXTRACTORS[backend](html)


def _resiliparse(html: str) -> str:
    try:
        from resiliparse.extract.html2text import extract_plain_text
    except ImportError as error:
        raise UsageError("the backend resiliparse needs its package; pip install 'groundup[data]'") from error
    text: str = extract_plain_text(
        html, main_content=True, preserve_formatting=True, alt_texts=False, skip_elements=_MANUAL_NAVIGATION
    )
    return text


#: Of manuals that DocBook and Texinfo made, resiliparse by itself keeps "Prev Up Next" of each page.
_MANUAL_NAVIGATION = (".navheader", ".navfooter", 'p:has(> a[rel="up"])')


def _trafilatura(html: str) -> str:
    try:
        from trafilatura import extract
    except ImportError as error:  # trafilatura needs justext, which needs lxml_html_clean
        raise UsageError(f"the backend trafilatura: {error}; pip install trafilatura lxml_html_clean") from error
    # Paragraphs come one per line; they are set apart here as the other backends do, but not items and indented code.
    return _PARAGRAPH_BEGINS.sub("\n\n", extract(html, include_comments=False) or "")


_PARAGRAPH_BEGINS = re.compile(r"\n(?![ \t\n|-])")


_EXTRACTORS: dict[str, Callable[[str], str]] = {
    "resiliparse": _resiliparse,
    "trafilatura": _trafilatura,
    "selectolax": readable_text,
}

# --- title ------------------------------------------------------------------------------------------------------------

_TITLE = re.compile(r"<title[^>]*>([^<]*)</title", re.I)
_WORDS = re.compile(r"[^\W_]+")
#: The title stands in the head; further down the word would belong to a drawing or a script.
HEAD_CHARACTERS = 65_536
TITLE_CHARACTERS = 300


def page_title(html: str) -> str:
    """What ``<title>`` says, in one line; "" where the page has none."""
    match = _TITLE.search(html, 0, HEAD_CHARACTERS)
    return " ".join(entities.unescape(match[1]).split())[:TITLE_CHARACTERS] if match else ""


def _names_its_source(document: Document) -> bool:
    """Whether the document's title says no more than its id and address: ``pages 7`` for ``pages.jsonl:7``."""
    known = f"{document.id} {document.facts.get('url', '')}".casefold()
    return set(_WORDS.findall(document.title.casefold())) <= set(_WORDS.findall(known))


# --- the step ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ExtractConfig:
    """How the main content of web pages is found."""

    backend: Backend = "resiliparse"
    """resiliparse (fastest), trafilatura (most careful, slow), or selectolax (our own densities)."""
    min_characters: int = 25
    """A page whose main content is shorter is dropped."""
    max_megabytes: float = 10.0
    """A larger page is dropped unread (millions of characters)."""

    def __post_init__(self) -> None:
        if self.backend not in get_args(Backend):
            choices = ", ".join(get_args(Backend))
            raise UsageError(f"corpus.extract.backend is {self.backend!r}; it must be one of {choices}")
        if self.min_characters < 1:
            raise UsageError(f"corpus.extract.min-characters is {self.min_characters}; it must be at least 1")
        if not self.max_megabytes > 0:
            raise UsageError(f"corpus.extract.max-megabytes is {self.max_megabytes}; it must be above 0")


@dataclass(frozen=True)
class Extract:
    """HTML → main content; any other document passes. Measures ``extract.share``: characters out per character in."""

    config: ExtractConfig = ExtractConfig()
    name: str = "extract"

    def __call__(self, document: Document) -> Document | Dropped:
        if document.facts.get("kind") != "html":
            return document
        html = document.text
        if reason := self._refusal(html):
            return _dropped(document, *reason)
        try:
            text = main_content(html, self.config.backend).strip()
        except UsageError:
            raise
        except Exception as error:  # whatever a parser of others raises on one page, the other pages go on
            return _dropped(document, "extraction failed", f"{self.config.backend}: {type(error).__name__}: {error}")
        if len(text) < self.config.min_characters:
            detail = f"{len(text)} characters of main content, the limit is {self.config.min_characters}"
            return _dropped(document, "no main content", detail)
        facts = {key: value for key, value in document.facts.items() if key != "kind"}
        title = (page_title(html) if _names_its_source(document) else "") or document.title
        measures = {**document.measures, "extract.share": len(text) / len(html)}
        return replace(document, title=title, text=text, facts=facts, measures=measures)

    def _refusal(self, html: str) -> tuple[str, str] | None:
        limit = int(self.config.max_megabytes * 1e6)
        if len(html) > limit:
            return "page too large", f"{len(html)} characters, the limit is {limit}"
        if is_nested_too_deeply(html):
            return "nested too deeply", f"more elements inside each other than the limit is, {MAX_DEPTH}"
        return None


def _dropped(document: Document, reason: str, detail: str) -> Dropped:
    # Text that is no valid Unicode is one of the things that parsers refuse; its size is still counted.
    return Dropped(document, reason, detail, len(document.text.encode("utf-8", "surrogatepass")))
