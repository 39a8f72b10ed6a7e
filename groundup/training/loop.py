"""The one training loop.

Enters: a model, an objective, a source of batches. Leaves: checkpoints, ``metrics.jsonl``, one line a step, and
``events.jsonl``: what was out of the ordinary. Killed at any instant and started again, it ends in the same weights,
bit for bit.

Several processes take every step together. The first one writes what is written; what depends on files or the clock,
it decides for all.
"""

import json
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import torch
from torch import Tensor

from groundup.core import heartbeat
from groundup.core.config import to_json
from groundup.core.device import Numerics
from groundup.core.errors import TrainingError
from groundup.core.files import storage_errors, write_text
from groundup.core.progress import Progress, say
from groundup.core.world import world
from groundup.dataloader import Batch, Source
from groundup.dataloader.prefetch import Prefetch
from groundup.model import Transformer
from groundup.objectives import Objective
from groundup.planning.activations import MicroBatch, activation_bytes
from groundup.planning.mesh import Mesh
from groundup.tokenizer import BytePairTokenizer
from groundup.training.average import Average
from groundup.training.checkpoint import (
    Checkpoint,
    Given,
    Snapshot,
    check_tokenizer,
    checkpoints_in,
    folder_name,
    shape_of,
    step_of,
)
from groundup.training.config import TrainingConfig, WatchConfig
from groundup.training.guard import WINDOW, is_spike
from groundup.training.interruption import Interrupted, Interruption
from groundup.training.pace import Pace
from groundup.training.prepare import prepare
from groundup.training.saving import Saver
from groundup.training.sinks import Sinks
from groundup.training.step import LossScale, Measured
from groundup.training.throughput import Throughput, memory_bytes, note
from groundup.training.watch import Watch

#: Of the memory that is free when training begins, what activations may fill.
FILL = 0.8


@dataclass(frozen=True)
class Hook:
    """Something done every so many steps, at step 0 and at the end: validation, samples.

    ``run(step, model)`` returns numbers that are logged with the step. It must not touch the global
    random state; it is called after the checkpoint is safe on the disk. ``measure`` names the number that tells how
    good the model is, the lower the better: early stopping and the best checkpoints go by it.
    """

    every: int
    run: Callable[[int, Transformer], dict[str, float]]
    measure: str = ""


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
    """What a checkpoint carries beside tensors and the source's position."""

    step: int = 0
    skipped: int = 0
    tokens: int = 0
    seconds: float = 0.0
    recent: float | None = None  # smoothed loss; None before the first update
    record: dict[str, float] = field(default_factory=dict)  # the last step's line of the log, but for its hooks
    losses: list[float] = field(default_factory=list)  # the last ones, which a spike is measured against
    rewinds: int = 0
    rewound_to: int | None = None
    split: int = 1
    scale: dict[str, Any] | None = None
    averaged: int = 0  # updates that the mean of the weights has counted
    processes: int = 1  # that took the last step together


def train(
    model: Transformer,
    objective: Objective,
    source: Source,
    config: TrainingConfig,
    tokenizer: BytePairTokenizer,
    folder: Path,
    name: str,
    hooks: Sequence[Hook] = (),
    seed: int = 0,
) -> TrainingResult:
    """Train ``model`` in place, continuing from ``folder/checkpoints`` if there is one.

    Args:
        model: the initial weights; replaced by the checkpoint's when training continues.
        objective: (model, batch) → loss summed over ``batch.weight`` terms.
        source: endless batches.
        config: steps, rates, precision …
        tokenizer: stored with each checkpoint; one that differs from a checkpoint's is refused.
        folder: where ``checkpoints/``, ``metrics.jsonl`` and ``events.jsonl`` are kept.
        name: what the progress line calls this training.
        hooks: validation, samples.
        seed: of dropout's noise.

    Raises:
        TrainingError: the loss stays not finite, or spikes again and again.
        ArtifactError: the checkpoint in ``folder`` is damaged or another tokenizer's.
        StorageError: a checkpoint cannot be written.
        UsageError: the device cannot compute as the configuration says.
    """
    with ExitStack() as stack:
        if config.prefetch:
            source = stack.enter_context(Prefetch(source, config.prefetch * config.accumulation, config.workers))
        return _Loop(model, objective, source, config, tokenizer, folder, name, hooks, seed).run()


