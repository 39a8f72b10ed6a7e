"""A running mean of the weights, which often predicts better than the weights themselves (Polyak & Juditsky 1992)."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from groundup.distributed.shards import Stored
from groundup.model import Transformer


class Average:
    """mean ← d · mean + (1 - d) · weights after each update, in float32.

    d grows from 0 to ``decay``, as (1 + updates) / (10 + updates), so that the first weights are soon forgotten.
    """

    def __init__(self, model: Transformer, decay: float) -> None:
        self.names = [name for name, _ in model.named_parameters()]
        self.parameters: list[Tensor] = list(model.parameters())
        self.decay = decay
        self.updates = 0
        self.mean = [parameter.detach().float().clone() for parameter in self.parameters]

    @torch.no_grad()
    def update(self) -> None:
        """Count the present weights in."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self.mean, self.parameters, 1 - decay)
        self.updates += 1

    @torch.no_grad()
    def _swap(self) -> None:
        for mean, parameter in zip(self.mean, self.parameters, strict=True):
            mean_now = mean.clone()
            mean.copy_(parameter)
            parameter.copy_(mean_now)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within this context the model has the mean weights."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def tensors(self) -> dict[str, Tensor]:
        """The mean by parameter name."""
        return dict(zip(self.names, self.mean, strict=True))

    def restore(self, stored: Stored, updates: int) -> None:
        """Go on from what :meth:`tensors` gave."""
        for name, mean in self.tensors().items():
            stored.fill(name, mean)
        self.updates = updates
