"""A text → one 64-bit hash for each of its words, with NumPy alone.

A word is a run of letters, marks and digits, or a run of other signs; blanks part words and are none. A character of a
script without blanks between words (Chinese, Japanese, Thai …) is a word. Case does not matter, and every digit counts
as 0, so that numbers of one length are one word.
"""

import unicodedata
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Hashes: TypeAlias = NDArray[np.uint64]

BLANK, SIGN, LETTER, ALONE = range(4)
_CHARACTERS = 0x110000
#: Scripts that write words without blanks between them; all the characters of a range are words.
_UNSPACED = ((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x3400, 0x9FFF), (0xF900, 0xFAFF),
             (0x20000, 0x3FFFF))  # fmt: skip
#: An odd multiplier, whose powers number the places in a word, and its inverse modulo 2^64.
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 1 << 64)
#: So many characters are hashed at once; only then may a word be cut in two.
BLOCK = 1 << 20


def word_hashes(text: str) -> Hashes:
    """The hash of each word of ``text``, in order: shape [words]."""
    folded = text.lower()
    blocks = [_hashes_of(folded[start : start + BLOCK]) for start in range(0, len(folded), BLOCK)]
    return np.concatenate(blocks) if blocks else np.zeros(0, np.uint64)


def ngram_hashes(words: Hashes, length: int) -> Hashes:
    """The hash of each run of ``length`` words: shape [words - length + 1]; that of one word is the word's own."""
    count = max(0, words.size - length + 1)
    hashes = words[:count].copy()
    for place in range(1, length):
        hashes = mixed(hashes * np.uint64(_BASE) + words[place : place + count])
    return hashes


def mixed(values: Hashes) -> Hashes:
    """Every bit of the result depends on every bit of the value: the finaliser of SplitMix64 (Steele et al. 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _hashes_of(text: str) -> Hashes:
    """A word's hash is the sum of its characters' codes times powers of an odd number, mixed.

    Sums over the words are differences of running sums. The power at a word's first character is divided out, for
    odd numbers have inverses modulo 2^64.
    """
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = _kinds()[codes]
    changes = np.flatnonzero((kinds[1:] != kinds[:-1]) | (kinds[1:] == ALONE)) + 1
    begins, ends = np.concatenate([[0], changes]), np.concatenate([changes, [kinds.size]])
    words = kinds[begins] != BLANK
    begins, ends = begins[words], ends[words]
    values = codes.astype(np.uint64)
    values[(codes >= ord("0")) & (codes <= ord("9"))] = ord("0")
    powers, inverses = _powers()
    sums = np.zeros(codes.size + 1, np.uint64)
    np.cumsum((values + np.uint64(1)) * powers[: codes.size], out=sums[1:])
    return mixed((sums[ends] - sums[begins]) * inverses[begins])


@cache
def _powers() -> tuple[Hashes, Hashes]:
    """The powers of the multiplier and of its inverse: shape [BLOCK] each."""
    repeated = (np.full(BLOCK, base, np.uint64) for base in (_BASE, _INVERSE))
    powers, inverses = (np.concatenate([np.ones(1, np.uint64), np.cumprod(each[1:])]) for each in repeated)
    return powers, inverses


@cache
def _kinds() -> NDArray[np.uint8]:
    """What each character is: shape [0x110000]."""
    kinds = np.full(_CHARACTERS, SIGN, np.uint8)
    for code in range(0x20000):
        category = unicodedata.category(chr(code))
        if category[0] in "LMN":
            kinds[code] = LETTER
        elif category[0] == "Z" or chr(code).isspace():
            kinds[code] = BLANK
    for first, last in _UNSPACED:
        kinds[first : last + 1] = ALONE
    return kinds
