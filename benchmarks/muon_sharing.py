"""What Muon on divided matrices sends, and how long it takes of a step.

``python -m benchmarks.muon_sharing --processes 2``. Every process of a group on this machine trains the same model with
sharded weights; the bytes that its optimizer gives to the others are counted where they leave, and compared with what
the formula in docs/many-devices.md says. The record holds both, and the seconds of the update beside those of the step.
"""

import json
import os
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any

import torch
from torch import Tensor, distributed

from benchmarks._common import Recorded, require_positive
from groundup.core import world as worlds
from groundup.core.config import parse
from groundup.core.files import write_json
from groundup.core.run import environment
from groundup.core.seeding import torch_rng
from groundup.core.world import ParallelConfig, joined
from groundup.dataloader import Batch
from groundup.distributed import muon
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare

VOCABULARY = 512


@dataclass(frozen=True)
class Sharing(Recorded):
    """The model and the group."""

    processes: int = 2
    """How many share the weights."""
    copies: int = 1
    """How many of these groups there are, each with a copy; they count towards the processes."""
    layers: int = 4
    """Of the model."""
    width: int = 256
    """Of the model."""
    rows: int = 8
    """Of a step, of 256 tokens each."""
    steps: int = 7
    """Timed, after two that are not."""

    def __post_init__(self) -> None:
        require_positive(self, "processes", "copies", "layers", "width", "rows", "steps")


def measured(settings: Sharing) -> dict[str, Any]:
    """In one of the processes: what it sent in a step, and its times."""
    torch.set_num_threads(1)
    sent: list[int] = []
    exchange = muon._Exchange._send

    def counted(self: Any, parts: list[list[Tensor]], expected: list[int]) -> Any:
        rank = self.holders.rank
        sent.append(sum(part.nbytes for which, each in enumerate(parts) if which != rank for part in each))
        return exchange(self, parts, expected)

    muon._Exchange._send = counted  # type: ignore[assignment, method-assign]
    parallel = ParallelConfig(shard=settings.processes // settings.copies)
    with joined(parallel) as here:
        worlds._present = replace(here, parallel=parallel)
        config = ModelConfig(layers=settings.layers, width=settings.width, heads=4, context=256).resolved()
        model = Transformer(config, VOCABULARY).initialise(torch_rng(1, "weights"))
        matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and name.startswith("blocks"))
        options = TrainingConfig(precision="float32", device="cpu", compile="off")
        stepper, optimizers = prepare(model, next_token, options, seed=1)
        ids = torch.randint(VOCABULARY, (settings.rows, 257), generator=torch_rng(2, "ids"))
        batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, settings.rows * 256)
        steps, updates = list[float](), list[float]()
        for step in range(settings.steps + 2):
            sent.clear()
            distributed.barrier()
            begin = time.perf_counter()
            found = stepper.gradients([batch], step)
            assert found is not None
            middle = time.perf_counter()
            optimizers[0].step()
            updates.append(time.perf_counter() - middle)
            stepper.update(optimizers[1:], found.gradient_norm, 1.0)
            stepper.working.clear()
            steps.append(time.perf_counter() - begin)
        bytes_sent = here.gathered(sum(sent))
    share, copies = parallel.shard, settings.copies
    return {
        "matrices": matrices,
        "sent": bytes_sent,
        "formula": round(
            4 * matrices / share * (1 - 1 / share) / copies + 4 * matrices / share * (1 - 1 / (share * copies))
        ),
        "update_seconds": median(updates[2:]),
        "step_seconds": median(steps[2:]),
        "update_share": median(one / other for one, other in zip(updates[2:], steps[2:], strict=True)),
    }


def main(words: list[str]) -> None:
    settings = parse(Sharing, Sharing(), words, "benchmarks.muon_sharing", "command line")
    if "RANK" in os.environ:
        result = measured(settings)
        if os.environ["RANK"] == "0":
            json.dump(result, sys.stdout)
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    shared = {**os.environ, "OMP_NUM_THREADS": "1", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.muon_sharing", *words],
            env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(settings.processes)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(settings.processes)
    ]
    told = [process.communicate()[0] for process in started]
    record = {"settings": {**asdict(settings), "out": None}, "environment": environment(), **json.loads(told[0])}
    if settings.out is None:
        print(json.dumps(record, indent=2))
    else:
        write_json(settings.out, record)


if __name__ == "__main__":
    main(sys.argv[1:])
