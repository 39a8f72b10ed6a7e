"""UTF-8 → ends of pieces: the known patterns of ``pretokenize`` as a scanner.

A byte that is not part of valid UTF-8 counts as a sign, one byte wide. Tables and bits are those of ``unicode``.
"""

import numpy as np
from numba import njit

from groundup.tokenizer.kernels.memory import load64, trailing_zeros

LETTER, NUMBER, SPACE, LINE_END, UPPER, LOWER = 1, 2, 4, 8, 16, 32
WORDLIKE = LETTER | NUMBER | SPACE
GPT2, CL100K, O200K = 0, 1, 2
TAIL_WHOLE, SINGLE = 1, 2
APOSTROPHE, BLANK, SLASH = 0x27, 0x20, 0x2F

# Constants for eight bytes at once; the high bit of a byte is its answer.
HIGH = np.uint64(0x8080808080808080)
LOW = np.uint64(0x7F7F7F7F7F7F7F7F)
SMALL = np.uint64(0x2020202020202020)
FROM_A = np.uint64(0x1F1F1F1F1F1F1F1F)  # added to a byte, reaches the high bit from "a" on
AFTER_Z = np.uint64(0x0505050505050505)  # … from behind "z" on


@njit(forceinline=True)
def look(text, place, end, classes):
    """Class and width of the character at ``place``: ``class | width << 8``."""
    first = text[place]
    if first < 0x80:
        return np.int64(classes[first]) | 0x100
    return look_beyond_ascii(text, place, end, classes)


@njit
def look_beyond_ascii(text, place, end, classes):
    """The same for a byte that is not ASCII; a byte that is not part of valid UTF-8 has no class."""
    first = np.int64(text[place])
    if first < 0xC2 or first > 0xF4 or place + 1 >= end:
        return 0x100
    second = np.int64(text[place + 1])
    if second & 0xC0 != 0x80:
        return 0x100
    if first < 0xE0:
        return np.int64(classes[(first & 0x1F) << 6 | (second & 0x3F)]) | 0x200
    if place + 2 >= end:
        return 0x100
    third = np.int64(text[place + 2])
    if third & 0xC0 != 0x80:
        return 0x100
    if first < 0xF0:
        code = (first & 0x0F) << 12 | (second & 0x3F) << 6 | (third & 0x3F)
        if code < 0x800 or 0xD800 <= code < 0xE000:
            return 0x100
        return np.int64(classes[code]) | 0x300
    if place + 3 >= end:
        return 0x100
    fourth = np.int64(text[place + 3])
    if fourth & 0xC0 != 0x80:
        return 0x100
    code = (first & 0x07) << 18 | (second & 0x3F) << 12 | (third & 0x3F) << 6 | (fourth & 0x3F)
    if code < 0x10000 or code > 0x10FFFF:
        return 0x100
    return np.int64(classes[code]) | 0x400


@njit(forceinline=True)
def leading_letters(word):
    """How many of the eight bytes, from the lowest on, are ASCII letters before one that is not."""
    small = (word | SMALL) & LOW
    letters = (small + FROM_A) & ~(small + AFTER_Z) & ~word & HIGH
    return trailing_zeros(letters ^ HIGH) >> 3


@njit(forceinline=True)
def letters_end(text, place, end, classes):
    """Where the run of letters ends. Reads up to eight bytes behind ``end``."""
    while True:
        count = leading_letters(load64(text, place))
        place += count
        if place >= end:
            return end
        if count == 8:
            continue
        if text[place] < 0x80:
            return place
        seen = look(text, place, end, classes)
        if not seen & LETTER:
            return place
        place += seen >> 8


@njit(forceinline=True)
def run_of(text, place, end, classes, wanted):
    """Where the run of characters with one of the bits ``wanted`` ends."""
    while place < end:
        first = text[place]
        if first < 0x80:
            if not classes[first] & wanted:
                break
            place += 1
        else:
            seen = look(text, place, end, classes)
            if not seen & wanted:
                break
            place += seen >> 8
    return place


@njit(forceinline=True)
def run_without(text, place, end, classes, unwanted):
    """Where the run of characters with none of the bits ``unwanted`` ends."""
    while place < end:
        first = text[place]
        if first < 0x80:
            if classes[first] & unwanted:
                break
            place += 1
        else:
            seen = look(text, place, end, classes)
            if seen & unwanted:
                break
            place += seen >> 8
    return place


@njit
def is_small(byte, letter, kind):
    return byte == letter or (kind > 0 and byte == letter - 32)


@njit
def contraction(text, place, end, kind):
    """Where ``'s 't 're 've 'm 'll 'd`` at ``place``, an apostrophe, ends; ``place`` itself if there is none."""
    if place + 1 >= end:
        return place
    one = text[place + 1]
    if kind > 0:
        if 0x41 <= one <= 0x5A:
            one |= 0x20
        elif kind == 2 and one == 0xC5 and place + 2 < end and text[place + 2] == 0xBF:  # ſ
            return place + 3
    if one == 0x73 or one == 0x74 or one == 0x6D or one == 0x64:  # s t m d
        return place + 2
    if place + 2 < end:
        two = text[place + 2]
        if kind > 0 and 0x41 <= two <= 0x5A:
            two |= 0x20
        if (one == 0x6C and two == 0x6C) or ((one == 0x76 or one == 0x72) and two == 0x65):  # ll ve re
            return place + 3
    return place


