"""Random orders of any length that are functions: nothing is written down, and any place can be asked for.

Enters: a length, a seed and names. Leaves: place → item, each item at exactly one place.
"""

from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.core.seeding import numpy_rng

#: Orders of up to so many items are drawn as a whole (8 MB), each with the same probability.
DRAWN = 2**20
#: Of the Feistel network: four suffice for ideal functions (Luby & Rackoff 1988), and ours are not ideal.
ROUNDS = 8


class Permutation:
    """A random order of 0 … ``size`` - 1 that depends on nothing but (size, seed, names)."""

    def __init__(self, size: int, seed: int, *names: object) -> None:
        self.size = size
        rng = numpy_rng(seed, *names)
        self._drawn = rng.permutation(size) if size <= DRAWN else None
        self._keys = rng.integers(0, 2**64, ROUNDS, np.uint64)

    def __call__(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """The items at ``places``, of any shape."""
        return feistel(places, self.size, self._keys) if self._drawn is None else self._drawn[places]


def feistel(places: NDArray[np.int64], size: int, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """A permutation of 0 … ``size`` - 1 chosen by ``keys``, at ``places``.

    A Feistel network over pairs permutes the smallest square that holds ``size``; what falls outside goes through it
    again until it is inside, which keeps it a permutation (Black & Rogaway 2002, "Ciphers with arbitrary finite
    domains", cycle-walking and the generalised Feistel construction).
    """
    side = np.uint64(isqrt(size - 1) + 1)
    items = _network(places.astype(np.uint64), side, keys)
    while np.any(outside := items >= size):
        items[outside] = _network(items[outside], side, keys)
    return items.astype(np.int64)


def _network(items: NDArray[np.uint64], side: np.uint64, keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Permute 0 … side² - 1: each round adds a function of one half to the other, which can be taken back."""
    left, right = np.divmod(items, side)
    for key in keys:
        left, right = right, (left + _mixed(right ^ key) % side) % side
    return left * side + right


def _mixed(bits: NDArray[np.uint64]) -> NDArray[Any]:
    """A hash of each number (the finaliser of SplitMix64; Steele et al. 2014, "Fast splittable generators")."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))
