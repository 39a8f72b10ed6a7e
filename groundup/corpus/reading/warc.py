"""Web archives: WARC (pages as they were sent), WET (their text) and WAT (their links), as Common Crawl makes them.

Format: ISO 28500:2017 (WARC 1.1; 1.0 and the drafts before it differ in nothing that is read here). Ids end with the
record's number in the file, counted over the records that can hold text.

What an archive claims is not believed: a record must be followed by the next one or by the end. Where it is not, its
length is wrong; it is dropped, and reading goes on at the next line that begins a record.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.formats import Part, contents, trouble_of
from groundup.corpus.reading.http import HEAD_BYTES, Response, fields, response
from groundup.corpus.reading.text import decode, decode_declared, decode_html

_HTML = ("text/html", "application/xhtml+xml")
_OK = 200
_WITH_TEXT = ("response", "conversion", "resource")
#: What servers say who do not know, and how a page begins then (WHATWG MIME Sniffing, sections 5 and 7.1).
_UNKNOWN = ("", "unknown/unknown", "application/unknown", "*/*")
_MARKUP = re.compile(
    rb"(?:\xef\xbb\xbf)?[\t\n\f\r ]*<(?:!doctype html|!--|(?:html|head|script|iframe|h1|div|font|table|a|style|title|b|"
    rb"body|br|p)[\t\n\f\r />])",
    re.I,
)
_VERSION = re.compile(rb"WARC/\d+\.\d+[ \t]*\r?\n")
_CHARSET = re.compile(r"charset\s*=\s*[\"']?([^\"';\s]+)", re.I)
_PIECE = 2**20


@dataclass(frozen=True)
class _Record:
    """One record; of one that is damaged, what is known of it."""

    fields: dict[str, str] = field(default_factory=dict)
    """By lower-case name."""
    size: int = 0
    """Bytes of its block, or of what stands in a record's place."""
    block: bytes = b""
    """Its content, as far as it is wanted."""
    missing: int = 0
    """Bytes of the block after which the file ends."""
    damage: str = ""

    @property
    def kind(self) -> str:
        return self.fields.get("warc-type", "").lower()

    @property
    def mime(self) -> str:
        return _mime(self.fields.get("content-type", ""))

    @property
    def is_wat(self) -> bool:
        return self.kind == "metadata" and self.mime == "application/json"

    @property
    def counts(self) -> bool:
        """Whether it can hold text; requests, pages that were the same before and the crawler's notes do not."""
        return bool(self.damage) or self.kind in _WITH_TEXT or self.is_wat


