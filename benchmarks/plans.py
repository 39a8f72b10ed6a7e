"""How much faster two processes train than one, plan by plan: ``python -m benchmarks.plans``.

Every plan takes its turn, round after round, in fresh processes of one thread each. *Strong* scaling: a step has the
same rows for two processes as for one, and should take half as long. *Weak*: it has twice the rows, and should take as
long. An efficiency is the share of that which is reached: the seconds of one process, divided by those of two (and by 2
where the work is the same). With two cores for two processes, what else the machine does counts against two.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Any

import psutil
import torch

from benchmarks._common import Rounds, main, require_positive
from groundup.core.errors import UsageError
from groundup.core.progress import Progress, say
from groundup.core.run import environment
from groundup.core.seeding import torch_rng
from groundup.core.world import ParallelConfig, joined
from groundup.dataloader import Batch
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare

#: About 10 million parameters.
MODEL = ModelConfig(layers=8, width=320, heads=8, kv_heads=4, hidden=896, context=256)
VOCABULARY = 4096
PLANS: Mapping[str, dict[str, Any]] = {
    "data 2": {"data": 2},
    "data 2, ZeRO-1": {"data": 2, "zero": True},
    "shard 2": {"shard": 2},
    "shard 2, no reshard": {"shard": 2, "reshard": False},
    "tensor 2": {"tensor": 2},
    "context 2": {"context": 2},
    "pipeline 2": {"pipeline": 2, "micro_batches": 4},
}
#: The word by which a process of this program knows that it is one of those that train.
TRAIN = "train"


@dataclass(frozen=True)
class Scaling(Rounds):
    """What is timed."""

    rounds: int = 5
    """Times that the plans take turns."""
    steps: int = 3
    """Of each turn, after one that does not count; their median does."""
    rows: int = 8
    """Of a step: in all (strong), and for each process (weak)."""

    def __post_init__(self) -> None:
        require_positive(self, "rounds", "steps", "rows")
        if self.rows % 4:
            raise UsageError(f"rows is {self.rows}; it must be a multiple of 4, into which the pipeline cuts it")


def run(settings: Scaling) -> dict[str, Any]:
    """Seconds of a step of every round, and the efficiencies with the spread over the rounds."""
    before = {"load_average": psutil.getloadavg(), "environment": environment()}
    jobs: dict[str, tuple[int, Mapping[str, Any], int]] = {"one": (1, {}, settings.rows)}
    for name, plan in PLANS.items():
        jobs |= {f"{name}, strong": (2, plan, settings.rows), f"{name}, weak": (2, plan, 2 * settings.rows)}
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    with Progress("plans", settings.rounds * len(jobs), "turn") as progress:
        for _ in range(settings.rounds):
            for name, (processes, sizes, rows) in jobs.items():
                seconds[name].append(_timed(processes, sizes, rows, settings.steps))
                progress.advance(note=name)
    found = []
    for name, times in seconds.items():
        if name == "one":
            continue
        share = 2 if name.endswith("strong") else 1
        each = sorted(one / two / share for one, two in zip(seconds["one"], times, strict=True))
        found.append({"plan": name, "efficiency": median(each), "least": each[0], "most": each[-1]})
        say(f"| {name} | {median(times):.2f} s | {median(each):.0%} ({each[0]:.0%} to {each[-1]:.0%}) |")
    return {**before, "load_average_after": psutil.getloadavg(), "seconds": seconds, "efficiencies": found}


def _timed(processes: int, plan: Mapping[str, Any], rows: int, steps: int) -> float:
    """Median seconds of a step, of so many processes."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "WORLD_SIZE": str(processes),
    }
    words = [sys.executable, "-m", "benchmarks.plans", TRAIN, json.dumps([plan, rows, steps])]
    started = [
        subprocess.Popen(
            words,
            env={**os.environ, **shared, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(processes)
    ]
    ended = [process.communicate() for process in started]
    for process, (_, errors) in zip(started, ended, strict=True):
        if process.returncode:
            raise UsageError(f"a process of {plan} ended: {errors.strip().splitlines()[-1]}")
    return float(ended[0][0])


def _train(asked: str) -> None:
    """One of the processes: some steps, whose median the first one prints."""
    plan, rows, steps = json.loads(asked)
    torch.set_num_threads(1)
    config = TrainingConfig(device="cpu", precision="float32", optimizer=OptimizerConfig(matrices="adamw"))
    with joined(ParallelConfig(**plan)) as here:
        model = Transformer(MODEL, VOCABULARY).initialise(torch_rng(0, "weights"))
        stepper, optimizers = prepare(model, next_token, config, seed=0)
        times = []
        for step in range(1 + steps):
            ids = torch.randint(VOCABULARY, (rows, MODEL.context + 1), generator=torch_rng(step, "ids"))
            batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, rows * MODEL.context)
            begun = perf_counter()
            measured = stepper.gradients([batch], step)
            assert measured is not None
            stepper.update(optimizers, measured.gradient_norm, 1.0)
            stepper.working.clear()
            times.append(perf_counter() - begun)
    if here.leads:
        print(median(times[1:]))


if __name__ == "__main__":
    if sys.argv[1:2] == [TRAIN]:
        _train(sys.argv[2])
    else:
        sys.exit(main(Scaling, "plans", run))
