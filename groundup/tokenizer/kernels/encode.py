"""UTF-8 → token ids: scan, look each piece up, and merge the bytes of those never met.

While it merges, a token is its byte, or 256 plus the rank of the merge that made it, so that a rank alone tells the
new token; ``ids`` then gives the vocabulary's own ids.

Everything that lives between calls is the caller's: see ``encoder.py`` for what each array is.
"""

import numpy as np
from numba import njit

from groundup.tokenizer.kernels.memory import load64, lowest32, prefetch, store64
from groundup.tokenizer.kernels.scan import CL100K, GPT2, O200K, scan_as

# A place in the table of pieces is four words: the piece, and its ids.
#   word 0, 1   up to 15 bytes as they are, the length in the highest byte; of a longer piece its hash,
#               and where its bytes are kept
#   word 2, 3   up to four ids; fewer than four, or where in the store they are, is told by the last one
WORDS = 4
SHORT = 15
SHORT_LENGTH = np.uint64(SHORT)
LONG = 255  # longer pieces are not remembered: they seldom come twice
FEW = np.uint64(0xFFFFFFF0)
STORED = np.uint64(0xFFFFFFFF)
NO_MERGE = np.uint32(0xFFFFFFFF)
RANK = np.uint64(0xFFFFFF)
LANES, LANE, FIVE = 32, np.uint32(31), np.uint32(5)
NO_TOKEN = np.int32(0xFFFFF)  # merges with nothing
LOW_HALF = np.uint64(0xFFFFFFFF)
ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
PRIME_1 = np.uint64(0x9E3779B97F4A7C15)
PRIME_2 = np.uint64(0xD6E8FEB86659FD93)
U0, U1, U8, U20, U24, U32, U40, U44, U56 = (np.uint64(number) for number in (0, 1, 8, 20, 24, 32, 40, 44, 56))

# Counters in ``state``.
PLACES_USED, KEYS_USED, IDS_USED, WRITTEN, REASON, DOCUMENT, PLACE = 0, 1, 2, 3, 4, 5, 6
# In ``limits``, after those of the first three counters.
WINDOW = 3
# Why a call stopped before the end.
DONE, CACHE_FULL, PIECE_TOO_LONG = 0, 1, 2


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
    """The rank at which two tokens merge; ``NO_MERGE``. An entry is ``left << 44 | right << 24 | rank``.

    Behind the table lie 2²⁰ bits, one of which each pair sets. They stay in the cache, which the table does not, and
    tell of nine in ten pairs that do not merge that they do not.
    """
    key = np.uint64(left) << U20 | np.uint64(right)
    word = key * PRIME_1
    if pairs[mask + U1 + (word >> np.uint64(50))] >> (word >> U44 & np.uint64(63)) & U1 == U0:
        return NO_MERGE
    slot = (word >> U40) & mask
    while True:
        found = pairs[slot]
        if found >> U24 == key:
            return np.uint32(found & RANK)
        if found == ONES:
            return NO_MERGE
        slot = (slot + U1) & mask


@njit
def add_pairs(pairs, mask, merges, count):
    """Fill the table of pairs, empty entries of which are all ones, from rows (left, right) in order of rank."""
    for rank in range(count):
        key = np.uint64(merges[2 * rank]) << U20 | np.uint64(merges[2 * rank + 1])
        word = key * PRIME_1
        pairs[mask + U1 + (word >> np.uint64(50))] |= U1 << (word >> U44 & np.uint64(63))
        slot = (word >> U40) & mask
        while pairs[slot] != ONES:
            slot = (slot + U1) & mask
        pairs[slot] = key << U24 | np.uint64(rank)
    return 0


