"""The one training loop.

Enters: a model, an objective, a source of batches. Leaves: a checkpoint folder and ``metrics.jsonl``, one
line a step. Killed at any instant and started again, it ends in the same weights, bit for bit.
"""

import json
import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from groundup.core.device import Precision, autocast, choose_device, choose_dtype
from groundup.core.errors import TrainingError, UsageError
from groundup.core.files import storage_errors, write_text
from groundup.core.progress import Progress
from groundup.dataloader import Batch, Source
from groundup.model import Transformer
from groundup.objectives import Objective
from groundup.optim import OptimizerConfig, ScheduleConfig, build_optimizers
from groundup.tokenizer import BytePairTokenizer
from groundup.training.checkpoint import (
    check_tokenizer,
    find_checkpoint,
    restore_optimizers,
    restore_weights,
    save_checkpoint,
)

#: Consecutive steps with a loss or gradient that is not finite before training gives up.
PATIENCE = 5


@dataclass(frozen=True)
class TrainingConfig:
    """What every training stage has in common."""

    steps: int = 500
    """Number of updates."""
    accumulation: int = 1
    """Micro-batches per update."""
    clip: float = 1.0
    """Largest norm of the whole gradient; larger ones are scaled down to it."""
    precision: Precision = "auto"
    """Dtype of matrix products; weights stay float32. auto: bfloat16 where the hardware has it."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda, mps …"""
    save_every: int = 100
    """Steps between checkpoints; an interrupted run loses at most these."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)

    def __post_init__(self) -> None:
        for name in ("steps", "accumulation", "save_every"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} is {getattr(self, name)}; it must be at least 1")
        if self.clip <= 0:
            raise UsageError(f"clip is {self.clip}; it must be greater than 0")


@dataclass(frozen=True)
class Hook:
    """Something done every so many steps, at step 0 and at the end: validation, samples.

    ``run(step, model)`` returns numbers that are logged with the step. It must not touch the global
    random state; it is called after the checkpoint is safe on the disk.
    """

    every: int
    run: Callable[[int, Transformer], dict[str, float]]


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training leaves in memory: its totals."""

    steps: int
    skipped: int
    tokens: int
    seconds: float
    final_loss: float | None
    checkpoint: Path

    def metrics(self) -> dict[str, float]:
        """The totals, for the manifest."""
        totals: dict[str, float] = {
            "steps": self.steps,
            "skipped_steps": self.skipped,
            "tokens": self.tokens,
            "training_seconds": round(self.seconds, 2),
            "tokens_per_second": round(self.tokens / max(self.seconds, 1e-9), 1),
        }
        return totals if self.final_loss is None else {**totals, "final_loss": round(self.final_loss, 5)}


@dataclass
class _State:
    """What a checkpoint carries beside weights, optimizer state and the source's position."""

    step: int = 0
    skipped: int = 0
    tokens: int = 0
    seconds: float = 0.0
    recent: float | None = None  # smoothed loss; None before the first update
    record: dict[str, float] = field(default_factory=dict)  # the last step's line of the log, but for its hooks


