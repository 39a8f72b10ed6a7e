"""What several processes compute together, against the same in one of them: run in each of them, prints JSON.

    python -m tests.distributed.matrix      with the variables that torchrun sets

For every cell: the largest difference of loss, gradient norm and gradients of one step, and of the weights after five
steps of plain gradient descent, each relative to the largest value of its tensor.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from groundup.core import world as worlds
from groundup.core.seeding import torch_rng
from groundup.core.world import ALONE, ParallelConfig, World, joined
from groundup.dataloader import IGNORED, Batch
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig
from groundup.training import TrainingConfig
from groundup.training.config import MemoryConfig
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
    model: str
    parallel: ParallelConfig
    options: dict[str, Any] = field(default_factory=dict)


def cells(processes: int) -> Iterator[Cell]:
    """Every plan with every model, and the plans' other dimensions with one of them."""
    if processes == 4:
        plans = {"data x shard": ParallelConfig(data=2, shard=2)}
    else:
        plans = {
            "data": ParallelConfig(),
            "shard": ParallelConfig(shard=processes),
            "shard, no reshard": ParallelConfig(shard=processes, reshard=False),
        }
    for plan, parallel in plans.items():
        for model in MODELS:
            yield Cell(f"{plan}, {model}", model, parallel)
        yield Cell(f"{plan}, recomputed", "dense", parallel, {"memory": MemoryConfig(recompute="block")})
        yield Cell(f"{plan}, bfloat16", "dense", parallel, {"precision": "bfloat16"})
        yield Cell(f"{plan}, accumulated", "dense", parallel, {"accumulation": 2})
        yield Cell(f"{plan}, muon", "tied", parallel, {"optimizer": OptimizerConfig()})
    shard = ParallelConfig(shard=processes)
    lion = OptimizerConfig(matrices="lion", matrix_rate=0.001)
    yield Cell("shard, lion", "dense", shard, {"optimizer": lion})
    yield Cell("shard, frozen", "dense", shard, {"freeze": ("embedding.*", "blocks.0.attention.*")})
    if processes == 2:
        yield Cell("shard, compiled", "dense", shard, {"compile": "on"})
    yield Cell("shard, bfloat16-weights", "dense", shard, {"precision": "bfloat16-weights"})
    yield Cell("shard, selective", "dense", shard, {"memory": MemoryConfig(recompute="selective")})


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


def trained(cell: Cell, world: World) -> tuple[list[Tensor], list[list[Tensor]], list[Tensor]]:
    """Losses and norms [steps], the first step's gradients, and the weights after five steps; all whole."""
    worlds._present = world
    model = Transformer(MODELS[cell.model], VOCABULARY).initialise(torch_rng(1, "weights"))
    options = {"precision": "float32", "device": "cpu", **cell.options}
    stepper, optimizers = prepare(model, next_token, TrainingConfig(**options), seed=3)
    if "optimizer" not in cell.options:
        optimizers = [torch.optim.SGD(model.parameters(), 0.05)]
        for group in optimizers[0].param_groups:
            group["full_lr"] = group["lr"]
    if world is ALONE and cell.model == "experts":  # a router's balance is measured over what is computed at once
        stepper.split = int(os.environ["WORLD_SIZE"])
    measures, gradients = [], []
    parameters = list(model.parameters())
    for step in range(STEPS):
        measured = stepper.gradients(batches(step, options.get("accumulation", 1)), step)
        assert measured is not None
        measures.append(torch.tensor([measured.loss, measured.gradient_norm], dtype=torch.float64))
        if step == 0:
            gradients = [whole(parameter.grad) for parameter in parameters if parameter.grad is not None]
        stepper.update(optimizers, measured.gradient_norm, 1.0)
        stepper.working.clear()
    weights = [whole(parameter) for parameter in parameters]
    return measures, gradients, weights


def whole(tensor: Tensor) -> Tensor:
    """A copy of all of a tensor."""
    tensor = tensor.detach()
    return (tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor).clone()


def difference(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest one, relative to the largest number of its tensor."""
    assert len(found) == len(expected)
    return max(
        float((one - other).abs().max() / other.abs().max().clamp(min=1e-9))
        for one, other in zip(found, expected, strict=True)
    )


def main() -> None:
    torch.set_num_threads(1)
    results = {}
    with joined(ParallelConfig()) as here:
        for cell in cells(here.size):
            together = trained(cell, replace(here, parallel=cell.parallel))
            alone = trained(replace(cell, options={**cell.options, "compile": "off"}), ALONE)
            names = ("measures", "gradients", "weights")
            compared = {n: difference(a, b) for n, a, b in zip(names, together, alone, strict=True)}
            worlds._present = here
            results[cell.name] = max(here.gathered(list(compared.values())), key=max)
    if here.leads:
        json.dump(results, sys.stdout)


if __name__ == "__main__":
    main()
