"""Where tokens stand: rotary angles and their stretching, ALiBi's slopes, sinusoidal vectors.

Enters: positions [batch, time]. Leaves: what the model turns, adds or subtracts at them. Nothing is stored: frequencies
are computed in float32 wherever the positions are.
"""

import math
from typing import Any

import torch
from torch import Tensor

from groundup.model.config import PositionConfig

#: Cosine and sine [batch, 1, time, rotary_size / 2].
Angles = tuple[Tensor, Tensor]


def rotary_angles(positions: Tensor, size: int, config: PositionConfig, *, local: bool = False) -> Angles:
    """Cosine and sine of the rotation at each position (Su et al. 2021).

    Args:
        positions: [batch, time] or [1, time].
        size: dimensions that turn, in pairs (x[i], x[i + size/2]).
        config: base and stretching.
        local: of a windowed layer, which may have a base of its own.
    """
    own_base = local and config.local_base > 0
    frequencies = rotary_frequencies(size, config, local=own_base, device=positions.device)
    angles = positions[:, None, :, None].float() * frequencies
    magnitude = 1.0 if own_base else rotary_magnitude(config)
    return angles.cos() * magnitude, angles.sin() * magnitude


def rotary_frequencies(
    size: int, config: PositionConfig, *, local: bool = False, device: torch.device | None = None
) -> Tensor:
    """Radians per position of each pair [size / 2]: base^(-2i / size), stretched as ``config.scaling`` says.

    - linear (Chen et al. 2023): every frequency divided by the factor: positions are interpolated.
    - ntk: a larger base, so that the slowest pair is stretched by the factor and the fastest not at all.
    - yarn (Peng et al. 2024): pairs that turn often over the trained length stay, those that turn less than
      once are interpolated, with a ramp between.
    - llama3: the same idea by wavelength, as Llama 3.1 was trained.
    """
    pairs = torch.arange(0, size, 2, device=device, dtype=torch.float32) / size
    if local:
        return 1.0 / config.local_base**pairs
    factor, trained = config.factor, config.original_context
    if config.scaling == "ntk":
        return 1.0 / (config.base * factor ** (size / max(1, size - 2))) ** pairs
    periods = config.base**pairs
    frequencies = 1.0 / periods
    if config.scaling == "linear":
        return frequencies / factor
    if config.scaling == "yarn":
        kept = 1 - _ramp(size, config, device)
        return 1.0 / (factor * periods) * (1 - kept) + frequencies * kept
    if config.scaling == "llama3":
        turns = trained / (2 * math.pi / frequencies)  # over the trained length
        kept = ((turns - config.low_frequency) / (config.high_frequency - config.low_frequency)).clamp(0, 1)
        return (1 - kept) * frequencies / factor + kept * frequencies
    return frequencies


def rotary_magnitude(config: PositionConfig) -> float:
    """YaRN's factor of queries and keys, which sharpens attention over longer sequences; 1 without it."""
    if config.scaling != "yarn":
        return 1.0
    return config.magnitude or 0.1 * math.log(config.factor) + 1.0


def _ramp(size: int, config: PositionConfig, device: torch.device | None) -> Tensor:
    """YaRN's share of interpolation of each pair [size / 2]: 0 for the fast ones, 1 for the slow ones."""

    def pair_that_turns(times: float) -> float:
        return size * math.log(config.original_context / (times * 2 * math.pi)) / (2 * math.log(config.base))

    low = max(math.floor(pair_that_turns(config.beta_fast)), 0)
    high = min(math.ceil(pair_that_turns(config.beta_slow)), size - 1)
    pairs = torch.arange(size // 2, device=device, dtype=torch.float32)
    return ((pairs - low) / max(high - low, 0.001)).clamp(0, 1)


def rotate(x: Tensor, angles: Angles) -> Tensor:
    """Turn the first dimensions of x [batch, heads, time, head_size] by the angles; those beyond them stay."""
    return _Rotation.apply(x, *angles)


class _Rotation(torch.autograd.Function):
    """The gradient of a rotation is the rotation back, so nothing but the angles is kept for it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turned(x, cosine, sine)

    @staticmethod
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turned(above, cosine, -sine), None, None


def _turned(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    half = cosine.shape[-1]
    first, second, rest = x[..., :half].float(), x[..., half : 2 * half].float(), x[..., 2 * half :]
    turned = (torch.addcmul(first * cosine, second, sine, value=-1), torch.addcmul(second * cosine, first, sine))
    return torch.cat((*(part.type_as(x) for part in turned), rest), dim=-1)


def alibi_slopes(heads: int, device: torch.device | None = None) -> Tensor:
    """How much each head's scores fall per token of distance [heads] (Press et al. 2022).

    A geometric series from 2^(-8/n) to 2^-8 for a power of two of n heads; for others, every second slope of the
    next power fills up.
    """
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (head + 1) / power) for head in range(power)]
    slopes += [2 ** (-4 * (2 * head + 1) / power) for head in range(heads - power)]
    return torch.tensor(slopes, device=device)


def sinusoidal(positions: Tensor, width: int) -> Tensor:
    """Sines (even dimensions) and cosines (odd ones) of the position [..., width] (Vaswani et al. 2017)."""
    pairs = torch.arange(0, width, 2, device=positions.device, dtype=torch.float32) / width
    angles = positions[..., None].float() / 10_000.0**pairs
    return torch.stack((angles.sin(), angles.cos()), dim=-1).flatten(-2)[..., :width]
