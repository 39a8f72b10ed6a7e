"""Muon: momentum, orthogonalised (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

The update of a weight matrix is its momentum with all singular values pushed to about one, so that every
direction of the matrix learns at the same speed, not only the loudest.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

#: Coefficients of the quintic iteration x ← a·x + b·x³ + c·x⁵, from the Muon reference.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Push the singular values of each matrix [..., rows, columns] to about one, by Newton-Schulz iteration.

    The result is near U·Vᵀ for a matrix U·S·Vᵀ; singular values land in about [0.7, 1.2], which is close
    enough. Works on stacks of matrices and costs a few matrix products, no decomposition.
    """
    a, b, c = COEFFICIENTS
    transposed = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if transposed else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if transposed else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, for weight matrices [out, in], and for stacks of them (experts).

    The update is scaled by 0.2·√max(out, in), which gives it the root-mean-square of a typical AdamW update, so
    that one learning rate and one weight decay serve both (Liu et al. 2025, "Muon is scalable for LLM training").
    Matrices of one shape are updated together as a stack. ``dtype`` is that of the iteration.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.dtype = dtype
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "Muon evaluates no closure"
        for group in self.param_groups:
            stacks: dict[tuple[int, ...], list[Tensor]] = defaultdict(list)
            for parameter in group["params"]:
                if parameter.grad is not None:
                    stacks[tuple(parameter.shape)].append(parameter)
            for shape, parameters in stacks.items():
                gradients = torch.stack([p.grad for p in parameters if p.grad is not None])
                for parameter, gradient in zip(parameters, gradients, strict=True):
                    buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                    buffer.lerp_(gradient, 1 - group["momentum"])
                    gradient.lerp_(buffer, group["momentum"])  # Nesterov: look one step ahead
                updates = orthogonalise(gradients.to(self.dtype)).to(gradients.dtype)
                scale = 0.2 * max(shape[-2:]) ** 0.5
                for parameter, update in zip(parameters, updates, strict=True):
                    parameter.mul_(1 - group["lr"] * group["weight_decay"])
                    parameter.add_(update, alpha=-group["lr"] * scale)
