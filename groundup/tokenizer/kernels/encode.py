"""UTF-8 → token ids: scan, look each piece up, and merge the bytes of those never met.

Everything that lives between calls is the caller's: see ``encoder.py`` for what each array is.
"""

import numpy as np
from numba import njit

from groundup.tokenizer.kernels.memory import load64, store64
from groundup.tokenizer.kernels.scan import scan

# A place in the table of pieces is four words: the piece, and its ids.
#   word 0, 1   up to 15 bytes as they are, the length in the highest byte; of a longer piece its hash,
#               and where its bytes are kept
#   word 2, 3   up to four ids; fewer than four, or where in the store they are, is told by the last one
WORDS = 4
SHORT = 15
LONG = 255  # longer pieces are not remembered: they seldom come twice
FEW = np.uint64(0xFFFFFFF0)
STORED = np.uint64(0xFFFFFFFF)
NO_MERGE = np.uint64(0xFFFFFFFFFFFFFFFF)
LOW_HALF = np.uint64(0xFFFFFFFF)
ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
PRIME_1 = np.uint64(0x9E3779B97F4A7C15)
PRIME_2 = np.uint64(0xD6E8FEB86659FD93)
U0, U1, U8, U32, U56 = np.uint64(0), np.uint64(1), np.uint64(8), np.uint64(32), np.uint64(56)

# Counters in ``state``.
PLACES_USED, KEYS_USED, IDS_USED, WRITTEN, REASON, DOCUMENT, PLACE = 0, 1, 2, 3, 4, 5, 6
# Why a call stopped before the end.
DONE, CACHE_FULL, PIECE_TOO_LONG = 0, 1, 2

BY_SCANNING = 32  # bytes up to which looking at all pairs for the best one is the fastest


@njit(forceinline=True)
def mixed(low, high):
    """A hash of two words."""
    word = (low ^ (high * PRIME_1)) * PRIME_2
    return word ^ (word >> U32)


@njit(forceinline=True)
def hash_bytes(text, start, size):
    """A hash of more than eight bytes."""
    word = np.uint64(size) * PRIME_1
    place = start
    stop = start + size - 8
    while place < stop:
        word = mixed(word ^ load64(text, place), PRIME_1)
        place += 8
    return mixed(word ^ load64(text, stop), word)


@njit(forceinline=True)
def equal_bytes(one, here, other, there, size):
    """Whether two runs of more than eight bytes are the same."""
    offset = 0
    while offset < size - 8:
        if load64(one, here + offset) != load64(other, there + offset):
            return False
        offset += 8
    return load64(one, here + size - 8) == load64(other, there + size - 8)


@njit(forceinline=True)
def pair_of(pairs, mask, left, right):
    """``rank << 32 | id`` of what a pair of ids merges to; ``NO_MERGE``."""
    key = np.uint64(left) << U32 | np.uint64(right)
    word = key * PRIME_1
    slot = (word ^ (word >> U32)) & mask
    while True:
        found = pairs[slot << U1]
        if found == key:
            return pairs[(slot << U1) | U1]
        if found == NO_MERGE:
            return NO_MERGE
        slot = (slot + U1) & mask


@njit
def add_pairs(pairs, mask, merges, count):
    """Fill the table of pairs, empty places of which are ``NO_MERGE``, from rows (left, right, id) in order of rank."""
    for rank in range(count):
        key = np.uint64(merges[3 * rank]) << U32 | np.uint64(merges[3 * rank + 1])
        word = key * PRIME_1
        slot = (word ^ (word >> U32)) & mask
        while pairs[slot << U1] != NO_MERGE:
            slot = (slot + U1) & mask
        pairs[slot << U1] = key
        pairs[(slot << U1) | U1] = np.uint64(rank) << U32 | np.uint64(merges[3 * rank + 2])
    return 0


@njit
def merge_short(text, start, size, byte_ids, byte_pairs, pairs, mask, out, at, best):
    """Merge the bytes of a short piece into ``out[at:]``; returns how many ids it became.

    ``best[i]`` is what the tokens ``i`` and ``i + 1`` would merge to.
    """
    for i in range(size):
        out[at + i] = byte_ids[text[start + i]]
    for i in range(size - 1):
        best[i] = byte_pairs[np.uint64(text[start + i]) << U8 | np.uint64(text[start + i + 1])]
    count = size
    while count > 1:
        lowest = NO_MERGE
        where = 0
        for i in range(count - 1):
            if best[i] < lowest:
                lowest = best[i]
                where = i
        if lowest == NO_MERGE:
            break
        out[at + where] = np.uint32(lowest & LOW_HALF)
        count -= 1
        for i in range(where + 1, count):
            out[at + i] = out[at + i + 1]
        for i in range(where + 1, count - 1):
            best[i] = best[i + 1]
        if where > 0:
            best[where - 1] = pair_of(pairs, mask, out[at + where - 1], out[at + where])
        if where + 1 < count:
            best[where] = pair_of(pairs, mask, out[at + where], out[at + where + 1])
    return count


