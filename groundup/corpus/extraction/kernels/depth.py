# mypy: ignore-errors
"""The bytes of a page → how many of its elements are open at once; ``nesting.py`` has the same in plain Python."""

import numpy as np
from numba import njit

NESTED, VOID, SIBLING, CONTAINER, FORMATTING = range(5)
LESS, GREATER, SLASH, SPACE = 0x3C, 0x3E, 0x2F, 0x20
OFFSET, PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)


@njit(inline="always")
def lower(byte):
    return byte + 32 if 65 <= byte <= 90 else byte


@njit(inline="always")
def ends_name(byte):
    """White space, a slash or the end of the tag."""
    return byte in (SPACE, SLASH, GREATER) or 9 <= byte <= 13


@njit
def kind_of(tag, hashes, kinds, known):
    for place in range(known):
        if hashes[place] == tag:
            return kinds[place]
    return NESTED


@njit
def height_of(tag, opening, stack, height, hashes, kinds, known):
    """Where on the stack the last open ``tag`` is; -1 if nowhere, or out of an opening tag's reach."""
    for place in range(height - 1, -1, -1):
        if stack[place] == tag:
            return place
        if opening and kind_of(stack[place], hashes, kinds, known) == CONTAINER:
            return -1
    return -1


@njit
def depth(text, length, limit, hashes, kinds, known, stack):
    """As ``nesting_plain``; ``hashes`` and ``kinds`` [known]: the special tags; ``stack`` [limit + 2]: work space."""
    height = 0
    formatting = 0
    deepest = 0
    place = 0
    while place < length:
        byte = text[place]
        place += 1
        if byte != LESS or place >= length:
            continue
        closing = text[place] == SLASH
        first = place + 1 if closing else place
        if first >= length or not 97 <= lower(text[first]) <= 122:
            continue
        place = first
        tag = OFFSET
        while place < length and not ends_name(text[place]):
            tag = (tag ^ np.uint64(lower(text[place]))) * PRIME
            place += 1
        kind = kind_of(tag, hashes, kinds, known)
        if kind == VOID:
            continue
        if kind == FORMATTING:
            formatting = max(0, formatting - 1 if closing else formatting + 1)
        else:
            if closing or kind == SIBLING:
                found = height_of(tag, not closing, stack, height, hashes, kinds, known)
                height = found if found >= 0 else height
            if not closing:
                stack[height] = tag
                height += 1
        deepest = max(deepest, height + formatting)
        if deepest > limit:
            return deepest
    return deepest
