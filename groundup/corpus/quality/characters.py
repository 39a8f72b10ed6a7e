"""What each character is, as the rules of quality need to know it: one byte a code point, one bit a property.

The general category is that of the running Python (``unicodedata``), so that a letter is what ``str.isalpha`` says and
white space what ``str.isspace`` says; which marks end a sentence is the property Sentence_Terminal of ``regex``.
"""

import sys
import unicodedata
from functools import cache

import numpy as np
import regex
from numpy.typing import NDArray

CODE_POINTS = 0x110000

#: ``WORD`` is a letter, a mark or a number; ``ALONE`` a letter or digit of a script that puts no spaces between words.
LETTER, WORD, DIGIT, SPACE, ALONE, UPPER, TERMINAL, LINE_END = (1 << bit for bit in range(8))

#: Nothing beyond this is a letter, a number or a mark, but for the selectors of variants below.
_ASSIGNED = 0x40000
_VARIATION_SELECTORS = slice(0xE0100, 0xE01F0)
_JOINERS = [0x200C, 0x200D]
_UNSPACED = (
    *((0x0E00, 0x0F00), (0x1000, 0x10A0), (0x1780, 0x1800), (0x3040, 0x3100)),
    *((0x3400, 0x4DC0), (0x4E00, 0xA000), (0x20000, _ASSIGNED)),
)
#: What ``str.splitlines`` cuts at.
LINE_ENDS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


@cache
def classes() -> NDArray[np.uint8]:
    """Code point → bits of ``LETTER`` … ``LINE_END``; shape (0x110000,), read-only."""
    bits = {"L": LETTER | WORD, "M": WORD, "N": WORD}
    categories = [unicodedata.category(chr(code)) for code in range(_ASSIGNED)]
    table = np.zeros(CODE_POINTS, np.uint8)
    table[:_ASSIGNED] = [bits.get(category[0], 0) for category in categories]
    names = np.array(categories)
    table[:_ASSIGNED][names == "Nd"] |= DIGIT
    table[:_ASSIGNED][names == "Lu"] |= UPPER
    table[_VARIATION_SELECTORS] = WORD
    table[_JOINERS] = WORD
    for first, last in _UNSPACED:
        table[first:last][table[first:last] & (LETTER | DIGIT) > 0] |= ALONE
    punctuation = "".join(chr(code) for code, name in enumerate(categories) if name[0] == "P")
    table[[ord(mark) for mark in regex.findall(r"\p{Sentence_Terminal}", punctuation)]] |= TERMINAL
    table[[code for code in range(_ASSIGNED) if chr(code).isspace()]] |= SPACE
    table[[ord(end) for end in LINE_ENDS]] |= LINE_END
    table.flags.writeable = False
    return table


_ENCODING = f"utf-32-{sys.byteorder[0]}e"


def encoded(text: str) -> bytes:
    """The text as 32-bit numbers of this machine, one per character; a half of a surrogate pair is one too."""
    return text.encode(_ENCODING, "surrogatepass")


def code_points(text: str) -> NDArray[np.uint32]:
    """``encoded`` as an array."""
    return np.frombuffer(encoded(text), np.uint32)
