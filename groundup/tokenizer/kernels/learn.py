"""Counted pieces → merges: pair counts that are updated where a merge happens, and the place of every pair.

Nothing is searched for, so that every merge of two neighbours takes a constant time, whatever the length of a piece.
The arrays are the caller's, who enlarges them when a kernel asks for room (``trainer.py``):

    cells    two numbers for every byte of a piece, and for the end of each piece. First: the id of the token that
             begins or ends here (what is inside of it does not matter), or ``NOTHING`` at the end of a piece. With
             the widths of tokens that leads to both neighbours. Second: the number of the pair that begins here.
    counts, names, starts, sizes
             of every pair: how often it occurs, ``left << 32 | right``, and where in ``places`` it was seen
    places   the cells where pairs begin, in ascending order for each pair. It may hold some that merged otherwise
             since, which then begin another pair or none. It needs three for every cell: one to begin with, and a
             merge, which leaves one token fewer, adds two at most.
    edges, weights, coarse
             cells from ``edges[i]`` up to ``edges[i + 1]`` occur ``weights[i]`` times; ``coarse`` tells where to look
    heap_counts, heap_pairs
             the most frequent pair on top; of equally frequent ones that with the lowest name. A count may be
             out of date, and then too high, for after the sweep that made a pair its count only falls.

A pair with a new token arises in one sweep only, the one that makes the token. One that occurs less than ``least``
times at the end of that sweep will never do: it is forgotten at once.
"""

import numpy as np
from numba import njit

from groundup.tokenizer.kernels.memory import prefetch

NOTHING = -1
#: ``coarse`` has an entry for every so many cells, as a power of two.
COARSE_BITS = 4
#: How many places ahead of need cells are asked for.
AHEAD = 12

# Counters in ``state``.
PAIRS, PLACES, HEAP, MOST_PAIRS, MERGES = range(5)
# Why a kernel stopped.
DONE, NO_PAIRS, PAIRS_FULL = range(3)

U0, U32 = np.uint64(0), np.uint64(32)
PRIME = np.uint64(0x9E3779B97F4A7C15)


@njit
def lay_out(text, bounds, counts, order, pieces, cells, edges, weights, coarse):
    """Put the pieces into ``cells``, in the ``order`` given; returns how many cells are filled.

    Pieces that occur equally often should follow each other. Those of one byte, which has no neighbour, are left out.
    """
    cells[0] = NOTHING
    cells[1] = NOTHING
    coarse[0] = 0
    cell = 1
    edge = -1
    for i in range(pieces):
        piece = order[i]
        size = bounds[piece + 1] - bounds[piece]
        if size < 2:
            continue
        if edge < 0 or counts[piece] != weights[edge]:
            edge += 1
            edges[edge] = cell if edge > 0 else 0
            weights[edge] = counts[piece]
        for place in range(bounds[piece], bounds[piece] + size + 1):
            cells[2 * cell] = text[place] if place < bounds[piece] + size else NOTHING
            cells[2 * cell + 1] = NOTHING
            if cell & ((1 << COARSE_BITS) - 1) == 0:
                coarse[cell >> COARSE_BITS] = edge
            cell += 1
    edges[edge + 1] = cell
    return cell


@njit
def weight_at(cell, edges, weights, coarse):
    """How often the piece of a cell occurs."""
    edge = np.int64(coarse[cell >> COARSE_BITS])
    while edges[edge + 1] <= cell:
        edge += 1
    return weights[edge]


@njit
def push(heap_counts, heap_pairs, size, count, pair, names):
    """Add a pair to a heap of ``size``."""
    hole = size
    while hole > 0:
        parent = (hole - 1) >> 1
        above = heap_counts[parent]
        if above > count or (above == count and names[heap_pairs[parent]] < names[pair]):
            break
        heap_counts[hole] = above
        heap_pairs[hole] = heap_pairs[parent]
        hole = parent
    heap_counts[hole] = count
    heap_pairs[hole] = pair