@njit
def merge_short(text, start, size, byte_pairs, pairs, mask, out, at, best, links):
    """Merge the bytes of a piece of at most ``LANES`` into ``out[at:]``; returns how many tokens it became.

    ``best[i]`` is ``rank << 5 | i`` for the merge of token ``i`` and the one behind it. All are compared at once, and
    a token that is swallowed keeps its place: so there is hardly a branch that depends on the text.
    """
    tokens, following, previous = 0, LANES + 2, 2 * LANES + 4  # where they begin in ``links``; token ``i`` is ``i + 1``
    for i in range(LANES):
        best[i] = NO_MERGE
    links[tokens] = NO_TOKEN
    for i in range(size):
        links[tokens + i + 1] = text[start + i]
        links[following + i + 1] = i + 2
        links[previous + i + 1] = i
    links[tokens + size + 1] = NO_TOKEN
    for i in range(size - 1):
        rank = byte_pairs[np.uint64(text[start + i]) << U8 | np.uint64(text[start + i + 1])]
        if rank != NO_MERGE:
            best[i] = rank << FIVE | np.uint32(i)
    while True:
        lowest = lowest32(best)
        if lowest == NO_MERGE:
            break
        here = np.int64(lowest & LANE) + 1
        new = np.int32(lowest >> FIVE) + 256
        gone = np.int64(links[following + here])
        behind = np.int64(links[following + gone])
        before = np.int64(links[previous + here])
        links[tokens + here] = new
        links[following + here] = behind
        links[previous + behind] = here
        best[gone - 1] = NO_MERGE
        rank = pair_of(pairs, mask, new, links[tokens + behind])
        best[here - 1] = NO_MERGE if rank == NO_MERGE else rank << FIVE | np.uint32(here - 1)
        rank = pair_of(pairs, mask, links[tokens + before], new)
        if before > 0:
            best[before - 1] = NO_MERGE if rank == NO_MERGE else rank << FIVE | np.uint32(before - 1)
    count = 0
    here = 1
    while here <= size:
        out[at + count] = np.uint32(links[tokens + here])
        count += 1
        here = np.int64(links[following + here])
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
def merge_long(text, start, size, byte_pairs, pairs, mask, merges, out, at, room, work, heap, queues):
    """Merge the bytes of any piece into ``out[at:]``; returns how many ids it became.

    As in ``bpe.py``: the places of each rank wait in a queue, and a heap holds the ranks for which some wait.
    ``queues`` holds the first and the last entry of each rank's queue, −1 when empty, which all are before and after.
    For a piece of up to ``room`` bytes ``work`` has 9 × ``room`` numbers and ``heap`` has 3 × ``room``.
    """
    following, previous, entry_place, entry_next = room, 2 * room, 3 * room, 6 * room  # in ``work``, behind the tokens
    entries = 0
    waiting = 0
    for i in range(size):
        work[i] = np.int32(text[start + i])
        work[following + i] = np.int32(i + 1)
        work[previous + i] = np.int32(i - 1)
    for i in range(size - 1):
        found = byte_pairs[np.uint64(text[start + i]) << U8 | np.uint64(text[start + i + 1])]
        if found != NO_MERGE:
            rank = np.int64(found)
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
        rank = np.int64(heap[0])
        entry = np.int64(queues[2 * rank])
        if entry < 0:
            pop(heap, waiting)
            waiting -= 1
            continue
        queues[2 * rank] = work[entry_next + entry]
        left, right, new = merges[2 * rank], merges[2 * rank + 1], np.int32(256 + rank)
        place = np.int64(work[entry_place + entry])
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
            later = np.int64(found)
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
    count = 0
    place = 0
    while place < size:
        out[at + count] = np.uint32(work[place])
        count += 1
        place = np.int64(work[following + place])
    return count