def read_warc(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """Pages (kind ``html``) of responses with status 200, plain texts, and the texts of a WET file."""
    with contents(part, config) as (handle, unpacked):
        records = (record for record in _records(handle, config.max_bytes + HEAD_BYTES) if record.counts)
        for number, record in enumerate(records, start=1):
            yield _document(record, part.empty(config, number), config)
        yield from trouble_of(part, config, unpacked)


def _records(handle: BinaryIO, limit: int) -> Iterator[_Record]:
    """The records in order, with at most ``limit`` bytes of their blocks."""
    line = _next_line(handle)
    while line:
        if not _VERSION.fullmatch(line):
            size, line = _to_next_record(handle, line)
            yield _Record(size=size, damage=f"{size} bytes that are no record")
            continue
        record = _block(handle, _head(handle), limit)
        line = b"" if record.missing else _next_line(handle)
        if line and not _VERSION.fullmatch(line):
            size, line = _to_next_record(handle, line)
            record = replace(record, size=record.size + size, damage=record.damage or "its length is wrong")
        yield record


def _next_line(handle: BinaryIO) -> bytes:
    """The next line that is not empty; nothing at the end."""
    while (line := handle.readline(HEAD_BYTES)) in (b"\r\n", b"\n"):
        pass
    return line


def _to_next_record(handle: BinaryIO, line: bytes) -> tuple[int, bytes]:
    """How many bytes from ``line`` on are none, and the line that begins a record; nothing at the end."""
    size, begins = 0, False
    while line and not (begins and _VERSION.fullmatch(line)):
        size, begins = size + len(line), line.endswith(b"\n")
        line = handle.readline(HEAD_BYTES)
    return size, line


def _head(handle: BinaryIO) -> dict[str, str]:
    lines, size = [], 0
    while (line := handle.readline(HEAD_BYTES)) not in (b"\r\n", b"\n", b"") and size < HEAD_BYTES:
        lines.append(line)
        size += len(line)
    return fields(b"".join(lines))


def _block(handle: BinaryIO, known: dict[str, str], limit: int) -> _Record:
    length = known.get("content-length", "")
    if not (length.isascii() and length.isdecimal() and len(length) < 19):
        return _Record(known, damage=f"its length is {length or 'not given'}")
    left = int(length)
    wanted = _Record(known).counts
    block = handle.read(min(left, limit)) if wanted else b""
    left -= len(block)
    while left and (piece := handle.read(min(left, _PIECE))):
        left -= len(piece)
    return _Record(known, int(length), block, left)


def _document(record: _Record, empty: Document, config: ReadingConfig) -> Document | Dropped:
    known = record.fields
    sent = response(record.block) if record.mime == "application/http" else None
    stated = (sent.fields if sent else known).get("content-type", "")
    mime = _mime(stated) if sent or record.mime != "application/http" else ""
    if mime in _UNKNOWN:
        mime = _mime(known.get("warc-identified-payload-type", "")) or mime
    facts = {
        "url": known.get("warc-target-uri", "").strip("<>"),  # as WARC 1.0 wrote them
        "date": known.get("warc-date", ""),
        "language": known.get("warc-identified-content-language", ""),
        "mime": mime,
        "truncated": known.get("warc-truncated", ""),
    }
    empty = replace(empty, facts={name: " ".join(value.split()) for name, value in facts.items() if value})
    size = record.size
    if record.damage:
        return Dropped(empty, "damaged record", record.damage, size)
    if record.missing:
        return Dropped(empty, "truncated record", f"{size - record.missing} of {size} bytes", size - record.missing)
    if record.is_wat:
        return Dropped(empty, "metadata only", "a WAT record holds links, no text; read the WARC or WET file", size)
    if "warc-segment-number" in known:
        return Dropped(empty, "segmented record", "it goes on in other records", size)
    if sent and sent.status != _OK:
        return Dropped(empty, "HTTP status", f"{sent.status}", size)
    if len(record.block) < size:
        return Dropped(empty, "too large", f"more than {config.max_bytes} bytes", size)
    return _page(empty, mime, _charset(stated), size, sent or Response(_OK, {}, record.block), config)


def _page(
    empty: Document, mime: str, charset: str, size: int, sent: Response, config: ReadingConfig
) -> Document | Dropped:
    """The text of a body, if it is of a kind that has one."""
    if mime not in (*_HTML, "text/plain", *_UNKNOWN):
        return Dropped(empty, "not a page", f"its type is {mime}", size)
    raw, whole = sent.decoded(config.max_bytes)
    if len(raw) > config.max_bytes:
        return Dropped(empty, "too large", f"more than {config.max_bytes} bytes", max(size, len(raw)))
    if not raw:
        return Dropped(empty, "empty", "0 bytes", 0)
    if mime in _UNKNOWN and not _MARKUP.match(raw):
        return Dropped(empty, "not a page", f"its type is {mime or 'not given'}", size)
    if not whole:
        empty = replace(empty, facts={"truncated": "unspecified", **empty.facts})
    if mime != "text/plain":
        return decode_html(empty, raw, charset)
    return decode_declared(empty, raw, charset) if charset else decode(empty, raw)


def _mime(value: str) -> str:
    return " ".join(value.partition(";")[0].lower().split())


def _charset(value: str) -> str:
    found = _CHARSET.search(value)
    return found[1] if found else ""


@dataclass(frozen=True)
class Links:
    """What a WAT record says about a page."""

    url: str
    title: str
    links: tuple[tuple[str, str], ...]
    """(address as the page gives it, words of the link)."""


def read_links(path: str | Path, config: ReadingConfig | None = None) -> Iterator[Links]:
    """The titles and links of a WAT file, for lists of addresses that good pages point to; broken records are skipped.

    Raises:
        OSError: the file is not there or cannot be read.
    """
    config = config or ReadingConfig()
    part = Part(str(path), Path(path).name, "warc", 0)
    with contents(part, config) as (handle, _):
        for record in _records(handle, config.max_bytes):
            raw = record.block if record.is_wat else b""
            if found := _links(raw, record.fields.get("warc-target-uri", "")):
                yield found


def _links(raw: bytes, url: str) -> Links | None:
    try:
        page = json.loads(raw)["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]
        title = page.get("Head", {}).get("Title", "")
        links = [(link["url"], link.get("text", "")) for link in page.get("Links", []) if link.get("path") == "A@/href"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Links(url, str(title).strip(), tuple((str(address), str(text).strip()) for address, text in links))