def train(
    model: Transformer,
    objective: Objective,
    source: Source,
    config: TrainingConfig,
    tokenizer: BytePairTokenizer,
    folder: Path,
    name: str,
    hooks: Sequence[Hook] = (),
) -> TrainingResult:
    """Train ``model`` in place, continuing from ``folder/checkpoints`` if there is one.

    Args:
        model: the initial weights; replaced by the checkpoint's when training continues.
        objective: (model, batch) → loss summed over ``batch.weight`` terms.
        source: endless batches.
        config: steps, rates, precision …
        tokenizer: stored with each checkpoint; one that differs from a checkpoint's is refused.
        folder: where ``checkpoints/`` and ``metrics.jsonl`` are kept.
        name: what the progress line calls this training.
        hooks: validation, samples.

    Raises:
        TrainingError: the loss stays not finite.
        ArtifactError: the checkpoint in ``folder`` is damaged or another tokenizer's.
    """
    device = choose_device(config.device)
    dtype = choose_dtype(config.precision, device)
    model.to(device).train()
    optimizers = build_optimizers(model, config.optimizer, dtype)
    checkpoints, log = folder / "checkpoints", folder / "metrics.jsonl"
    state = _State()
    checkpoint = find_checkpoint(checkpoints)
    if checkpoint is not None:
        check_tokenizer(checkpoint, tokenizer)
        restore_weights(model, checkpoint)
        restore_optimizers(optimizers, checkpoint)
        source.load_state_dict(checkpoint.state["source"])
        state = _State(**checkpoint.state["loop"])
    logged = _truncate_log(log, state.step)

    def save() -> Path:
        progress = {"loop": vars(state).copy(), "source": source.state_dict()}
        return save_checkpoint(checkpoints, state.step, model, optimizers, tokenizer, progress)

    def run_hooks() -> dict[str, float]:
        numbers: dict[str, float] = {}
        model.eval()
        for hook in hooks:
            if state.step % hook.every == 0 or state.step == config.steps:
                with torch.no_grad():
                    numbers |= hook.run(state.step, model)
        model.train()
        return numbers

    batches = iter(source)
    failures = 0
    with storage_errors(log):
        log.parent.mkdir(parents=True, exist_ok=True)
        lines = log.open("a", encoding="utf-8", newline="\n")
    with lines, Progress(name, config.steps, "step", done=state.step) as progress:
        if state.step == 0 and (numbers := run_hooks()):
            _log(lines, {"step": 0, **numbers})
        elif logged < state.step:  # killed between a checkpoint and the line of its step
            _log(lines, {**state.record, **run_hooks()})
        while state.step < config.steps:
            started = time.perf_counter()
            factor = config.schedule.factor(state.step, config.steps)
            micro = [_to_device(next(batches), device) for _ in range(config.accumulation)]
            record = _update(model, objective, micro, optimizers, config, factor, device, dtype)
            state.step += 1
            elapsed = time.perf_counter() - started
            state.seconds += elapsed
            if record is None:  # no target anywhere: nothing to learn, nothing to update
                state.skipped += 1
                record = {"skipped": 1}
            elif not math.isfinite(record["loss"]) or not math.isfinite(record["gradient_norm"]):
                failures += 1
                state.skipped += 1
                if failures >= PATIENCE:
                    raise TrainingError(
                        f"{name}: the loss or gradient was not a finite number in {PATIENCE} steps on end (step "
                        f"{state.step}); lower optimizer.matrix-rate and optimizer.rate, or set --precision float32"
                    )
                record = {"skipped": 1}
            else:
                failures = 0
                tokens = sum(batch.tensors["inputs"].numel() for batch in micro)
                state.tokens += tokens
                before = record["loss"] if state.recent is None else state.recent
                state.recent = 0.95 * before + 0.05 * record["loss"]
                record |= {"tokens": state.tokens, "tokens_per_second": round(tokens / elapsed, 1)}
                counted = [batch.metrics for batch in micro if batch.weight]
                for key in counted[0]:
                    record[key] = sum(metrics[key] for metrics in counted) / len(counted)
            state.record = _finite({"step": state.step, **record, "seconds": round(state.seconds, 3)})
            if state.step % config.save_every == 0 or state.step == config.steps:
                save()
            _log(lines, {**state.record, **run_hooks()})
            progress.advance(1, note="" if state.recent is None else f"loss {state.recent:.3f}")
    path = save()  # a run resumed at its last step has nothing to do but this
    return TrainingResult(state.step, state.skipped, state.tokens, state.seconds, state.recent, path)


def _update(
    model: Transformer,
    objective: Objective,
    micro: Sequence[Batch],
    optimizers: Sequence[torch.optim.Optimizer],
    config: TrainingConfig,
    factor: float,
    device: torch.device,
    dtype: torch.dtype,
) -> dict[str, float] | None:
    """One update from the micro-batches; None, and no update, if none of them has a target."""
    weight = sum(batch.weight for batch in micro)
    if weight == 0:
        return None
    total = 0.0
    for batch in micro:
        if batch.weight:
            with autocast(device, dtype):
                loss = objective(model, batch) / weight
            loss.backward()
            total += float(loss.detach())
    parameters = [p for p in model.parameters() if p.grad is not None]
    norm = float(nn.utils.clip_grad_norm_(parameters, config.clip))
    if math.isfinite(total) and math.isfinite(norm):
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["full_lr"] * factor
            optimizer.step()
        model.rebalance()
    for parameter in parameters:
        parameter.grad = None
    rate = config.optimizer.matrix_rate or config.optimizer.rate
    return {"loss": total, "learning_rate": rate * factor, "gradient_norm": norm}


def _to_device(batch: Batch, device: torch.device) -> Batch:
    tensors = {name: tensor.to(device, non_blocking=True) for name, tensor in batch.tensors.items()}
    return Batch(tensors, batch.weight, batch.metrics)


def _finite(record: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in record.items() if math.isfinite(value)}


def _log(lines: Any, record: dict[str, float]) -> None:
    lines.write(json.dumps(_finite(record)) + "\n")
    lines.flush()


def _truncate_log(path: Path, step: int) -> int:
    """Drop what was logged after ``step``, for those steps are taken again; return the last step that is left."""
    if not path.exists():
        return 0
    kept, last = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a line cut by a kill
            logged = json.loads(line)["step"]
            if step > 0 and logged <= step:
                kept.append(line + "\n")
                last = logged
    write_text(path, "".join(kept))
    return last
