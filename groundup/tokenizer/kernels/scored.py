"""Byte-pair encoding by score, as SentencePiece does it: merge the neighbours that make the best piece, anywhere.

The pieces lie in a hash table by their bytes: ``table`` holds slot → piece + 1 (0: empty). A symbol is a stretch of
the text, named by the place where it begins: ``end_of[place]`` is its end, and ``before[place]`` where the symbol
before it begins. Candidates wait in a heap, ordered by rank and then by place.
"""

from numba import njit

SCATTER = -7046029254386353131  # 2**64 divided by the golden ratio (Knuth), as a signed number
PLACE_BITS = 40


@njit
def hash_of(text, start, end):
    value = 0
    for place in range(start, end):
        value = (value ^ int(text[place])) * SCATTER
        value ^= value >> 29
    return value


@njit
def find(text, start, end, blob, offsets, table, mask):
    """The piece that is ``text[start:end]``; -1: none."""
    slot = hash_of(text, start, end) & mask
    while table[slot] != 0:
        piece = int(table[slot]) - 1
        if offsets[piece + 1] - offsets[piece] == end - start:
            place = start
            other = offsets[piece]
            while place < end and text[place] == blob[other]:
                place += 1
                other += 1
            if place == end:
                return piece
        slot = (slot + 1) & mask
    return -1


@njit
def fill(blob, offsets, count, table, mask):
    """Put every piece that is not empty into the table."""
    for piece in range(count):
        if offsets[piece] < offsets[piece + 1]:
            slot = hash_of(blob, offsets[piece], offsets[piece + 1]) & mask
            while table[slot] != 0:
                slot = (slot + 1) & mask
            table[slot] = piece + 1
    return 0


@njit
def push(heap_key, heap_end, size, key, end):
    at = size
    while at > 0 and heap_key[(at - 1) >> 1] > key:
        heap_key[at] = heap_key[(at - 1) >> 1]
        heap_end[at] = heap_end[(at - 1) >> 1]
        at = (at - 1) >> 1
    heap_key[at] = key
    heap_end[at] = end
    return size + 1


@njit
def drop_first(heap_key, heap_end, size):
    size -= 1
    key = heap_key[size]
    end = heap_end[size]
    at = 0
    while 2 * at + 1 < size:
        child = 2 * at + 1
        if child + 1 < size and heap_key[child + 1] < heap_key[child]:
            child += 1
        if heap_key[child] >= key:
            break
        heap_key[at] = heap_key[child]
        heap_end[at] = heap_end[child]
        at = child
    heap_key[at] = key
    heap_end[at] = end
    return size


@njit
def encode(
    text,
    size,
    split,
    longest,
    blob,
    offsets,
    ranks,
    table,
    mask,
    unknown,
    byte_ids,
    end_of,
    before,
    heap_key,
    heap_end,
    ids,
):
    """Write the ids of ``text`` to ``ids``; return how many, at most ``size``.

    ``split``: no piece has "▁" behind another character, so that a text may be cut there. ``longest``: bytes of the
    longest piece. What is unknown becomes the ids of its bytes or, where ``byte_ids[0]`` is -1, a run of it one
    ``unknown``. ``end_of`` and ``before`` have room for ``size + 1`` numbers, the heap for ``3 * size``.
    """
    count = 0
    word = 0
    while word < size:
        # Cut off the next word, and it into characters.
        stop = word
        last = -1
        was_space = True
        while stop < size:
            first = text[stop]
            is_space = first == 0xE2 and text[stop + 1] == 0x96 and text[stop + 2] == 0x81
            if split and is_space and not was_space:
                break
            was_space = is_space
            before[stop] = last
            last = stop
            stop += 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            end_of[last] = stop
        waiting = 0
        place = word
        while end_of[place] < stop:
            end = int(end_of[end_of[place]])
            piece = find(text, place, end, blob, offsets, table, mask) if end - place <= longest else -1
            if piece >= 0:
                waiting = push(heap_key, heap_end, waiting, int(ranks[piece]) << PLACE_BITS | place, end)
            place = int(end_of[place])
        while waiting > 0:
            place = heap_key[0] & ((1 << PLACE_BITS) - 1)
            end = heap_end[0]
            waiting = drop_first(heap_key, heap_end, waiting)
            middle = int(end_of[place])  # 0: swallowed
            if middle == 0 or middle >= end or end_of[middle] != end:
                continue
            end_of[place] = end
            end_of[middle] = 0
            if end < stop:
                before[end] = place
            for side in range(2):
                left = int(before[place]) if side == 0 else place
                middle = place if side == 0 else end
                if left < 0 or middle >= stop:
                    continue
                right_end = int(end_of[middle])
                piece = find(text, left, right_end, blob, offsets, table, mask) if right_end - left <= longest else -1
                if piece >= 0:
                    waiting = push(heap_key, heap_end, waiting, int(ranks[piece]) << PLACE_BITS | left, right_end)
        place = word
        while place < stop:
            end = int(end_of[place])
            piece = find(text, place, end, blob, offsets, table, mask) if end - place <= longest else -1
            if piece >= 0:
                ids[count] = piece
                count += 1
            elif byte_ids[0] >= 0:
                for byte in range(place, end):
                    ids[count] = byte_ids[text[byte]]
                    count += 1
            elif count == 0 or ids[count - 1] != unknown:
                ids[count] = unknown
                count += 1
            place = end
        word = stop
    return count
