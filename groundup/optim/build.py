"""Which parameter gets which rule.

Hidden matrices get Muon; embeddings, the head, routers and everything one-dimensional get AdamW
(Loshchilov & Hutter 2019), and one-dimensional parameters are never decayed.
"""

from dataclasses import dataclass

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

    def __post_init__(self) -> None:
        for name in ("matrix_rate", "rate", "weight_decay"):
            if getattr(self, name) < 0:
                raise UsageError(f"optimizer.{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"optimizer.{name} is {getattr(self, name)}; it must be at least 0 and below 1")


def build_optimizers(
    model: Transformer, config: OptimizerConfig, dtype: torch.dtype = torch.float32
) -> list[torch.optim.Optimizer]:
    """The optimizers that together update every parameter of ``model`` once.

    Each group remembers its full rate as ``full_lr``, which the loop multiplies by the schedule's factor.
    """
    matrices, tables, vectors = [], [], []
    outer = {
        id(module.weight)
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding) or name == "head" or name.endswith("router")
    }
    for name, parameter in model.named_parameters():
        if parameter.ndim < 2 or name == "stream_scales":
            vectors.append(parameter)
        elif id(parameter) in outer:
            tables.append(parameter)
        else:
            matrices.append(parameter)
    optimizers: list[torch.optim.Optimizer] = []
    groups = [
        {"params": tables, "weight_decay": config.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
    ]
    if matrices and config.matrix_rate:
        optimizers.append(Muon(matrices, config.matrix_rate, config.momentum, config.weight_decay, dtype))
    elif matrices:
        # μP (Yang et al. 2022): AdamW's steps of hidden matrices shrink with the width. Muon's need not: they are
        # orthogonal, of one size at any width.
        narrower = model.config.mup_width / model.config.width if model.config.mup_width else 1.0
        groups.append({"params": matrices, "weight_decay": config.weight_decay, "lr": config.rate * narrower})
    optimizers.append(torch.optim.AdamW(groups, config.rate, (config.beta1, config.beta2), eps=1e-10, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return optimizers
