# mypy: ignore-errors
"""Words → hashes of runs → bands of a MinHash signature, and a fingerprint (``minhash.py`` has all of it plain)."""

import numpy as np
from numba import njit

from groundup.corpus.dedup.kernels.words import mix, words

#: Shingles that pass through all permutations together: each permutation is loaded once for so many.
TOGETHER = 8
STEP = np.uint64(0x9E3779B97F4A7C15)
HIGH = np.uint64(32)
NOTHING = np.uint32(2**32 - 1)


@njit
def shingle(hashes, count, length, keys):
    """Write the 32-bit key of each run of ``length`` hashes; return how many."""
    runs = max(count - length + 1, 0)
    for run in range(runs):
        key = np.uint64(0)
        for place in range(length):
            key = key * STEP + hashes[run + place]
        keys[run] = mix(key) >> HIGH
    return runs


@njit
def sign(keys, count, factors, offsets, permutations, smallest):
    """Lower every ``smallest`` to the least ``factor * key + offset`` of all keys, modulo 2³²."""
    first = 0
    while first + TOGETHER <= count:
        k0, k1, k2, k3 = keys[first], keys[first + 1], keys[first + 2], keys[first + 3]
        k4, k5, k6, k7 = keys[first + 4], keys[first + 5], keys[first + 6], keys[first + 7]
        for p in range(permutations):
            a, b = factors[p], offsets[p]
            v0, v1, v2, v3 = np.uint32(a * k0 + b), np.uint32(a * k1 + b), np.uint32(a * k2 + b), np.uint32(a * k3 + b)
            v4, v5, v6, v7 = np.uint32(a * k4 + b), np.uint32(a * k5 + b), np.uint32(a * k6 + b), np.uint32(a * k7 + b)
            low, high = min(min(v0, v1), min(v2, v3)), min(min(v4, v5), min(v6, v7))
            smallest[p] = min(smallest[p], min(low, high))
        first += TOGETHER
    while first < count:
        key = keys[first]
        for p in range(permutations):
            smallest[p] = min(smallest[p], np.uint32(factors[p] * key + offsets[p]))
        first += 1
    return 0


@njit
def band(signature, bands, rows, keys):
    """Write one key for each band of ``rows`` places; equal bands of different numbers have different keys."""
    for number in range(bands):
        key = np.uint64(number + 1)
        for row in range(number * rows, (number + 1) * rows):
            key = key * STEP + np.uint64(signature[row])
        keys[number] = mix(key)
    return 0


@njit
def fingerprint(keys, count, lowest, places, marks):
    """Lower every ``lowest`` to the least key of its range, and mark it by a number from 1 to 255; 0 without a key."""
    width = np.uint32(2**32 // places)
    for number in range(count):
        place = keys[number] // width
        lowest[place] = min(lowest[place], keys[number])
    for place in range(places):
        marks[place] = 0 if lowest[place] == NOTHING else lowest[place] % np.uint32(255) + 1


@njit
def text_sketch(
    text,
    size,
    small,
    hashes,
    scratch,
    length,
    least,
    factors,
    offsets,
    bands,
    rows,
    smallest,
    keys,
    lowest,
    places,
    marks,
):
    """Write the keys of a text's bands and its fingerprint; return how many shingles it has, 0 with too few words.

    ``smallest`` and ``lowest`` are filled with the largest number before.
    """
    count = words(text, size, small, hashes, scratch, scratch)  # where the words stand is of no use here
    if count < least:
        return 0
    runs = shingle(hashes, count, length, scratch)
    sign(scratch, runs, factors, offsets, bands * rows, smallest)
    band(smallest, bands, rows, keys)
    fingerprint(scratch, runs, lowest, places, marks)
    return runs
