"""UTF-8 → distinct pieces and how often each occurs: scan, and look every piece up in a hash table.

The table is two arrays, which the caller enlarges when a kernel asks for room (``counting.py``). A place of ``slots``
is three words; it is free while the second one is zero:

    word 0, 1   a piece of up to 15 bytes as it is, its length in the highest byte;
                of a longer one its hash, and where it lies in ``keys`` behind the bit ``LONG``
    word 2      how often it occurred

In ``keys`` a long piece is a word with its length, then its bytes up to a whole word.
"""

import numpy as np
from numba import njit

from groundup.tokenizer.kernels.memory import load64, prefetch
from groundup.tokenizer.kernels.scan import CL100K, GPT2, O200K, scan_as

WORDS = 3
SHORT = 15
#: Pieces that are looked up together: their places are on the way from memory while others are hashed.
BATCH = 256  # at least 64, which ``scan`` finds at once, and better many more

# Whether a kernel stopped for want of room.
DONE, FULL = 0, 1
# Counters in ``state``.
PIECES, BYTES, KEY_WORDS, MOST_PIECES, MOST_KEY_WORDS, DOCUMENT, PLACE, WANTED = range(8)

U0, U32, U56 = np.uint64(0), np.uint64(32), np.uint64(56)
ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
LONG = np.uint64(0x8000000000000000)
PRIME_1 = np.uint64(0x9E3779B97F4A7C15)
PRIME_2 = np.uint64(0xD6E8FEB86659FD93)


@njit
def mixed(low, high):
    """A hash of two words."""
    word = (low ^ (high * PRIME_1)) * PRIME_2
    return word ^ (word >> U32)


@njit
def word_of(text, start, size, offset):
    """Eight bytes of a piece from ``offset`` on, zero behind its end."""
    word = load64(text, start + offset)
    left = size - offset
    return word if left >= 8 else word & (ONES >> np.uint64(64 - 8 * left))


@njit
def key_of(text, start, size):
    """Words 0 and 1 of a piece; word 1 of a long one is not known yet, and ``LONG``."""
    if size <= SHORT:  # without branches, which would be guessed wrong too often
        low = load64(text, start) & (ONES >> np.uint64(64 - 8 * min(size, 8)))
        high = load64(text, start + 8) & ~(ONES << np.uint64(8 * max(size - 8, 0)))
        return low, high | np.uint64(size) << U56
    low = np.uint64(size)
    for offset in range(0, size, 8):
        low = mixed(low, word_of(text, start, size, offset))
    return low, LONG


@njit
def same(text, start, size, keys, kept):
    """Whether the piece is the one that lies in ``keys`` from word ``kept`` on."""
    if keys[kept] != np.uint64(size):
        return False
    for offset in range(0, size, 8):
        kept += 1
        if keys[kept] != word_of(text, start, size, offset):
            return False
    return True


@njit
def keep(text, start, size, keys, state):
    """Copy a long piece into ``keys``; returns its word 1."""
    kept = state[KEY_WORDS]
    keys[kept] = np.uint64(size)
    place = kept
    for offset in range(0, size, 8):
        place += 1
        keys[place] = word_of(text, start, size, offset)
    state[KEY_WORDS] = place + 1
    return LONG | np.uint64(kept)


@njit
def first_slot(low, high, mask):
    """Where a piece belongs."""
    return np.int64(mixed(low, high) & np.uint64(mask))


@njit
def add(text, start, size, low, high, slot, weight, slots, mask, keys, state):
    """Count a piece, whose key is known, ``weight`` times more."""
    while True:
        base = slot * WORDS
        found = slots[base + 1]
        if found == U0:
            slots[base] = low
            slots[base + 1] = keep(text, start, size, keys, state) if high == LONG else high
            slots[base + 2] = np.uint64(weight)
            state[PIECES] += 1
            state[BYTES] += size
            return
        if slots[base] == low and (
            found == high or (high == LONG and found >= LONG and same(text, start, size, keys, np.int64(found ^ LONG)))
        ):
            slots[base + 2] += np.uint64(weight)
            return
        slot = (slot + 1) & mask


@njit
def has_room(pieces, size, state):
    """Whether so many more pieces of ``size`` bytes together fit; leaves in ``state`` how many words they may need."""
    state[WANTED] = pieces + size // 8 + pieces
    return state[PIECES] + pieces <= state[MOST_PIECES] and state[KEY_WORDS] + state[WANTED] <= state[MOST_KEY_WORDS]


def counter_of(shape):
    """The kernel for one shape of pattern, which the compiler then knows."""

    @njit
    def count(
        text, bounds, documents, classes, digits, contractions, whitespace,
        ends, lows, highs, slots, mask, keys, state,
    ):  # fmt: skip
        """Count the pieces of documents, of which ``i`` is ``text[bounds[i]:bounds[i + 1]]``.

        Returns whether the table needs room; the next call goes on where this one stopped. ``ends``, ``lows`` and
        ``highs`` have room for ``BATCH``. Bytes behind the text are read, by ``scan`` the most.
        """
        while state[DOCUMENT] < documents:
            end = bounds[state[DOCUMENT] + 1]
            place = max(state[PLACE], bounds[state[DOCUMENT]])
            while place < end:
                found = scan_as(shape, text, place, end, classes, digits, contractions, whitespace, ends, BATCH)
                if not has_room(found, ends[found - 1] - place, state):
                    state[PLACE] = place
                    return FULL
                start = place
                for i in range(found):
                    low, high = key_of(text, start, ends[i] - start)
                    prefetch(slots, first_slot(low, high, mask) * WORDS)
                    lows[i] = low
                    highs[i] = high
                    start = ends[i]
                for i in range(found):
                    low, high = lows[i], highs[i]
                    add(
                        text,
                        place,
                        ends[i] - place,
                        low,
                        high,
                        first_slot(low, high, mask),
                        1,
                        slots,
                        mask,
                        keys,
                        state,
                    )
                    place = ends[i]
            state[DOCUMENT] += 1
        return DONE

    return count


count_gpt2, count_cl100k, count_o200k = (counter_of(shape) for shape in (GPT2, CL100K, O200K))


@njit
def add_pieces(text, bounds, counts, first, pieces, slots, mask, keys, state):
    """Count piece ``i``, which is ``text[bounds[i]:bounds[i + 1]]``, ``counts[i]`` times, from ``first`` on.

    Returns the number of the first piece for which there is no room.
    """
    for i in range(first, pieces):
        size = bounds[i + 1] - bounds[i]
        if not has_room(1, size, state):
            return i
        low, high = key_of(text, bounds[i], size)
        add(text, bounds[i], size, low, high, first_slot(low, high, mask), counts[i], slots, mask, keys, state)
    return pieces


@njit
def take_pieces(slots, places, keys, key_bytes, slot_bytes, text, bounds, counts):
    """The contents of a table as ``add_pieces`` reads them; returns how many pieces there are.

    ``key_bytes`` and ``slot_bytes`` are the same arrays as ``keys`` and ``slots``.
    """
    pieces = 0
    written = 0
    bounds[0] = 0
    for slot in range(places):
        base = slot * WORDS
        high = slots[base + 1]
        if high == U0:
            continue
        counts[pieces] = np.int64(slots[base + 2])
        if high >= LONG:
            kept = np.int64(high ^ LONG)
            size = np.int64(keys[kept])
            for i in range(size):
                text[written + i] = key_bytes[8 * (kept + 1) + i]
        else:
            size = np.int64(high >> U56)
            for i in range(size):
                text[written + i] = slot_bytes[8 * base + i]
        written += size
        pieces += 1
        bounds[pieces] = written
    return pieces
