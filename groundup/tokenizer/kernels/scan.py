"""UTF-8 → ends of pieces: the known patterns of ``pretokenize`` as a scanner.

A byte that is not part of valid UTF-8 counts as a sign, one byte wide. Tables and bits are those of ``unicode``.
"""

import numpy as np
from numba import njit

from groundup.tokenizer.kernels.memory import bytes_between, leading_zeros, load64, trailing_zeros

LETTER, NUMBER, SPACE, LINE_END, UPPER, LOWER = 1, 2, 4, 8, 16, 32
WORDLIKE = LETTER | NUMBER | SPACE
GPT2, CL100K, O200K = 0, 1, 2
TAIL_WHOLE, SINGLE = 1, 2
NO_CONTRACTIONS = 3
APOSTROPHE, BLANK, SLASH = 0x27, 0x20, 0x2F

EDGE = np.uint64(1 << 63)
ZERO, ONE, ALL = np.uint64(0), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)
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


@njit(forceinline=True)
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
        while True:  # letters beyond ASCII come in runs, too
            seen = look_beyond_ascii(text, place, end, classes)
            if not seen & LETTER:
                return place
            place += seen >> 8
            if place >= end:
                return end
            if text[place] < 0x80:
                break


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
def contraction(text, place, end, kind):
    """Where ``'s 't 're 've 'm 'll 'd`` at ``place``, an apostrophe, ends; ``place`` itself if there is none."""
    if place + 1 >= end or kind == NO_CONTRACTIONS:
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
def piece_end(text, place, end, classes, shape, digits, contractions, whitespace):
    """Where the piece that begins at ``place`` ends, character by character."""
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
    if stop > place:
        return stop
    if seen & NUMBER:
        return digits_end(text, place, end, classes, digits)
    after = place + 1 if text[place] == BLANK else place
    stop = run_without(text, after, end, classes, WORDLIKE)
    if stop == after:
        return space_end(text, place, end, classes, shape, whitespace)
    if shape == CL100K:
        return run_of(text, stop, end, classes, LINE_END)
    if shape == O200K:
        while stop < end and (text[stop] == SLASH or classes[text[stop]] & LINE_END):
            stop += 1
    return stop


@njit(forceinline=True)
def after(bits):
    """The places behind those of ``bits``."""
    return bits << ONE


@njit(forceinline=True)
def runs_from(firsts, bits):
    """The runs of ``bits`` that begin at ``firsts``: adding a run's first bit carries through all of it."""
    return bits & ~(bits + firsts)


@njit(forceinline=True)
def up_to(place):
    """Bits 0 … ``place``; ``place`` is below 64."""
    return ALL >> np.uint64(63 - place)


