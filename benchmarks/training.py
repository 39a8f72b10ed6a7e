"""Training: tokens a second of a whole step, its memory, and the time to a loss, beside nanoGPT's loop and the Trainer.

``python -m benchmarks.training``. Three parts:

- ``throughput``: batches, forward, loss, backward, clipping and update of a GPT-2 in three shapes. Ours with AdamW, and
  with Muon, which does more in a step; a plain GPT-2 in a loop in the manner of nanoGPT; ``transformers.Trainer``.
- ``memory``: the same with our means of saving it switched on (chunked loss, which we always have, and recomputation of
  blocks), and more rows; the peak of each side's process.
- ``time-to-loss``: characters of Shakespeare from the start of the process to a validation loss; see
  ``_time_to_loss.py``.

All sides of a part begin with the same weights in the same precision.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from statistics import median
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import OURS
from benchmarks._common import Case, Prepared, Rounds, compare, main, require_positive
from benchmarks._plain_gpt import PlainGPT
from benchmarks._plain_loop import adamw
from benchmarks._time_to_loss import TimeToLoss, time_to_loss
from benchmarks._twin import twin
from benchmarks.model import SHAPES, Cell, Model
from groundup.core.device import Precision, autocast, choose_device, choose_numerics
from groundup.core.errors import UsageError
from groundup.core.progress import say
from groundup.core.seeding import numpy_rng
from groundup.dataloader import TokenSource
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig, build_optimizers
from groundup.planning.count import operations
from groundup.training import TrainingConfig
from groundup.training.step import Stepper
from groundup.training.working import Working

PARTS = ("throughput", "memory", "time-to-loss")
WITH_MUON = f"{OURS}, Muon"
RECOMPUTING = f"{OURS}, recomputing"
#: Small enough for random tokens, which teach nothing, to leave every model as it is.
RATE, DECAY, BETAS, CLIP = 1e-5, 0.1, (0.9, 0.95), 1.0
#: Tokens to draw windows from.
STREAM = 2**20
Recompute = Literal["none", "block", "selective"]


@dataclass(frozen=True)
class Training(Rounds):
    """What is measured."""

    parts: tuple[str, ...] = ("throughput", "memory")
    """Of throughput, memory and time-to-loss; the last needs `time.text`."""
    shapes: tuple[str, ...] = ("1M", "12M", "124M")
    """As in `benchmarks.model`; for GPUs 124M-1024, 350M-1024 …"""
    seconds: float = 4.0
    """Least length of one measurement: as many steps as that takes."""
    memory_rows: int = 4
    """Of the part memory: times the rows of the shape."""
    precision: Precision = "auto"
    """Of matrix products."""
    device: str = "auto"
    """Where to train."""
    peak_flops: float = 0.0
    """What the device could do at best, in floating-point operations per second; gives the utilisation (MFU)."""
    time: TimeToLoss = field(default_factory=TimeToLoss)

    def __post_init__(self) -> None:
        require_positive(self, "rounds", "memory_rows")
        for name, chosen, known in (("parts", self.parts, PARTS), ("shapes", self.shapes, tuple(SHAPES))):
            if unknown := [one for one in chosen if one not in known]:
                raise UsageError(f"{name} has {unknown[0]!r}; choose of {', '.join(known)}")


@dataclass(frozen=True)
class Task:
    """What all sides of one comparison have in common."""

    shape: str
    rows: int
    settings: Training

    @property
    def time(self) -> int:
        """Tokens of a row."""
        return SHAPES[self.shape][3]

    @property
    def device(self) -> torch.device:
        """Where to train."""
        return choose_device(self.settings.device)

    @property
    def dtype(self) -> torch.dtype:
        """Of matrix products."""
        return choose_numerics(self.settings.precision, self.device).dtype

    def model(self) -> Transformer:
        """The initial weights, a GPT-2."""
        return Cell("gpt2", self.shape, False, Model(device=self.settings.device)).model()

    def stream(self) -> np.ndarray[Any, Any]:
        """Random ids."""
        return numpy_rng(1, "benchmark").integers(0, SHAPES[self.shape][-1], STREAM).astype(np.uint16)

    def first(self) -> tuple[Tensor, Tensor]:
        """Inputs and targets on which all sides must agree."""
        ids = torch.from_numpy(self.stream()[: self.rows * (self.time + 1)].astype(np.int64)).to(self.device)
        windows = ids.view(self.rows, -1)
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def prepared(self, answer: float, train: Callable[[int], object]) -> Prepared:
        """The side whose ``train`` takes a number of steps; it is tried to learn how many fill a measurement."""
        steps, seconds = 1, self.settings.seconds
        train(steps)
        if seconds:
            started = time.perf_counter()
            train(1)
            steps = max(1, round(seconds / (time.perf_counter() - started)))
        case = Case(steps * self.rows * self.time, lambda: lambda: train(steps))
        return Prepared(answer, {str(self): case}, {"dtype": str(self.dtype), "rows": self.rows, "context": self.time})

    def __str__(self) -> str:
        return f"{self.shape} {self.rows} × {self.time}"


def ours(task: Task, rule: Literal["adamw", "muon"], recompute: Recompute = "none") -> Prepared:
    """The step of the training loop, as every stage calls it."""
    model, device = task.model(), task.device
    numerics = choose_numerics(task.settings.precision, device)
    matrix_rate = RATE if rule == "muon" else 0.0
    config = TrainingConfig(
        clip=CLIP,
        optimizer=OptimizerConfig(
            rate=RATE, matrix_rate=matrix_rate, weight_decay=DECAY, beta1=BETAS[0], beta2=BETAS[1]
        ),
    )
    with torch.no_grad(), autocast(device, numerics.dtype):
        inputs, targets = task.first()
        answer = F.cross_entropy(model.eval()(inputs).flatten(0, 1), targets.flatten())
    compiled = device.type == "cuda"
    working = Working(model.train(), device, numerics, recompute, compiled)
    stepper = Stepper(working, next_token, numerics, device, config.clip, seed=1)
    optimizers = build_optimizers(model, config.optimizer, numerics.dtype)
    batches = iter(TokenSource(task.stream(), task.rows, task.time, seed=1))

    def train(steps: int) -> None:
        for _ in range(steps):
            measured = stepper.gradients([next(batches)], 0)
            assert measured is not None and measured.finite
            stepper.update(optimizers, measured.gradient_norm, 1.0)
            working.clear()

    return task.prepared(float(answer), train)


def plain(task: Task) -> Prepared:
    """The loop that one writes first: a plain GPT-2, all logits, AdamW over two groups."""
    model, device = PlainGPT(task.model()).to(task.device), task.device
    optimizer = adamw(model, RATE, DECAY, BETAS)
    stream, generator = task.stream(), torch.Generator().manual_seed(1)
    call = torch.compile(model) if device.type == "cuda" else model

    def batch() -> tuple[Tensor, Tensor]:
        starts = torch.randint(len(stream) - task.time - 1, (task.rows,), generator=generator).tolist()
        rows = [torch.from_numpy(stream[start : start + task.time + 1].astype(np.int64)) for start in starts]
        windows = torch.stack(rows).to(device)
        return windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

    def train(steps: int) -> None:
        for _ in range(steps):
            inputs, targets = batch()
            with autocast(device, task.dtype):
                loss = call(inputs, targets)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            float(loss.detach())

    with torch.no_grad(), autocast(device, task.dtype):
        answer = float(model(*task.first()))
    return task.prepared(answer, train)


def trainer(task: Task) -> Prepared:
    """``transformers.Trainer`` around GPT2LMHeadModel, with its own defaults but for what all sides share."""
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    model, device = twin(task.model()).train(), task.device
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad(), autocast(device, task.dtype):
        inputs, targets = task.first()
        answer = F.cross_entropy(model(input_ids=inputs).logits.float().flatten(0, 1), targets.flatten())
    optimizer = torch.optim.AdamW(model.parameters(), RATE, BETAS, weight_decay=DECAY, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    stream = torch.from_numpy(task.stream().astype(np.int64))
    rows = stream[: len(stream) // task.time * task.time].view(-1, task.time)
    examples = [{"input_ids": row, "labels": row} for row in rows]

    def train(steps: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            arguments = transformers.TrainingArguments(
                folder,
                per_device_train_batch_size=task.rows,
                max_steps=steps,
                max_grad_norm=CLIP,
                bf16=task.dtype is torch.bfloat16,
                use_cpu=device.type == "cpu",
                torch_compile=device.type == "cuda",
                save_strategy="no",
                report_to="none",
                disable_tqdm=True,
            )
            usual = transformers.Trainer(model, arguments, train_dataset=examples, optimizers=(optimizer, schedule))
            usual.remove_callback(transformers.PrinterCallback)  # stdout is for the record
            usual.train()

    return task.prepared(float(answer), train)


def throughput(settings: Training) -> Iterator[dict[str, Any]]:
    """One record for each shape."""
    for shape in settings.shapes:
        task = Task(shape, SHAPES[shape][4], settings)
        say(f"\nthroughput, {task}")
        sides = {
            OURS: partial(ours, task, "adamw"),
            WITH_MUON: partial(ours, task, "muon"),
            "plain loop": partial(plain, task),
            "Trainer": partial(trainer, task),
        }
        record = compare(sides, "token", settings.rounds, _PACKAGES, ours=(OURS, WITH_MUON))
        record |= {"shape": shape, "better_peer": _better_peer(record["rates"][str(task)])}
        if settings.peak_flops:
            flops = operations(task.model().config, SHAPES[shape][-1], task.time).useful_training / task.time
            rates = record["rates"][str(task)]
            record["utilisation"] = {side: median(each) * flops / settings.peak_flops for side, each in rates.items()}
        yield record


def memory(settings: Training) -> Iterator[dict[str, Any]]:
    """One record for each shape; what counts in it is ``peak_ratio``."""
    for shape in settings.shapes:
        task = Task(shape, SHAPES[shape][4] * settings.memory_rows, replace(settings, seconds=0))
        say(f"\nmemory, {task}")
        sides = {
            RECOMPUTING: partial(ours, task, "adamw", "block"),
            OURS: partial(ours, task, "adamw"),
            "plain loop": partial(plain, task),
            "Trainer": partial(trainer, task),
        }
        record = compare(sides, "token", 1, _PACKAGES, ours=(RECOMPUTING, OURS))
        peak = {side: each["peak_gpu_bytes"] or each["peak_bytes"] for side, each in record["memory"].items()}
        leaner = min(peak["plain loop"], peak["Trainer"])
        record |= {"shape": shape, "peak_ratio": {side: peak[side] / leaner for side in (RECOMPUTING, OURS)}}
        say(f"peak over that of the leaner peer: {record['peak_ratio'][RECOMPUTING]:.2f}")
        yield record


def _better_peer(rates: dict[str, list[float]]) -> dict[str, Any]:
    """Ours over the faster peer of each round."""
    best = [max(pair) for pair in zip(rates["plain loop"], rates["Trainer"], strict=True)]
    ratios = {side: sorted(a / b for a, b in zip(rates[side], best, strict=True)) for side in (OURS, WITH_MUON)}
    for side, each in ratios.items():
        say(f"{side} over the faster peer of each round: {median(each):.2f} ({each[0]:.2f}–{each[-1]:.2f})")
    return {side: {"median": median(each), "min": each[0], "max": each[-1]} for side, each in ratios.items()}


_PACKAGES = ("torch", "transformers", "accelerate")


def run(settings: Training) -> dict[str, Any]:
    """All parts, one after the other."""
    record: dict[str, Any] = {}
    if "throughput" in settings.parts:
        record["throughput"] = list(throughput(settings))
    if "memory" in settings.parts:
        record["memory"] = list(memory(settings))
    if "time-to-loss" in settings.parts:
        record["time_to_loss"] = time_to_loss(settings.time)
    return record


if __name__ == "__main__":
    sys.exit(main(Training, "training", run))
