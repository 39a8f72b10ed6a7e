# mypy: ignore-errors
"""One text as code points → its words and its lines, each line with what the rules ask about it.

Of a word there is a hash and the place where the next one would begin if there were nothing between words. Of a line
there is one row of ``COLUMNS`` numbers. The bits of a class are those of ``characters``.
"""

import numpy as np
from numba import njit

LETTER, WORD, DIGIT, SPACE, ALONE, UPPER, TERMINAL, LINE_END = 1, 2, 4, 8, 16, 32, 64, 128
COLUMNS = 13
START, END, FIRST, LAST, HASH, SPACED, LONGEST, LETTERS, UPPERS, DIGITS, WORDS, SENTENCES, FLAGS = range(COLUMNS)
BULLET, ELLIPSIS, TERMINATED, CLOSED, CURLY, BRACKET = 1, 2, 4, 8, 16, 32
LINES, LINE_ENDS, END_CHARACTERS, WORDS_IN_ALL, PLAIN, PLAIN_CHARACTERS, ALPHABETIC = range(7)

NEW_LINE, RETURN, QUOTE, APOSTROPHE, DOT, COMMA = 0x0A, 0x0D, 0x22, 0x27, 0x2E, 0x2C
HYPHEN, BULLET_MARK, DOTS, TYPESET_APOSTROPHE = 0x2D, 0x2022, 0x2026, 0x2019
QUESTION, EXCLAMATION, OPEN_CURLY, OPEN_BRACKET = 0x3F, 0x21, 0x7B, 0x5B
CLOSE_ROUND, CLOSE_SQUARE, CLOSE_QUOTE, CLOSE_GUILLEMET = 0x29, 0x5D, 0x201D, 0xBB
CLOSE_ANGLE, CLOSE_DOUBLE_ANGLE, CLOSE_CORNER = 0x3009, 0x300B, 0x300D
CLOSE_WHITE_CORNER, CLOSE_LENS, CLOSE_WIDE_ROUND = 0x300F, 0x3011, 0xFF09
#: From here on a mark ends a sentence without white space behind it: that of Chinese and Japanese, full-width ones.
UNSPACED = 0x3000

FACTOR = np.uint64(0x9E3779B97F4A7C15)
MIX_1, MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
U1, U27, U30, U31 = np.uint64(1), np.uint64(27), np.uint64(30), np.uint64(31)


@njit(inline="always")
def step(value, code):
    """The hash of a run of characters, one character further."""
    return (value + np.uint64(code) + U1) * FACTOR


@njit(inline="always")
def mixed(value):
    """The finaliser of SplitMix64: every bit depends on every other."""
    value = (value ^ (value >> U30)) * MIX_1
    value = (value ^ (value >> U27)) * MIX_2
    return value ^ (value >> U31)


@njit
def hash_of(text, start, end):
    """The hash of ``text[start:end]``."""
    value = np.uint64(0)
    for place in range(start, end):
        value = step(value, text[place])
    return mixed(value)


@njit
def closes(code):
    """What may stand between the mark that ends a sentence and the space behind it."""
    if code >= UNSPACED:
        wide = (CLOSE_ANGLE, CLOSE_DOUBLE_ANGLE, CLOSE_CORNER, CLOSE_WHITE_CORNER, CLOSE_LENS, CLOSE_WIDE_ROUND)
        return code in wide
    return code in (QUOTE, APOSTROPHE, CLOSE_ROUND, CLOSE_SQUARE, CLOSE_QUOTE, TYPESET_APOSTROPHE, CLOSE_GUILLEMET)


@njit
def ends_with_dots(text, first, last):
    """Whether ``text[first:last]`` ends in three full stops."""
    return last - first >= 3 and text[last - 1] == DOT and text[last - 2] == DOT and text[last - 3] == DOT


