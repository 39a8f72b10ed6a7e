"""Which parameter gets which rule.

Hidden matrices get Muon; embeddings, the head, routers and everything one-dimensional get AdamW
(Loshchilov & Hutter 2019), and one-dimensional parameters are never decayed.

μP (Yang et al. 2022) keeps the spectral norm of a step relative to that of the matrix (Yang, Simon & Bernstein 2023):
for a matrix that reads the residual stream AdamW's grows with the width, Muon's with its root, so their rates shrink as
much. What the rate times the decay takes from the weights stays the same (Wang & Aitchison 2024).
"""

from dataclasses import dataclass, replace

import torch
from torch import nn

from groundup.core.errors import UsageError
from groundup.model import Transformer
from groundup.optim.muon import Muon


@dataclass(frozen=True)
class OptimizerConfig:
    """Rates and decays."""

    matrix_rate: float = 0.01
    """Muon's learning rate for hidden matrices; 0 trains them with AdamW at `rate` instead."""
    rate: float = 0.004
    """AdamW's learning rate for the embedding, the head and the norms."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices, multiplied by the learning rate."""
    momentum: float = 0.95
    """Muon's momentum."""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient."""
    beta2: float = 0.95
    """AdamW's decay of the mean squared gradient."""
    tuned_width: int = 0
    """model.width at which the rates were tuned: for another they are multiplied by √(tuned-width / width), as the
    steps of wider layers must be smaller; 0: use them as they are."""

    def __post_init__(self) -> None:
        for name in ("matrix_rate", "rate", "weight_decay", "tuned_width"):
            if getattr(self, name) < 0:
                raise UsageError(f"optimizer.{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"optimizer.{name} is {getattr(self, name)}; it must be at least 0 and below 1")

    def for_width(self, width: int) -> "OptimizerConfig":
        """With the rates of a model this wide."""
        if self.tuned_width in (0, width):
            return self
        factor = (self.tuned_width / width) ** 0.5
        return replace(self, matrix_rate=self.matrix_rate * factor, rate=self.rate * factor, tuned_width=width)


def build_optimizers(
    model: Transformer, config: OptimizerConfig, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """The optimizers that together update every parameter of ``model`` once.

    Each group remembers its full rate as ``full_lr``, which the loop multiplies by the schedule's factor.
    """
    matrices, routers, tables, vectors = [], [], [], []
    outer = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or name == "head"
    }
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or name == "stream_scales":
            vectors.append(parameter)
        elif id(parameter) in outer:
            tables.append(parameter)
        elif name.endswith("router.weight"):
            routers.append(parameter)
        else:
            matrices.append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    groups = [
        {"params": tables, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    narrower = model.config.mup_width / model.config.width if model.config.mup_width else 1.0
    if matrices and config.matrix_rate:
        rate, decay = config.matrix_rate * narrower**0.5, config.weight_decay / narrower**0.5
        optimizers.append(Muon(matrices, rate, config.momentum, decay, dtype))
        matrices = []
    if readers := [*matrices, *routers]:
        rate, decay = config.rate * narrower, config.weight_decay / narrower
        groups.append({"params": readers, "weight_decay": decay, "lr": rate})
    optimizers.append(torch.optim.AdamW(groups, config.rate, (config.beta1, config.beta2), eps=1e-10, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return optimizers
