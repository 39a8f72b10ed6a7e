"""Lion: the sign of the momentum (Chen et al. 2023, "Symbolic discovery of optimization algorithms").

Remembers half of what AdamW does. All weights move by the learning rate, three to ten times as far as AdamW's: its
rate is that much smaller, and its decay that much larger.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from groundup.optim.uncompiled import Uncompiled


class Lion(Uncompiled):
    """Lion for any parameters.

    Args:
        parameters: tensors, or groups of them.
        lr: learning rate, the size of every step.
        betas: share of the mean gradient in what gives the sign, and of the old mean in the new one.
        weight_decay: decoupled: times the rate is what weights lose of themselves in a step.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(parameters, {"lr": lr, "betas": betas, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "Lion evaluates no closure"
        for group in self.param_groups:
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        for parameter in parameters:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        means = [self.state[parameter]["momentum"] for parameter in parameters]
        beta1, beta2 = group["betas"]
        updates = torch._foreach_lerp(gradients, means, beta1)
        torch._foreach_sign_(updates)
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        torch._foreach_add_(parameters, updates, alpha=-group["lr"])
        torch._foreach_lerp_(means, gradients, 1 - beta2)