@njit
def sift_up(heap, count, value):
    """Add a value to a heap of ``count``, the lowest on top."""
    hole = count
    while hole > 0:
        parent = (hole - 1) >> 1
        if heap[parent] <= value:
            break
        heap[hole] = heap[parent]
        hole = parent
    heap[hole] = value


@njit
def pop(heap, count):
    """Take the lowest of ``count`` values; one fewer are left."""
    lowest = heap[0]
    last = heap[count - 1]
    size = count - 1
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        if child + 1 < size and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= last:
            break
        heap[hole] = heap[child]
        hole = child
    heap[hole] = last
    return lowest


@njit
def merge_long(text, start, size, byte_ids, byte_pairs, pairs, mask, merges, out, at, room, work, heap, queues):
    """Merge the bytes of any piece into ``out[at:]``; returns how many ids it became.

    As in ``bpe.py``: a merge makes an id that only later ranks name, so each rank needs one sweep over the places
    where its pair was seen, from left to right. ``queues`` holds the first and the last entry of each rank's queue,
    −1 when empty, which all are before and after. ``work`` has 9 × ``room`` numbers for a piece of up to ``room`` bytes, ``heap`` has ``room``.
    """
    following, previous, entry_place, entry_next = room, 2 * room, 3 * room, 6 * room  # in ``work``, behind the tokens
    entries = 0
    waiting = 0
    for i in range(size):
        work[i] = np.int32(byte_ids[text[start + i]])
        work[following + i] = np.int32(i + 1)
        work[previous + i] = np.int32(i - 1)
    for i in range(size - 1):
        found = byte_pairs[np.uint64(text[start + i]) << U8 | np.uint64(text[start + i + 1])]
        if found != NO_MERGE:
            rank = np.int64(found >> U32)
            work[entry_place + entries] = np.int32(i)
            work[entry_next + entries] = np.int32(-1)
            if queues[2 * rank] < 0:
                queues[2 * rank] = np.int32(entries)
                sift_up(heap, waiting, np.int32(rank))
                waiting += 1
            else:
                work[entry_next + queues[2 * rank + 1]] = np.int32(entries)
            queues[2 * rank + 1] = np.int32(entries)
            entries += 1
    while waiting > 0:
        rank = np.int64(pop(heap, waiting))
        waiting -= 1
        left, right, new = merges[3 * rank], merges[3 * rank + 1], merges[3 * rank + 2]
        entry = np.int64(queues[2 * rank])
        while entry >= 0:
            place = np.int64(work[entry_place + entry])
            entry = np.int64(work[entry_next + entry])
            swallowed = np.int64(work[following + place])
            if work[place] != left or swallowed >= size or work[swallowed] != right:
                continue  # an overlapping pair was merged since
            after = np.int64(work[following + swallowed])
            before = np.int64(work[previous + place])
            work[place] = new
            work[swallowed] = np.int32(-1)
            work[following + place] = np.int32(after)
            if after < size:
                work[previous + after] = np.int32(place)
            for side in range(2):
                if side == 0:
                    if before < 0:
                        continue
                    first, found = before, pair_of(pairs, mask, work[before], new)
                else:
                    if after >= size:
                        continue
                    first, found = place, pair_of(pairs, mask, new, work[after])
                if found == NO_MERGE:
                    continue
                later = np.int64(found >> U32)
                work[entry_place + entries] = np.int32(first)
                work[entry_next + entries] = np.int32(-1)
                if queues[2 * later] < 0:
                    queues[2 * later] = np.int32(entries)
                    sift_up(heap, waiting, np.int32(later))
                    waiting += 1
                else:
                    work[entry_next + queues[2 * later + 1]] = np.int32(entries)
                queues[2 * later + 1] = np.int32(entries)
                entries += 1
        queues[2 * rank] = np.int32(-1)
    count = 0
    place = 0
    while place < size:
        out[at + count] = np.uint32(work[place])
        count += 1
        place = np.int64(work[following + place])
    return count


@njit
def remember(table, slot, low, high, out, at, count, stored, state):
    """Keep the ids ``out[at:at + count]`` of a piece at a free place of the table."""
    base = slot * WORDS
    table[base] = low
    table[base + 1] = high
    if count <= 4:
        one = np.uint64(out[at])
        two = np.uint64(out[at + 1]) if count > 1 else U0
        three = np.uint64(out[at + 2]) if count > 2 else U0
        four = np.uint64(out[at + 3]) if count > 3 else FEW + np.uint64(count)
    else:
        offset = state[IDS_USED]
        for i in range(count):
            stored[offset + i] = out[at + i]
        state[IDS_USED] = offset + count
        one, two, three, four = np.uint64(offset), np.uint64(count), U0, STORED
    table[base + 2] = one | two << U32
    table[base + 3] = three | four << U32
    state[PLACES_USED] += 1


