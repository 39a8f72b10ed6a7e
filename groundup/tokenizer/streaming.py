"""Files of any size ↔ ids: a stream of bytes enters and blocks of it leave, cut so that no id changes; and ids, written
and read as text or as a NumPy array, a block at a time.
"""

import re
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from groundup.core.errors import DataError
from groundup.core.files import atomic_file
from groundup.tokenizer.pretokenize import Pattern

Ids = npt.NDArray[np.int64]

#: Bytes that are read at a time.
BLOCK_BYTES = 1 << 22
#: What can only be encoded as a whole may be this long.
LONGEST_WHOLE = 1 << 28

_MAGIC = b"\x93NUMPY"
_HEADER_BYTES = 128
# A space behind an ASCII letter or sign begins a piece, by every known pattern.
_sure_cut = re.compile(rb"(?<=[!-~]) ")
_half_character = re.compile(rb"(?:[\xc0-\xff]|[\xe0-\xff][\x80-\xbf]|[\xf0-\xff][\x80-\xbf]{2})\Z")
_no_id = re.compile(rb"[^ 0-9]|[0-9]{11}")
_separators = bytes.maketrans(b"\t\r\n\f\v,[]", b" " * 8)


def blocks(stream: BinaryIO, pattern: Pattern | None, size: int = BLOCK_BYTES) -> Iterator[bytes]:
    """The bytes of ``stream`` in blocks that encode one by one to the ids of the whole.

    A block is about ``size`` bytes, or longer where a piece is. With a pattern that is the user's own, or with none,
    nobody knows where to cut: the whole is one block.

    Raises:
        DataError: the whole is longer than ``LONGEST_WHOLE``.
    """
    if pattern is None or not pattern.rules:
        whole = stream.read(LONGEST_WHOLE + 1)
        if len(whole) > LONGEST_WHOLE:
            raise DataError(
                f"this tokenizer reads a text as a whole, and this one has more than {LONGEST_WHOLE >> 20} MB; split it"
            )
        if whole:
            yield whole
        return
    held = b""
    while more := stream.read(max(size, len(held))):
        held += more
        if cut := _last_cut(held, pattern):
            yield held[:cut]
            held = held[cut:]
    if held:
        yield held


def _last_cut(data: bytes, pattern: Pattern) -> int:
    """Where a piece begins, whatever comes after ``data``: the last such place that is found; 0 for none."""
    for start in (max(0, len(data) - (1 << 16)), 0):
        if found := list(_sure_cut.finditer(data, start)):
            return found[-1].start()
    # Without a space, only the pattern knows. What follows may change the last two pieces, and white space at an end
    # is split in another way than elsewhere.
    cut = place = 0
    ends: list[int] = []
    for piece in pattern.pieces(_half_character.sub(b"", data).decode("utf-8", "surrogateescape")):
        place += len(piece.encode("utf-8", "surrogateescape"))
        ends.append(0 if piece[-1].isspace() else place)
        if len(ends) > 2:
            cut = ends.pop(0) or cut
    return cut


@contextmanager
def npy_file(path: Path, vocab_size: int) -> Iterator[Callable[[npt.NDArray[np.integer]], None]]:
    """Write ``path`` as a one-dimensional NumPy array of ids; yields what appends a block. All of it or nothing.

    Ids take 2 bytes when the vocabulary has at most 65,536 of them, else 4, as in a shard of the data loader.
    """
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    count = 0
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        handle.write(_npy_header(dtype, 0))

        def append(ids: npt.NDArray[np.integer]) -> None:
            nonlocal count
            handle.write(ids.astype(dtype).tobytes())
            count += len(ids)

        yield append
        handle.seek(0)
        handle.write(_npy_header(dtype, count))


def _npy_header(dtype: np.dtype[np.unsignedinteger], count: int) -> bytes:
    """NumPy's file header, version 1.0, always of the same length."""
    content = f"{{'descr': '{dtype.str}', 'fortran_order': False, 'shape': ({count},), }}"
    length = _HEADER_BYTES - len(_MAGIC) - 4
    return _MAGIC + b"\x01\x00" + struct.pack("<H", length) + content.ljust(length - 1).encode() + b"\n"


def read_ids(stream: BinaryIO, name: str, vocab_size: int, size: int = BLOCK_BYTES) -> Iterator[Ids]:
    """Ids from a NumPy file or from text, in blocks; in text, they are parted by white space, commas or brackets.

    Raises:
        DataError: something is no id, or outside the vocabulary; the message names ``name`` and the position.
    """
    start = stream.read(len(_MAGIC))
    found = _from_npy(stream, name, size) if start == _MAGIC else _from_text(start, stream, name, size)
    done = 0
    for ids in found:
        wrong = np.flatnonzero((ids < 0) | (ids >= vocab_size))
        if len(wrong):
            raise DataError(
                f"{name}: id {ids[wrong[0]]} at position {done + wrong[0] + 1:,} is outside the vocabulary "
                f"of {vocab_size:,}; use the tokenizer that it was encoded with"
            )
        done += len(ids)
        yield ids


def _from_npy(stream: BinaryIO, name: str, size: int) -> Iterator[Ids]:
    try:
        version = tuple(stream.read(2))
        header = np.lib.format.read_array_header_2_0 if version == (2, 0) else np.lib.format.read_array_header_1_0
        shape, _, dtype = header(stream)
    except (ValueError, EOFError) as error:
        raise DataError(f"{name} is a damaged NumPy file: {error}") from error
    if len(shape) != 1 or dtype.kind not in "ui":
        raise DataError(f"{name} holds {dtype} of shape {shape}; ids are one row of integers")
    left = shape[0] * dtype.itemsize
    while left:
        data = stream.read(min(left, size))
        left -= len(data)
        if len(data) % dtype.itemsize or not data:
            raise DataError(f"{name} is truncated: {left} bytes of its ids are missing")
        yield np.frombuffer(data, dtype).astype(np.int64)


def _from_text(start: bytes, stream: BinaryIO, name: str, size: int) -> Iterator[Ids]:
    held, done = start, 0
    open_lists = start.count(b"[") - start.count(b"]")
    more = b" "
    while more:
        more = stream.read(size)
        open_lists += more.count(b"[") - more.count(b"]")
        text = (held + more).translate(_separators)
        cut = text.rfind(b" ") + 1 if more else len(text)  # the last word may go on
        if wrong := _no_id.search(text):
            begin = text.rfind(b" ", 0, wrong.start()) + 1
            word = text[begin : begin + 20].split(b" ")[0].decode("utf-8", "replace")
            raise DataError(f"{name}: {word!r} at position {done + len(text[:begin].split()) + 1:,} is no token id")
        if words := text[:cut].split():
            yield np.array(words).astype(np.int64)
        held, done = text[cut:], done + len(words)
    if open_lists > 0:
        raise DataError(f"{name} is truncated: {open_lists} of its lists never end")
