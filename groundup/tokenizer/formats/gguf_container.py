"""GGUF, the model files of llama.cpp: what stands before the weights.

Enters: the bytes of a file. Leaves: its metadata and where its tensors lie; and the way back. A file is ``GGUF``, a
version, the number of tensors, the number of metadata; then the metadata, a name, a type and a value each; then the
tensors, a name, a shape, a type and a place each; all little-endian, strings and arrays after their length. The weights
follow. Every length is checked against what the file still has before anything is allocated for it.
"""

import struct
from collections.abc import Iterable, Mapping
from typing import IO, Any, NamedTuple

from groundup.core.errors import DataError
from groundup.tokenizer.formats.definition import LARGEST_FILE
from groundup.tokenizer.vocabulary import MOST_TOKENS

MAGIC = b"GGUF"
#: The version that is written; 2 has the same layout.
VERSION = 3
#: At most so many metadata and tensors; files in use have about fifty and two thousand.
MOST_METADATA = MOST_TENSORS = 1 << 16
#: A tensor has at most so many dimensions, and a name of so many characters.
MOST_DIMENSIONS, LONGEST_NAME = 4, 128
#: No array is longer: the merges of the largest vocabularies in use are half a million.
LONGEST_ARRAY = 4 * MOST_TOKENS

_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_UINT32, _INT32, _FLOAT32, _BOOL, _STRING, _ARRAY = 4, 5, 6, 7, 8, 9
_OF_VALUE = {bool: _BOOL, int: _UINT32, float: _FLOAT32, str: _STRING}


class TensorPlace(NamedTuple):
    """A tensor of a file, of which nothing has been read yet."""

    name: str
    shape: tuple[int, ...]
    """Outermost dimension first; the file lists them the other way round."""
    type: int
    """How the weights are encoded: a number of ``ggml_type``."""
    offset: int
    """Where it begins, in bytes after the header and its padding."""


class Header(NamedTuple):
    """All that stands before the weights."""

    metadata: dict[str, Any]
    tensors: list[TensorPlace]
    size: int
    """Bytes, without the padding behind it."""


def read_metadata(stream: IO[bytes]) -> dict[str, Any]:
    """The metadata, by their names. Nothing behind them is read.

    Raises:
        DataError: the file is no GGUF of version 2 or 3, truncated, or claims sizes that it cannot have.
    """
    return _metadata(Reader(stream))[0]


def read_header(stream: IO[bytes]) -> Header:
    """The metadata and the places of the tensors.

    Raises:
        DataError: as :func:`read_metadata`; or two tensors have one name, or one has an impossible shape.
    """
    reader = Reader(stream)
    metadata, count = _metadata(reader)
    if count > MOST_TENSORS:
        raise DataError(f"it claims {count:,} tensors; at most {MOST_TENSORS:,} are supported")
    tensors: dict[str, TensorPlace] = {}
    for _ in range(count):
        tensor = _tensor(reader)
        if tensors.setdefault(tensor.name, tensor) is not tensor:
            raise DataError(f"two of its tensors are called {tensor.name!r}")
    return Header(metadata, list(tensors.values()), reader.taken)


def _metadata(reader: "Reader") -> tuple[dict[str, Any], int]:
    """The metadata, and the number of tensors that follow."""
    if reader.take(4) != MAGIC:
        raise DataError("it is no GGUF file")
    version = reader.number("I")
    if version not in (2, 3):
        raise DataError(f"it is GGUF of version {version} or of a machine with other byte order; 2 and 3 are supported")
    tensors, count = reader.number("Q"), reader.number("Q")
    if count > MOST_METADATA:
        raise DataError(f"it claims {count:,} metadata; at most {MOST_METADATA:,} are supported")
    found: dict[str, Any] = {}
    for _ in range(count):
        name = reader.string()
        if name in found:
            raise DataError(f"its metadata {name[:LONGEST_NAME]!r} comes twice")
        found[name] = reader.value(reader.number("I"))
    return found, tensors