@njit(forceinline=True)
def find(text, start, size, table, mask, keys, state):
    """The place of a piece in the table, or the free one where it belongs; and the two words of its key."""
    if size <= SHORT:
        low = load64(text, start)
        if size > 8:
            high = load64(text, start + 8) & (ONES >> np.uint64(128 - 8 * size))
        else:
            low &= ONES >> np.uint64(64 - 8 * size)
            high = U0
        high |= np.uint64(size) << U56
        slot = mixed(low, high) & mask
        while True:
            base = np.int64(slot) * WORDS
            if (table[base] == low and table[base + 1] == high) or table[base + 1] == U0:
                return np.int64(slot), low, high
            slot = (slot + U1) & mask
    low = hash_bytes(text, start, size)
    slot = low & mask
    while True:
        base = np.int64(slot) * WORDS
        high = table[base + 1]
        if high == U0:
            return np.int64(slot), low, np.uint64(size) << U56 | np.uint64(state[KEYS_USED])
        if table[base] == low and np.int64(high >> U56) == size:
            kept = np.int64(high & (ONES >> U8))
            if equal_bytes(text, start, keys, kept, size):
                return np.int64(slot), low, high
        slot = (slot + U1) & mask


@njit
def keep_key(text, start, size, keys, state):
    """Copy the bytes of a piece that does not fit into its key."""
    if size > SHORT:
        offset = state[KEYS_USED]
        for i in range(size):
            keys[offset + i] = text[start + i]
        state[KEYS_USED] = offset + size


@njit
def remember_tokens(text, offsets, count, wanted, table, mask, keys, stored, state, out):
    """Put the tokens that are pieces into the table: id ``i`` is ``text[offsets[i]:offsets[i + 1]]``."""
    for token in range(count):
        size = offsets[token + 1] - offsets[token]
        if wanted[token] and 0 < size <= LONG:
            start = offsets[token]
            slot, low, high = find(text, start, size, table, mask, keys, state)
            out[0] = np.uint32(token)
            remember(table, slot, low, high, out, 0, 1, stored, state)
            keep_key(text, start, size, keys, state)
    return 0


@njit
def encode_pieces(
    text, start, ends, count, byte_ids, byte_pairs, pairs, pair_mask, merges,
    table, mask, keys, stored, state, limits, out, best, room, work, heap, queues,
):  # fmt: skip
    """Write the ids of pieces that end at ``ends[:count]``; returns how many pieces, fewer than all for a reason."""
    written = state[WRITTEN]
    place = start
    done = 0
    while done < count:
        size = ends[done] - place
        if size <= LONG:
            slot, low, high = find(text, place, size, table, mask, keys, state)
            base = slot * WORDS
            if table[base + 1] != U0:
                last = table[base + 3]
                tail = last >> U32
                if tail != STORED:
                    store64(out, written, table[base + 2])
                    store64(out, written + 2, last)
                    written += 4 if tail < FEW else np.int64(tail - FEW)
                else:
                    offset = np.int64(table[base + 2] & LOW_HALF)
                    number = np.int64(table[base + 2] >> U32)
                    for i in range(number):
                        out[written + i] = stored[offset + i]
                    written += number
            else:
                if state[PLACES_USED] >= limits[0] or state[KEYS_USED] >= limits[1] or state[IDS_USED] >= limits[2]:
                    state[REASON] = CACHE_FULL
                    break
                if size <= BY_SCANNING:
                    number = merge_short(text, place, size, byte_ids, byte_pairs, pairs, pair_mask, out, written, best)
                else:
                    number = merge_long(
                        text, place, size, byte_ids, byte_pairs, pairs, pair_mask, merges,
                        out, written, room, work, heap, queues,
                    )  # fmt: skip
                remember(table, slot, low, high, out, written, number, stored, state)
                keep_key(text, place, size, keys, state)
                written += number
        else:
            if size > room:
                state[REASON] = PIECE_TOO_LONG
                break
            written += merge_long(
                text, place, size, byte_ids, byte_pairs, pairs, pair_mask, merges, out, written, room, work, heap, queues
            )
        place = ends[done]
        done += 1
    state[WRITTEN] = written
    return done


@njit
def encode(
    text, bounds, documents, classes, shape, digits, contractions, whitespace, ends, block, byte_ids, byte_pairs, pairs,
    pair_mask, merges, table, mask, keys, stored, state, limits, out, best, room, work, heap, queues, out_bounds,
):  # fmt: skip
    """Write the ids of documents, of which ``i`` is ``text[bounds[i]:bounds[i + 1]]``, to ``out``.

    ``out_bounds[i + 1]`` becomes the number of ids up to the end of document ``i``. It begins at the document and the
    place in ``state``, and ends there too: before the end for the reason in ``state``, at a piece that the caller
    has to make room for.
    """
    state[REASON] = DONE
    while state[DOCUMENT] < documents:
        place = state[PLACE]
        end = bounds[state[DOCUMENT] + 1]
        while place < end:
            count = scan(text, place, end, classes, shape, digits, contractions, whitespace, ends, block)
            done = encode_pieces(
                text, place, ends, count, byte_ids, byte_pairs, pairs, pair_mask, merges,
                table, mask, keys, stored, state, limits, out, best, room, work, heap, queues,
            )  # fmt: skip
            if done > 0:
                place = ends[done - 1]
            if done < count:
                state[PLACE] = place
                return 0
        state[DOCUMENT] += 1
        out_bounds[state[DOCUMENT]] = state[WRITTEN]
        state[PLACE] = end
    return 0
