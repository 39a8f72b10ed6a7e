"""What a training step really has in memory at most: run in each of several processes, prints JSON.

    python -m tests.planning.memory [--only NAME …]     with the variables that torchrun sets, or alone

For every cell, or those that are named: the most bytes of tensors that the
process that needs most had at once in its second step, as PyTorch's allocator counts them, and what the planner
predicts.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, record_function

from groundup.core import world as worlds
from groundup.core.seeding import torch_rng
from groundup.core.world import ALONE, ParallelConfig, World, joined
from groundup.dataloader import Batch
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig
from groundup.planning.machines import MACHINES
from groundup.planning.mesh import Mesh
from groundup.planning.parallel import Assumptions, Cluster, Job, Plan, Simulator
from groundup.planning.plan import Training
from groundup.training import TrainingConfig
from groundup.training.config import MemoryConfig
from groundup.training.prepare import prepare

VOCABULARY, ROWS = 1024, 8
#: Large enough that what does not grow with the model is little beside what does.
DENSE = ModelConfig(layers=4, width=128, heads=4, kv_heads=2, hidden=384, context=128)
EXPERTS = replace(DENSE, experts=ExpertConfig(count=4, active=2, hidden=192))
MUON, ADAMW = OptimizerConfig(), OptimizerConfig(matrices="adamw")


@dataclass(frozen=True)
class Cell:
    """A plan and a training."""

    name: str
    parallel: ParallelConfig
    model: ModelConfig = DENSE
    options: dict[str, Any] = field(default_factory=dict)


def cells(processes: int) -> Iterator[Cell]:
    """All plans of so many processes, and their options with one of them."""
    plans = {
        1: [{}],
        2: [{"data": 2}, {"shard": 2}, {"shard": 2, "reshard": False}, {"tensor": 2}, {"pipeline": 2}, {"context": 2}],
        4: [{"data": 2, "shard": 2}, {"shard": 4}, {"shard": 2, "tensor": 2}, {"shard": 2, "pipeline": 2}],
    }
    for sizes in plans[processes]:
        parallel = ParallelConfig(**sizes)  # type: ignore[arg-type]
        title = str(Mesh.of(parallel, processes)) + ("" if parallel.reshard else ", no reshard")
        yield Cell(title, parallel, options={"optimizer": ADAMW})
        yield Cell(f"{title}, Muon", parallel)
        if parallel.reshard:
            yield Cell(f"{title}, bfloat16", parallel, options={"optimizer": ADAMW, "precision": "bfloat16"})
            block = {"memory": MemoryConfig(recompute="block")}
            yield Cell(f"{title}, recomputed", parallel, options={"optimizer": ADAMW, **block})
    if processes > 1:
        expert = ParallelConfig(expert=2, shard=processes // 2)
        for parallel in (ParallelConfig(shard=processes), expert):
            yield Cell(f"{Mesh.of(parallel, processes)}, experts", parallel, EXPERTS, {"optimizer": ADAMW})


def measured(cell: Cell, world: World) -> int:
    """Bytes at most in the second step."""
    worlds._present = world
    config = TrainingConfig(**{"precision": "float32", "device": "cpu", **cell.options})
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        model = Transformer(cell.model, VOCABULARY).initialise(torch_rng(1, "weights"))
        stepper, optimizers = prepare(model, next_token, config, seed=3)
        for step in range(2):
            ids = torch.randint(VOCABULARY, (ROWS, cell.model.context + 1), generator=torch_rng(step, "ids"))
            batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, ROWS * cell.model.context)
            with record_function("measured") if step else nullcontext():
                found = stepper.gradients([batch], step)
                assert found is not None
                stepper.update(optimizers, found.gradient_norm, 1.0)
                stepper.working.clear()
    return _most(profiler)


def _most(profiler: Any) -> int:
    """The most bytes at once while what is called "measured" ran."""
    waiting, changes, window = list(profiler.profiler.kineto_results.experimental_event_tree()), [], (0, 0)
    while waiting:
        event = waiting.pop()
        waiting += event.children
        if event.name == "measured":
            window = (event.start_time_ns, event.end_time_ns)
        elif event.name == "[memory]":
            changes.append((event.start_time_ns, event.extra_fields.alloc_size))
    held = most = 0
    for when, change in sorted(changes, key=lambda each: each[0]):
        held += change
        if window[0] <= when <= window[1]:
            most = max(most, held)
    return most


def predicted(cell: Cell, processes: int) -> dict[str, int]:
    """What the planner says, by part."""
    mesh = Mesh.of(cell.parallel, processes)
    options = cell.options
    training = Training(
        ROWS,
        muon=options.get("optimizer", MUON).rule != "adamw",
        element=2 if options.get("precision") == "bfloat16" else 4,
        weights=4,
    )
    cluster = Cluster(MACHINES["h100"], processes, processes, 1.0, 1.0, Assumptions(overhead_bytes=0.0))
    simulator = Simulator(Job(cell.model, VOCABULARY, training, fused=False), cluster)
    rows = ROWS // mesh.batch_ranks // mesh.micro_batches
    return simulator.memory(Plan(mesh, rows, options.get("memory", MemoryConfig()).recompute))


def compared(cell: Cell, here: World) -> dict[str, Any]:
    """Measured and predicted bytes of the process that needs most."""
    peaks = here.gathered(measured(cell, replace(here, parallel=cell.parallel)))
    worlds._present = here
    parts = predicted(cell, here.size)
    return {"measured": max(peaks), "predicted": sum(parts.values()), "peaks": peaks, "parts": parts}


def main(only: str = "", *wanted: str) -> None:
    torch.set_num_threads(1)
    with joined(ParallelConfig()) if "WORLD_SIZE" in os.environ else nullcontext(ALONE) as here:
        chosen = [cell for cell in cells(here.size) if not only or cell.name in wanted]
        results = {cell.name: compared(cell, here) for cell in chosen}
    if here.leads:
        json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
