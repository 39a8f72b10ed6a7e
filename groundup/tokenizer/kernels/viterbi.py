"""The best path through a lattice of pieces: of a text in single precision as SentencePiece computes it, or of words.

The pieces are a trie in a hash table: slot → (node << 8 | byte) + 1 in ``keys`` (0: empty) and the child in
``children``. Scores are passed as the bits of their floats, because kernels take integers only.
"""

import numpy as np
from numba import njit

SCATTER = -7046029254386353131  # 2**64 divided by the golden ratio (Knuth), as a signed number
#: Beyond this, single precision would lose the differences between paths: the scores are shifted back to 0.
SHIFT_BEYOND = 100_000.0


@njit
def number(bits):
    return np.uint32(bits).view(np.float32)


@njit
def bits_of(score):
    return np.float32(score).view(np.uint32)


@njit
def double(bits):
    return np.uint64(bits).view(np.float64)


@njit
def bits_of_double(score):
    return np.float64(score).view(np.uint64)


@njit
def slot_of(keys, mask, key):
    """Where ``key`` is, or would be."""
    slot = (key * SCATTER >> 20) & mask
    while keys[slot] != 0 and keys[slot] != key:
        slot = (slot + 1) & mask
    return slot


@njit
def plant(blob, offsets, count, keys, children, mask, piece_at):
    """Build the trie of ``count`` pieces; ``piece_at[node]`` becomes the piece that ends there. Return the nodes."""
    nodes = 1
    for piece in range(count):
        node = 0
        for place in range(offsets[piece], offsets[piece + 1]):
            key = (node << 8 | int(blob[place])) + 1
            slot = slot_of(keys, mask, key)
            if keys[slot] == 0:
                keys[slot] = key
                children[slot] = nodes
                nodes += 1
            node = int(children[slot])
        if offsets[piece] < offsets[piece + 1]:
            piece_at[node] = piece
    return nodes


@njit
def best_path(text, size, keys, children, mask, piece_at, scores, unknown_score, score_at, start_of, piece_of):
    """Fill ``piece_of`` (-1: unknown) and ``start_of`` for the best last piece that ends at each place.

    ``score_at`` is room for the scores. All three have ``size + 1`` numbers; ``start_of`` is -1 everywhere before.
    """
    score_at[0] = 0
    farthest = 0
    start = 0
    while start < size:
        if abs(number(score_at[start])) > SHIFT_BEYOND:
            shift = number(score_at[start])
            for place in range(start, farthest + 1):
                if place == start or start_of[place] >= 0:
                    score_at[place] = bits_of(number(score_at[place]) - shift)
        before = number(score_at[start])
        first = text[start]
        width = 1 if first < 0xC0 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        whole = False  # whether a piece is just this character
        node = 0
        end = start
        while end < size:
            slot = slot_of(keys, mask, (node << 8 | int(text[end])) + 1)
            if keys[slot] == 0:
                break
            node = int(children[slot])
            end += 1
            piece = piece_at[node]
            if piece >= 0:
                score = number(scores[piece]) + before
                if start_of[end] < 0 or score > number(score_at[end]):
                    score_at[end] = bits_of(score)
                    start_of[end] = start
                    piece_of[end] = piece
                farthest = max(farthest, end)
                whole = whole or end == start + width
        if not whole:
            end = start + width
            score = number(unknown_score) + before
            if start_of[end] < 0 or score > number(score_at[end]):
                score_at[end] = bits_of(score)
                start_of[end] = start
                piece_of[end] = -1
            farthest = max(farthest, end)
        start += width
    return farthest


@njit
def encode(
    text,
    size,
    keys,
    children,
    mask,
    piece_at,
    scores,
    unknown_score,
    unknown,
    byte_ids,
    score_at,
    start_of,
    piece_of,
    ids,
):
    """Write the ids of the best path to ``ids`` from the last to the first; return how many, at most ``size``.

    What is unknown becomes the ids of its bytes or, where ``byte_ids[0]`` is -1, a run of it one ``unknown``.
    """
    best_path(text, size, keys, children, mask, piece_at, scores, unknown_score, score_at, start_of, piece_of)
    count = 0
    end = size
    while end > 0:
        start = int(start_of[end])
        if piece_of[end] >= 0:
            ids[count] = piece_of[end]
            count += 1
        elif byte_ids[0] >= 0:
            for place in range(end - 1, start - 1, -1):
                ids[count] = byte_ids[text[place]]
                count += 1
        elif count == 0 or ids[count - 1] != unknown:
            ids[count] = unknown
            count += 1
        end = start
    return count


@njit
def encode_words(text, ends, words, keys, children, mask, piece_at, scores, score_at, start_of, piece_of, ids):
    """Write the ids of the best path of each word, which ends at ``ends[word]``; return how many there are in all.

    Every byte is a piece. ``score_at``, ``start_of`` and ``piece_of`` have room for the longest word and one more.
    """
    count = 0
    begin = 0
    for word in range(words):
        size = ends[word] - begin
        score_at[0] = bits_of_double(0.0)
        for place in range(1, size + 1):
            score_at[place] = bits_of_double(-np.inf)
        for start in range(size):
            before = double(score_at[start])
            node = 0
            for place in range(start, size):
                slot = slot_of(keys, mask, (node << 8 | int(text[begin + place])) + 1)
                if keys[slot] == 0:
                    break
                node = int(children[slot])
                piece = piece_at[node]
                if piece >= 0:
                    score = double(scores[piece]) + before
                    if score > double(score_at[place + 1]):
                        score_at[place + 1] = bits_of_double(score)
                        start_of[place + 1] = start
                        piece_of[place + 1] = piece
        many = 0
        place = size
        while place > 0:
            many += 1
            place = int(start_of[place])
        count += many
        place = size
        for back in range(1, many + 1):
            ids[count - back] = piece_of[place]
            place = int(start_of[place])
        begin = ends[word]
    return count
