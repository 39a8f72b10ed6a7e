"""Randomness that is a function of (seed, names), never of history.

Every random choice of a run draws from a generator derived from the recipe's seed and the names of
what it is for: ``generator(seed, "pretrain", epoch)``. A resumed run needs no generator state
to repeat exactly what an uninterrupted run does, and one stage's draws never shift another's.
"""

import hashlib
import random
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch


def derive_seed(seed: int, *names: object) -> int:
    """A 63-bit seed from ``seed`` and ``names``; equal arguments give equal seeds on every platform."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def python_rng(seed: int, *names: object) -> random.Random:
    """The standard library's generator for (seed, names)."""
    return random.Random(derive_seed(seed, *names))


def numpy_rng(seed: int, *names: object) -> np.random.Generator:
    """NumPy's PCG64 generator for (seed, names)."""
    return np.random.Generator(np.random.PCG64(derive_seed(seed, *names)))


def torch_rng(seed: int, *names: object) -> "torch.Generator":
    """A CPU torch generator for (seed, names)."""
    import torch  # takes seconds, and most who draw at random never need it

    return torch.Generator().manual_seed(derive_seed(seed, *names))
