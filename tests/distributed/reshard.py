"""Checkpoints of one plan continued under another: run in each of several processes, prints JSON.

    python -m tests.distributed.reshard begin FOLDER [NAME …]      train to the third step under every plan
    python -m tests.distributed.reshard go-on FOLDER [NAME …]      continue what lies in FOLDER under every plan
    python -m tests.distributed.reshard fault FOLDER KIND RANK     continue shard; something happens to one as it saves
    python -m tests.distributed.reshard spike FOLDER               a loss that spikes, and all go back

``begin`` leaves FOLDER/PLAN/checkpoints. ``go-on`` prints for each of these and each plan whether what was restored
is the checkpoint's, bit for bit, and the losses of the steps to the end.
"""

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core import world as worlds
from groundup.core.seeding import torch_rng
from groundup.core.world import ALONE, ParallelConfig, World, joined
from groundup.dataloader import Batch
from groundup.distributed.shards import Entry, write_file
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig
from groundup.tokenizer import BytePairTokenizer
from groundup.training import TrainingConfig, saving
from groundup.training.checkpoint import Snapshot, shape_of, tensors_of
from groundup.training.config import CheckpointConfig, SafetyConfig
from groundup.training.loop import Hook, _Loop
from tests.distributed.matrix import SHAPE, VOCABULARY, batches

STOP, STEPS = 3, 6
#: Sizes that no number of processes divides, a matrix that two modules share, and experts, balanced by their biases
#: alone: the loss that balances them depends on what is computed at once.
EXPERTS = ExpertConfig(count=4, router="sigmoid", bias_rate=0.01, balance=0.0)
MODEL = ModelConfig(**{**SHAPE, "hidden": 34}, init="normal", tied=True, experts=EXPERTS)
#: By number of processes: how they share the work, and whether each writes its part.
PLANS: dict[int, dict[str, tuple[ParallelConfig, str]]] = {
    1: {"one": (ParallelConfig(), "auto"), "one, sharded": (ParallelConfig(), "on")},
    2: {
        "data": (ParallelConfig(), "on"),
        "shard": (ParallelConfig(shard=2), "auto"),
        "shard, gathered": (ParallelConfig(shard=2), "off"),
    },
    4: {"data x shard": (ParallelConfig(data=2, shard=2), "auto")},
}
#: Those that take long to try all.
MORE: dict[int, dict[str, tuple[ParallelConfig, str]]] = {
    2: {
        "tensor": (ParallelConfig(tensor=2), "auto"),
        "context": (ParallelConfig(context=2), "auto"),
        "expert": (ParallelConfig(expert=2), "auto"),
        "pipeline": (ParallelConfig(pipeline=2), "auto"),
        "zero": (ParallelConfig(zero=True), "auto"),
    },
    4: {
        "shard x tensor": (ParallelConfig(shard=2, tensor=2), "auto"),
        "shard x expert": (ParallelConfig(shard=2, expert=2), "auto"),
        "pipeline x shard": (ParallelConfig(pipeline=2, shard=2), "auto"),
    },
}


def plans(processes: int, wanted: Sequence[str]) -> dict[str, tuple[ParallelConfig, str]]:
    """The ordinary ones of so many processes, or those that are wanted."""
    every = PLANS.get(processes, {}) | MORE.get(processes, {})
    return {name: every[name] for name in wanted} if wanted else PLANS[processes]


class Stop(Exception):
    """The training has come to where it is to be interrupted."""


class Steps:
    """The batches of :func:`batches`, one each step."""

    def __init__(self) -> None:
        self.position = 0

    def __iter__(self) -> Iterator[Batch]:
        while True:
            self.position += 1
            yield batches(self.position, 1)[0]

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]


def loop(sharded: str, folder: Path, stop: bool, **options: Any) -> _Loop:
    """A training of the present processes, which is interrupted after the third step or not."""

    def end(step: int, _: Transformer) -> dict[str, float]:
        if stop and step == STOP:
            raise Stop
        return {}

    objective = options.pop("objective", next_token)
    settings: dict[str, Any] = {"steps": STEPS, "save_every": STOP, "precision": "float32", "device": "cpu"}
    settings |= {"average": 0.9, "optimizer": OptimizerConfig(momentum_warmup=4), "prefetch": 0}
    settings["checkpoints"] = CheckpointConfig(sharded=sharded)  # type: ignore[arg-type]
    made = Transformer(MODEL, VOCABULARY).initialise(torch_rng(1, "weights"))
    config = TrainingConfig(**(settings | options))
    tokenizer = BytePairTokenizer.from_merges([])
    return _Loop(made, objective, Steps(), config, tokenizer, folder, "test", [Hook(STOP, end)], 0)