def _tensor(reader: "Reader") -> TensorPlace:
    name, dimensions = reader.string(), reader.number("I")
    if not name.isprintable() or len(name) > LONGEST_NAME:
        raise DataError(f"one of its tensors is called {name[:LONGEST_NAME]!r}, which is no name")
    if not 1 <= dimensions <= MOST_DIMENSIONS:
        raise DataError(f"its tensor {name!r} has {dimensions:,} dimensions; 1 to {MOST_DIMENSIONS} are possible")
    shape = tuple(reader.number("Q") for _ in range(dimensions))[::-1]
    if 0 in shape:
        raise DataError(f"its tensor {name!r} has no elements")
    return TensorPlace(name, shape, reader.number("I"), reader.number("Q"))


class Reader:
    """Little-endian values one after the other, as far into the file as they need it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._held, self._place = stream, b"", 0
        self._left = LARGEST_FILE

    @property
    def taken(self) -> int:
        """Bytes that were taken so far."""
        return LARGEST_FILE - self._left - len(self._held) + self._place

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self._held) - self._place:
            self._read(size)
        start = self._place
        self._place += size
        return self._held[start : self._place]

    def number(self, kind: str) -> Any:
        """The next number, of a type of ``struct``."""
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def string(self) -> str:
        """The next string."""
        try:
            return self.take(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError("one of its strings is not UTF-8") from error

    def value(self, kind: int) -> Any:
        """The next value of a type of GGUF."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise DataError(f"it has a value of the type {kind}, which GGUF does not know")
        kind, count = self.number("I"), self.number("Q")
        if kind in _NUMBERS:
            data = self.take(count * struct.calcsize("<" + _NUMBERS[kind]))
        elif kind != _STRING:
            raise DataError(f"it has an array of the type {kind}, which no model needs")
        if count > LONGEST_ARRAY:
            raise DataError(f"it has an array of {count:,} values, more than any tokenizer in use")
        if kind == _STRING:
            return [self.string() for _ in range(count)]
        return list(struct.unpack(f"<{count}{_NUMBERS[kind]}", data))

    def _read(self, size: int) -> None:
        """Hold ``size`` bytes at least."""
        rest = self._held[self._place :]
        wanted = size - len(rest)
        if wanted > self._left:
            raise DataError(f"its metadata are longer than {LARGEST_FILE:,} bytes")
        more = self._stream.read(max(wanted, min(1 << 20, self._left)))
        self._left -= len(more)
        if len(more) < wanted:
            raise DataError("it is truncated")
        self._held, self._place = rest + more, 0


def write_header(metadata: Mapping[str, Any], tensors: Iterable[TensorPlace]) -> bytes:
    """The bytes of a header.

    Whole numbers are written as uint32 and in arrays as int32, as llama.cpp expects them; fractions as float32; an
    array without elements as one of strings.
    """
    tensors = list(tensors)
    parts = [MAGIC, struct.pack("<IQQ", VERSION, len(tensors), len(metadata))]
    parts += (_string(name) + _value(value) for name, value in metadata.items())
    for tensor in tensors:
        shape = struct.pack(f"<I{len(tensor.shape)}Q", len(tensor.shape), *reversed(tensor.shape))
        parts.append(_string(tensor.name) + shape + struct.pack("<IQ", tensor.type, tensor.offset))
    return b"".join(parts)


def _string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def _value(value: Any) -> bytes:
    """A value behind its type."""
    if isinstance(value, list):
        kind = _OF_VALUE[type(value[0])] if value else _STRING
        if kind == _STRING:
            return struct.pack("<IIQ", _ARRAY, kind, len(value)) + b"".join(map(_string, value))
        kind = _INT32 if kind == _UINT32 else kind
        return struct.pack(f"<IIQ{len(value)}{_NUMBERS[kind]}", _ARRAY, kind, len(value), *value)
    kind = _OF_VALUE[type(value)]
    return struct.pack("<I", kind) + (_string(value) if kind == _STRING else struct.pack("<" + _NUMBERS[kind], value))
