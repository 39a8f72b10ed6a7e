"""The parts of a block that are neither attention nor experts: norms and the feed-forward layer."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from groundup.model.config import FEED_FORWARDS, ModelConfig


def _relu2(x: Tensor) -> Tensor:
    """relu(x)² (So et al. 2021, Primer)."""
    return F.relu(x).square()


def _gelu_tanh(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "relu2": _relu2,
    "gelu": F.gelu,
    "gelu-tanh": _gelu_tanh,
    "silu": F.silu,
}


def dropout(x: Tensor, share: float, training: bool) -> Tensor:
    """Zero ``share`` of x's elements in training, and scale the others up so that the mean stays.

    PyTorch draws a number of its own for each element; drawing them takes longer than a small layer on a CPU. There,
    each draw of 64 bits serves four elements: ``share`` is rounded to a multiple of 2⁻¹⁶.
    """
    if not training or not share or x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, share, training)
    draws = torch.empty(-(-x.numel() // 4), dtype=torch.int64).random_(-(2**63), None)
    dropped = min(round(share * 2**16), 2**16 - 1)
    kept = draws.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - 2**15
    return x * kept.to(x.dtype).mul_(2**16 / (2**16 - dropped))


class RMSNorm(nn.Module):
    """x / rms(x) · scale over the last axis (Zhang & Sennrich 2019), computed in float32."""

    def __init__(self, size: int, epsilon: float = 1e-5, offset: bool = False) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.offset = offset
        self.scale = nn.Parameter(torch.zeros(size) if offset else torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., size] → [..., size], in x's dtype."""
        scale = self.scale.float() + 1 if self.offset else self.scale.float()
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            normed: Tensor = _RMSNorm.apply(x.float(), scale, self.epsilon)
        else:
            normed = F.rms_norm(x.float(), (x.shape[-1],), scale, self.epsilon)
        return normed.type_as(x)


class _RMSNorm(torch.autograd.Function):
    """What PyTorch does on a CPU in a dozen operations, in half as many, and keeping half as much for backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scale: Tensor, epsilon: float) -> Tensor:
        size = x.shape[-1]
        inverse = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(size).add_(epsilon).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, scale)
        return unit * scale

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None]:
        unit, inverse, scale = ctx.saved_tensors
        slope = above * scale
        along = torch.linalg.vecdot(slope, unit)[..., None].div_(unit.shape[-1])  # only the direction of x counts
        scale_gradient = (above * unit).flatten(0, -2).sum(0)
        return slope.addcmul_(unit, along, value=-1).mul_(inverse), scale_gradient, None


class LayerNorm(nn.Module):
    """(x - mean(x)) / deviation(x) · scale + bias over the last axis (Ba et al. 2016), computed in float32."""

    def __init__(self, size: int, epsilon: float = 1e-5, bias: bool = False) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.scale = nn.Parameter(torch.ones(size))
        self.bias = nn.Parameter(torch.zeros(size)) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """x [..., size] → [..., size], in x's dtype."""
        bias = None if self.bias is None else self.bias.float()
        return F.layer_norm(x.float(), (x.shape[-1],), self.scale.float(), bias, self.epsilon).type_as(x)


def norm(config: ModelConfig) -> nn.Module:
    """The norm of the residual stream that ``config`` asks for."""
    if config.norm == "layer":
        return LayerNorm(config.width, config.norm_epsilon, config.norm_bias)
    return RMSNorm(config.width, config.norm_epsilon, config.norm_offset)


def query_key_norm(config: ModelConfig, heads: int) -> nn.Module:
    """The norm of ``heads`` queries or keys: of each head, of all together, or none."""
    if config.qk_norm == "none":
        return nn.Identity()
    size = config.head_size * (heads if config.qk_norm == "all" else 1)
    return RMSNorm(size, config.norm_epsilon, config.norm_offset)


def table(rows: int, size: int) -> nn.Embedding:
    """An embedding of normal vectors, drawn so that one on the meta device does not load the compiler first."""
    return nn.Embedding(rows, size, _weight=torch.randn(rows, size))


class FeedForward(nn.Module):
    """down(activation(up(x))), or with a gate down(activation(gate(x)) · up(x)) (Shazeer 2020)."""

    def __init__(self, config: ModelConfig, hidden: int) -> None:
        super().__init__()
        activation, gated = FEED_FORWARDS[config.feed_forward]
        bias = config.bias == "all"
        self.activation = ACTIVATIONS[activation]
        self.gate = nn.Linear(config.width, hidden, bias=bias) if gated else None
        self.up = nn.Linear(config.width, hidden, bias=bias)
        self.down = nn.Linear(hidden, config.width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        if self.gate is None:
            return self.down(self.activation(self.up(x)))
        return self.down(self.activation(self.gate(x)) * self.up(x))
