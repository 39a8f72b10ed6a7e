"""Compressed files as streams of bytes, with bounded memory and a bounded appetite.

A file enters (gzip, bzip2, xz or Zstandard, one member or many, or not compressed at all); its contents leave. What is
wrong with an archive ends the stream early and stands in ``Unpacked.trouble``: all that was readable is read.
"""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO, Protocol

from groundup.core.errors import UsageError
from groundup.corpus.reading.config import GIGABYTE, MEGABYTE, ReadingConfig

#: Suffixes that only say how the file inside is compressed.
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".zstd")

#: The growth of a file is judged once it is larger than this: small files that compress well are harmless.
RATIO_FROM = 64 * MEGABYTE

_CHUNK = 2**16
#: Output is made, and judged, in pieces of at most this size.
_LARGEST = 2**20
_ZSTANDARD = b"\x28\xb5\x2f\xfd"
#: A frame that holds a dictionary, and how large that may be.
_DICTIONARY, _LARGEST_DICTIONARY = b"\x5d\x2a\x4d\x18", 16 * MEGABYTE
#: What a file begins with says how it is compressed.
MAGIC_BYTES = 10


@dataclass(frozen=True)
class Trouble:
    """Why a stream ended before its file did."""

    reason: str
    detail: str


class _Decoder(Protocol):
    """One member of an archive, as ``bz2.BZ2Decompressor`` has it: output comes in pieces no longer than asked for."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int) -> bytes: ...


class _Gzip:
    """``zlib`` with the interface of ``bz2``."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._member.eof

    @property
    def needs_input(self) -> bool:
        return not self._member.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._member.unused_data

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return self._member.decompress(self._member.unconsumed_tail + data, max_length)


class _Zstandard:
    """``zstandard`` with the interface of ``bz2``.

    Its output cannot be limited, so its input is fed in small pieces: four bytes can stand for a block of 128 KiB.
    """

    _PIECE = 2**9
    #: Larger windows (``zstd --long``) would need that much memory in every worker.
    _WINDOW = 2**27

    def __init__(self, dictionary: bytes = b"") -> None:
        try:
            import zstandard
        except ImportError as error:
            raise UsageError("reading .zst needs zstandard; pip install 'groundup[data]'") from error
        known = zstandard.ZstdCompressionDict(dictionary) if dictionary else None
        self._frame = zstandard.ZstdDecompressor(known, max_window_size=self._WINDOW).decompressobj()
        self._input = io.BytesIO()
        self._output = io.BytesIO()
        self.needs_input = True

    @property
    def eof(self) -> bool:
        return self._frame.eof and self._output.tell() == self._output.getbuffer().nbytes

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self._input.read()

    def decompress(self, data: bytes, max_length: int) -> bytes:
        if data:
            self._input = io.BytesIO(data)
        output = self._output.read(max_length)
        while not output and not self._frame.eof and (piece := self._input.read(self._PIECE)):
            self._output = io.BytesIO(self._frame.decompress(piece))
            output = self._output.read(max_length)
        self.needs_input = not output
        return output


def _decoder(magic: bytes, dictionary: bytes = b"") -> Callable[[], _Decoder] | None:
    """What decodes a member that begins with these bytes; the dictionary is one of Zstandard."""
    if magic.startswith(b"\x1f\x8b\x08"):
        return _Gzip
    if magic.startswith(b"BZh") and magic[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return bz2.BZ2Decompressor
    if magic.startswith(b"\xfd7zXZ\0"):
        return lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=256 * MEGABYTE)
    skippable = magic[:1] and 0x50 <= magic[0] <= 0x5F and magic[1:4] == b"\x2a\x4d\x18"
    if magic.startswith(_ZSTANDARD) or skippable:
        return lambda: _Zstandard(dictionary)
    return None


