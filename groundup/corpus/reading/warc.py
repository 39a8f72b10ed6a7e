"""Web archives: WARC (pages as they were sent), WET (their text) and WAT (their links), as Common Crawl makes them.

Format: ISO 28500:2017; https://commoncrawl.org/get-started. Ids end with the record's number in the file.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.formats import Part, contents, trouble_of
from groundup.corpus.reading.text import decode, decode_declared, decode_html

_HTML = ("text/html", "application/xhtml+xml")
_OK = 200


def read_warc(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """Pages (kind ``html``) of responses with status 200, plain texts, and the texts of a WET file."""
    with contents(part, config) as (handle, unpacked):
        number = 0
        try:
            for record in _records(handle):
                number += 1
                yield _document(record, part.empty(config, number), config)
        except OSError as error:
            if not unpacked.trouble:
                detail = f"after record {number}: {' '.join(str(error).split())}"
                yield part.rest(config, "damaged WARC", detail, max(0, part.bytes - unpacked.consumed))
        yield from trouble_of(part, config, unpacked)


def _records(handle: Any) -> Iterator[Any]:
    """The records that hold pages, texts or metadata."""
    try:
        from fastwarc.warc import ArchiveIterator, WarcRecordType
    except ImportError as error:
        raise UsageError("reading .warc needs fastwarc; pip install 'groundup[data]'") from error
    wanted = WarcRecordType.response | WarcRecordType.conversion | WarcRecordType.resource | WarcRecordType.metadata
    records: Iterator[Any] = ArchiveIterator(handle, record_types=wanted, auto_decode="all", stream_detect=False)
    for record in records:
        if record.record_type != WarcRecordType.metadata or _is_wat(record):
            yield record


def _is_wat(record: Any) -> bool:
    return (record.headers.get("Content-Type") or "").startswith("application/json")


def _document(record: Any, empty: Document, config: ReadingConfig) -> Document | Dropped:
    headers = record.headers
    mime, charset = _type(record)
    facts = {
        "url": (headers.get("WARC-Target-URI") or "").strip("<>"),  # as WARC 1.0 wrote them
        "date": headers.get("WARC-Date"),
        "language": headers.get("WARC-Identified-Content-Language"),
        "mime": mime,
    }
    empty = replace(empty, facts={name: " ".join(value.split()) for name, value in facts.items() if value})
    size = int(record.content_length)
    if _is_wat(record):
        return Dropped(empty, "metadata only", "a WAT record holds links, no text; read the WARC or WET file", size)
    if record.is_http and record.http_headers and record.http_headers.status_code != _OK:
        return Dropped(empty, "HTTP status", f"{record.http_headers.status_code}", size)
    if mime not in (*_HTML, "text/plain"):
        return Dropped(empty, "not a page", f"its type is {mime or 'not given'}", size)
    limit = config.max_bytes + 1
    packed = _packed(record)
    raw = record.reader.read(limit if packed else min(limit, size))
    if len(raw) >= limit:
        return Dropped(empty, "too large", f"more than {config.max_bytes} bytes", max(size, len(raw)))
    if len(raw) < size and not packed:
        return Dropped(empty, "truncated record", f"{len(raw)} of {size} bytes", len(raw))
    if not raw:
        return Dropped(empty, "empty", "0 bytes", 0)
    if mime in _HTML:
        return decode_html(empty, raw, charset)
    return decode_declared(empty, raw, charset) if charset else decode(empty, raw)


def _type(record: Any) -> tuple[str, str]:
    """MIME type and character set: of the response, or of the record itself (WET)."""
    value = (record.http_content_type or "") if record.is_http else (record.headers.get("Content-Type") or "")
    charset = (record.http_charset or "") if record.is_http else ""
    return " ".join(value.partition(";")[0].lower().split()), charset


def _packed(record: Any) -> bool:
    """Whether a page was sent compressed or in pieces, so that its length is not that of the record."""
    headers = record.http_headers if record.is_http else None
    return bool(headers and (headers.get("Content-Encoding") or headers.get("Transfer-Encoding")))


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
        for record in _records(handle):
            raw = record.reader.read(config.max_bytes) if _is_wat(record) else b""
            if found := _links(raw, record.headers.get("WARC-Target-URI") or ""):
                yield found


def _links(raw: bytes, url: str) -> Links | None:
    try:
        page = json.loads(raw)["Envelope"]["Payload-Metadata"]["HTTP-Response-Metadata"]["HTML-Metadata"]
        title = page.get("Head", {}).get("Title", "")
        links = [(link["url"], link.get("text", "")) for link in page.get("Links", []) if link.get("path") == "A@/href"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return Links(url, str(title).strip(), tuple((str(address), str(text).strip()) for address, text in links))
