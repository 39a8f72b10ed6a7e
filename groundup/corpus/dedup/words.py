"""A text → hashes of its words, in small letters and without punctuation, and where each word stands.

A word is a run of letters and digits, as ``\\w`` sees them but for ``_``; in scripts without spaces between words every
character is one. What compares runs of words (near duplicates, repeated passages, leaked benchmarks) begins here.
"""

import re
from functools import cache

import numpy as np
from numpy.typing import NDArray

from groundup.core import compiled
from groundup.corpus.dedup.hashing import Hashes, mix

Places = NDArray[np.uint32]

#: Thai, Lao, Burmese, Khmer, kana, Chinese characters: written without spaces between words.
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(f"[{UNSPACED}]|[^\\W_{UNSPACED}]+")
_CHARACTERS = 0x110000
_LAST_CAPITAL = 0x20000  # no script behind the first planes has capitals
_ALONE = 1 << 24
_AT_ONCE = 1 << 12

_BASIS, _PRIME, _MASK = 0xCBF29CE484222325, 0x100000001B3, 2**64 - 1
_words = compiled.Kernel(
    "groundup.corpus.dedup.kernels.words:words", "i64", "u8*", "i64", "u32*", "u64*", "u32*", "u32*"
)


def word_hashes(text: str) -> Hashes:
    """A 64-bit hash for every word of the text, in order."""
    return located_words(text)[0]


def located_words(text: str) -> tuple[Hashes, Places, Places]:
    """Hash, first character, and the character behind the last one of every word: three arrays of one length."""
    if not compiled.available():
        return located_words_plain(text)
    data = text.encode("utf-8", "surrogatepass")
    most = (len(data) + 1) // 2 + 1
    hashes = np.empty(most, dtype=np.uint64)
    starts, ends = np.empty(most, dtype=np.uint32), np.empty(most, dtype=np.uint32)
    count = _words(data, len(data), small_letters(), hashes, starts, ends)
    return hashes[:count].copy(), starts[:count].copy(), ends[:count].copy()


def located_words_plain(text: str) -> tuple[Hashes, Places, Places]:
    """The same, word by word: FNV-1a over the characters, then spread by ``mix``."""
    lowered = text.lower() if text.isascii() else text.translate(_single_letters())
    found = list(_WORD.finditer(lowered))
    remembered: dict[str, int] = {}
    values = [remembered.get(w) or remembered.setdefault(w, _fnv(w)) for w in (match[0] for match in found)]
    return (
        mix(np.array(values, dtype=np.uint64)),
        np.array([match.start() for match in found], dtype=np.uint32),
        np.array([match.end() for match in found], dtype=np.uint32),
    )


def _fnv(word: str) -> int:
    value = _BASIS
    for character in word:
        value = (value ^ ord(character)) * _PRIME & _MASK
    return value


@cache
def _single_letters() -> dict[int, str]:
    """Capital → small letter, one for one: so no word moves in the text when it is written small."""
    pairs = ((code, chr(code).lower()) for code in range(_LAST_CAPITAL))
    return {code: small for code, small in pairs if len(small) == 1 and ord(small) != code}


@cache
def small_letters() -> NDArray[np.uint32]:
    """What the kernel knows of every character: see there."""
    table = np.zeros(_CHARACTERS, dtype=np.uint32)
    for first in range(0, _CHARACTERS, _AT_ONCE):
        characters = "".join(map(chr, range(first, first + _AT_ONCE)))
        for match in re.finditer(f"[^\\W_]+|[{UNSPACED}]+", characters):
            start, end = match.span()
            table[first + start : first + end] = np.arange(first + start, first + end)
        for match in re.finditer(f"[{UNSPACED}]+", characters):
            table[first + match.start() : first + match.end()] |= _ALONE
    for code, small in _single_letters().items():
        if table[code]:
            table[code] = table[ord(small)]
    return table
