"""DeepSpeed's training against one process's: run in each process, prints JSON.

    python -m tests.distributed.with_deepspeed [NAME …]     with the variables that torchrun sets

For every cell of ``tests.distributed.cells_deepspeed``: the largest difference of loss and gradient norm over five
steps, and of all that a checkpoint holds after them. Half-way everything goes through a checkpoint: what DeepSpeed had
goes on in one process, what one process had goes on in DeepSpeed.
"""

import json
import shutil
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from groundup.core import world as worlds
from groundup.core.seeding import torch_rng
from groundup.core.world import ALONE, ParallelConfig, World, joined
from groundup.model import Transformer
from groundup.tokenizer import BytePairTokenizer
from groundup.training import TrainingConfig
from groundup.training.checkpoint import Snapshot, open_checkpoint, shape_of
from groundup.training.prepare import prepare
from tests.distributed.matrix import STEPS, VOCABULARY, Cell, batches, cells_of, difference

#: After so many steps what was trained by the one goes on in the other.
HALF = 3


def trained(
    cell: Cell, world: World, folder: Path, first: int, last: int, processes: int
) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Losses and norms of steps, which begin with the checkpoint in ``folder`` if it is not the first; all tensors.

    ``folder`` then has the checkpoint of the step that comes next. One process computes at once what one of
    ``processes`` would.
    """
    worlds._present = world
    model = Transformer(cell.model, VOCABULARY).initialise(torch_rng(1, "weights"))
    options = {"precision": "float32", "device": "cpu", "compile": "off", **cell.options}
    if world is ALONE:
        options.pop("memory", None)
    stepper, optimizers = prepare(model, cell.objective, TrainingConfig(**options), seed=3)
    if world is ALONE and cell.model.experts.count:  # a router's balance is measured over what is computed at once
        stepper.split = processes
    if first:
        stepper.restore(optimizers, open_checkpoint(folder / f"step-{first:06d}", world))
    measures = []
    for step in range(first, last):
        measured = stepper.gradients((cell.drawn or batches)(step, options.get("accumulation", 1)), step)
        assert measured is not None
        if measured.finite:
            measured.gradient_norm = stepper.update(optimizers, measured.gradient_norm, 1.0)
        if measured.finite:
            measures.append(torch.tensor([measured.loss, measured.gradient_norm], dtype=torch.float64))
        stepper.working.clear()
    tensors = stepper.tensors(optimizers)
    if world.leads:
        Snapshot(last, tensors, shape_of(model), BytePairTokenizer.from_merges([]), {}).write(folder)
    world.first(lambda: None)
    kept = {f"{group}/{name}": tensor.clone() for group in tensors for name, tensor in tensors[group].items()}
    stepper.release()
    return measures, kept


def compared(cell: Cell, here: World, folder: Path) -> dict[str, float]:
    """The differences of one cell."""
    together = replace(here, parallel=cell.parallel)
    halves = []
    for number, (one, other) in enumerate([(together, together), (together, ALONE), (ALONE, together), (ALONE, ALONE)]):
        where = folder / str(number)
        leads = here.leads or one is together
        # One process alone is the first; the others wait, and hear nothing of it.
        begun = trained(cell, one, where, 0, HALF, here.size) if leads else ([], {})
        here.first(lambda: None)
        leads = here.leads or other is together
        ended = trained(cell, other, where, HALF, STEPS, here.size) if leads else ([], {})
        here.first(lambda: None)
        halves.append(([*begun[0], *ended[0]], ended[1]))
    worlds._present = here
    if not here.leads:
        return {}
    *found, (measures, tensors) = halves
    return {
        "measures": max(difference(one, measures) for one, _ in found),
        "tensors": max(difference(own.values(), [tensors[name] for name in own]) for _, own in found),
        "names": float(any(own.keys() != tensors.keys() for _, own in found)),
    }


def main(*wanted: str) -> None:
    torch.set_num_threads(1)
    with joined(ParallelConfig()) as here:
        folder = Path(here.first(tempfile.mkdtemp))
        cells = cells_of("deepspeed", here.size, wanted=wanted)
        results = {cell.name: compared(cell, here, folder / cell.name) for cell in cells}
        if here.leads:
            shutil.rmtree(folder)
    if here.leads:
        print(json.dumps(results))


if __name__ == "__main__":
    main(*sys.argv[1:])