@njit
def replace_top(heap_counts, heap_pairs, size, count, pair, names):
    """Put a pair, which is not in the heap, in place of the top of a heap of ``size``."""
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= size:
            break
        best = heap_counts[child]
        if child + 1 < size:
            other = heap_counts[child + 1]
            if other > best or (other == best and names[heap_pairs[child + 1]] < names[heap_pairs[child]]):
                child += 1
                best = other
        if count > best or (count == best and names[pair] < names[heap_pairs[child]]):
            break
        heap_counts[hole] = best
        heap_pairs[hole] = heap_pairs[child]
        hole = child
    heap_counts[hole] = count
    heap_pairs[hole] = pair


@njit
def index(
    cells, cell_count, widths, least, edges, weights, coarse,
    slots, mask, counts, names, starts, sizes, places, heap_counts, heap_pairs, state,
):  # fmt: skip
    """Find all pairs that occur at least ``least`` times and where.

    ``slots`` is a hash table of pairs, all ``NOTHING``, with more than ``MOST_PAIRS`` places.
    """
    pairs = 0
    cell = 1
    while cell < cell_count:
        left = np.int64(cells[2 * cell])
        if left == NOTHING:
            cell += 1
            continue
        following = cell + widths[left]
        right = np.int64(cells[2 * following])
        if right != NOTHING:
            name = left << 32 | right
            word = np.uint64(name) * PRIME
            slot = np.int64((word ^ (word >> U32)) & np.uint64(mask))
            while slots[slot] != NOTHING and names[slots[slot]] != name:
                slot = (slot + 1) & mask
            pair = np.int64(slots[slot])
            if pair == NOTHING:
                if pairs == state[MOST_PAIRS]:
                    return PAIRS_FULL
                pair = pairs
                pairs += 1
                slots[slot] = pair
                names[pair] = name
                counts[pair] = 0
                sizes[pair] = 0
            counts[pair] += weight_at(cell, edges, weights, coarse)
            sizes[pair] += 1
            cells[2 * cell + 1] = pair
        cell = following
    # Forget the rare ones; ``starts`` tells where the others are now, and then where their next place goes.
    kept = 0
    for pair in range(pairs):
        slots[pair] = NOTHING
        if counts[pair] >= least:
            counts[kept] = counts[pair]
            names[kept] = names[pair]
            sizes[kept] = sizes[pair]
            slots[pair] = kept
            kept += 1
    top = 0
    for pair in range(kept):
        starts[pair] = top
        top += sizes[pair]
        sizes[pair] = 0
        push(heap_counts, heap_pairs, pair, counts[pair], pair, names)
    cell = 1
    while cell < cell_count:
        left = np.int64(cells[2 * cell])
        if left == NOTHING:
            cell += 1
            continue
        pair = np.int64(cells[2 * cell + 1])
        following = cell + widths[left]
        if cells[2 * following] == NOTHING:
            pair = NOTHING
        else:
            pair = np.int64(slots[pair])
        cells[2 * cell + 1] = pair
        if pair != NOTHING:
            places[starts[pair] + sizes[pair]] = cell
            sizes[pair] += 1
        cell = following
    state[PAIRS] = kept
    state[PLACES] = top
    state[HEAP] = kept
    return DONE


