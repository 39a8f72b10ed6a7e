"""The parts of a block that are not attention: normalisation, rotary positions, feed-forward."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class RMSNorm(nn.Module):
    """x / rms(x) · scale over the last axis (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, size: int, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., size] → [..., size], in x's dtype."""
        return F.rms_norm(x.float(), (x.shape[-1],), self.scale.float(), self.epsilon).type_as(x)


def rotary_angles(positions: Tensor, head_size: int, base: float) -> tuple[Tensor, Tensor]:
    """Cosine and sine [batch, 1, time, head_size / 2] of the rotation at each position (Su et al. 2021).

    ``positions`` is [batch, time] or [1, time]. Pair i turns by ``position · base^(-2i / head_size)``.
    """
    exponents = torch.arange(0, head_size, 2, device=positions.device, dtype=torch.float32) / head_size
    angles = positions[:, None, :, None].float() * base**-exponents
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Turn the pairs (x[i], x[i + head_size/2]) of x [batch, heads, time, head_size] by the given angles."""
    first, second = x.float().chunk(2, dim=-1)
    return torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1).type_as(x)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) · up(x)), without biases (Shazeer 2020)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.up = nn.Linear(width, hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        return self.down(F.silu(self.gate(x)) * self.up(x))
