# mypy: ignore-errors
"""One text → all that ``analysis.Analysis`` holds but n-grams: its words and lines, then what the lines add up to."""

import numpy as np
from numba import njit

from groundup.corpus.quality.kernels.repetition import cleared, find
from groundup.corpus.quality.kernels.scan import (
    BULLET,
    COLUMNS,
    ELLIPSIS,
    END,
    FIRST,
    FLAGS,
    HASH,
    LAST,
    LINES,
    START,
    TERMINATED,
    hash_of,
    mixed,
    scan,
)

BULLET_LINES, ELLIPSIS_LINES, TERMINATED_LINES, FILLED_LINES, NOT_EMPTY = range(7, 12)
REPEATED_LINES, REPEATED_LINE_CHARACTERS, REPEATED_TEXT_CHARACTERS = range(12, 15)
PARAGRAPHS, REPEATED_PARAGRAPHS, REPEATED_PARAGRAPH_CHARACTERS = range(15, 18)


@njit
def again(key, keys, counts, mask):
    """Whether the key is in the table; it is afterwards."""
    slot = find(key, keys, counts, mask)
    if counts[slot]:
        return True
    keys[slot] = key
    counts[slot] = 1
    return False


@njit
def sum_lines(rows, keys, counts, totals):
    """Count the lines of each kind, and those that occurred before."""
    mask = cleared(totals[LINES], counts)
    for line in range(totals[LINES]):
        base = line * COLUMNS
        size = rows[base + END] - rows[base + START]
        if size == 0:
            continue
        flags, filled = rows[base + FLAGS], rows[base + LAST] > rows[base + FIRST]
        totals[NOT_EMPTY] += 1
        totals[FILLED_LINES] += filled
        totals[BULLET_LINES] += (flags & BULLET) != 0
        totals[ELLIPSIS_LINES] += (flags & ELLIPSIS) != 0
        totals[TERMINATED_LINES] += (flags & TERMINATED) != 0
        if again(np.uint64(rows[base + HASH]), keys, counts, mask):
            totals[REPEATED_LINES] += 1
            totals[REPEATED_LINE_CHARACTERS] += size
            totals[REPEATED_TEXT_CHARACTERS] += size if filled else 0


@njit
def sum_paragraphs(text, rows, keys, counts, totals):
    """Count the paragraphs of the text without white space at its ends, and those that occurred before."""
    first, last = 0, totals[LINES] - 1
    while first <= last and rows[first * COLUMNS + FIRST] == rows[first * COLUMNS + LAST]:
        first += 1
    while last > first and rows[last * COLUMNS + FIRST] == rows[last * COLUMNS + LAST]:
        last -= 1
    mask = cleared(last + 1 - first, counts)
    value, characters = np.uint64(0), 0
    for line in range(first, last + 1):
        base = line * COLUMNS
        start = rows[base + (FIRST if line == first else START)]
        end = rows[base + (LAST if line == last else END)]
        if end > start:
            whole = start == rows[base + START] and end == rows[base + END]
            value = mixed(value + (np.uint64(rows[base + HASH]) if whole else hash_of(text, start, end)))
            characters += end - start + (characters > 0)  # with the line ends between
        if characters > 0 and (end == start or line == last):
            totals[PARAGRAPHS] += 1
            if again(value, keys, counts, mask):
                totals[REPEATED_PARAGRAPHS] += 1
                totals[REPEATED_PARAGRAPH_CHARACTERS] += characters
            value, characters = np.uint64(0), 0


@njit
def measure(text, size, classes, words, ends, most_words, rows, most_lines, keys, counts, totals):
    """Fill the arrays; returns 0, or 1 when words or lines found no room.

    ``keys`` and ``counts`` have at least twice as many places as there are lines, and a power of two.
    """
    if scan(text, size, classes, words, ends, most_words, rows, most_lines, totals):
        return 1
    for number in range(BULLET_LINES, REPEATED_PARAGRAPH_CHARACTERS + 1):
        totals[number] = 0
    sum_lines(rows, keys, counts, totals)
    sum_paragraphs(text, rows, keys, counts, totals)
    return 0
