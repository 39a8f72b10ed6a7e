"""Steps of a training that is not kept: nothing is written, nothing can be resumed.

Enters: a model and how it is trained. Leaves: what each step measured. The steps are those of the one training loop:
its precision, accumulation, clipping and optimizers.
"""

import torch

from groundup.core.device import choose_device, choose_numerics
from groundup.dataloader import Source
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.optim import build_optimizers
from groundup.training import TrainingConfig
from groundup.training.loop import freeze
from groundup.training.step import FIRST_SCALE, LossScale, Measured, Stepper
from groundup.training.working import Working


class Trial:
    """Trains ``model`` in place.

    Raises:
        UsageError: the device cannot compute as the configuration says.
    """

    def __init__(self, model: Transformer, source: Source, config: TrainingConfig, seed: int) -> None:
        self.device = choose_device(config.device)
        numerics = choose_numerics(config.precision, self.device)
        freeze(model, config.freeze)
        model.to(torch.device("cpu") if config.memory.offload else self.device).train()
        self.optimizers = build_optimizers(model, config.optimizer, numerics.dtype)
        compiled = config.compile == "on" or (config.compile == "auto" and self.device.type == "cuda")
        self.working = Working(model, self.device, numerics, config.memory.recompute, compiled)
        scale = LossScale(FIRST_SCALE) if numerics.scaled else None
        self.stepper = Stepper(
            self.working, next_token, numerics, self.device, config.clip, seed, config.memory.fit, scale=scale
        )
        self.accumulation = config.accumulation
        self.batches = iter(source)
        self.steps = 0

    def step(self, factor: float) -> Measured | None:
        """Take a step with every rate times ``factor``, unless the loss is not finite; what it measured before the
        update. None: no batch had a target."""
        measured = self.stepper.gradients([next(self.batches) for _ in range(self.accumulation)], self.steps)
        if measured is not None and self.stepper.scale is not None:
            self.stepper.scale.update(measured.finite)
        if measured is not None and measured.finite:
            self.stepper.update(self.optimizers, measured.gradient_norm, factor)
        self.working.clear()
        self.steps += 1
        return measured

    def wait(self) -> None:
        """Until the device has done what it was told."""
        if self.device.type != "cpu":
            torch.accelerator.synchronize()
