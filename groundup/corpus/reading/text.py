"""Bytes → text: UTF-8, or what the bytes themselves say they are in. What cannot be read is never guessed at.

Also the readers of files that are one text each: plain ones, and web pages.
"""

import codecs
import html
import re
from collections.abc import Iterator
from dataclasses import replace

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.formats import Part, read_whole

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
#: Names that pages use for a smaller set than what they are written in (WHATWG Encoding Standard, section 4.2).
_WEB_ENCODINGS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "shift_jis": "cp932",
    "euc_kr": "cp949",
    "big5": "big5hkscs",
}
#: Encodings whose bytes can be valid UTF-8 and yet mean something else.
_NOT_LIKE_UTF8 = ("iso2022_jp", "hz", "utf-16", "utf-16-le", "utf-16-be", "utf-7")
#: Share of the characters of a page that may have been unreadable bytes.
REPAIRABLE = 0.005

_CHARSET = re.compile(
    rb"<meta[^>]{0,500}?charset\s*=\s*[\"']?\s*([\w.:-]{3,30})|<\?xml[^>]{0,200}encoding=[\"']([\w.:-]+)", re.I
)
_TITLE = re.compile(r"<title[^>]{0,200}>([^<]{0,1000})</title", re.I)
# Project Gutenberg's header, one "Name: value" a line, also names the encoding of its older files.
_GUTENBERG = re.compile(rb"project gutenberg", re.I)
_GUTENBERG_LINE = re.compile(rb"^(Title|Character set encoding):[ \t]*([^\r\n]{1,300})", re.M | re.I)
_HEADER_BYTES = 4096


def read_text(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """A plain text: one file, one document."""
    for raw in read_whole(part, config):
        yield raw if isinstance(raw, Dropped) else decode_declared(part.empty(config), raw, config.encoding)


def read_html(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """A web page that someone saved: one file, one document of kind ``html``."""
    for raw in read_whole(part, config):
        yield raw if isinstance(raw, Dropped) else decode_html(part.empty(config), raw)


class Undecodable(Exception):
    """Bytes that are no UTF-8 text: why, and where."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


def utf8(raw: bytes) -> str:
    """The text of ``raw``.

    Raises:
        Undecodable: it is not UTF-8, or holds zero bytes.
    """
    if (position := raw.find(b"\0")) >= 0:
        hint = " (UTF-16? convert it to UTF-8)" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
        raise Undecodable("binary", f"zero byte at position {position}{hint}")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        detail = f"byte 0x{raw[error.start]:02x} at position {error.start}"
        raise Undecodable("invalid UTF-8", detail) from error


def decode(empty: Document, raw: bytes) -> Document | Dropped:
    """``empty`` with the text of ``raw``, which is UTF-8; or why it has none."""
    try:
        return replace(empty, text=utf8(raw))
    except Undecodable as error:
        return Dropped(empty, error.reason, error.detail, len(raw))


def decode_declared(empty: Document, raw: bytes, fallback: str) -> Document | Dropped:
    """The same, where a byte order mark, a Project Gutenberg header or the user (``fallback``) may name an encoding.

    A declaration that the bytes contradict does not count.
    """
    header = _gutenberg_header(raw)
    empty = replace(empty, title=header.get("title", empty.title))
    if (mark := _mark(raw)) and (text := _try(raw, mark)) is not None:
        return replace(empty, text=text) if text else Dropped(empty, "empty", "only a byte order mark", len(raw))
    decoded = decode(empty, raw)
    if isinstance(decoded, Document) or decoded.reason == "binary":
        return decoded
    for encoding in (header.get("character set encoding", ""), fallback):
        if encoding and (text := _try(raw, encoding)) is not None:
            return replace(empty, text=text)
    return decoded


def decode_html(empty: Document, raw: bytes, charset: str | None = None) -> Document | Dropped:
    """``empty`` with the markup of a page, its title, and kind ``html``.

    The encoding is that of a byte order mark, else UTF-8 if the bytes are, else what the HTTP header (``charset``) or
    the page itself names. Few unreadable bytes become U+FFFD and are counted as ``bytes.repaired``.
    """
    named = [charset or "", *(name.decode("ascii") for name in _charsets(raw))]
    declared = [name for label in named if (name := _web_encoding(label))]
    first = [name for name in declared if name in _NOT_LIKE_UTF8][:1]
    text = next(
        (text for name in (_mark(raw), *first, "utf-8", *declared) if name and (text := _try(raw, name)) is not None),
        None,
    )
    repaired = 0
    if text == "":
        return Dropped(empty, "empty", "only a byte order mark", len(raw))
    if text is None:
        text = raw.decode(next(iter(declared), "utf-8"), "replace")
        repaired = text.count("\ufffd")
    zeros = text.count("\0")
    if zeros:
        text = text.replace("\0", "")
    if repaired + zeros > REPAIRABLE * (len(text) + zeros):
        words = f"{repaired + zeros} of {len(text) + zeros} characters unreadable as {', '.join(declared) or 'UTF-8'}"
        return Dropped(empty, "binary" if zeros else "unknown encoding", words, len(raw))
    measures = {**empty.measures, "bytes.repaired": float(repaired + zeros)} if repaired + zeros else empty.measures
    facts = {**empty.facts, "kind": "html"}
    return Document(empty.id, _title(text) or empty.title, empty.source, text, facts, measures)


def _title(markup: str) -> str:
    found = _TITLE.search(markup, 0, 2**16)
    title = " ".join(html.unescape(found[1]).split()) if found else ""
    return title if title.isprintable() else ""


def _charsets(raw: bytes) -> list[bytes]:
    """What a page says that it is in, within its first kilobytes."""
    found = _CHARSET.search(raw, 0, _HEADER_BYTES)
    return [found[1] or found[2]] if found else []


def _web_encoding(label: str) -> str:
    """Python's name of what pages mean by ``label``; empty for a name that nobody knows."""
    try:
        name = codecs.lookup(label).name
        b" ".decode(name, "replace")  # "rot13" and "hex" are codecs too, but not of text
    except (LookupError, ValueError):
        return ""
    return _WEB_ENCODINGS.get(name, name)


def _gutenberg_header(raw: bytes) -> dict[str, str]:
    """Lower-case name → value of the lines that say what a Project Gutenberg file is."""
    head = raw[:_HEADER_BYTES]
    if not _GUTENBERG.search(head):
        return {}
    pairs = (
        (name.decode("ascii").lower(), value.decode("latin-1").strip()) for name, value in _GUTENBERG_LINE.findall(head)
    )
    return {name: value for name, value in pairs if value.isprintable()}


def _mark(raw: bytes) -> str:
    """The encoding that a byte order mark names."""
    return next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), "")


def _try(raw: bytes, encoding: str) -> str | None:
    try:
        text = raw.decode(encoding)
        text.encode("utf-8")  # no lone surrogates
    except (UnicodeError, LookupError):
        return None
    return text
