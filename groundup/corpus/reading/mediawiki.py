"""Dumps of Wikipedia and other MediaWiki sites (``pages-articles.xml.bz2``) → articles in wikitext.

The XML is read as a stream of events, one page in memory at a time. Ids end with the page's number in the wiki.
Format: https://www.mediawiki.org/wiki/Help:Export and its schemas, export-0.3.xsd to export-0.11.xsd. A page's text is
that of its newest revision, in its main slot; where that is hidden or only described (dumps of stubs), there is none.
"""

import bz2
import itertools
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from xml.parsers.expat import ExpatError

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.formats import Part, contents, trouble_of
from groundup.corpus.reading.remote import open_file
from groundup.corpus.reading.urls import is_url
from groundup.corpus.reading.xml import UnsafeXML, parser

_CHUNK = 2**16
_PAGE = b"<page>"
#: A bzip2 stream of the largest block size begins so, and then with the mark of a block.
_STREAM = b"BZh91AY&SY"
#: The description of the site, at the head of a dump, is looked for in this many bytes.
_SITE_BYTES = 2**20
_ROOT = b"<mediawiki>"


@dataclass
class _Revision:
    """One version of a page."""

    date: str = ""
    model: str = "wikitext"
    text: str | None = ""
    """None: longer than the limit."""
    size: int = 0
    hidden: bool = False


@dataclass
class _Page:
    """What the events have told of a page so far."""

    title: str = ""
    namespace: str = ""
    """Empty before version 0.6 of the format."""
    id: str = ""
    redirect: bool = False
    newest: _Revision = field(default_factory=_Revision)


class _Pages:
    """Collects the pages, and the description of the site, from the events of a parser."""

    def __init__(self, limit: int) -> None:
        self.finished: list[_Page] = []
        self.language = ""
        self.base = ""
        self.namespaces: set[str] = set()
        """Names of those that hold no articles."""
        self.root = ""
        self.described = False
        self._limit = limit
        self._page: _Page | None = None
        self._revision = _Revision()
        self._path: list[str] = []
        self._pieces: list[str] = []
        self._size = 0

    @property
    def unfinished(self) -> bool:
        """Whether the events end inside a page."""
        return self._page is not None

    def start(self, name: str, attributes: Mapping[str, str]) -> None:
        self._path.append(name)
        self._pieces, self._size = [], 0
        if len(self._path) == 1:
            self.root = name
            self.language = next((value for key, value in attributes.items() if key.endswith(" lang")), "")
        elif name == "page":
            self._page = _Page()
        elif name == "revision":
            self._revision = _Revision()
        elif name == "redirect" and self._page:
            self._page.redirect = True
        elif self._path[-2:] == ["revision", "text"]:
            self._revision.hidden = "deleted" in attributes

    def text(self, piece: str) -> None:
        self._size += len(piece)
        if self._size <= self._limit:
            self._pieces.append(piece)

    def end(self, name: str) -> None:
        self._path.pop()
        parent = self._path[-1] if self._path else ""
        value = "".join(self._pieces) if self._size <= self._limit else None
        if name == "siteinfo":
            self.described = True
        elif name == "base" and parent == "siteinfo":
            self.base = value or ""
        elif name == "namespace" and value:
            self.namespaces.add(value)
        elif name == "page" and self._page:
            self.finished.append(self._page)
            self._page = None
        elif name == "revision" and self._page and self._revision.date >= self._page.newest.date:
            self._page.newest = self._revision
        elif self._page:
            self._note(self._page, f"{parent}/{name}", value)
        self._pieces, self._size = [], 0

    def _note(self, page: _Page, place: str, value: str | None) -> None:
        match place:
            case "page/title":
                page.title = value or ""
            case "page/ns":
                page.namespace = value or ""
            case "page/id":
                page.id = value or ""
            case "revision/timestamp":
                self._revision.date = value or ""
            case "revision/model":
                self._revision.model = value or ""
            case "revision/text":
                self._revision.text, self._revision.size = value, self._size


