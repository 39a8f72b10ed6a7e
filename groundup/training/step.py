"""One step: micro-batches → gradients → an update, or a reason why there is none.

The loss of every micro-batch is divided by the weight of the whole step, so that neither accumulation nor splitting
nor sharing it among processes changes what a token counts.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from groundup.core.device import Numerics, autocast, means_no_memory
from groundup.core.errors import TrainingError
from groundup.core.seeding import derive_seed
from groundup.dataloader import Batch
from groundup.distributed import share
from groundup.objectives import Objective
from groundup.training.working import Working

#: The first factor of a scaled loss, and the steps without overflow after which it is doubled.
FIRST_SCALE = 2.0**16
SCALE_STEPS = 2000


@dataclass
class LossScale:
    """The factor that keeps small float16 gradients from vanishing: halved when they overflow, doubled when they have
    not for long (Micikevicius et al. 2018)."""

    factor: float = 1.0
    good: int = 0

    def update(self, finite: bool) -> None:
        """Learn whether the gradients of a step were finite."""
        self.good = self.good + 1 if finite else 0
        if not finite:
            self.factor = max(1.0, self.factor / 2)
        elif self.good == SCALE_STEPS:
            self.factor, self.good = self.factor * 2, 0


@dataclass
class Measured:
    """What a step's forward and backward passes gave."""

    loss: float
    """Mean over the step's terms."""
    gradient_norm: float
    """Before clipping."""
    metrics: dict[str, float]
    """Of objective and source, averaged by weight."""

    @property
    def finite(self) -> bool:
        """Whether an update can be made of it."""
        return math.isfinite(self.loss) and math.isfinite(self.gradient_norm)


@dataclass
class Stepper:
    """Computes gradients and applies them.

    ``split`` is how many parts each micro-batch is computed in; where memory runs out it is doubled, if ``fit`` allows.
    """

    working: Working
    objective: Objective
    numerics: Numerics
    device: torch.device
    clip: float
    seed: int
    fit: bool = False
    split: int = 1
    scale: LossScale | None = None

    def gradients(self, micro: Sequence[Batch], step: int) -> Measured | None:
        """Leave the step's gradients in the master's parameters, not yet clipped; None if nothing has a target.

        Raises:
            RuntimeError: the memory does not suffice, and cannot be made to.
        """
        weight = sum(batch.weight for batch in micro)
        if len(set(self.working.sharding.world.gathered(weight))) > 1:
            raise TrainingError("the processes drew different batches; train on devices of one kind")
        if weight == 0:
            return None
        while True:
            try:
                return self._gradients([batch for batch in micro if batch.weight], weight, step)
            except (MemoryError, RuntimeError) as error:
                rows = max(len(batch.tensors["inputs"]) // (2 if batch.paired else 1) for batch in micro)
                if not (self.fit and means_no_memory(error) and self.split < rows):
                    raise
                self.split *= 2
            self.working.clear()  # outside of the handler, which would keep the failed graph alive
            if self.device.type != "cpu":
                torch.accelerator.memory.empty_cache()

    def _gradients(self, micro: Sequence[Batch], weight: int, step: int) -> Measured:
        config, sharding = self.working.model.config, self.working.sharding
        factor = 1.0 if self.scale is None else self.scale.factor
        losses: list[torch.Tensor] = []
        metrics: dict[str, float] = {}
        shares = [share(batch, sharding.world) for batch in micro]
        together = sharding.mesh is not None  # then all compute, those without a target, too
        parts = [part for batch in shares for part in batch.split(self.split) if part.weight or together]
        for number, part in enumerate(parts):
            part = _to_device(part, self.device)
            if config.dropout or config.attention.dropout:  # noise is a function of seed and place, never of history
                place = (sharding.world.rank,) if sharding.world.rank else ()
                torch.manual_seed(derive_seed(self.seed, "dropout", step, number, *place))
            sharding.last(self.working.model, number + 1 == len(parts))
            with autocast(self.device, self.numerics.dtype):
                loss = self.objective(self.working.callable, part) / weight
            if not part.weight:
                loss = 0 * loss  # of a row that stands in for none: its graph is needed, its value is not
            (loss * factor if self.scale else loss).backward()
            self.working.bring_gradients()
            losses.append(loss.detach())
            for key, value in part.metrics.items():
                metrics[key] = metrics.get(key, 0.0) + value * part.weight / weight
        if self.scale is not None:
            for parameter in self.working.master.parameters():
                if parameter.grad is not None:
                    parameter.grad /= factor
        norm = sharding.norm(p.grad for p in self.working.master.parameters() if p.grad is not None)
        total = float(torch.stack(losses).cpu().double().sum())
        length = sharding.world.first(lambda: float(norm))  # all clip alike, to the last bit
        if together:
            own = [total, *metrics.values()]
            total, *sums = sharding.world.sum(own if sharding.world.counts else [0.0] * len(own))
            metrics = dict(zip(metrics, sums, strict=True))
        return Measured(total, length, metrics)

    @torch.no_grad()
    def update(self, optimizers: Sequence[torch.optim.Optimizer], norm: float, factor: float) -> None:
        """Clip the gradients to the allowed norm and step with every rate times ``factor``."""
        self.working.sharding.forget(self.working.master)  # what was gathered since the backward pass would be old
        parameters = [p for p in self.working.master.parameters() if p.grad is not None]
        if norm > self.clip:
            torch._foreach_mul_([p.grad for p in parameters if p.grad is not None], self.clip / (norm + 1e-6))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * factor
            optimizer.step()
        self.working.take_weights()


def _to_device(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    pinned = device.type == "cuda"
    tensors = {
        name: (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)
        for name, tensor in batch.tensors.items()
    }
    return Batch(tensors, batch.weight, batch.metrics, batch.paired)
