"""The wire format of Protocol Buffers, as far as a file needs it: bytes ↔ numbered fields.

What enters: the bytes of one message. What leaves: its fields as (number, wire type, value), from which the caller
picks those that it knows; and back. There is no schema and no recursion, so hostile bytes cost no more than their
length. The format: https://protobuf.dev/programming-guides/encoding/.
"""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from groundup.core.errors import DataError

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_NAMES = {VARINT: "a varint", FIXED64: "8 bytes", BYTES: "a length and bytes", FIXED32: "4 bytes"}
_WIDTH = {FIXED64: 8, FIXED32: 4}

#: 64 bits, seven to a byte.
LONGEST_VARINT = 10


class Field(NamedTuple):
    """One field of a message."""

    number: int
    wire_type: int
    value: int | bytes
    """A number for varints; otherwise the bytes."""

    def integer(self) -> int:
        """The value of an ``int32``, ``int64``, ``bool`` or ``enum``.

        Raises:
            DataError: the wire type is another.
        """
        value = self._expect(VARINT)
        assert isinstance(value, int)
        return value - (1 << 64) if value >> 63 else value

    def content(self) -> bytes:
        """The value of a ``bytes`` or of a message.

        Raises:
            DataError: the wire type is another.
        """
        value = self._expect(BYTES)
        assert isinstance(value, bytes)
        return value

    def text(self) -> str:
        """The value of a ``string``.

        Raises:
            DataError: the wire type is another, or the bytes are not UTF-8.
        """
        try:
            return self.content().decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(f"field {self.number} is not UTF-8 at byte {error.start}") from error

    def float32(self) -> float:
        """The value of a ``float``.

        Raises:
            DataError: the wire type is another.
        """
        value = self._expect(FIXED32)
        assert isinstance(value, bytes)
        return float(struct.unpack("<f", value)[0])

    def _expect(self, wire_type: int) -> int | bytes:
        if self.wire_type != wire_type:
            raise DataError(f"field {self.number} should hold {_NAMES[wire_type]} and holds {_NAMES[self.wire_type]}")
        return self.value


def fields(message: bytes) -> Iterator[Field]:
    """The fields of ``message`` in the order of the file.

    Raises:
        DataError: the message is truncated, a number is too long, or a wire type is none that is in use.
    """
    place = 0
    while place < len(message):
        key, place = _varint(message, place)
        number, wire_type = key >> 3, key & 7
        if number == 0 or wire_type not in _NAMES:
            raise DataError(f"field number {number} with wire type {wire_type} before byte {place:,} is not protobuf")
        if wire_type == VARINT:
            value, place = _varint(message, place)
            yield Field(number, wire_type, value)
            continue
        if wire_type == BYTES:
            length, place = _varint(message, place)
        else:
            length = _WIDTH[wire_type]
        if length > len(message) - place:
            raise DataError(
                f"field {number} at byte {place:,} has {length:,} bytes of which {len(message) - place:,} are there"
            )
        yield Field(number, wire_type, message[place : place + length])
        place += length


def _varint(message: bytes, place: int) -> tuple[int, int]:
    """The number at ``place``, seven bits a byte from the lowest on, and where it ends."""
    if place < len(message) and message[place] < 0x80:  # most numbers have one byte
        return message[place], place + 1
    value = 0
    for shift, byte in enumerate(message[place : place + LONGEST_VARINT]):
        value |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            if value >> 64:
                break
            return value, place + shift + 1
    if len(message) - place < LONGEST_VARINT:
        raise DataError(f"the message ends inside the number at byte {place:,}")
    raise DataError(f"the number at byte {place:,} has more than 64 bits")


def write_varint(value: int) -> bytes:
    """``value`` as a varint; negative ones in two's complement of 64 bits."""
    value &= (1 << 64) - 1
    written = bytearray()
    while value >= 0x80:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    written.append(value)
    return bytes(written)


def write_field(number: int, value: int | bool | float | str | bytes) -> bytes:
    """One field: integers as varints, floats as 4 bytes, text and bytes with their length."""
    if isinstance(value, float):
        return write_varint(number << 3 | FIXED32) + struct.pack("<f", value)
    if isinstance(value, int):
        return write_varint(number << 3 | VARINT) + write_varint(value)
    content = value.encode("utf-8") if isinstance(value, str) else value
    return write_varint(number << 3 | BYTES) + write_varint(len(content)) + content
