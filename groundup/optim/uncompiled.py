"""Optimizers that leave PyTorch's compiler where it is.

``torch.optim`` exempts its methods from ``torch.compile`` with decorators that import the compiler at the first call:
more than a second and 60 MB at the start of every training, for a step that nobody compiles.
"""

from collections.abc import Callable
from typing import Any

import torch


def undecorated(method: Callable[..., Any]) -> Callable[..., Any]:
    """The function below the decorator, if it has one."""
    return getattr(method, "__wrapped__", method)


class Uncompiled(torch.optim.Optimizer):
    """An optimizer whose step is never part of what is compiled."""

    add_param_group = undecorated(torch.optim.Optimizer.add_param_group)
    state_dict = undecorated(torch.optim.Optimizer.state_dict)
    load_state_dict = undecorated(torch.optim.Optimizer.load_state_dict)


class AdamW(Uncompiled, torch.optim.AdamW):
    """PyTorch's AdamW (Loshchilov & Hutter 2019)."""

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient."""
        assert closure is None, "AdamW evaluates no closure"
        undecorated(torch.optim.AdamW.step)(self)