def losses(folder: Path) -> list[float]:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [record["loss"] for record in map(json.loads, lines) if "loss" in record]


def restored_bits(training: _Loop) -> bool:
    """Whether what a loop restored is what its checkpoint has."""
    checkpoint = training.saver.latest()
    assert checkpoint is not None
    assert training._resume()
    assert training.average is not None
    step, model = training.state.step, training.model
    tensors = {**tensors_of(model, training.optimizers), "average": training.average.tensors()}
    snapshot = Snapshot(step, tensors, shape_of(model), training.tokenizer, {})
    made = snapshot.gathered(training.working.sharding)
    equal = [
        set(made.tensors[group]) == set(checkpoint.stored(group).shapes)
        and all(_same(tensor, checkpoint.stored(group).read(name)) for name, tensor in made.tensors[group].items())
        for group in made.tensors
        if training.world.leads
    ]
    return all(equal)


def _same(one: Tensor, other: Tensor) -> bool:
    return one.dtype == other.dtype and torch.equal(one, other)


def begin(folder: Path, here: World, wanted: tuple[str, ...]) -> None:
    for name, (parallel, sharded) in plans(here.size, wanted).items():
        worlds._present = replace(here, parallel=parallel)
        try:
            loop(sharded, folder / name, stop=True).run()
            raise AssertionError("it was to be interrupted")
        except Stop:
            here.gathered(0)
    worlds._present = here


def go_on(folder: Path, here: World, wanted: tuple[str, ...]) -> dict[str, Any]:
    results = {}
    for saved in here.first(lambda: sorted(path.name for path in folder.iterdir() if "→" not in path.name)):
        for name, (parallel, sharded) in plans(here.size, wanted).items():
            worlds._present = replace(here, parallel=parallel)
            copied = folder / f"{saved} → {name}"
            here.first(lambda saved=saved, copied=copied: str(shutil.copytree(folder / saved, copied)))
            equal = restored_bits(loop(sharded, copied, stop=False))
            loop(sharded, copied, stop=False).run()
            results[copied.name] = {"equal": equal, "losses": losses(copied)}
    worlds._present = here
    return results


def die(*_: Any) -> Any:
    os.kill(os.getpid(), signal.SIGKILL)


def half(path: Path, entries: Iterable[Entry]) -> str:
    """Die in the middle of writing a file."""
    written = write_file(path, entries)
    os.truncate(path, path.stat().st_size // 2)
    return str(die(written))


def full(path: Path, entries: Iterable[Entry]) -> str:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


#: What is replaced in the module that saves, and by what.
FAULTS = {
    "writing": ("write_file", half),
    "listing": ("index_of", die),
    "naming": ("publish_folder", die),
    "full": ("write_file", full),
}


def fault(folder: Path, here: World, wanted: tuple[str, ...]) -> dict[str, Any]:
    kind, rank = wanted
    if here.rank == int(rank):
        setattr(saving, *FAULTS[kind])
    worlds._present = replace(here, parallel=ParallelConfig(shard=2))
    loop("auto", folder, stop=False).run()
    return {}


def spike(folder: Path, here: World, wanted: tuple[str, ...]) -> dict[str, Any]:
    """A training that goes back once, and one that did the same in one process."""
    results = {}
    for name, world in {"one": ALONE, "shard": replace(here, parallel=ParallelConfig(shard=2))}.items():
        worlds._present = world
        steps, times = 30, 0

        def once(model: Any, batch: Batch) -> Tensor:
            nonlocal times
            times += 1
            return next_token(model, batch) * (3 if times == 28 else 1)

        if world.size > 1 or here.leads:
            safety = SafetyConfig(spike=8.0)
            options = {"steps": steps, "save_every": 10, "safety": safety}
            training = loop("auto", folder / name, stop=False, objective=once, **options)
            training.run()
            results[name] = {"losses": losses(folder / name), "rewinds": training.state.rewinds}
    worlds._present = here
    return results


COMMANDS = {"begin": begin, "go-on": go_on, "fault": fault, "spike": spike}


def main(what: str, folder: str, *wanted: str) -> None:
    torch.set_num_threads(1)
    with joined(ParallelConfig()) as here:
        results = COMMANDS[what](Path(folder), here, wanted)
    if here.leads:
        json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