@njit
def digits_end(text, place, end, classes, most):
    """Where at most ``most`` digits end; 0: any number."""
    if most == 0:
        return run_of(text, place, end, classes, NUMBER)
    for _ in range(most):
        if place >= end:
            break
        seen = look(text, place, end, classes)
        if not seen & NUMBER:
            break
        place += seen >> 8
    return place


@njit
def space_end(text, start, end, classes, shape, whitespace):
    """Where the piece that begins with white space at ``start`` ends, when no word or sign takes it."""
    seen = look(text, start, end, classes)
    place = start + (seen >> 8)
    if whitespace == SINGLE:
        return place
    after_line = place if seen & LINE_END else start  # behind the last line end
    last = start  # the last white space
    while place < end:
        seen = look(text, place, end, classes)
        if not seen & SPACE:
            break
        last = place
        place += seen >> 8
        if seen & LINE_END:
            after_line = place
    if whitespace == TAIL_WHOLE and place == end:
        return place
    if shape != GPT2 and after_line > start:
        return after_line
    if place == end or last == start:
        return place
    return last


@njit
def cased_word(text, start, place, end, classes):
    """o200k's words, of which letters begin at ``place``: where the word ends, or ``start`` if there is none."""
    # Capital* small+, else capital+ small*; letters without case and marks are both.
    both_end = -1  # behind the last character that is both
    middle = place
    while middle < end:
        seen = look(text, middle, end, classes)
        if not seen & UPPER:
            break
        middle += seen >> 8
        if seen & LOWER:
            both_end = middle
    stop = run_of(text, middle, end, classes, LOWER)
    if stop > middle:
        return stop
    if both_end > 0:
        return both_end
    return middle if middle > place else start


@njit
def o200k_word(text, start, end, classes, seen, contractions):
    """The piece of a word at ``start``; ``start`` itself if there is none."""
    width = seen >> 8
    stop = start
    if not seen & (LETTER | NUMBER | LINE_END):
        if start + width < end:
            # The first alternative is tried with and without the leading sign before the second one is.
            stop = cased_word(text, start, start + width, end, classes)
            if stop > start and not seen & UPPER:
                pass
            elif seen & UPPER and not small_after(text, start + width, end, classes):
                stop = start + width  # a mark alone: it is capital and small at once
        elif seen & UPPER:
            stop = start + width
    elif seen & LETTER:
        stop = cased_word(text, start, start, end, classes)
    if stop > start and stop < end and text[stop] == APOSTROPHE:
        stop = contraction(text, stop, end, contractions)
    return stop


@njit
def small_after(text, place, end, classes):
    """Whether capital* small+ matches at ``place``."""
    while place < end:
        seen = look(text, place, end, classes)
        if seen & LOWER:
            return True
        if not seen & UPPER:
            return False
        place += seen >> 8
    return False


@njit
def scan(text, start, end, classes, shape, digits, contractions, whitespace, ends, most):
    """Write the ends of the next pieces of ``text[start:end]`` to ``ends``, at most ``most``; return how many.

    ``end`` is the end of the text: what follows decides about white space before it.
    """
    place = start
    count = 0
    while place < end and count < most:
        seen = look(text, place, end, classes)
        stop = place
        if shape == CL100K:
            if seen & LETTER:
                stop = letters_end(text, place, end, classes)
            elif not seen & (NUMBER | LINE_END):
                if text[place] == APOSTROPHE:
                    stop = contraction(text, place, end, contractions)
                if stop == place:
                    after = place + (seen >> 8)
                    stop = letters_end(text, after, end, classes)
                    if stop == after:
                        stop = place
        elif shape == O200K:
            if seen & LETTER or not seen & (NUMBER | LINE_END):
                stop = o200k_word(text, place, end, classes, seen, contractions)
        else:
            if seen & LETTER:
                stop = letters_end(text, place, end, classes)
            elif text[place] == APOSTROPHE:
                stop = contraction(text, place, end, 0)
            elif text[place] == BLANK and place + 1 < end:
                following = look(text, place + 1, end, classes)
                if following & LETTER:
                    stop = letters_end(text, place + 1, end, classes)
                elif following & NUMBER and digits == 0:
                    stop = run_of(text, place + 1, end, classes, NUMBER)
        if stop == place:
            if seen & NUMBER:
                stop = digits_end(text, place, end, classes, digits)
            else:
                after = place + 1 if text[place] == BLANK else place
                stop = run_without(text, after, end, classes, WORDLIKE)
                if stop > after:
                    if shape == CL100K:
                        stop = run_of(text, stop, end, classes, LINE_END)
                    elif shape == O200K:
                        while stop < end and (text[stop] == SLASH or classes[text[stop]] & LINE_END):
                            stop += 1
                else:
                    stop = space_end(text, place, end, classes, shape, whitespace)
        ends[count] = stop
        count += 1
        place = stop
    return count
