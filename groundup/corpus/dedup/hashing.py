"""Text and numbers → hashes that are the same on every machine and in every process."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Hashes = NDArray[np.uint64]


def mix(keys: Hashes) -> Hashes:
    """The finaliser of SplitMix64 (Steele et al. 2014): a bijection that spreads every bit over all others."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return keys ^ (keys >> np.uint64(31))


def text_hash(text: str) -> tuple[int, int]:
    """BLAKE2b of a text as (64 bits, 32 bits): at 10¹² texts two different ones share it with probability 10⁻⁵."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=12).digest()
    return int.from_bytes(digest[:8], "little"), int.from_bytes(digest[8:], "little")


#: What one place further to the left counts in the hash of a run: 2⁶⁴ / golden ratio, as in SplitMix64.
STEP = 0x9E3779B97F4A7C15


def run_hashes(hashes: Hashes, length: int, step: int = STEP) -> Hashes:
    """A hash for every run of ``length`` hashes: mix(Σ hash · step^(places behind it)); empty when there are fewer.

    Runs of 1, 2, 4, 8 … are made from those half as long, and joined to ``length``.
    """
    runs = max(len(hashes) - length + 1, 0)
    joined, joined_length = np.zeros(len(hashes) + 1, dtype=np.uint64), 0
    part, part_length = hashes, 1
    while runs:
        if length & part_length:
            weight = np.uint64(pow(step, part_length, 2**64))
            joined = joined[: len(part) - joined_length] * weight + part[joined_length:]
            joined_length += part_length
        if 2 * part_length > length:
            break
        weight = np.uint64(pow(step, part_length, 2**64))
        part = part[:-part_length] * weight + part[part_length:]
        part_length *= 2
    return mix(joined[:runs])
