"""What several processes compute together, against the same in one of them: run in each of them, prints JSON.

    python -m tests.distributed.matrix sharding,tensor [--slow | NAME …]     with the variables that torchrun sets

For every cell of ``tests.distributed.cells_sharding`` … (or those whose names hold a NAME): the largest difference of
loss and gradient norm over five steps, of the gradient of every parameter in the first, and of the weights after five
steps of plain gradient descent, each relative to the largest value of its tensor.
"""

import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from groundup.core import world as worlds
from groundup.core.seeding import torch_rng
from groundup.core.world import ALONE, ParallelConfig, World, joined
from groundup.dataloader import IGNORED, Batch
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig
from groundup.objectives import Objective, next_token
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare

VOCABULARY, TIME, ROWS, STEPS = 53, 12, 6, 5
SHAPE: dict[str, Any] = {"layers": 2, "width": 24, "heads": 4, "kv_heads": 2, "hidden": 40, "context": TIME}
#: Widths that no number of processes divides, a tied head, an untied one, experts.
MODELS = {
    "dense": ModelConfig(**SHAPE, init="normal"),
    "tied": ModelConfig(**{**SHAPE, "width": 20, "heads": 2, "kv_heads": 1, "hidden": 33}, init="normal", tied=True),
    "experts": ModelConfig(**SHAPE, init="normal", experts=ExpertConfig(count=4, router="sigmoid", bias_rate=0.01)),
}


@dataclass(frozen=True)
class Cell:
    """One combination; its name is that of its test."""

    name: str
    model: ModelConfig
    parallel: ParallelConfig
    options: dict[str, Any] = field(default_factory=dict)
    """Of the training's configuration."""
    slow: bool = False
    """Left out of the ordinary tests."""
    objective: Objective = next_token
    drawn: "Callable[[int, int], list[Batch]] | None" = None
    """(step, count) → the step's batches; None: :func:`batches`."""
    backend: str = "inductor"
    """Of a compiled model. With aot_eager all is as with the usual one, but that no code is generated at the end."""


def cells_of(group: str, processes: int, slow: bool = False, wanted: Sequence[str] = ()) -> list[Cell]:
    """The cells of ``tests.distributed.cells_GROUP``: the ordinary or the slow ones, or all that are ``wanted``.

    More than two processes would all generate the same code, which takes most of the time: they leave that out.
    """
    made = import_module(f"tests.distributed.cells_{group}").cells(processes)
    cells = [cell if processes == 2 else replace(cell, backend="aot_eager") for cell in made]
    if wanted:
        return [cell for cell in cells if any(each in cell.name for each in wanted)]
    return [cell for cell in cells if cell.slow == slow]


def batches(step: int, count: int) -> list[Batch]:
    """Rows with different numbers of targets, one of them with none."""
    found = []
    for number in range(count):
        generator = torch.Generator().manual_seed(100 * step + number)
        ids = torch.randint(VOCABULARY, (ROWS, TIME + 1), generator=generator)
        targets = ids[:, 1:].clone()
        for row in range(ROWS):
            targets[row, : 2 * row + number] = IGNORED
        targets[0] = IGNORED
        found.append(Batch({"inputs": ids[:, :-1], "targets": targets}, int((targets != IGNORED).sum())))
    return found


def trained(cell: Cell, world: World, split: int = 1) -> tuple[list[Tensor], dict[str, Tensor], dict[str, Tensor]]:
    """Losses and norms [steps], the first step's gradients, and the weights after five steps; all whole.

    Of a pipeline, those of this process's layers. Micro-batches are computed in ``split`` parts.
    """
    worlds._present = world
    model = Transformer(cell.model, VOCABULARY).initialise(torch_rng(1, "weights"))
    options = {"precision": "float32", "device": "cpu", **cell.options}
    with patch("torch.compile", partial(torch.compile, backend=cell.backend)):
        stepper, optimizers = prepare(model, cell.objective, TrainingConfig(**options), seed=3)
    if "optimizer" not in cell.options:
        optimizers = [torch.optim.SGD(model.parameters(), 0.05)]
        for group in optimizers[0].param_groups:
            group["full_lr"] = group["lr"]
    stepper.split = split
    measures, gradients = [], {}
    for step in range(STEPS):
        measured = stepper.gradients((cell.drawn or batches)(step, options.get("accumulation", 1)), step)
        assert measured is not None
        measures.append(torch.tensor([measured.loss, measured.gradient_norm], dtype=torch.float64))
        if step == 0:
            gradients = {name: whole(p.grad) for name, p in model.named_parameters() if p.grad is not None}
        stepper.update(optimizers, measured.gradient_norm, 1.0)
        stepper.working.clear()
    weights = {name: whole(parameter) for name, parameter in model.named_parameters()}
    stepper.release()
    return measures, gradients, weights


def whole(tensor: Tensor) -> Tensor:
    """A copy of all of a tensor."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()


def difference(found: Iterable[Tensor], expected: Iterable[Tensor]) -> float:
    """The largest one, relative to the largest number of its tensor."""
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-9))
        for one, other in zip(found, expected, strict=True)
    )


def compared(cell: Cell, here: World) -> dict[str, float]:
    """The differences of one cell, the largest of all processes."""
    together = replace(here, parallel=cell.parallel)
    measures, *tensors = trained(cell, together)
    # A router's balance is measured over what is computed at once.
    parallel = cell.parallel.resolved(here.size)
    under_way = parallel.micro_batches if parallel.pipeline > 1 else 1
    split = together.share[1] * under_way if cell.model.experts.count else 1
    expected, *wholes = trained(replace(cell, options={**cell.options, "compile": "off"}), ALONE, split)
    worlds._present = here
    results = {"measures": difference(measures, expected)}
    for name, found, whole_ones in zip(("gradients", "weights"), tensors, wholes, strict=True):
        held = {each for names in here.gathered(sorted(found)) for each in names}
        assert held == whole_ones.keys(), (cell.name, name, held ^ whole_ones.keys())
        results[name] = difference(found.values(), [whole_ones[each] for each in found])
    return {name: max(here.gathered(value)) for name, value in results.items()}


def main(groups: str, *wanted: str) -> None:
    torch.set_num_threads(1)
    slow = wanted == ("--slow",)
    results: dict[str, dict[str, dict[str, float]]] = {}
    with joined(ParallelConfig()) as here:
        for group in groups.split(","):
            results[group] = {}
            for cell in cells_of(group, here.size, slow, () if slow else wanted):
                started = time.perf_counter()
                results[group][cell.name] = compared(cell, here)
                if here.leads:
                    seconds = time.perf_counter() - started
                    print(f"{group}, {here.size}: {cell.name} {seconds:.1f} s", file=sys.stderr, flush=True)
    if here.leads:
        json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