@njit(forceinline=True)
def scan_as(shape, text, start, end, classes, digits, contractions, whitespace, ends, most):
    """Write the ends of the next pieces of ``text[start:end]`` to ``ends``, at most ``most`` (64 or more); return how
    many.

    ``end`` is the end of the text: what follows decides about white space before it. Up to 72 bytes behind it are
    read, and may be anything.

    ASCII is seen 64 bytes at a time, as one word of bits for each class, and the pattern becomes a formula for the
    bits at which pieces begin: all pieces in the window are found at once, without a branch that the processor
    could only guess. Every window begins where a piece does. It ends before what no formula knows (a character
    beyond ASCII, an apostrophe that may be a contraction, a blank line with space in it), and ``piece_end`` reads the
    next piece character by character.
    """
    plain = whitespace == SINGLE or (shape == GPT2) != (digits == 0)
    place = start
    count = 0
    careful = plain
    while place < end and count + 64 <= most:
        if careful or text[place] >= 0x80 or text[place + 1] >= 0x80:
            place = piece_end(text, place, end, classes, shape, digits, contractions, whitespace)
            ends[count] = place
            count += 1
            careful = plain
            continue
        blanks = bytes_between(text, place, BLANK, 1)
        capitals, smalls = bytes_between(text, place, 0x41, 26), bytes_between(text, place, 0x61, 26)
        numbers = bytes_between(text, place, 0x30, 10)
        lines = bytes_between(text, place, 0x0A, 1) | bytes_between(text, place, 0x0D, 1)
        spaces = bytes_between(text, place, 0x09, 5) | blanks
        quotes = bytes_between(text, place, APOSTROPHE, 1)
        beyond = bytes_between(text, place, 0x80, 128)
        if end - place < 64:
            beyond |= ALL << np.uint64(end - place)
        letters = capitals | smalls
        signs = ~(letters | numbers | spaces | beyond)

        # Signs take the space before them and, but for gpt2, the line ends behind them.
        if shape == O200K:
            firsts = after(signs) & lines  # of several in one run, all but the lowest stand in the sum's way
            taken = runs_from(firsts, lines | bytes_between(text, place, SLASH, 1)) | firsts
            signs &= ~taken
        elif shape == CL100K:
            taken = runs_from(after(signs) & lines, lines)
        else:
            taken = ZERO
        sign_starts = signs & ~after(signs | blanks)

        # A word takes one space or sign before it; the sign only when it begins a piece.
        word_starts = letters & ~after(letters)
        if shape == GPT2:
            word_starts &= ~after(blanks)
        else:
            word_starts &= ~after((spaces & ~lines) | sign_starts)
        if shape == O200K:
            word_starts |= capitals & after(smalls)

        # Numbers, three digits at a time or as the pattern says.
        number_starts = numbers & ~after(numbers)
        if shape == GPT2:
            number_starts &= ~after(blanks)
        else:
            inside = numbers
            for _ in range(digits):
                inside = numbers & after(inside)  # as many digits before this one
            more = number_starts
            while True:
                more = (more << np.uint64(digits)) & inside
                if more == ZERO:
                    break
                number_starts |= more

        # White space: up to the last line end; then all but the last; the last one may lead what follows.
        spaces &= ~taken
        run_starts = spaces & ~after(spaces)
        last = spaces & ~(spaces >> ONE)
        doubt = beyond
        if shape == GPT2:
            space_starts = run_starts | last
        else:
            lines &= ~taken
            inner = spaces & ~lines
            behind_line = inner & after(lines)
            space_starts = run_starts | (last & ~lines) | behind_line
            between = (inner + behind_line) & lines  # a line end after space after a line end
            doubt |= between

        starts = sign_starts | word_starts | number_starts | space_starts
        # What may be a contraction is for the careful reader.
        if shape == O200K:
            doubt |= quotes & after(letters) & ((letters | beyond) >> ONE | EDGE)
        else:
            doubt |= after(quotes & sign_starts) & letters
        # The pieces before the first doubt are sure, but for white space that reaches it.
        if doubt != ZERO:
            stop = trailing_zeros(doubt)
            careful = True
        else:
            stop = np.int64(64)
        sure = up_to(stop - 1)
        if (spaces >> np.uint64(stop - 1)) & ONE != ZERO:
            sure = up_to(63 - leading_zeros(run_starts & sure))
        starts &= sure & ~ONE
        if starts == ZERO:
            careful = True
        base = place
        while starts != ZERO:
            place = base + trailing_zeros(starts)
            ends[count] = place
            count += 1
            starts &= starts - ONE
    return count


@njit
def scan_gpt2(text, start, end, classes, digits, contractions, whitespace, ends, most):
    return scan_as(GPT2, text, start, end, classes, digits, contractions, whitespace, ends, most)


@njit
def scan_cl100k(text, start, end, classes, digits, contractions, whitespace, ends, most):
    return scan_as(CL100K, text, start, end, classes, digits, contractions, whitespace, ends, most)


@njit
def scan_o200k(text, start, end, classes, digits, contractions, whitespace, ends, most):
    return scan_as(O200K, text, start, end, classes, digits, contractions, whitespace, ends, most)