class _Loop:
    """The parts of a training and its state."""

    def __init__(
        self,
        model: Transformer,
        objective: Objective,
        source: Source,
        config: TrainingConfig,
        tokenizer: BytePairTokenizer,
        folder: Path,
        name: str,
        hooks: Sequence[Hook],
        seed: int,
    ) -> None:
        self.model, self.source, self.config, self.tokenizer = model, source, config, tokenizer
        self.folder, self.name, self.hooks = folder, name, hooks
        self.world = world()
        self.stepper, self.optimizers = prepare(model, objective, config, seed)
        self.working, self.numerics, self.device = self.stepper.working, self.stepper.numerics, self.stepper.device
        self.average = Average(model, config.average) if config.average else None
        self.saver = Saver(folder / "checkpoints", config.checkpoints, self.working.sharding)
        self.state = _State()
        self.watch = Watch(self.working, config.watch.every)
        dtype, devices = self.numerics.dtype, self.world.size
        self.throughput = Throughput(model.config, model.vocab_size, self.device, dtype, devices)
        self.pace = Pace(self.world, self.device, self.working.callable is not self.working.model)
        title = f"{folder.absolute().parent.name}/{name}"
        watch = config.watch if self.world.leads else WatchConfig()
        self.sinks = Sinks(watch, folder, title, to_json(config), lost=self._lost)
        self.failures = 0
        self.scores: dict[int, float] = {}  # validations by step
        self.replicas = self.stepper.replicas
        self.kept: list[dict[str, Any]] = []  # lines that a replica needs that comes back, since an earlier checkpoint

    def run(self) -> TrainingResult:
        """Train to the end."""
        resumed, logged = False, 0
        log = self.folder / "metrics.jsonl"
        if not self.world.follows:
            resumed = self._resume()
            logged = self.world.first(lambda: _truncate_log(log, self.state.step))
            self.world.first(lambda: _truncate_log(self.folder / "events.jsonl", self.state.step, keep="rewound"))
            self._read_scores(log)
        if self.replicas is not None:
            self.replicas.begin(self.state.step, self._give, self._take)
        self._open_log()
        described = _described(self.numerics, self.device)
        before, self.state.processes = self.state.processes, self.world.size
        if resumed and before != self.world.size:
            described += f" (processes before: {before}; a step has the same rows)"
        self._event("resumed" if resumed else "started", described)
        say(f"{self.name}: " + (f"continues after step {self.state.step}, " if resumed else "") + described)
        with Interruption(self.world) as self.interruption:
            try:
                self._train(logged)
            except Interrupted:
                self._end_interrupted()
            except TrainingError:  # of all processes: what they are writing is still worth to have
                with suppress(Exception):
                    self.saver.wait()
                raise
            finally:
                with suppress(OSError):  # every line was flushed; one that could not be has been told
                    self.lines.close()
                self.sinks.close()
                self.stepper.release()
                self.saver.settle()
        state = self.state
        path = self.saver.parent / folder_name(state.step)
        return TrainingResult(state.step, state.skipped, state.tokens, state.seconds, state.recent, path)

    def _train(self, logged: int) -> None:
        config, state = self.config, self.state
        self.position = self.source.state_dict()
        batches = iter(self.source)
        with Progress(self.name, config.steps, "step", done=state.step) as progress:
            if state.step == 0 and not self.world.follows and (numbers := self._run_hooks()):
                self._log({"step": 0, **numbers})
            elif logged < state.step:  # killed between a checkpoint and the line of its step
                self._log({**state.record, **self._run_hooks()})
            while not self._finished():
                heartbeat.tell(place=f"{self.name} step {state.step + 1}")
                self.interruption.check()
                if self.replicas is not None and self.source.state_dict() != self.position:
                    self.source.load_state_dict(self.position)  # of another, or of a step that is taken again
                    batches = iter(self.source)
                before = state.step
                started = time.perf_counter()
                accumulation = config.schedule.accumulation_at(before, config.steps, config.accumulation)
                micro = [next(batches) for _ in range(accumulation)]
                waited = time.perf_counter() - started
                with self.pace.measuring(before + 1):
                    taken = self._step(micro, started, waited)
                if taken:
                    self._finish_step()
                progress.advance(state.step - progress.done, note=note(state.recent, state.record))
        self.saver.wait()
        self._save()
        self.saver.finish(state.step)
        if self.replicas is not None and self.world.follows:
            self.replicas.wait_for(self.saver.parent / folder_name(state.step))
        self.interruption.check()  # a signal since the last step: what comes after the training is not begun

    def _step(self, micro: Sequence[Batch], started: float, waited: float) -> bool:
        """Compute the gradients and, unless the loss is not to be trusted, update; False if training went back."""
        config, state = self.config, self.state
        due = self.watch.due(state.step + 1)
        with self.watch.activations(micro[0].tensors) if due else nullcontext():
            measured = self.stepper.gradients(micro, state.step)
        if self.stepper.split != state.split:
            state.split = self.stepper.split
            self._event("split", f"out of memory: each micro-batch is now computed in {state.split} parts")
        record: dict[str, float] = {"skipped": 1}
        with self.interruption.deferred():
            if not self.stepper.agreed():
                self.working.clear()
                return False
            if measured is None:
                self._skip("no target in any batch")
            elif not measured.finite:
                self._refuse(measured)
            elif is_spike(measured.loss, state.losses, config.safety.spike) and self._go_back(measured.loss):
                return False
            else:
                if due:
                    self.watch.before_update()
                factor = config.schedule.factor(state.step, config.steps, config.accumulation)
                measured.gradient_norm = self.stepper.update(self.optimizers, measured.gradient_norm, factor)
                if measured.finite:
                    record = self._updated(micro, measured, factor)
                else:  # DeepSpeed finds out when it steps, and does not
                    self._refuse(measured)
                if due:
                    record |= self.watch.after_update()
            self.working.clear()
            state.step += 1
            elapsed = time.perf_counter() - started
            state.seconds += elapsed
            if "tokens" in record:
                tokens, length = _tokens(micro), micro[0].tensors["inputs"].shape[1]
                record["tokens_per_second"] = round(tokens / elapsed, 1)
                if self.world.size > 1:
                    record["tokens_per_second_per_device"] = round(tokens / elapsed / self.world.size, 1)
                if self.replicas is not None:
                    record["replicas"] = self.replicas.place[1]
                record |= self.throughput.numbers(tokens / length / record.get("replicas", 1), length, elapsed)
            record |= {"step_seconds": round(elapsed, 5), "loader_seconds": round(waited, 5)}
            record |= self.pace.numbers(elapsed, memory_bytes(self.device))
            if self.pace.complaint:
                self._event("slow", self.pace.complaint, state.step)
                say(f"{self.name}: {self.pace.complaint}")
            state.record = _finite({"step": state.step, **record, "seconds": round(state.seconds, 3)})
            self.position = self.source.state_dict()
        return True

    def _updated(self, micro: Sequence[Batch], measured: Measured, factor: float) -> dict[str, float]:
        """Count a step that was taken; its line of the log."""
        state, config = self.state, self.config
        self.failures = 0
        if self.stepper.scale is not None:
            self.stepper.scale.update(True)
        if self.average is not None:
            self.average.update()
        if config.safety.spike:
            state.losses = [*state.losses, measured.loss][-WINDOW:]
        state.tokens += _tokens(micro)
        before = measured.loss if state.recent is None else state.recent
        state.recent = 0.95 * before + 0.05 * measured.loss
        rate = config.optimizer.matrix_rate or config.optimizer.rate
        return {
            "loss": measured.loss,
            "learning_rate": rate * factor,
            "gradient_norm": measured.gradient_norm,
            "tokens": state.tokens,
            **measured.metrics,
        }

    def _skip(self, why: str) -> None:
        self.state.skipped += 1
        self._event("skipped", why, self.state.step + 1)

    def _refuse(self, measured: Measured) -> None:
        """Skip a step whose loss or gradient is no finite number; give up after too many in a row."""
        scale = self.stepper.scale
        if scale is not None and scale.factor > 1:  # the scale was too large; that is how it is found
            scale.update(False)
            self._skip(f"gradients overflowed float16; the loss is now scaled by {scale.factor:g}")
            return
        self.failures += 1
        what = "loss" if not math.isfinite(measured.loss) else "gradient"
        self._skip(f"the {what} is not a finite number")
        if self.failures >= self.config.safety.patience:
            raise TrainingError(
                f"{self.name}: the loss or gradient was not a finite number in {self.failures} steps on end (step "
                f"{self.state.step + 1}); lower optimizer.matrix-rate and optimizer.rate, or set --precision float32"
            )

    def _go_back(self, loss: float) -> bool:
        """Return to a checkpoint and leave out the batches since; False if there is none to return to."""
        if self.replicas is not None and self.world.follows:  # the first one does, and gives the others what it finds
            self.replicas.forget()
            self.working.clear()
            return True
        state, limit = self.state, self.config.safety.rewinds
        at = state.step + 1
        spike = f"the loss spiked to {loss:.4g} at step {at}, where the recent median was {median(state.losses):.4g}"
        checkpoint = self.saver.earlier(state.rewound_to)
        if checkpoint is None:
            self._event("spike", f"{spike}; there is no checkpoint to return to", at)
            return False
        if state.rewinds >= limit:
            raise TrainingError(
                f"{self.name}: {spike}, after {limit} returns to a checkpoint; lower optimizer.matrix-rate and "
                "optimizer.rate, or look at what `groundup doctor` says of the run"
            )
        loop = {**checkpoint.state["loop"], "rewinds": state.rewinds + 1, "rewound_to": checkpoint.step}
        self._restore(checkpoint, {**loop, "split": state.split, "seconds": state.seconds})
        self.position = self.source.state_dict()
        self.working.clear()
        self.lines.close()
        if self.world.leads:
            self.saver.rewound(checkpoint.step, {"loop": vars(state).copy(), "source": self.position})
            _truncate_log(self.folder / "metrics.jsonl", checkpoint.step)
        self._open_log()
        self.scores = {step: score for step, score in self.scores.items() if step <= checkpoint.step}
        self.kept = [line for line in self.kept if line["step"] <= checkpoint.step or line.get("event") == "rewound"]
        why = f"{spike}: back to step {checkpoint.step}, without the batches since (return {state.rewinds} of {limit})"
        self._event("rewound", why, at)
        say(f"{self.name}: {why}")
        return True

    def _finish_step(self) -> None:
        """Save, validate, log."""
        state, config = self.state, self.config
        self.saver.poll()
        if state.step % config.save_every == 0 or state.step == config.steps:
            self._save()
            if any(self._due(hook) for hook in self.hooks):
                self.saver.wait()
        self._log({**state.record, **self._run_hooks()})

    def _finished(self) -> bool:
        """Whether no step is left to take; of replicas, when those that take the next one have met."""
        if self.replicas is not None and self.replicas.meet():
            self._event("replicas", f"{self.replicas.place[1]} take the next steps")
        return self.state.step >= self.config.steps or self._stops_early()

    def _stops_early(self) -> bool:
        """Whether the last validations were all worse than one before them."""
        if not self.config.stop_after or not self.scores:
            return False
        best = min(self.scores, key=lambda step: self.scores[step])
        if sum(step > best for step in self.scores) < self.config.stop_after:
            return False
        why = f"the best of {len(self.scores)} validations, {self.scores[best]:.4g}, was at step {best}"
        self._event("stopped_early", why)
        say(f"{self.name}: stops at step {self.state.step}; {why}")
        return True

    def _due(self, hook: Hook) -> bool:
        return self.state.step % hook.every == 0 or self.state.step == self.config.steps

    def _run_hooks(self) -> dict[str, float]:
        numbers: dict[str, float] = {}
        due = [hook for hook in self.hooks if self._due(hook)]
        if not due:
            return numbers
        self.working.train(False)
        with self.average.applied() if self.average is not None else nullcontext(), torch.no_grad():
            self.working.restored()
            for hook in due:
                numbers |= hook.run(self.state.step, self.working.model)
            numbers = self.world.first(lambda: numbers)
            for hook in due:
                if hook.measure in numbers:
                    self.scores[self.state.step] = numbers[hook.measure]
        self.working.restored()
        self.working.train()
        return numbers

    def _save(self) -> None:
        state = self.state
        if self.world.first((self.saver.parent / folder_name(state.step)).exists):
            return
        if self.replicas is not None:
            before = [0, *map(step_of, checkpoints_in(self.saver.parent))][:-1]
            self.kept = [line for line in self.kept if line["step"] > max(before, default=0)]
        tensors, carried = self._carried()
        snapshot = Snapshot(state.step, tensors, shape_of(self.model), self.tokenizer, carried, self.stepper.copies)
        with self.interruption.deferred():
            self.saver.save(snapshot, self.scores)

    def _carried(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """All that training goes on from: tensors, and what is JSON."""
        state = self.state
        state.scale = None if self.stepper.scale is None else vars(self.stepper.scale).copy()
        tensors = self.stepper.tensors(self.optimizers)
        if self.average is not None:
            state.averaged, tensors["average"] = self.average.updates, self.average.tensors()
        return tensors, {"loop": json.loads(json.dumps(vars(state))), "source": self.position}

    def _give(self) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """What another replica needs to become what this one is."""
        tensors, carried = self._carried()
        return tensors, {**carried, "scores": list(self.scores.items()), "kept": self.kept}

    def _take(self, tensors: Mapping[str, Mapping[str, Tensor]], told: dict[str, Any]) -> None:
        """Become what another replica is, and write what it did in the meantime."""
        with self.interruption.deferred():
            since = self.state.step
            self._restore(Given(self.folder, told, tensors), told["loop"])
            self.position, self.scores = told["source"], dict(told["scores"])
            self.working.clear()
            self.kept = []
            for line in told["kept"]:
                if self.world.follows or line["step"] <= since:
                    self.kept.append(line)
                elif "event" in line:
                    self._event(line["event"], line["why"], line["step"])
                else:
                    self._log(line)

    def _resume(self) -> bool:
        """Continue from the newest checkpoint, if there is one."""
        checkpoint = self.saver.latest()
        if checkpoint is None:
            self._fit()
            return False
        check_tokenizer(checkpoint, self.tokenizer)
        self._restore(checkpoint, checkpoint.state["loop"])
        self.source.load_state_dict(checkpoint.state["source"])
        return True

    def _open_log(self) -> None:
        """The log, to add lines to; of all processes but the first, nothing is kept."""
        log = self.folder / "metrics.jsonl"
        with storage_errors(log):
            log.parent.mkdir(parents=True, exist_ok=True)
            place = log if self.world.leads else Path(os.devnull)
            self.lines = place.open("a", encoding="utf-8", newline="\n")

    def _read_scores(self, log: Path) -> None:
        """The validations so far, which the log has."""
        measures = {hook.measure for hook in self.hooks} - {""}

        def told() -> list[tuple[int, float]]:
            lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
            records = [json.loads(line) for line in lines]
            return [(record["step"], record[name]) for record in records for name in measures & record.keys()]

        self.scores = dict(self.world.first(told))

    def _restore(self, checkpoint: Checkpoint, loop: dict[str, Any]) -> None:
        self.stepper.restore(self.optimizers, checkpoint)
        for key, value in loop.items():
            setattr(self.state, key, value)
        if self.average is not None:
            self.average.restore(checkpoint.stored("average"), self.state.averaged)
        if self.stepper.scale is not None and self.state.scale is not None:
            self.stepper.scale = LossScale(**self.state.scale)
        self.stepper.split = self.state.split

    def _fit(self) -> None:
        """Split micro-batches so that their activations fit the memory, as far as that can be computed."""
        rows, time_ = getattr(self.config, "rows", 0), self.model.config.context
        if not self.config.memory.fit or not rows:
            return
        free = psutil.virtual_memory().available if self.device.type == "cpu" else _free_memory(self.device)
        element = self.numerics.dtype.itemsize

        def needed(split: int) -> int:
            batch = MicroBatch(-(-rows // split), time_, element)
            return sum(activation_bytes(self.model.config, self.model.vocab_size, batch).values())

        while self.stepper.split < rows and needed(self.stepper.split) > FILL * free:
            self.stepper.split *= 2
        if self.stepper.split > 1:
            self.state.split = self.stepper.split
            say(f"{self.name}: {rows} rows do not fit the memory; they are computed in {self.state.split} parts")

    def _end_interrupted(self) -> None:
        """Save what is done; end as the signal asks."""
        self.saver.wait()
        state = self.state
        if state.step:
            self._event("terminated", "a signal asked to end")
            self.interruption.signal, asked = None, self.interruption.signal
            self._save()
            self.saver.wait()
            self.interruption.signal = asked
            say(f"{self.name}: saved at step {state.step}")
        self.interruption.end()

    def _lost(self, why: str) -> None:
        self._event("sink_lost", why)

    def _log(self, record: dict[str, float]) -> None:
        record = _finite(record)
        if self.replicas is not None:
            self.kept.append(record)
        with storage_errors(self.folder / "metrics.jsonl"):
            self.lines.write(json.dumps(record) + "\n")
            self.lines.flush()
        self.sinks.log(int(record["step"]), record)

    def _event(self, event: str, why: str, step: int | None = None) -> None:
        path = self.folder / "events.jsonl"
        at = self.state.step if step is None else step
        record = {"step": at, "event": event, "why": why}
        if self.replicas is not None:
            self.kept.append(record)
        if not self.world.leads:
            return
        with storage_errors(path), path.open("a", encoding="utf-8", newline="\n") as lines:
            lines.write(json.dumps(record) + "\n")
        self.sinks.event(at, event, why)


def _free_memory(device: torch.device) -> int:
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available


def _tokens(micro: Sequence[Batch]) -> int:
    return sum(batch.tensors["inputs"].numel() for batch in micro)


def _described(numerics: Numerics, device: torch.device) -> str:
    here = world()
    plan = f"; {here.size} processes: {Mesh.of(here.parallel, here.size)}" if here.size > 1 else ""
    return f"{str(numerics.dtype).removeprefix('torch.')} on {device.type}: {numerics.reason}{plan}"


def _finite(record: dict[str, float]) -> dict[str, float]:
    return {key: value for key, value in record.items() if math.isfinite(value)}


def _truncate_log(path: Path, step: int, keep: str = "") -> int:
    """Drop what was logged after ``step``, for those steps are taken again; return the last step that is left.

    What had the name ``keep`` stays: it is not taken again.
    """
    if not path.exists():
        return 0
    kept, last = [], 0
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(json.JSONDecodeError):  # a line cut by a kill
            record = json.loads(line)
            if step > 0 and (record["step"] <= step or record.get("event") == keep):
                kept.append(line + "\n")
                last = record["step"]
    write_text(path, "".join(kept))
    return last