@njit
def merge_any(
    text, start, size, byte_pairs, pairs, mask, merges, lengths, out, at, limits, room, work, heap, queues
):  # fmt: skip
    """Merge a piece of any length in windows; returns how many tokens it became, −1 where ``room`` is too small.

    A row of tokens is what BPE makes of its bytes if that is so for every two neighbours (van Antwerpen and Neubeck,
    2024, "So many tokens, so little time"). So a window may be cut between two of its tokens, well before its end,
    and the next may begin there, if the two tokens that meet are what BPE makes of them. Where they are not, the
    window is made longer.
    """
    usual = limits[WINDOW]
    window = last = usual
    place = before = start
    end = start + size
    count = 0
    joined = 0  # tokens of the window before, from ``before`` on, that can still be merged anew
    while True:
        length = min(window, end - place)
        if length > room:
            return -1
        found = merge_long(
            text, place, length, byte_pairs, pairs, mask, merges, out, at + count, room, work, heap, queues
        )
        if count > 0:
            one, two = out[at + count - 1], out[at + count]
            if lengths[one] + lengths[two] > room:
                return -1
            tokens = merge_long(
                text, place - lengths[one], lengths[one] + lengths[two], byte_pairs, pairs, mask, merges,
                out, at + count + found, room, work, heap, queues,
            )  # fmt: skip
            if tokens != 2 or out[at + count + found] != one:
                if joined > 0:
                    window = 2 * last
                    place = before
                    count -= joined
                else:
                    usual *= 2
                    window = usual
                    place = start
                    count = 0
                joined = 0
                continue
        if place + length == end:
            return count + found
        keep = place + length - (length >> 3)
        kept = 0
        stop = place
        while kept < found and stop + lengths[out[at + count + kept]] <= keep:
            stop += lengths[out[at + count + kept]]
            kept += 1
        if kept == 0:
            window = 2 * length
            continue
        before, last, joined = place, length, kept
        place = stop
        count += kept
        window = usual


@njit
def remember(table, base, low, high, text, start, size, keys, out, at, count, stored, state):
    """Keep the ids ``out[at:at + count]`` of a piece at a free place of the table."""
    table[base] = low
    table[base + 1] = high
    if size > SHORT:
        offset = state[KEYS_USED]
        for i in range(size):
            keys[offset + i] = text[start + i]
        table[base + 1] = high | np.uint64(offset)
        state[KEYS_USED] = offset + size
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
def key_of(text, start, size):
    """The two words that a piece is known by, but for where a long one's bytes are kept; and its hash."""
    if size <= SHORT:
        low_bits = ONES >> np.uint64(64 - 8 * size) if size < 8 else ONES
        high_bits = ONES >> np.uint64((128 - 8 * size) & 63) if size > 8 else U0
        low = load64(text, start) & low_bits
        high = load64(text, start + 8) & high_bits | np.uint64(size) << U56
        return low, high, mixed(low, high)
    low = hash_bytes(text, start, size)
    return low, np.uint64(size) << U56, low


@njit(forceinline=True)
def find(text, start, size, low, high, slot, table, mask, keys):
    """The place of a piece in the table, or the free one where it belongs."""
    while True:
        base = np.int64(slot) * WORDS
        found = table[base + 1]
        if found == U0:
            return base
        if table[base] == low:
            if found == high and size <= SHORT:
                return base
            same_size = size > SHORT and found >> U56 == high >> U56
            if same_size and equal_bytes(text, start, keys, np.int64(found & (ONES >> U8)), size):
                return base
        slot = (slot + U1) & mask


@njit
def remember_tokens(text, offsets, count, wanted, table, mask, keys, stored, state, out):
    """Put the tokens that are pieces into the table: id ``i`` is ``text[offsets[i]:offsets[i + 1]]``."""
    for token in range(count):
        size = offsets[token + 1] - offsets[token]
        if wanted[token] and 0 < size <= LONG:
            start = offsets[token]
            low, high, hashed = key_of(text, start, size)
            base = find(text, start, size, low, high, hashed & mask, table, mask, keys)
            out[0] = np.uint32(token)
            remember(table, base, low, high, text, start, size, keys, out, 0, 1, stored, state)
    return 0


