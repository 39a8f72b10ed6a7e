"""Books and papers, one document per file: EPUB and PDF → plain text."""

import io
import logging
import posixpath
import urllib.parse
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from groundup.core.errors import GroundupError, UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import MEGABYTE, ReadingConfig
from groundup.corpus.reading.formats import Part, read_whole
from groundup.corpus.reading.text import decode_html
from groundup.corpus.reading.xml import UnsafeXML, elements

_CONTAINER = "META-INF/container.xml"
_ENCRYPTION = "META-INF/encryption.xml"
_CHAPTER_TYPES = ("application/xhtml+xml", "text/html")
#: What draws a page of a PDF may unpack to so many bytes (any stream to 75 MB, says pypdf).
_PAGE_BYTES = 2 * MEGABYTE
#: Operations that draw a page (some ten thousand take a second), and those of a whole file, or one for each of its
#: bytes: pages of text have a few thousand, of which each takes several bytes.
_PAGE_OPERATIONS, _OPERATIONS = 200_000, 300_000
#: Dublin Core element → fact.
_FACTS = {"language": "language", "date": "date", "rights": "licence"}


def read_epub(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """A book: the chapters in the order of its spine, separated by blank lines. Nothing is unpacked to the disk."""
    for raw in read_whole(part, config):
        yield raw if isinstance(raw, Dropped) else _read_epub(part.empty(config), raw, config)


def _read_epub(empty: Document, raw: bytes, config: ReadingConfig) -> Document | Dropped:
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as book:
            return _book(empty, _Members(book, config.max_bytes), len(raw))
    except _TooLarge as error:
        return Dropped(empty, "too large", f"more than {error} bytes unpacked", len(raw))
    except UnsafeXML as error:
        return Dropped(empty, "unsafe XML", str(error), len(raw))
    except GroundupError:
        raise
    except Exception as error:  # no zip, no XML, a missing member, and what else may be wrong inside
        return Dropped(empty, "damaged EPUB", _one_line(error), len(raw))


class _TooLarge(Exception):
    """All that was read of an archive is more than one document may have."""


class _Members:
    """Files of a zip archive by name, as long as together they stay below a limit."""

    def __init__(self, archive: zipfile.ZipFile, limit: int) -> None:
        self._archive = archive
        self._limit = limit
        self._left = limit

    def __contains__(self, name: str) -> bool:
        return name in self._archive.NameToInfo

    def read(self, name: str) -> bytes:
        with self._archive.open(name) as handle:
            raw = handle.read(self._left + 1)
        self._left -= len(raw)
        if self._left < 0:
            raise _TooLarge(self._limit)
        return raw


def _book(empty: Document, members: _Members, size: int) -> Document | Dropped:
    rootfiles = [
        attributes["full-path"] for name, attributes, _ in elements(members.read(_CONTAINER)) if name == "rootfile"
    ]
    package = rootfiles[0] if rootfiles else ""
    title, facts, chapters = _package(elements(members.read(package)), posixpath.dirname(package))
    encrypted = members.read(_ENCRYPTION).decode("utf-8", "replace") if _ENCRYPTION in members else ""
    if any(urllib.parse.quote(chapter) in encrypted for chapter in chapters):
        return Dropped(empty, "encrypted", "its chapters are locked by rights management", size)
    texts, lost = [], 0
    for chapter in chapters:
        page = decode_html(empty, members.read(chapter)) if chapter in members else None
        if isinstance(page, Document):
            texts.append(_plain_text(page.text))
        else:
            lost += 1
    text = "\n\n".join(filter(None, (text.strip() for text in texts)))
    if not text:
        return Dropped(empty, "no text", f"{len(chapters)} chapters without text", size)
    measures = {"chapters.lost": float(lost)} if lost else {}
    return replace(empty, title=title or empty.title, text=text, facts=facts, measures=measures)


def _package(found: list[tuple[str, dict[str, str], str]], folder: str) -> tuple[str, dict[str, str], list[str]]:
    """Title, facts, and the paths of the chapters in reading order."""
    items = {row["id"]: row for name, row, _ in found if name == "item" and "id" in row and "href" in row}
    spine = [items[row["idref"]] for name, row, _ in found if name == "itemref" and row.get("idref") in items]
    chapters = [
        posixpath.normpath(posixpath.join(folder, urllib.parse.unquote(item["href"].partition("#")[0])))
        for item in spine
        if item.get("media-type") in _CHAPTER_TYPES
    ]
    facts: dict[str, str] = {}
    title = ""
    for name, _, text in found:
        value = " ".join(text.split())
        if name == "title" and not title:
            title = value
        elif name in _FACTS and value:
            facts.setdefault(_FACTS[name], value)
    return title, facts, list(dict.fromkeys(chapters))  # each at most once (EPUB 3.3, 5.7.3)


def _plain_text(markup: str) -> str:
    try:
        from resiliparse.extract.html2text import extract_plain_text
    except ImportError as error:
        raise UsageError("reading .epub needs resiliparse; pip install 'groundup[data]'") from error
    return str(extract_plain_text(markup, main_content=False, alt_texts=False, links=False, list_bullets=False))


def read_pdf(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """The text of a PDF, pages separated by blank lines. Pages that cannot be read are counted as ``pages.lost``."""
    for raw in read_whole(part, config):
        yield raw if isinstance(raw, Dropped) else _read_pdf(part.empty(config), raw, config)


def _read_pdf(empty: Document, raw: bytes, config: ReadingConfig) -> Document | Dropped:
    pypdf = _pypdf()
    try:
        reader = pypdf.PdfReader(io.BytesIO(raw))
        if reader.is_encrypted and not reader.decrypt(""):
            return Dropped(empty, "encrypted", "it asks for a password", len(raw))
        count = len(reader.pages)
        title = str((reader.metadata or {}).get("/Title") or "").strip()
    except Exception as error:  # damaged in ways that pypdf's own classes do not cover
        return Dropped(empty, "damaged PDF", _one_line(error), len(raw))
    texts: list[str] = []
    lost, size, reason = 0, 0, ""
    drawing = _Drawing(max(_OPERATIONS, len(raw)))
    for index in range(count):
        try:
            text = drawing.text_of(reader.pages[index]).encode("utf-8", "replace").decode("utf-8")
        except _Endless as error:
            return Dropped(empty, "decompression bomb", str(error), len(raw))
        except Exception as error:
            lost, reason = lost + 1, _one_line(error)
            continue
        texts.append(text.strip())
        size += len(text)
        if size > config.max_bytes:
            return Dropped(empty, "too large", f"more than {config.max_bytes} bytes of text", len(raw))
    text = "\n\n".join(filter(None, texts))
    if not text:
        detail = f"{count} pages, {lost} of them unreadable" + (f" ({reason})" if reason else "; scanned images?")
        return Dropped(empty, "no text", detail, len(raw))
    measures = {"pages.lost": float(lost)} if lost else {}
    return replace(empty, title=title if title.isprintable() and title else empty.title, text=text, measures=measures)


class _Endless(Exception):
    """A file draws more than its size allows."""


class _Drawing:
    """Counts the operations that draw pages: a page may draw a form many times, which draws another many times."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._count = 0
        self._of_page = 0

    def text_of(self, page: Any) -> str:
        """The text of a page.

        Raises:
            _Endless: the pages of the file have drawn more than the limit.
            ValueError: this one alone draws too much.
        """
        contents = page.get_contents()
        size = len(contents.get_data()) if contents is not None else 0
        if size > _PAGE_BYTES:
            raise ValueError(f"a page of {size} bytes, the limit is {_PAGE_BYTES}")
        self._of_page = 0
        return str(page.extract_text(visitor_operand_before=self._operation))

    def _operation(self, *_: Any) -> None:
        self._count += 1
        self._of_page += 1
        if self._count > self._limit:
            raise _Endless(f"more than {self._limit} drawing operations")
        if self._of_page > _PAGE_OPERATIONS:
            raise ValueError(f"a page of more than {_PAGE_OPERATIONS} drawing operations")


def _pypdf() -> Any:
    try:
        import pypdf
    except ImportError as error:
        raise UsageError("reading .pdf needs pypdf; pip install 'groundup[data]'") from error
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)  # what it complains about is counted instead
    return pypdf


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
