# mypy: ignore-errors
"""UTF-8 → hashes of its words in small letters, and where they stand (``words.py`` has the plain version)."""

import numpy as np
from numba import njit

BASIS, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
M1, M2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
S30, S27, S31 = np.uint64(30), np.uint64(27), np.uint64(31)


@njit(forceinline=True)
def mix(key):
    """The finaliser of SplitMix64."""
    key = (key ^ (key >> S30)) * M1
    key = (key ^ (key >> S27)) * M2
    return key ^ (key >> S31)


@njit(forceinline=True)
def decode(text, place):
    """The character at ``place`` of valid UTF-8, and the place behind it."""
    first = np.int64(text[place])
    if first < 0x80:
        return first, place + 1
    if first < 0xE0:
        return (first & 0x1F) << 6 | (text[place + 1] & 0x3F), place + 2
    middle = (np.int64(text[place + 1]) & 0x3F) << 6
    if first < 0xF0:
        return (first & 0x0F) << 12 | middle | (text[place + 2] & 0x3F), place + 3
    last = (np.int64(text[place + 2]) & 0x3F) << 6 | (text[place + 3] & 0x3F)
    return (first & 0x07) << 18 | middle << 6 | last, place + 4


@njit
def words(text, size, small, hashes, starts, ends):
    """Write hash, first character and the one behind the last for every word; return how many.

    ``small`` has for every character 0 (not of a word), or the same character as a small letter plus ``1 << 24``
    where it is a word by itself.
    """
    count = 0
    place = 0
    character = 0
    value = BASIS
    begin = -1
    while place < size:
        code, place = decode(text, place)
        letter = small[code]
        if letter == 0 or letter >= 0x1000000:
            if begin >= 0:
                hashes[count], starts[count], ends[count] = mix(value), begin, character
                count += 1
                begin = -1
                value = BASIS
            if letter != 0:
                hashes[count] = mix((BASIS ^ np.uint64(letter & 0xFFFFFF)) * PRIME)
                starts[count], ends[count] = character, character + 1
                count += 1
        else:
            value = (value ^ np.uint64(letter)) * PRIME
            if begin < 0:
                begin = character
        character += 1
    if begin >= 0:
        hashes[count], starts[count], ends[count] = mix(value), begin, character
        count += 1
    return count