@njit
def encode_pieces(
    text, start, ends, count, ids, byte_pairs, pairs, pair_mask, merges, lengths,
    table, mask, keys, stored, state, limits, found, out, best, room, work, heap, queues,
):  # fmt: skip
    """Write the ids of pieces that end at ``ends[:count]``; returns how many pieces, fewer than all for a reason."""
    # First ask the memory for the places of all pieces, then look: a place takes 100 ns to come from afar. So do
    # the bytes and the ids that a place only points to.
    place = start
    afar = 0
    for i in range(count):
        size = ends[i] - place
        if size <= LONG:
            low, high, hashed = key_of(text, place, size)
            slot = hashed & mask
            prefetch(table, np.int64(slot) * WORDS)
            found[4 * i] = low
            found[4 * i + 1] = high
            found[4 * i + 2] = slot
            found[4 * afar + 3] = slot
            afar += size > 9
        place = ends[i]
    for i in range(afar):
        base = np.int64(found[4 * i + 3]) * WORDS
        if table[base + 1] >> U56 > SHORT_LENGTH:
            prefetch(keys, np.int64(table[base + 1] & (ONES >> U8)))
        if table[base + 3] >> U32 == STORED:
            prefetch(stored, np.int64(table[base + 2] & LOW_HALF))
    written = state[WRITTEN]
    place = start
    done = 0
    while done < count:
        size = ends[done] - place
        if size <= LONG:
            low, high, slot = found[4 * done], found[4 * done + 1], found[4 * done + 2]
            base = find(text, place, size, low, high, slot, table, mask, keys)
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
                if size <= LANES:
                    number = merge_short(text, place, size, byte_pairs, pairs, pair_mask, out, written, best, work)
                else:
                    number = merge_long(
                        text, place, size, byte_pairs, pairs, pair_mask, merges, out, written, room, work, heap, queues
                    )
                for i in range(number):
                    out[written + i] = ids[out[written + i]]
                remember(table, base, low, high, text, place, size, keys, out, written, number, stored, state)
                written += number
        else:
            number = merge_any(
                text, place, size, byte_pairs, pairs, pair_mask, merges, lengths, out, written, limits, room, work,
                heap, queues,
            )  # fmt: skip
            if number < 0:
                state[REASON] = PIECE_TOO_LONG
                break
            for i in range(number):
                out[written + i] = ids[out[written + i]]
            written += number
        place = ends[done]
        done += 1
    state[WRITTEN] = written
    return done


def encoder_of(shape):
    """The kernel for one shape of pattern, which the compiler then knows."""

    @njit
    def encode(
        text, bounds, documents, classes, digits, contractions, whitespace, ends, block, ids, byte_pairs, pairs,
        pair_mask, merges, lengths, table, mask, keys, stored, state, limits, found, out, best, room, work, heap,
        queues, out_bounds,
    ):  # fmt: skip
        """Write the ids of documents, of which ``i`` is ``text[bounds[i]:bounds[i + 1]]``, to ``out``.

        ``out_bounds[i + 1]`` becomes the number of ids up to the end of document ``i``. It begins at the document and
        the place in ``state``, and ends there too: before the end for the reason in ``state``, at a piece that the
        caller has to make room for.
        """
        state[REASON] = DONE
        while state[DOCUMENT] < documents:
            place = state[PLACE]
            end = bounds[state[DOCUMENT] + 1]
            while place < end:
                count = scan_as(shape, text, place, end, classes, digits, contractions, whitespace, ends, block)
                done = encode_pieces(
                    text, place, ends, count, ids, byte_pairs, pairs, pair_mask, merges, lengths,
                    table, mask, keys, stored, state, limits, found, out, best, room, work, heap, queues,
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

    return encode


encode_gpt2, encode_cl100k, encode_o200k = (encoder_of(shape) for shape in (GPT2, CL100K, O200K))
