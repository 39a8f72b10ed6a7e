"""A step whose gradients DeepSpeed sums and whose update it makes, for the same loop."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch

from groundup.core.device import Numerics
from groundup.core.errors import UsageError
from groundup.dataloader import Batch
from groundup.distributed.deepspeed import Engine
from groundup.training.checkpoint import Checkpoint, stored_weights
from groundup.training.config import TrainingConfig
from groundup.training.step import Measured, Stepper, set_rates


@dataclass
class DeepSpeedStepper(Stepper):
    """Computes gradients and applies them with an engine that divides the state.

    The norm is known after the update only: until then it is told as 0.
    """

    copies: ClassVar[bool] = True
    engine: Engine = field(kw_only=True)

    def gradients(self, micro: Sequence[Batch], step: int) -> Measured | None:
        """As of any other; those of a loss that is not finite are forgotten at once."""
        measured = super().gradients(micro, step)
        if measured is not None and not measured.finite:
            self.engine.discard()
        return measured

    def _part(self, part: Batch, weight: int, last: bool) -> torch.Tensor:
        return self.engine.compute_gradients(lambda model: self._loss(model, part, weight), last)

    def _norm(self) -> torch.Tensor:
        return torch.zeros(())

    @torch.no_grad()
    def update(self, optimizers: Sequence[torch.optim.Optimizer], norm: float, factor: float) -> float:
        """Clip and step with every rate times ``factor``; the norm, infinite if there was nothing to step by."""
        set_rates(optimizers, factor)
        norm = self.engine.update()
        norm = self.working.sharding.world.first(lambda: norm)
        if math.isfinite(norm):
            self.working.take_weights()
        return norm

    def tensors(self, optimizers: Sequence[torch.optim.Optimizer]) -> dict[str, dict[str, torch.Tensor]]:
        """Copies of all that a checkpoint holds of model and optimizer, in the first process."""
        return self.engine.whole()

    def restore(self, optimizers: Sequence[torch.optim.Optimizer], checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint's weights and optimizer, if its model has these shapes."""
        self.engine.restore(stored_weights(checkpoint, self.engine.shapes()), checkpoint.stored("optimizer"))

    def release(self) -> None:
        """The training is over: the model is itself again."""
        super().release()
        self.engine.release()


def check(config: TrainingConfig, numerics: Numerics) -> None:
    """Refuse what DeepSpeed is not asked to do here.

    Raises:
        UsageError: in one line.
    """
    refused = {
        f"optimizer.matrices {config.optimizer.rule}": (config.optimizer.rule != "adamw", "adamw"),
        "compile on": (config.compile == "on", "off"),
        "average": (config.average > 0, "0"),
        f"precision {config.precision}": (numerics.scaled or numerics.weights is not torch.float32, "bfloat16"),
        "checkpoints.sharded on": (config.checkpoints.sharded == "on", "auto"),
    }
    for what, (wrong, remedy) in refused.items():
        if wrong:
            raise UsageError(f"parallel.engine deepspeed does not go with {what}; give {remedy}, or leave it to torch")
