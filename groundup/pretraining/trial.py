"""Steps of a training that is not kept: nothing is written, nothing can be resumed.

Enters: a model and how it is trained. Leaves: what each step measured. The steps are those of the one training loop:
its precision, accumulation, clipping and optimizers.
"""

import torch

from groundup.dataloader import Source
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare
from groundup.training.step import Measured


class Trial:
    """Trains ``model`` in place.

    Raises:
        UsageError: the device cannot compute as the configuration says.
    """

    def __init__(self, model: Transformer, source: Source, config: TrainingConfig, seed: int) -> None:
        self.stepper, self.optimizers = prepare(model, next_token, config, seed)
        self.working, self.device = self.stepper.working, self.stepper.device
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
