"""A response as an archive keeps it → its status, its fields and its body, decoded.

The grammar is that of RFC 9112, the codings are those of RFC 9110, section 8.4, and Zstandard (RFC 8878). Archives keep
what servers said where it is wrong, too, and some crawlers store the decoded body beside the fields of the encoded one:
so a body that does not begin as its fields say is taken as it is.
"""

import io
import math
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from groundup.core.errors import UsageError
from groundup.corpus.reading.compression import unpack
from groundup.corpus.reading.config import ReadingConfig

#: Fields are looked for in this many bytes.
HEAD_BYTES = 2**18

_STATUS = re.compile(rb"(?:HTTP/\d+(?:\.\d+)?|ICY)[ \t]+(\d{3})(?!\d)[^\n]*\n?")
_BLANK = re.compile(rb"\n\r?\n")
_FOLD = re.compile(rb"\r?\n[ \t]+")
_CHUNK = re.compile(rb"[ \t]*([0-9a-fA-F]{1,8})[ \t]*(?:;[^\n]*)?\r?\n")
_INFORMATION = range(100, 200)
#: The size of a body is bounded by what is wanted of it.
_ANY_RATIO = ReadingConfig(max_ratio=math.inf)

#: A body, and the most bytes that are wanted of it → the decoded body (one byte more if it is larger), and whether
#: that is all of it.
Decoder = Callable[[bytes, int], tuple[bytes, bool]]


@dataclass(frozen=True)
class Response:
    """What a server answered."""

    status: int
    fields: Mapping[str, str]
    """By lower-case name."""
    body: bytes
    """As it was sent."""

    def decoded(self, limit: int) -> tuple[bytes, bool]:
        """The body without its codings, at most ``limit`` + 1 bytes of it; whether it is there to its end.

        Raises:
            UsageError: it is in Brotli, and the package is missing.
        """
        body, whole = self.body, True
        named = f"{self.fields.get('content-encoding', '')},{self.fields.get('transfer-encoding', '')}"
        for coding in reversed(named.lower().split(",")):
            if decoder := _DECODERS.get(coding.strip()):
                body, complete = decoder(body, limit)
                whole = whole and complete
        return body, whole


def response(raw: bytes) -> Response | None:
    """The final response of a record, past those that only inform (100 Continue); None: it has no status line."""
    place = 0
    while found := _STATUS.match(raw, place):
        blank = _BLANK.search(raw, found.end() - 1, found.end() + HEAD_BYTES)
        place = blank.end() if blank else len(raw)
        if (status := int(found[1])) not in _INFORMATION:
            return Response(status, fields(raw[found.end() : place]), raw[place:])
    return None


def fields(head: bytes) -> dict[str, str]:
    """Lower-case name → value of "Name: value" lines; a line that begins with a blank belongs to the one before, and of
    fields of one name the first counts. What is not UTF-8 is read as Latin-1."""
    found: dict[str, str] = {}
    for line in _FOLD.sub(b" ", head).splitlines():
        name, colon, value = line.partition(b":")
        if colon:
            found.setdefault(_text(name).strip().lower(), _text(value).strip())
    return found


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


# --- codings ----------------------------------------------------------------------------------------------------------


def _chunked(body: bytes, limit: int) -> tuple[bytes, bool]:
    """RFC 9112, section 7.1: pieces with their lengths in hexadecimal, the last of length 0."""
    pieces: list[bytes] = []
    place = 0
    while found := _CHUNK.match(body, place):
        size = int(found[1], 16)
        if not size:
            return b"".join(pieces), True
        pieces.append(body[found.end() : found.end() + size])
        place = found.end() + size
        place += 2 if body.startswith(b"\r\n", place) else body.startswith(b"\n", place)
    return (b"".join(pieces), False) if pieces else (body, True)


def _unpacked(body: bytes, limit: int) -> tuple[bytes, bool]:
    """Gzip and Zstandard, which their first bytes tell."""
    handle, unpacked = unpack(io.BytesIO(body), _ANY_RATIO)
    return (handle.read(limit + 1), unpacked.trouble is None) if unpacked.compressed else (body, True)


def _deflate(body: bytes, limit: int) -> tuple[bytes, bool]:
    """In the frame of zlib, as it should be, or without it, as some servers send it."""
    framed = len(body) > 1 and body[0] & 15 == zlib.DEFLATED and int.from_bytes(body[:2]) % 31 == 0
    member = zlib.decompressobj(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)
    found, data = bytearray(), body
    try:
        while data and len(found) <= limit:
            found += member.decompress(data, min(limit + 1 - len(found), 2**20))
            data = member.unconsumed_tail
    except zlib.error:
        return (bytes(found), False) if found else (body, True)
    return bytes(found), member.eof


def _brotli(body: bytes, limit: int) -> tuple[bytes, bool]:
    try:
        import brotli
    except ImportError as error:
        raise UsageError("a page is compressed with Brotli; pip install 'groundup[data]'") from error
    decoder = brotli.Decompressor()
    found, data = bytearray(), body
    try:
        while len(found) <= limit and (piece := decoder.process(data, output_buffer_limit=limit + 1 - len(found))):
            found += piece
            data = b""
    except brotli.error:
        return (bytes(found), False) if found else (body, True)
    return bytes(found[: limit + 1]), decoder.is_finished()  # its limit is one of whole blocks


_DECODERS: Mapping[str, Decoder] = {
    "chunked": _chunked,
    "gzip": _unpacked,
    "x-gzip": _unpacked,
    "zstd": _unpacked,
    "deflate": _deflate,
    "br": _brotli,
}
