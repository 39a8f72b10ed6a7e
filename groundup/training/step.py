"""One step: micro-batches → gradients → an update, or a reason why there is none.

The loss of every micro-batch is divided by the weight of the whole step, so that neither accumulation nor splitting
nor sharing it among processes changes what a token counts.
"""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, ClassVar

import torch

from groundup.core.device import Numerics, autocast, means_no_memory
from groundup.core.errors import TrainingError
from groundup.core.seeding import derive_seed
from groundup.dataloader import Batch
from groundup.distributed import share
from groundup.distributed.pipeline import Staged, parts_of
from groundup.distributed.sharding import local
from groundup.model import Transformer
from groundup.model.experts import counting
from groundup.objectives import Objective
from groundup.training.checkpoint import Checkpoint, restore_optimizers, restore_weights, tensors_of
from groundup.training.working import Working

if TYPE_CHECKING:
    from groundup.distributed.replicas import Replicas

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
    replicas: "Replicas | None" = None
    """Others that train the same weights, each of which computes some of a step's rows."""
    copies: ClassVar[bool] = False
    """Whether :meth:`tensors` are copies of whole ones."""

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

    def agreed(self) -> bool:
        """Whether all that a step's gradients are the sum of is in them; if not, it must be taken again."""
        return True

    def _gradients(self, micro: Sequence[Batch], weight: int, step: int) -> Measured:
        sharding = self.working.sharding
        factor = 1.0 if self.scale is None else self.scale.factor
        shares = [share(batch, sharding.world) for batch in micro]
        together = sharding.world.size > 1  # then all compute, those without a target, too
        if isinstance(self.working.model, Staged):
            parts, losses = self._through_stages(self.working.model, micro, shares, weight, step)
        else:
            parts = [part for batch in shares for part in batch.split(self.split) if part.weight or together]
            losses = []
            for number, part in enumerate(parts):
                part = _to_device(part, self.device)
                self._draw(step, number)
                with counting(self.working.model, 0 if part.idle else None):
                    losses.append(self._part(part, weight, number + 1 == len(parts)))
        metrics: dict[str, float] = {}
        for part in parts:
            for key, value in part.metrics.items():
                metrics[key] = metrics.get(key, 0.0) + value * part.weight / weight
        if self.scale is not None:
            for parameter in self.working.master.parameters():
                if parameter.grad is not None:
                    parameter.grad /= factor
        norm = self._norm()
        total = float(torch.stack(losses).cpu().double().sum()) if losses else 0.0
        length = sharding.world.first(lambda: float(norm))  # all clip alike, to the last bit
        if together:
            # Processes that share sequences have tokens of their own, but the same pairs.
            counts = sharding.world.counts and not (micro[0].paired and sharding.world.places["context"])
            told = sharding.world.gathered({"loss": total, **metrics} if counts else {})
            sums = {key: sum(each.get(key, 0.0) for each in told) for each in told for key in each}
            total, metrics = sums.pop("loss"), sums
        return Measured(total, length, metrics)

    def _part(self, part: Batch, weight: int, last: bool) -> torch.Tensor:
        """Add the gradients of a part, perhaps the last one, of a step that has so many terms; its loss."""
        self.working.sharding.last(self.working.model, last)
        loss = self._loss(self.working.callable, part, weight)
        (loss if self.scale is None else loss * self.scale.factor).backward()
        self.working.bring_gradients()
        return loss.detach()

    def _norm(self) -> torch.Tensor:
        """Of the whole gradient."""
        sharding = self.working.sharding
        return sharding.norm(p.grad for p in sharding.counted(self.working.master) if p.grad is not None)

    def _draw(self, step: int, *place: int) -> None:
        """Dropout's noise is a function of seed and place, never of history."""
        config, here = self.working.model.config, self.working.sharding.world
        rank = here.rank // here.parallel.tensor  # those that share products drop the same of what all of them have
        if config.dropout or config.attention.dropout:
            torch.manual_seed(derive_seed(self.seed, "dropout", step, *place, *((rank,) if rank else ())))

    def _loss(self, model: Transformer, part: Batch, weight: int) -> torch.Tensor:
        """Of a part of a step that has so many terms."""
        with autocast(self.device, self.numerics.dtype):
            loss = self.objective(model, part) / weight
        return loss if part.weight else 0 * loss  # of a row that stands in for none only the graph is needed

    def _through_stages(
        self, model: Staged, micro: Sequence[Batch], shares: Sequence[Batch], weight: int, step: int
    ) -> tuple[list[Batch], list[torch.Tensor]]:
        """The micro-batches in parts through a pipeline: the parts, and in the last stage their losses.

        Batches of one shape go through it together. All have the same number of parts, whatever rows they have, and
        all parts as many rows, of which some may only fill up.
        """
        count = model.line.plan.micro_batches
        factor = 1.0 if self.scale is None else self.scale.factor
        done, losses = list[Batch](), list[torch.Tensor]()
        shapes = groupby(zip(micro, shares, strict=True), key=lambda pair: pair[0].tensors["inputs"].shape)
        for _, pairs in shapes:
            parts = [_to_device(part, self.device) for _, own in pairs for part in parts_of(own, count)]
            start = len(done)

            @contextmanager
            def around(stage: int, number: int, start: int = start) -> Iterator[None]:
                self._draw(step, start + number, stage)
                with autocast(self.device, self.numerics.dtype):
                    yield

            def loss(seen: Transformer, number: int, parts: Sequence[Batch] = parts) -> torch.Tensor:
                return self._loss(seen, parts[number], weight) * factor

            losses += model.compute_gradients(parts, loss, around)
            done += parts
        model.unite()
        return done, [loss / factor for loss in losses]

    @torch.no_grad()
    def update(self, optimizers: Sequence[torch.optim.Optimizer], norm: float, factor: float) -> float:
        """Clip the gradients, of this norm, to the allowed one and step with every rate times ``factor``; the norm."""
        self.working.sharding.forget(self.working.master)  # what was gathered since the backward pass would be old
        parameters = [p for p in self.working.master.parameters() if p.grad is not None]
        if norm > self.clip and parameters:
            torch._foreach_mul_([local(p.grad) for p in parameters if p.grad is not None], self.clip / (norm + 1e-6))
        set_rates(optimizers, factor)
        for optimizer in optimizers:
            optimizer.step()
        self.working.take_weights()
        return norm

    def tensors(self, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, dict[str, torch.Tensor]]:
        """What a checkpoint holds of model and optimizers."""
        self.working.sharding.forget(self.working.master)  # what was gathered to sample, before a step that was skipped
        return tensors_of(self.working.master, optimizers)

    def restore(self, optimizers: Sequence[torch.optim.Optimizer], checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint's weights and optimizers.

        Raises:
            ArtifactError: it is of another model, or of an earlier version that this plan cannot read.
        """
        restore_weights(self.working.master, checkpoint)
        restore_optimizers(self.working.master, optimizers, checkpoint)
        self.working.restored()

    def release(self) -> None:
        """The training is over: the model is itself again."""
        self.working.release()


def set_rates(optimizers: Sequence[torch.optim.Optimizer], factor: float) -> None:
    """Give every group of parameters its full rate times ``factor``."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_lr"] * factor


def _to_device(batch: Batch, device: torch.device) -> Batch:
    if device.type == "cpu":
        return batch
    pinned = device.type == "cuda"
    tensors = {
        name: (tensor.pin_memory() if pinned else tensor).to(device, non_blocking=pinned)
        for name, tensor in batch.tensors.items()
    }
    return replace(batch, tensors=tensors)
