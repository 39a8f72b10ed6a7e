# mypy: ignore-errors
"""Hashes of words → how much of the text says again what it said before; and the table in which that is looked up.

An n-gram can occur twice only if the shorter one at its beginning does. So every length looks only at the places
that the length before left, which in ordinary text are few after three words.

A table is two arrays: a key, and how often it occurs (0: the place is free).
"""

import numpy as np
from numba import njit

FACTOR = np.uint64(0xD6E8FEB86659FD93)
SHIFT = np.uint64(32)
SHORTEST, LONGEST_TOP, LONGEST = 2, 4, 10
SEEN = -1


@njit(inline="always")
def find(key, keys, counts, mask):
    """The place of ``key`` in the table, or where it would be."""
    slot = np.int64((key ^ (key >> SHIFT)) & np.uint64(mask))
    while counts[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit
def cleared(places, counts):
    """Make room for so many keys; returns the mask of the table."""
    slots = 16
    while slots < 2 * places:
        slots *= 2
    for slot in range(slots):
        counts[slot] = 0
    return slots - 1


@njit
def lengthened(words, number, n, grams, places, found):
    """Every n-gram from the (n-1)-gram at its beginning; returns how many are left, for the last ones find no word."""
    kept = 0
    for i in range(found):
        place = places[i]
        if place + n <= number:
            grams[kept] = grams[i] * FACTOR + words[place + n - 1]
            places[kept] = place
            kept += 1
    return kept


@njit
def counted(grams, places, found, keys, counts, mask):
    """Count the n-grams and keep those that occur twice; returns how many places that leaves."""
    for i in range(found):
        slot = find(grams[i], keys, counts, mask)
        keys[slot] = grams[i]
        counts[slot] += 1
    kept = 0
    for i in range(found):
        if counts[find(grams[i], keys, counts, mask)] > 1:
            grams[kept] = grams[i]
            places[kept] = places[i]
            kept += 1
    return kept


@njit
def top(ends, number, n, grams, places, found, keys, counts, mask):
    """Characters of the commonest n-gram, the spaces in it included, times its occurrences; the first one of equals."""
    if number < n:
        return 0
    best, most = 0, 1
    for i in range(found):
        count = counts[find(grams[i], keys, counts, mask)]
        if count > most:
            best, most = places[i], count
    return (ends[best + n] - ends[best] + n - 1) * most


@njit
def repeated(ends, n, grams, places, found, keys, counts, mask):
    """Characters of the n-grams that occurred before, none counted twice: the search goes on behind each."""
    characters = free = 0
    for i in range(found):
        place = places[i]
        if place < free:
            continue
        slot = find(grams[i], keys, counts, mask)
        if counts[slot] == SEEN:
            characters += ends[place + n] - ends[place]
            free = place + n
        else:
            counts[slot] = SEEN
    return characters


@njit
def ngrams(words, ends, number, grams, places, keys, counts, results):
    """``results``: of the commonest 2-, 3- and 4-gram, then of the repeated 5- to 10-grams, the characters."""
    for i in range(number):
        grams[i] = words[i]
        places[i] = i
    found = number
    for n in range(SHORTEST, LONGEST + 1):
        found = lengthened(words, number, n, grams, places, found)
        mask = cleared(found, counts)
        found = counted(grams, places, found, keys, counts, mask)
        if n <= LONGEST_TOP:
            results[n - SHORTEST] = top(ends, number, n, grams, places, found, keys, counts, mask)
        else:
            results[n - SHORTEST] = repeated(ends, n, grams, places, found, keys, counts, mask)
    return 0