def read_mediawiki(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """The articles of a dump, or of a range of it that begins and ends between pages; kind ``wikitext``."""
    pages = _Pages(config.max_bytes)
    events = parser(pages.start, pages.end, pages.text)
    position = part.begin
    with contents(part, config) as (handle, unpacked):
        try:
            if part.begin:
                site = _site(part, config)
                events.Parse(_ROOT)
                pages.language, pages.base, pages.namespaces = site.language, site.base, site.namespaces
            while chunk := handle.read1(_CHUNK):
                position += len(chunk)
                events.Parse(chunk)
                yield from (_document(page, pages, part, config) for page in pages.finished)
                pages.finished.clear()
                if pages.root and pages.root != "mediawiki":
                    yield Dropped(
                        part.empty(config), "unknown format", f"XML of <{pages.root}>, no MediaWiki dump", part.bytes
                    )
                    return
            if unpacked.produced and not unpacked.trouble and (part.end < 0 or pages.unfinished):
                events.Parse(b"", True)
        except UnsafeXML as error:
            yield part.rest(config, "unsafe XML", str(error), part.bytes)
        except ExpatError as error:
            yield part.rest(
                config, "broken XML", f"{error}, after {position} bytes", max(0, part.bytes - unpacked.consumed)
            )
        yield from trouble_of(part, config, unpacked)


def _document(page: _Page, site: _Pages, part: Part, config: ReadingConfig) -> Document | Dropped:
    newest = page.newest
    facts = {"kind": "wikitext", "language": site.language, "date": newest.date, "url": _address(page.title, site.base)}
    facts = {name: value for name, value in facts.items() if value}
    title = " ".join(page.title.split())
    empty = replace(part.empty(config), id=f"{part.name}:{page.id or title}", title=title, facts=facts)
    if page.redirect:
        return Dropped(empty, "redirect", "it only names another page", newest.size)
    if namespace := _namespace(page, site):
        return Dropped(empty, "not an article", f"namespace {namespace}", newest.size)
    if newest.model != "wikitext":
        return Dropped(empty, "not an article", f"its content is {newest.model}", newest.size)
    if newest.text is None:
        return Dropped(empty, "too large", f"{newest.size} characters, the limit is {config.max_bytes}", newest.size)
    if not newest.text:
        return Dropped(empty, "empty", "its text was hidden" if newest.hidden else "no text", 0)
    return replace(empty, text=newest.text)


def _namespace(page: _Page, site: _Pages) -> str:
    """That of a page that is no article."""
    if page.namespace:
        return page.namespace if page.namespace != "0" else ""
    prefix = page.title.partition(":")[0]
    return prefix if prefix in site.namespaces and prefix != page.title else ""


def _address(title: str, base: str) -> str:
    """Of a page, in the place of the main page, whose address the site gives (``…/wiki/Main_Page``, ``…?title=…``)."""
    if not base or not title:
        return ""
    place = max(base.rfind("/"), base.rfind("=")) + 1
    return base[:place] + urllib.parse.quote(title.replace(" ", "_"), safe="/:(),'!*;@")


def _site(part: Part, config: ReadingConfig) -> _Pages:
    """The description that stands at the head of the dump, for a part that begins later."""
    pages = _Pages(config.max_bytes)
    events = parser(pages.start, pages.end, pages.text)
    with contents(replace(part, begin=0, end=-1), config) as (handle, _):
        for _ in range(_SITE_BYTES // _CHUNK):
            if pages.described or not (chunk := handle.read1(_CHUNK)):
                break
            events.Parse(chunk)
    return pages


def divide_mediawiki(part: Part, config: ReadingConfig) -> list[Part]:
    """A dump in parts of about ``config.shard_bytes``: plain XML, or bzip2 of many streams that begin with a page.

    In the multistream dumps of Wikipedia every stream holds a hundred pages. ``pbzip2`` makes many streams too, but
    cuts anywhere; a place where the XML goes on with ``<page>`` is between two pages in either.
    """
    if part.bytes <= config.shard_bytes or is_url(part.path):
        return [part]
    with contents(part, config) as (_, unpacked):
        packed = unpacked.compressed
    if packed and not _head(part.path).startswith(_STREAM):
        return [part]
    cuts = [0, *_cuts(Path(part.path), config.shard_bytes, _STREAM if packed else _PAGE), part.bytes]
    last = len(cuts) - 2
    return [
        replace(part, bytes=end - begin, begin=begin, end=-1 if index == last else end)
        for index, (begin, end) in enumerate(itertools.pairwise(cuts))
    ]


def _head(path: str) -> bytes:
    with open_file(path) as handle:
        return handle.read(len(_STREAM))


def _cuts(file: Path, size: int, mark: bytes) -> Iterator[int]:
    """The first place of ``mark`` after each ``size`` bytes where a page begins."""
    with file.open("rb") as handle:
        position = size
        while True:
            handle.seek(position)
            block = handle.read(2**20)
            found = block.find(mark)
            if found < 0:
                if len(block) < len(mark):
                    return
                position += len(block) - len(mark) + 1
                continue
            place = position + found
            if mark == _PAGE or _begins_with_page(file, place):
                yield place
                position = place + max(size, 1)
            else:
                position = place + 1


def _begins_with_page(file: Path, place: int) -> bool:
    with file.open("rb") as handle:
        handle.seek(place)
        try:
            text = bz2.BZ2Decompressor().decompress(handle.read(2**20), 4096)
        except (OSError, EOFError):
            return False
    return text.lstrip().startswith(_PAGE)
