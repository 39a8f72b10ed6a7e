"""Rotary positions as a textbook prints them: frequencies as lists of numbers, turns as complex products.

A head's dimensions are taken in pairs, and each pair is a hand on a clock: at position p it has turned by
p · frequency. The product of a turned query and a turned key then depends on the distance of the two alone.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.model.config import PositionConfig


def rotate(x: Tensor, positions: Tensor, frequencies: Sequence[float], magnitude: float = 1.0) -> Tensor:
    """Turn the pairs of x [..., time, size] (Su et al. 2021).

    Pair i is (x[i], x[i + n]) for the n ``frequencies``, and as a complex number turns by a factor
    e^(𝑖 · position · frequency); dimensions beyond the first 2 · n pass. ``positions`` is [time]; ``magnitude`` is
    YaRN's and 1 otherwise.
    """
    first, second, rest = x.split([len(frequencies), len(frequencies), x.shape[-1] - 2 * len(frequencies)], dim=-1)
    angles = positions.to(x.dtype)[:, None] * torch.tensor(frequencies, dtype=x.dtype, device=x.device)
    turned = torch.complex(first, second) * torch.polar(torch.full_like(angles, magnitude), angles)
    return torch.cat([turned.real, turned.imag, rest], dim=-1)


def rotary_frequencies(size: int, base: float) -> list[float]:
    """Radians per position of each of the ``size`` / 2 pairs: 1 for the first, nearly 1 / ``base`` for the last."""
    return [base ** (-2 * pair / size) for pair in range(size // 2)]


def linear_scaling(frequencies: Sequence[float], factor: float) -> list[float]:
    """All pairs turn ``factor`` times slower: positions are squeezed into the trained range (Chen et al. 2023)."""
    return [frequency / factor for frequency in frequencies]


def ntk_scaling(frequencies: Sequence[float], factor: float) -> list[float]:
    """The first pair turns as before, the last ``factor`` times slower, in even ratios ("NTK-aware", bloc97 2023).

    The same as a larger base, base · factor^(size / (size - 2)).
    """
    last = max(len(frequencies) - 1, 1)
    return [frequency / factor ** (pair / last) for pair, frequency in enumerate(frequencies)]


def llama3_scaling(
    frequencies: Sequence[float], factor: float, original_context: int, low_frequency: float, high_frequency: float
) -> list[float]:
    """Slow pairs turn ``factor`` times slower, fast ones as before, those between in proportion (Llama 3.1, 2024).

    A pair is judged by its turns over the trained context: slow is below ``low_frequency``, fast above
    ``high_frequency``.
    """
    scaled = []
    for frequency in frequencies:
        turns = original_context * frequency / (2 * math.pi)
        kept = (turns - low_frequency) / (high_frequency - low_frequency)
        kept = min(max(kept, 0.0), 1.0)
        scaled.append(kept * frequency + (1 - kept) * frequency / factor)
    return scaled


def yarn_scaling(
    size: int, base: float, factor: float, original_context: int, beta_fast: float, beta_slow: float
) -> list[float]:
    """Like :func:`llama3_scaling`, but in proportion to a pair's number (YaRN, Peng et al. 2024, as its code has it).

    Pair i turns original_context · base^(-2i / size) / 2π times over the trained context; solved for i, this gives the
    first pair that is not fast (``beta_fast`` turns) and the last that is not slow (``beta_slow``).
    """

    def pair_of(turns: float) -> float:
        return size * math.log(original_context / (2 * math.pi * turns)) / (2 * math.log(base))

    first = max(math.floor(pair_of(beta_fast)), 0)
    last = min(math.ceil(pair_of(beta_slow)), size - 1)
    scaled = []
    for pair, frequency in enumerate(rotary_frequencies(size, base)):
        stretched = (pair - first) / max(last - first, 0.001)
        stretched = min(max(stretched, 0.0), 1.0)
        scaled.append((1 - stretched) * frequency + stretched * frequency / factor)
    return scaled


def yarn_magnitude(factor: float) -> float:
    """What YaRN multiplies queries and keys by, so that weights stay as sharp over more tokens (eq. 22)."""
    return 0.1 * math.log(factor) + 1


def stretched_frequencies(size: int, config: PositionConfig, *, local: bool = False) -> tuple[list[float], float]:
    """A model's frequencies of ``size`` / 2 pairs, and its magnitude; ``local`` is of a windowed layer."""
    base, factor, trained = config.base, config.factor, config.original_context
    if local and config.local_base:
        return rotary_frequencies(size, config.local_base), 1.0
    frequencies = rotary_frequencies(size, base)
    if config.scaling == "linear":
        return linear_scaling(frequencies, factor), 1.0
    if config.scaling == "ntk":
        return ntk_scaling(frequencies, factor), 1.0
    if config.scaling == "llama3":
        return llama3_scaling(frequencies, factor, trained, config.low_frequency, config.high_frequency), 1.0
    if config.scaling == "yarn":
        frequencies = yarn_scaling(size, base, factor, trained, config.beta_fast, config.beta_slow)
        return frequencies, config.magnitude or yarn_magnitude(factor)
    return frequencies, 1.0


def sinusoidal_positions(positions: Sequence[int], width: int) -> Tensor:
    """Sine and cosine, in turn, of position · each of rotary's frequencies [time, width] (Vaswani et al. 2017)."""
    vectors = []
    for position in positions:
        angles = [position * 10_000.0 ** (-2 * (dimension // 2) / width) for dimension in range(width)]
        vectors.append(
            [math.cos(angle) if dimension % 2 else math.sin(angle) for dimension, angle in enumerate(angles)]
        )
    return torch.tensor(vectors, dtype=torch.float64)