class Unpacked(io.RawIOBase):
    """The contents of a file, whether it is compressed (its first bytes tell) or not."""

    def __init__(self, raw: BinaryIO, config: ReadingConfig, plain: bool = False, length: int = -1) -> None:
        self.trouble: Trouble | None = None
        self.consumed = 0
        """Bytes of the file read so far."""
        self.produced = 0
        self._raw = raw
        self._left = length if length >= 0 else 2**63
        self._config = config
        self._input = b""
        self._ended = False
        self._begun = False
        self._dictionary = b""
        self._fill(MAGIC_BYTES)
        self.compressed = not plain and _decoder(self._input) is not None
        self._member: _Decoder | None = None

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self.produced

    def readinto(self, buffer: Any) -> int:
        if not len(buffer) or self.trouble:
            return 0
        length = min(len(buffer), _LARGEST)
        data = self._unpack(length) if self.compressed else self._plain(length)
        buffer[: len(data)] = data
        self.produced += len(data)
        if self.compressed:
            self._judge()
        return len(data)

    def _fill(self, length: int) -> None:
        """Have ``length`` bytes of input ready, if the file has them."""
        while len(self._input) < length and not self._ended:
            more = self._raw.read(min(_CHUNK, self._left))
            self._ended = not more
            self._left -= len(more)
            self.consumed += len(more)
            self._input += more

    def _plain(self, length: int) -> bytes:
        self._fill(1)
        data, self._input = self._input[:length], self._input[length:]
        return data

    def _unpack(self, length: int) -> bytes:
        """At least one byte, or none at the end."""
        while not self.trouble:
            if self._member is None and not self._next_member():
                break
            assert self._member is not None
            if self._member.needs_input:
                self._fill(1)
                data, self._input = self._input, b""
            else:
                data = b""
            try:
                output = self._member.decompress(data, length)
            except Exception as error:  # each library has its own class, and UsageError was raised before
                self.trouble = Trouble("damaged archive", f"near byte {self.consumed}: {_one_line(error)}")
                break
            if self._member.eof:
                self._input = self._member.unused_data + self._input
                self._member = None
            elif not output and not data and self._ended:
                self.trouble = Trouble("truncated archive", f"the file ends at byte {self.consumed} inside its data")
            if output:
                return output
        return b""

    def _next_member(self) -> bool:
        """Begin the next member; zeros between members are padding."""
        while self._begun and not self._ended and not self._input.strip(b"\0"):
            self._input = b""
            self._fill(1)
        if self._begun:
            self._input = self._input.lstrip(b"\0")
        self._begun = True
        self._fill(MAGIC_BYTES)
        if not self._input:
            return False
        if self._input.startswith(_DICTIONARY) and not self._read_dictionary():
            return False
        decoder = _decoder(self._input, self._dictionary)
        if decoder is None:
            position = self.consumed - len(self._input)
            self.trouble = Trouble("damaged archive", f"no compressed data at byte {position}")
            return False
        self._member = decoder()
        return True

    def _read_dictionary(self) -> bool:
        """Archives of the web carry the dictionary of all their frames in a frame before them, compressed or not
        (https://iipc.github.io/warc-specifications/specifications/warc-zstd/)."""
        size = int.from_bytes(self._input[4:8], "little")
        if size > _LARGEST_DICTIONARY:
            self.trouble = Trouble("damaged archive", f"a dictionary of {size} bytes")
            return False
        self._fill(8 + size)
        content, self._input = self._input[8 : 8 + size], self._input[8 + size :]
        if content.startswith(_ZSTANDARD):
            frame, unpacked = _Zstandard(), bytearray()
            try:
                while len(unpacked) < _LARGEST_DICTIONARY and (piece := frame.decompress(content, 1 << 17)):
                    unpacked += piece
                    content = b""
            except Exception as error:  # as above
                self.trouble = Trouble("damaged archive", f"its dictionary: {_one_line(error)}")
                return False
            content = bytes(unpacked)
        self._dictionary = content
        self._fill(MAGIC_BYTES)
        return True

    def _judge(self) -> None:
        largest = self._config.max_unpacked_gigabytes * GIGABYTE
        if self.produced > largest:
            limit = f"the limit is {self._config.max_unpacked_gigabytes:g} GiB"
        elif self.produced > max(RATIO_FROM, self._config.max_ratio * self.consumed):
            limit = f"the limit is {self._config.max_ratio:g} times"
        else:
            return
        self.trouble = Trouble("decompression bomb", f"{self.consumed} bytes became {self.produced} and more, {limit}")


def is_compressed(head: bytes) -> bool:
    """Whether a file that begins with these bytes (at least ten, if it has them) is an archive known here."""
    return _decoder(head) is not None


def unpack(
    raw: BinaryIO, config: ReadingConfig, plain: bool = False, length: int = -1
) -> tuple[io.BufferedReader, Unpacked]:
    """The contents of an open file, buffered; the second shows what went wrong, if anything.

    Args:
        plain: the file is known not to be compressed.
        length: bytes of the file to read; -1: to its end.
    """
    unpacked = Unpacked(raw, config, plain, length)
    return io.BufferedReader(unpacked, _CHUNK), unpacked


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
