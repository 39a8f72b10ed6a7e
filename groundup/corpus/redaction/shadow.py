"""A text → its shadow: one byte for each character, at the same place.

Patterns over the shadow need not know Unicode: digits of any script are ASCII digits, every kind of blank is a space,
every kind of hyphen is ``-``, typographic quotes are straight. Other letters are ``LETTER``, so that a number inside a
word of any alphabet is not taken for one that stands alone; letters of scripts without blanks between words (Chinese,
Japanese, Thai …) are ``OTHER``, as is all the rest.
"""

import unicodedata
from functools import cache

import numpy as np
from numpy.typing import NDArray

LETTER, OTHER, DEGREE = 0x80, 0x81, 0xB0
#: Characters from here on are OTHER: emoji, rare ideographs, ancient scripts.
_LIMIT = 0x10000
#: So many characters at once take four bytes each.
_BLOCK = 1 << 20

_SPELLED = {
    0xB0: DEGREE,
    0xBA: DEGREE,  # the masculine ordinal, which many keyboards offer in its place
    0x2212: ord("-"),
    0x2019: ord("'"),
    0x2032: ord("'"),
    0x201D: ord('"'),
    0x2033: ord('"'),
}
#: Scripts that write words without blanks between them.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x2E80, 0xA4CF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F))

# What may not stand beside a number or a code that counts: letters, digits, and a digit behind . , / or -
BEFORE = rb"(?<![0-9A-Za-z_\x80])(?<![0-9][.,/-])"
AFTER = rb"(?![0-9A-Za-z_\x80]|[.,/-][0-9])"


def shadow(text: str) -> bytes:
    """One byte for each character of ``text``."""
    if text.isascii():
        return text.encode("ascii")
    return b"".join(_bytes_of(text[start : start + _BLOCK]) for start in range(0, len(text), _BLOCK))


def _bytes_of(text: str) -> bytes:
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    return _table()[np.minimum(codes, _LIMIT - 1)].tobytes()


@cache
def _table() -> NDArray[np.uint8]:
    """The byte of each character of the basic plane: shape [65536]."""
    return np.fromiter((_byte(code) for code in range(_LIMIT)), np.uint8, _LIMIT)


def _byte(code: int) -> int:
    if code < 0x80:
        return code
    if code in _SPELLED:
        return _SPELLED[code]
    if 0xFF01 <= code <= 0xFF5E:  # full-width forms of ASCII
        return code - 0xFEE0
    character = chr(code)
    category = unicodedata.category(character)
    if category == "Nd":
        return ord("0") + unicodedata.decimal(character)
    if category[0] in "LM":
        return OTHER if any(first <= code <= last for first, last in _UNSPACED) else LETTER
    return {"Zs": ord(" "), "Pd": ord("-")}.get(category, OTHER)
