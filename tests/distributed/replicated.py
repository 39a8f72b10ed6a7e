"""A small training by replicas, in which something happens to some of them.

``python -m tests.distributed.replicated --nproc 2 --recovery torchft pretrain MISHAPS FOLDER`` does what ``groundup
launch`` does, with itself as the command. MISHAPS are words like ``8:1:killed``: in step 8, to replica 1, once. Before
step 3 and step 14 all wait until all are there. Without options, one process does the same alone.

- killed: while it computes gradients; late: when they are summed, before it knows; deaf: it does not get the sums
- spike: the loss of the batch that it computes is huge
- asked: the launcher is asked to end
"""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.cli import _fail
from groundup.core import heartbeat
from groundup.core.errors import GroundupError
from groundup.core.seeding import torch_rng
from groundup.core.world import REPLICA, ParallelConfig, joined
from groundup.dataloader import IGNORED, Batch
from groundup.distributed.replicas import Replicas
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig
from groundup.tokenizer import BytePairTokenizer
from groundup.training import Hook, TrainingConfig, train
from groundup.training.config import SafetyConfig

STEPS, GATES = 24, (3, 14)
#: Where the loss spikes, which is told from the losses before.
LONGER = 36
#: Rows of each of two batches a step: of three replicas, one has nothing to compute.
ROWS, ACCUMULATION = 2, 2


class Source:
    """Batch ``n`` is drawn from ``n``, and says so; rows have different numbers of targets."""

    def __init__(self) -> None:
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            number = self.position
            ids = torch.randint(256, (ROWS, 9), generator=torch.Generator().manual_seed(number))
            targets = ids[:, 1:].clone()
            targets[0, 2 + number % 5 :] = IGNORED
            self.position += 1
            yield Batch(
                {"inputs": ids[:, :-1], "targets": targets}, int((targets != IGNORED).sum()), {"number": number}
            )


class Mishaps:
    """An objective, and what replicas do beside it, in which the unforeseen happens."""

    def __init__(self, words: str, folder: Path, number: int) -> None:
        planned = [word.split(":") for word in words.split(",") if ":" in word]
        self.plan = {(int(step), what) for step, who, what in planned if int(who) == number}
        self.folder, self.step = folder, 0

    def now(self, what: str) -> bool:
        """Whether it happens; it does not happen twice."""
        mark = self.folder / f"{self.step}-{what}"
        if (self.step, what) not in self.plan or mark.exists():
            return False
        mark.touch()
        return True

    def __call__(self, model: Transformer, batch: Batch) -> Tensor:
        self.step = int(batch.metrics["number"]) // ACCUMULATION + 1
        if self.now("killed"):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.now("asked"):
            os.kill(os.getppid(), signal.SIGTERM)
        return next_token(model, batch) * (100 if self.now("spike") else 1)


def upset(mishaps: Mishaps, number: int, count: int) -> None:
    """Let replicas meet, and agree, as the mishaps want it."""
    meet, agreed = Replicas.meet, Replicas.agreed

    def there(told: dict[str, Any], step: int) -> bool:
        return bool(told["waits"]) or told.get("gate", 0) >= step

    def waiting_for_all(replicas: Replicas) -> bool:
        step = replicas._manager.current_step() + 1
        if step in GATES:
            heartbeat.tell(gate=step)
            told: dict[int, dict[str, Any]] = {}
            while len(told) < count or not all(there(each, step) for each in told.values()):
                time.sleep(0.02)
                told = heartbeat.read(Path(os.environ[heartbeat.FOLDER]))
            time.sleep(0.5)  # from having said that it waits until it does
        return meet(replicas)

    def disturbed(replicas: Replicas) -> bool:
        if mishaps.now("late"):
            os.kill(os.getpid(), signal.SIGKILL)
        if mishaps.now("deaf"):
            replicas._manager.report_error(RuntimeError("it did not hear the others"))
        return agreed(replicas)

    Replicas.meet, Replicas.agreed = waiting_for_all, disturbed  # type: ignore[method-assign]


def work(words: str, folder: Path, options: str = "") -> int:
    number, count = int(os.environ.get(REPLICA, 0)), int(os.environ.get("COUNT", 1))
    mishaps = Mishaps(words, folder, number)
    upset(mishaps, number, count)
    shape: dict[str, Any] = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "hidden": 24, "context": 16}
    experts = ExpertConfig(count=4, router="sigmoid", bias_rate=0.01, balance=0.0)
    config = TrainingConfig(
        steps=LONGER if "spike" in words else STEPS,
        accumulation=ACCUMULATION,
        save_every=5,
        average=0.9,
        precision="float32",
        device="cpu",
        optimizer=OptimizerConfig(matrix_rate=0.002, rate=0.001),
        safety=SafetyConfig(spike=12.0 if "spike" in words else 0.0),
    )

    def measure(step: int, model: Transformer) -> dict[str, float]:
        return {"norm": float(sum(weight.square().sum() for weight in model.parameters()))}

    try:
        with joined(ParallelConfig()):
            model = Transformer(ModelConfig(**shape, experts=experts), 262).initialise(torch_rng(0, "weights"))
            tokenizer = BytePairTokenizer.from_merges([])
            train(model, mishaps, Source(), config, tokenizer, folder, "toy", [Hook(4, measure, "norm")], seed=1)
    except GroundupError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def launch(words: list[str]) -> int:
    """As ``groundup.cli`` does."""
    from groundup.core.config import parse
    from groundup.distributed.launch import LaunchOptions
    from groundup.distributed.supervisor import run_replicas

    try:
        options = parse(LaunchOptions, LaunchOptions(), words[:-3], "replicated", "command line")
        os.environ["COUNT"] = str(options.processes)
        return run_replicas(options, words[-3:], "tests.distributed.replicated")
    except GroundupError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


if __name__ == "__main__":
    trains = REPLICA in os.environ or not sys.argv[1].startswith("-")
    sys.exit(work(sys.argv[-2], Path(sys.argv[-1])) if trains else launch(sys.argv[1:]))
