"""Bytes → text: UTF-8, or what the bytes themselves say they are in. What cannot be read is never guessed at."""

import codecs
import re
from dataclasses import replace

from groundup.corpus.document import Document, Dropped

_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
    (codecs.BOM_UTF8, "utf-8-sig"),
)
# Project Gutenberg's header names the encoding of its older files.
_GUTENBERG = re.compile(rb"^Character set encoding:[ \t]*([\w.:-]{3,30})", re.M | re.I)


def decode(empty: Document, raw: bytes) -> Document | Dropped:
    """``empty`` with the text of ``raw``, which is UTF-8; or why it has none."""
    if (position := raw.find(b"\0")) >= 0:
        hint = " (UTF-16? convert it to UTF-8)" if raw[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
        return Dropped(empty, "binary", f"zero byte at position {position}{hint}", len(raw))
    try:
        return replace(empty, text=raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Dropped(empty, "invalid UTF-8", f"byte 0x{raw[error.start]:02x} at position {error.start}", len(raw))


def decode_declared(empty: Document, raw: bytes, fallback: str) -> Document | Dropped:
    """The same, where a byte order mark, a Project Gutenberg header or the user (``fallback``) may name an encoding.

    A declaration that the bytes contradict does not count.
    """
    mark = next((encoding for mark, encoding in _MARKS if raw.startswith(mark)), None)
    if mark is not None and (text := _try(raw, mark)) is not None:
        return replace(empty, text=text)
    decoded = decode(empty, raw)
    if isinstance(decoded, Document) or decoded.reason == "binary":
        return decoded
    header = _GUTENBERG.search(raw, 0, 4096)
    for encoding in (header[1].decode("ascii") if header else "", fallback):
        if encoding and (text := _try(raw, encoding)) is not None:
            return replace(empty, text=text)
    return decoded


def _try(raw: bytes, encoding: str) -> str | None:
    try:
        text = raw.decode(encoding)
        text.encode("utf-8")  # no lone surrogates
    except (UnicodeError, LookupError):
        return None
    return text
