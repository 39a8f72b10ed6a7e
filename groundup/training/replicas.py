"""A step whose rows are dealt among replicas, who may come and go, for the same loop.

All replicas draw the same batches. Each computes the gradients of its rows, as many as fall to it in the present step,
of a loss that is divided by the terms of all: their sum is the gradient of one process, however many they are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from groundup.dataloader import Batch
from groundup.distributed.replicas import BrokenError, Replicas
from groundup.model.experts import Experts
from groundup.training.step import Measured, Stepper


def own_rows(micro: Sequence[Batch], place: int, count: int) -> list[Batch]:
    """What the replica at ``place`` of ``count`` computes of these batches, but for what has no target."""
    parts = [part for batch in micro if batch.weight for part in batch.split(count)[place : place + 1]]
    return [part for part in parts if part.weight]


@dataclass
class ReplicaStepper(Stepper):
    """Computes gradients of its rows, and adds up those of all replicas."""

    loads: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    """What each layer's experts had to do, and had before the present step."""

    def gradients(self, micro: Sequence[Batch], step: int) -> Measured | None:
        """Leave the gradients of the whole step in the master's parameters; None if nothing has a target, or if another
        replica died on the way, as :meth:`agreed` then says."""
        assert self.replicas is not None
        layers = [module for module in self.working.model.modules() if isinstance(module, Experts)]
        self.loads = [(layer.load, layer.load.clone()) for layer in layers]
        weight = sum(batch.weight for batch in micro)
        if weight == 0:
            return None
        try:
            return self._summed(self._gradients(own_rows(micro, *self.replicas.place), weight, step), self.replicas)
        except BrokenError:
            return None

    @torch.no_grad()
    def _summed(self, own: Measured, replicas: Replicas) -> Measured:
        """Of all replicas; also of what their experts had to do."""
        parameters = [each for each in self.working.master.parameters() if each.requires_grad]
        lacking = [number for number, parameter in enumerate(parameters) if parameter.grad is None]
        said: dict[str, Any] = {"loss": own.loss, "metrics": own.metrics, "lacking": lacking}
        told = replicas.gathered(said)
        nobody = set(lacking).intersection(*(each["lacking"] for each in told))
        gradients = []
        for number, parameter in enumerate(parameters):
            if number not in nobody:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
        for load, before in self.loads:
            load -= before
        replicas.sum([*gradients, *(load for load, _ in self.loads)])
        for load, before in self.loads:
            load += before
        names = dict.fromkeys(name for each in told for name in each["metrics"])
        metrics = {name: sum(each["metrics"].get(name, 0.0) for each in told) for name in names}
        loss = sum(each["loss"] for each in told)
        return replace(own, loss=loss, gradient_norm=float(self._norm()), metrics=metrics)

    def agreed(self) -> bool:
        """Whether the sums arrived."""
        assert self.replicas is not None
        if self.replicas.agreed():
            return True
        for load, before in self.loads:
            load.copy_(before)
        return False

    def release(self) -> None:
        """The training is over: the model is itself again, and the other replicas go on without this one."""
        assert self.replicas is not None
        super().release()
        self.replicas.close()
