# mypy: ignore-errors
"""Numbers → the order of their suffixes, and what neighbours share (``suffix.py`` has the plain versions)."""

from numba import njit


@njit
def sort_suffixes(ranks, size, order, following, counts):
    """Write the order of all suffixes; prefix doubling with counting sort (Manber & Myers 1993).

    ``ranks``, which are overwritten, are below ``size``. ``following`` is scratch for ``size`` numbers, ``counts`` for
    one more.
    """
    for place in range(size):
        following[place] = place
    spread(ranks, size, following, order, counts)
    shift = 1
    distinct = 0
    while distinct < size:
        # Suffixes in the order of what begins ``shift`` further on; then, stably, in the order of their own rank.
        found = 0
        for place in range(max(size - shift, 0), size):
            following[found] = place
            found += 1
        for index in range(size):
            if order[index] >= shift:
                following[found] = order[index] - shift
                found += 1
        spread(ranks, size, following, order, counts)
        # Suffixes that agree in 2 * shift numbers share the new rank.
        rank = 0
        following[order[0]] = 0
        for index in range(1, size):
            one, other = order[index - 1], order[index]
            one_next = ranks[one + shift] if one + shift < size else -1
            other_next = ranks[other + shift] if other + shift < size else -1
            if ranks[one] != ranks[other] or one_next != other_next:
                rank += 1
            following[other] = rank
        for place in range(size):
            ranks[place] = following[place]
        distinct = rank + 1
        shift *= 2
    return 0


@njit
def spread(ranks, size, places, order, counts):
    """Sort ``places`` stably by rank into ``order``."""
    for rank in range(size + 1):
        counts[rank] = 0
    for place in range(size):
        counts[ranks[place] + 1] += 1
    for rank in range(size):
        counts[rank + 1] += counts[rank]
    for index in range(size):
        rank = ranks[places[index]]
        order[counts[rank]] = places[index]
        counts[rank] += 1


@njit
def common_prefixes(tokens, size, order, positions, shared):
    """Write how many numbers each suffix shares with the one before it (Kasai et al. 2001)."""
    for index in range(size):
        positions[order[index]] = index
    length = 0
    for place in range(size):
        index = positions[place]
        if index == 0:
            shared[index] = 0
            length = 0
            continue
        other = order[index - 1]
        while place + length < size and other + length < size and tokens[place + length] == tokens[other + length]:
            length += 1
        shared[index] = length
        length = max(length - 1, 0)
    return 0
