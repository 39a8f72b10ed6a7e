"""Which characters are letters, numbers and space: Unicode 16.0, whatever is installed.

Every Unicode version makes letters out of code points that were nothing before, so a pattern with ``\\p{L}`` cuts
text differently from one release of a regular expression library to the next, and with it the ids. The references
(tiktoken, Hugging Face) stand at Unicode 16.0. We keep that version as data: the general category of every code
point, as runs in ``unicode-16.0.0.txt`` (category and length in hexadecimal), from the Unicode Character Database.
"""

import re
from functools import cache
from importlib.resources import files

import numpy as np
import numpy.typing as npt
import regex

CODE_POINTS = 0x110000

#: One bit per property that the patterns ask for.
LETTER, NUMBER, SPACE, LINE_END, UPPER, LOWER = (1 << bit for bit in range(6))

#: White space as ``\\s`` means it: the property White_Space.
_SPACES = (*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)

#: Bits of a general category. Letters without case and marks may stand in both halves of a word like "McDonald".
_BITS = {
    "Lu": LETTER | UPPER,
    "Lt": LETTER | UPPER,
    "Ll": LETTER | LOWER,
    "Lm": LETTER | UPPER | LOWER,
    "Lo": LETTER | UPPER | LOWER,
    "Mn": UPPER | LOWER,
    "Mc": UPPER | LOWER,
    "Me": UPPER | LOWER,
    "Nd": NUMBER,
    "Nl": NUMBER,
    "No": NUMBER,
}


@cache
def classes() -> npt.NDArray[np.uint8]:
    """Code point → bits of ``LETTER`` … ``LOWER``; shape (0x110000,), read-only."""
    text = (files("groundup.tokenizer") / "unicode-16.0.0.txt").read_text(encoding="ascii")
    runs = text.split()
    bits = np.array([_BITS.get(run[:2], 0) for run in runs], np.uint8)
    table = np.repeat(bits, [int(run[2:], 16) for run in runs])
    assert len(table) == CODE_POINTS
    table[list(_SPACES)] |= SPACE
    table[[0x0A, 0x0D]] |= LINE_END
    table.flags.writeable = False
    return table


@cache
def _newer() -> tuple[re.Pattern[str], dict[int, str]]:
    """The characters whose class the installed ``regex`` sees otherwise, and one of their Unicode 16 class for each."""
    table = classes()
    everything = "".join(chr(code) for code in range(CODE_POINTS) if not 0xD800 <= code < 0xE000)
    seen = np.zeros(CODE_POINTS, np.uint8)
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    for bit, pattern in ((LETTER, r"\p{L}+"), (NUMBER, r"\p{N}+"), (UPPER, upper), (LOWER, lower)):
        for found in regex.finditer(pattern, everything):
            seen[ord(found[0][0]) : ord(found[0][-1]) + 1] |= bit
    seen[0xD800:0xE000] = 0
    named = LETTER | NUMBER | UPPER | LOWER
    example = {
        LETTER | UPPER: "A",
        LETTER | LOWER: "a",
        LETTER | UPPER | LOWER: "ª",
        UPPER | LOWER: "\u0300",
        NUMBER: "0",
    }
    codes = np.flatnonzero((table & named) != seen)
    stand_ins = {int(code): example.get(int(table[code] & named), "\u0378") for code in codes}
    ranges = "".join(f"{chr(run[0])}-{chr(run[-1])}" for run in np.split(codes, np.flatnonzero(np.diff(codes) > 1) + 1))
    return re.compile(f"[{ranges}]") if stand_ins else re.compile(r"(?!)"), stand_ins


def as_of_unicode_16(text: str) -> str:
    """``text`` with every character that ``regex`` would misjudge replaced by one of its Unicode 16 class.

    Character for character, so places in the result are places in ``text``.
    """
    if text.isascii():
        return text
    pattern, stand_ins = _newer()
    return text.translate(stand_ins) if pattern.search(text) else text