@njit
def learn(
    cells, widths, least, most, edges, weights, coarse, before_new, after_new, renumbered,
    counts, names, starts, sizes, places, heap_counts, heap_pairs, state, merges, merge_counts,
):  # fmt: skip
    """Merge until there are ``most`` merges, or until another reason to stop.

    ``before_new[token]`` and ``after_new[token]`` are the pairs of a token and the new one, all ``NOTHING`` between
    sweeps.
    """
    while state[MERGES] < most:
        heap = state[HEAP]
        if heap == 0:
            return NO_PAIRS
        pair = np.int64(heap_pairs[0])
        count = counts[pair]
        if count != heap_counts[0] or count < least:
            if count >= least:
                replace_top(heap_counts, heap_pairs, heap, count, pair, names)
            else:
                state[HEAP] = heap - 1
                replace_top(heap_counts, heap_pairs, heap - 1, heap_counts[heap - 1], heap_pairs[heap - 1], names)
            continue
        start = np.int64(starts[pair])
        stop = start + sizes[pair]
        new = 256 + state[MERGES]
        first = state[PAIRS]
        fresh = first + min(2 * (stop - start), 2 * new + 1)
        if fresh > state[MOST_PAIRS]:
            return PAIRS_FULL
        left = names[pair] >> 32
        right = names[pair] & 0xFFFFFFFF
        merges[2 * (new - 256)] = left
        merges[2 * (new - 256) + 1] = right
        merge_counts[new - 256] = count
        left_width = np.int64(widths[left])
        right_width = np.int64(widths[right])
        widths[new] = left_width + right_width
        state[HEAP] = heap - 1
        replace_top(heap_counts, heap_pairs, heap - 1, heap_counts[heap - 1], heap_pairs[heap - 1], names)

        # Merge, and count the pairs with the new token.
        fresh = first
        merged = start
        for i in range(start, stop):
            prefetch(cells, 2 * np.int64(places[min(i + AHEAD, stop - 1)]))
            cell = np.int64(places[i])
            if cells[2 * cell + 1] != pair:
                continue
            swallowed = cell + left_width
            following = swallowed + right_width
            weight = weight_at(cell, edges, weights, coarse)
            token = np.int64(cells[2 * cell - 2])
            if token != NOTHING:
                previous = cell - widths[token]
                old = cells[2 * previous + 1]
                if old != NOTHING:
                    counts[old] -= weight
                now = np.int64(before_new[token])
                if now == NOTHING:
                    now = fresh
                    fresh += 1
                    before_new[token] = now
                    names[now] = token << 32 | new
                    counts[now] = 0
                    sizes[now] = 0
                counts[now] += weight
                sizes[now] += 1
                cells[2 * previous + 1] = now
            old = cells[2 * swallowed + 1]
            if old != NOTHING:
                counts[old] -= weight
                cells[2 * swallowed + 1] = NOTHING
            token = np.int64(cells[2 * following])
            now = NOTHING
            if token != NOTHING:
                now = np.int64(after_new[token])
                if now == NOTHING:
                    now = fresh
                    fresh += 1
                    after_new[token] = now
                    names[now] = new << 32 | token
                    counts[now] = 0
                    sizes[now] = 0
                counts[now] += weight
                sizes[now] += 1
            cells[2 * cell + 1] = now
            cells[2 * cell] = new
            cells[2 * following - 2] = new
            places[merged] = cell
            merged += 1
        counts[pair] = 0

        # Forget the rare pairs, make room for the places of the others.
        kept = first
        top = state[PLACES]
        for now in range(first, fresh):
            name = names[now]
            token = name >> 32
            if token == new:
                token = name & 0xFFFFFFFF
                after_new[token] = NOTHING
            if name >> 32 != new or token == new:
                before_new[name >> 32] = NOTHING
            renumbered[now - first] = NOTHING
            if counts[now] >= least:
                size = np.int64(sizes[now])
                renumbered[now - first] = kept
                counts[kept] = counts[now]
                names[kept] = name
                starts[kept] = top
                sizes[kept] = 0
                top += size
                push(heap_counts, heap_pairs, state[HEAP], counts[kept], kept, names)
                state[HEAP] += 1
                kept += 1
        state[PAIRS] = kept
        state[PLACES] = top

        # Note where they are, from left to right.
        for i in range(start, merged):
            cell = np.int64(places[i])
            token = np.int64(cells[2 * cell - 2])
            if token != NOTHING and token != new:
                previous = cell - widths[token]
                now = np.int64(renumbered[cells[2 * previous + 1] - first])
                cells[2 * previous + 1] = now
                if now != NOTHING:
                    places[starts[now] + sizes[now]] = previous
                    sizes[now] += 1
            now = np.int64(cells[2 * cell + 1])
            if now != NOTHING:
                now = np.int64(renumbered[now - first])
                cells[2 * cell + 1] = now
                if now != NOTHING:
                    places[starts[now] + sizes[now]] = cell
                    sizes[now] += 1
        state[MERGES] += 1
    return DONE
