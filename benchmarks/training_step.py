"""A training step: our model with Muon + AdamW, and with AdamW alone, beside transformers with fused AdamW.

``python -m benchmarks.training_step``. A step is forward, loss, backward, clipping and update, in the shape of a
recipe's pretraining. All sides begin with the same weights and eat the same tokens in the same precision.
"""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._common import OURS, Case, Prepared, Rounds, compare, main, require_positive
from benchmarks._twin import shape_of, twin
from groundup.core.device import Precision, autocast, choose_device, choose_dtype
from groundup.core.errors import TrainingError, UsageError
from groundup.core.seeding import numpy_rng, torch_rng
from groundup.dataloader import Batch
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.optim import build_optimizers
from groundup.planning import count_parameters
from groundup.recipes import Recipe, load
from groundup.training.loop import _update

ADAMW_ONLY = f"{OURS}, AdamW only"
#: Of the recipe's learning rates: random tokens teach nothing, and a model that diverges skips its updates.
RATE = 0.1


@dataclass(frozen=True)
class TrainingStep(Rounds):
    """What is trained."""

    recipe: str = "quickstart"
    """Gives the model's shape, the vocabulary, the rows and the optimizer."""
    rows: int = 0
    """Windows in a step; 0: as many as the recipe says."""
    steps: int = 20
    """Steps in one measurement."""
    precision: Precision = "auto"
    """Dtype of matrix products."""
    device: str = "auto"
    """Where to train."""

    def __post_init__(self) -> None:
        require_positive(self, "rounds", "steps")
        if self.rows < 0:
            raise UsageError(f"rows is {self.rows}; use a positive number, or 0 for the recipe's")


@dataclass(frozen=True)
class Task:
    """What all sides begin with."""

    recipe: Recipe
    windows: Tensor  # [steps, rows, context + 1]
    dtype: torch.dtype

    @classmethod
    def of(cls, settings: TrainingStep) -> "Task":
        recipe, device = load(settings.recipe), choose_device(settings.device)
        vocabulary = recipe.tokenizer.vocab_size
        shape = (settings.steps, settings.rows or recipe.pretrain.rows, recipe.model.context + 1)
        windows = torch.from_numpy(numpy_rng(recipe.seed, "benchmark").integers(0, vocabulary, shape))
        return cls(recipe, windows.to(device), choose_dtype(settings.precision, device))

    def model(self) -> Transformer:
        """The initial weights."""
        model = Transformer(shape_of(self.recipe.model), self.recipe.tokenizer.vocab_size)
        return model.initialise(torch_rng(self.recipe.seed, "weights")).to(self.windows.device)

    def prepared(self, model: nn.Module, step: Callable[[Tensor], float]) -> Prepared:
        """The side that trains ``model``; its ``step`` takes a window [rows, context + 1] and returns its loss."""

        def steps() -> None:
            for window in self.windows:
                if not math.isfinite(loss := step(window)):
                    raise TrainingError(f"the loss became {loss}, so updates are skipped; set --precision float32")

        steps_, rows, time = self.windows.shape
        cases = {"training step": Case(steps_ * rows * (time - 1), lambda: steps)}
        facts = {
            "parameters": count_parameters(model),
            "dtype": str(self.dtype),
            "rows": rows,
            "context": time - 1,
        }
        return Prepared(step(self.windows[0]), cases, facts)


def ours(settings: TrainingStep, with_muon: bool) -> Prepared:
    """The update of the training loop, as every stage calls it."""
    task = Task.of(settings)
    model, config = task.model(), task.recipe.pretrain
    if not with_muon:
        config = replace(config, optimizer=replace(config.optimizer, matrix_rate=0.0))
    optimizers = build_optimizers(model, config.optimizer, task.dtype)

    def step(window: Tensor) -> float:
        batch = Batch({"inputs": window[:, :-1], "targets": window[:, 1:]}, window[:, 1:].numel())
        record = _update(model, next_token, [batch], optimizers, config, RATE, window.device, task.dtype)
        assert record is not None, "every position has a target"
        return record["loss"]

    return task.prepared(model, step)


def peer(settings: TrainingStep) -> Prepared:
    """The usual loop around a transformers model; it reads loss and norm in each step, as ours does."""
    task = Task.of(settings)
    model = twin(task.model()).train()
    config = task.recipe.pretrain
    options = config.optimizer
    betas = (options.beta1, options.beta2)
    optimizer = torch.optim.AdamW(
        model.parameters(), RATE * options.rate, betas, weight_decay=options.weight_decay, fused=True
    )

    def step(window: Tensor) -> float:
        with autocast(window.device, task.dtype):
            logits = model(input_ids=window[:, :-1], use_cache=False).logits
            loss = F.cross_entropy(logits.float().flatten(0, 1), window[:, 1:].flatten())
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), config.clip))
        optimizer.step()
        optimizer.zero_grad()
        return float(loss.detach()) if math.isfinite(norm) else norm

    return task.prepared(model, step)


def run(settings: TrainingStep) -> dict[str, Any]:
    """All three sides in turn."""
    sides = {
        OURS: partial(ours, settings, True),
        ADAMW_ONLY: partial(ours, settings, False),
        "transformers": partial(peer, settings),
    }
    return compare(sides, "token", settings.rounds, ("torch", "transformers"), ours=(OURS, ADAMW_ONLY))


if __name__ == "__main__":
    sys.exit(main(TrainingStep, "training_step", run))
