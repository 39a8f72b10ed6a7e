"""Bytes ↔ the visible characters that GPT-2's vocabulary spells them with, and all who came after it.

Their files are JSON or lines of text, so each of the 256 bytes has a visible character of its own: itself where
Latin-1 prints it, else the next one from U+0100 on. A space is ``Ġ``, a line end ``Ċ``.
"""

from groundup.core.errors import DataError


def byte_alphabet() -> list[str]:
    """Byte → visible character."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in printable else next(others)) for byte in range(256)]


class _Bytes(dict[int, str]):
    """Code point of a visible character → its byte as a Latin-1 character; of any other → one that is not Latin-1."""

    def __missing__(self, code: int) -> str:
        return "\uffff"


_ALPHABET = byte_alphabet()
_SPELLED = str.maketrans({chr(byte): character for byte, character in enumerate(_ALPHABET)})
_BYTES = _Bytes({ord(character): chr(byte) for byte, character in enumerate(_ALPHABET)})


def spell(token: bytes) -> str:
    """``b" word"`` → ``"Ġword"``."""
    return token.decode("latin-1").translate(_SPELLED)


def unspell(spelling: str) -> bytes:
    """``"Ġword"`` → ``b" word"``.

    Raises:
        DataError: a character that stands for no byte.
    """
    try:
        return spelling.translate(_BYTES).encode("latin-1")
    except UnicodeEncodeError as error:
        raise DataError(f"{spelling[:40]!r} is not spelled in the alphabet of GPT-2's bytes") from error