@njit
def measure_line(text, start, size, classes, rows, base):
    """Fill the row of the line from ``start`` on, all but its words; returns where it ends."""
    first = last = -1
    spaced = longest = run = letters = uppers = digits = sentences = flags = 0
    ended = unspaced = opened = False
    value = np.uint64(0)
    place = start
    while place < size:
        code = text[place]
        kind = np.int64(classes[code])
        if kind & LINE_END:
            break
        value = step(value, code)
        letters += kind & LETTER
        uppers += (kind & UPPER) != 0
        digits += (kind & DIGIT) != 0
        if kind & SPACE:
            longest = max(longest, run)
            run = 0
            if ended:
                sentences += 1
                ended = opened = False
        else:
            if first < 0:
                first = place
            last = place + 1
            spaced += run == 0
            run += 1
            opened = True
            if kind & TERMINAL:
                unspaced = code >= UNSPACED or (ended and unspaced)
                ended = True
            elif ended and not closes(code):
                sentences += unspaced
                ended = False
            if code == OPEN_CURLY:
                flags |= CURLY
            elif code == OPEN_BRACKET:
                flags |= BRACKET
        place += 1
    if first < 0:
        first = last = place
    else:
        dots = ends_with_dots(text, first, last)
        final = text[last - 1]
        if text[first] == BULLET_MARK or text[first] == HYPHEN:
            flags |= BULLET
        if dots or final == DOTS:
            flags |= ELLIPSIS
        if classes[text[place - 1]] & TERMINAL:
            flags |= TERMINATED
        if not dots and final in (DOT, QUESTION, EXCLAMATION, QUOTE, APOSTROPHE):
            flags |= CLOSED
    rows[base + START] = start
    rows[base + END] = place
    rows[base + FIRST] = first
    rows[base + LAST] = last
    rows[base + HASH] = np.int64(mixed(value))
    rows[base + SPACED] = spaced
    rows[base + LONGEST] = max(longest, run)
    rows[base + LETTERS] = letters
    rows[base + UPPERS] = uppers
    rows[base + DIGITS] = digits
    rows[base + SENTENCES] = sentences + opened
    rows[base + FLAGS] = flags
    return place


@njit
def continues(text, place, end, kind, before, classes):
    """Whether a word goes on with the character at ``place``, of class ``kind``, behind one of class ``before``."""
    if kind & WORD:
        return (kind & ALONE) == 0
    if place + 1 == end:
        return False
    code, behind = text[place], classes[text[place + 1]]
    if code in (APOSTROPHE, TYPESET_APOSTROPHE):
        return (before & WORD) != 0 and (behind & WORD) != 0 and (behind & ALONE) == 0
    if code in (DOT, COMMA):
        return (before & DIGIT) != 0 and (behind & DIGIT) != 0 and (behind & ALONE) == 0
    return False


@njit
def split_words(text, first, last, classes, words, ends, most, totals):
    """Append the words of a line; returns whether there was room for them."""
    count = totals[WORDS_IN_ALL]
    place = first
    while place < last:
        code = text[place]
        kind = np.int64(classes[code])
        if kind & SPACE:
            place += 1
            continue
        if count == most:
            return False
        start = place
        value = step(np.uint64(0), code)
        letters = kind & LETTER
        place += 1
        if not kind & WORD:
            while place < last and text[place] == code:
                value = step(value, code)
                place += 1
        elif kind & ALONE:
            while place < last and classes[text[place]] & (WORD | LETTER | DIGIT) == WORD:  # its marks
                value = step(value, text[place])
                place += 1
        else:
            before = kind
            while place < last:
                inner = np.int64(classes[text[place]])
                if not continues(text, place, last, inner, before, classes):
                    break
                letters |= inner & LETTER
                value = step(value, text[place])
                before = inner
                place += 1
        words[count] = mixed(value)
        ends[count + 1] = ends[count] + place - start
        count += 1
        if kind & WORD:
            totals[PLAIN] += 1
            totals[PLAIN_CHARACTERS] += place - start
            totals[ALPHABETIC] += letters
    totals[WORDS_IN_ALL] = count
    return True


@njit
def scan(text, size, classes, words, ends, most_words, rows, most_lines, totals):
    """Fill ``words``, ``ends``, ``rows`` and ``totals``; returns 0, or 1 when words or lines found no room."""
    for number in range(ALPHABETIC + 1):
        totals[number] = 0
    ends[0] = 0
    place = 0
    while place < size:
        if totals[LINES] == most_lines:
            return 1
        base = totals[LINES] * COLUMNS
        place = measure_line(text, place, size, classes, rows, base)
        first, last = rows[base + FIRST], rows[base + LAST]
        plain = totals[PLAIN]
        if not split_words(text, first, last, classes, words, ends, most_words, totals):
            return 1
        rows[base + WORDS] = totals[PLAIN] - plain
        totals[LINES] += 1
        if place < size:
            end = 2 if text[place] == RETURN and place + 1 < size and text[place + 1] == NEW_LINE else 1
            totals[LINE_ENDS] += 1
            totals[END_CHARACTERS] += end
            place += end
    return 0
