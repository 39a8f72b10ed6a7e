"""Checkpoints while training goes on: written in the background, kept by rule, and returned to when a loss spikes.

Enters: snapshots. Leaves: checkpoint folders, never fewer than the rule asks for: an old one goes when the new one is
on the disk, whole.

Processes that divide the weights write a checkpoint together: each one its part, in a thread that touches nothing but
its file. Between two steps they ask each other; when all parts are there, the first process lists them and gives the
folder its name. Whoever dies before that, the checkpoint is absent, and the older ones are as they were.
"""

import contextlib
import math
import shutil
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from groundup.core.errors import ArtifactError, StorageError
from groundup.core.files import publish_folder, read_json, storage_errors, temporary_name, write_json
from groundup.core.progress import say
from groundup.core.world import ALONE
from groundup.distributed.sharding import Sharding
from groundup.distributed.shards import Dealt, Entry, Held, dealt, held, index_of, key_of, pieces, write_file
from groundup.training.checkpoint import (
    INDEX,
    Checkpoint,
    Snapshot,
    checkpoints_in,
    find_checkpoint,
    folder_name,
    make_whole,
    open_checkpoint,
    prune,
    step_of,
)
from groundup.training.config import CheckpointConfig

#: Where the last return to a checkpoint is recorded, beside the checkpoints.
REWOUND = "rewound.json"


def kept(steps: list[int], rule: CheckpointConfig, scores: Mapping[int, float]) -> set[int]:
    """Which of the checkpoints at ``steps`` stay, by the rule; ``scores`` are validations by step, lower is better."""
    ordered = sorted(steps)
    best = sorted((step for step in ordered if step in scores), key=lambda step: scores[step])
    periodic = {step for step in ordered if rule.every and step % rule.every == 0}
    return {*ordered[-rule.last :], *best[: rule.best], *periodic}


@dataclass
class _Divided:
    """A checkpoint that every process is writing its part of."""

    snapshot: Snapshot
    scores: dict[int, float]
    plan: dict[str, Dealt]
    temporary: Path
    digest: str = ""
    """Of the file of this process; none, if it has nothing to write."""


class Saver:
    """Writes snapshots to ``parent``, one at a time. All processes call it alike, but for :meth:`settle`."""

    def __init__(self, parent: Path, rule: CheckpointConfig, sharding: Sharding | None = None) -> None:
        self.parent = parent
        self.rule = rule
        self.sharding = sharding or Sharding(ALONE)
        self.world = self.sharding.world
        parallel = self.world.parallel
        divides = (
            self.world.size > 1
            and parallel.engine == "torch"
            and (math.prod(replace(parallel, data=1).sizes.values()) > 1 or parallel.zero)
        )
        self.sharded = rule.sharded == "on" or (rule.sharded == "auto" and divides)
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None
        self._divided: _Divided | None = None
        self._held: Held = {}
        self._plan: dict[str, Dealt] = {}
        self._copies: dict[str, Tensor] = {}

    def save(self, snapshot: Snapshot, scores: Mapping[int, float]) -> None:
        """Write the snapshot and remove what the rule no longer keeps; in the background, if the rule says so.

        Raises:
            StorageError: this one, or the one before, cannot be written.
        """
        self.wait()
        if self.sharded:
            self._begin_divided(snapshot, dict(scores))
        else:
            if self.world.size > 1 and not snapshot.own:
                snapshot = snapshot.gathered(self.sharding)
            if self.world.leads:
                snapshot = snapshot.copied() if self.rule.background else snapshot
                self._begin(partial(self._write, snapshot, dict(scores)))
        if not self.rule.background:
            self.wait()

    def poll(self) -> None:
        """Between two steps: a checkpoint that all processes have written their part of becomes one."""
        if self._divided is not None:
            done = self._thread is None or not self._thread.is_alive()
            if all(self.world.gathered(done)):
                self.wait()

    def wait(self) -> None:
        """Return when nothing is being written any more.

        Raises:
            StorageError: what was being written could not be.
        """
        self.settle()
        error, self._error = self._error, None
        divided, self._divided = self._divided, None
        wrong = ""
        if self.world.size > 1 or divided is not None:
            told = self.world.gathered([divided.digest if divided else "", str(error or "")], patiently=True)
            wrong = next((why for _, why in told if why), "")
            if divided is not None:
                if not wrong:
                    wrong = self.world.first(lambda: self._publish(divided, [digest for digest, _ in told]))
                if wrong and self.world.leads:
                    shutil.rmtree(divided.temporary, ignore_errors=True)
        if error is not None:
            raise error
        if wrong:
            raise StorageError(wrong)

    def settle(self) -> None:
        """Return when this process writes no more. Unlike :meth:`wait` it asks no other, who may be gone."""
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def finish(self, step: int) -> None:
        """Leave the checkpoint of the last step as one process would have written it, if the disk has room for that.

        Raises:
            ArtifactError: it is damaged.
        """
        self.wait()
        folder = self.parent / folder_name(step)
        if self.world.first(lambda: any(folder.glob("shard*"))):
            checkpoint = open_checkpoint(folder, self.world)
            self.world.first(lambda: self._make_whole(checkpoint))

    @staticmethod
    def _make_whole(checkpoint: Checkpoint) -> None:
        try:
            make_whole(checkpoint)
        except StorageError as error:
            say(f"warning: {checkpoint.folder.name} stays in the parts that the processes wrote ({error})")

    def _begin(self, work: Callable[[], None]) -> None:
        if not self.rule.background:
            self._attempt(work)
            return
        self._thread = threading.Thread(target=self._attempt, args=(work,), name="checkpoint")
        self._thread.start()

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # told where it can be: in the thread that trains
            self._error = error

    def _write(self, snapshot: Snapshot, scores: Mapping[int, float]) -> None:
        snapshot.write(self.parent)
        self._prune(scores)

    def _prune(self, scores: Mapping[int, float]) -> None:
        prune(self.parent, kept([step_of(folder) for folder in checkpoints_in(self.parent)], self.rule, scores))

    def _begin_divided(self, snapshot: Snapshot, scores: dict[int, float]) -> None:
        """Copy what this process is to write, and begin to write it."""
        tensors = {
            f"{group}/{name}": each for group in snapshot.tensors for name, each in snapshot.tensors[group].items()
        }
        mine = held(tensors)
        if not all(self.world.gathered(mine == self._held)):  # else all is where it was the last time
            self._held, self._plan, self._copies = mine, dealt(self.world.gathered(mine)), {}
        target = self.parent / folder_name(snapshot.step)
        name = self.world.first(lambda: temporary_name(target).name)
        divided = self._divided = _Divided(replace(snapshot, tensors={}), scores, self._plan, target.with_name(name))
        own = {
            key_of(name, box)
            for name, each in self._plan.items()
            for box, owner in each.boxes
            if owner == self.world.rank
        }
        parts = ((key_of(name, box), part) for name, tensor in tensors.items() for box, part in pieces(tensor))
        entries = self._copied({key: part for key, part in parts if key in own})
        self._begin(partial(self._write_part, divided, entries))

    def _copied(self, parts: dict[str, Tensor]) -> list[Entry]:
        """Copies in the CPU's memory, which training does not change: each time in the same, which a GPU copies to by
        itself."""
        for key, part in parts.items():
            if key not in self._copies:
                pinned = part.device.type == "cuda"
                self._copies[key] = torch.empty(part.shape, dtype=part.dtype, pin_memory=pinned)
            self._copies[key].copy_(part, non_blocking=True)
        if any(part.device.type != "cpu" for part in parts.values()):
            torch.accelerator.synchronize()
        return [Entry.of(key, self._copies[key]) for key in parts]

    def _write_part(self, divided: _Divided, entries: list[Entry]) -> None:
        with storage_errors(divided.temporary):
            divided.temporary.mkdir(parents=True, exist_ok=True)
            if entries:
                divided.digest = write_file(divided.temporary / _shard(self.world.rank), entries)

    def _publish(self, divided: _Divided, digests: list[str]) -> str:
        """All parts are on the disk: describe them, and give the folder its name; what is wrong, if it cannot be."""
        folder = divided.temporary
        files = [_shard(rank) for rank in range(self.world.size)]
        hashes = {name: digest for name, digest in zip(files, digests, strict=True) if digest}
        if unseen := [name for name in hashes if not (folder / name).is_file()]:
            return f"{folder / unseen[0]} was written where process 0 does not see it; give --out on a disk of all"
        try:
            with storage_errors(folder):
                write_json(folder / INDEX, index_of(divided.plan, files))
                divided.snapshot.describe(folder, hashes)
                publish_folder(folder, self.parent / folder_name(divided.snapshot.step))
            self._prune(divided.scores)
        except StorageError as error:
            return str(error)
        return ""

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint with the state to continue with: its own, or that of the return to it."""
        rewound = self.world.first(self._returned)
        checkpoint = find_checkpoint(self.parent, self.world)
        if checkpoint is None:
            return None
        if rewound is not None and rewound["step"] == checkpoint.step:
            return Checkpoint(checkpoint.folder, {**checkpoint.state, **rewound["state"]})
        return checkpoint

    def earlier(self, than: int | None) -> Checkpoint | None:
        """The newest checkpoint, or the one before it if the newest is that of step ``than``; None if there is none."""
        self.wait()
        steps = self.world.first(lambda: [step_of(folder) for folder in checkpoints_in(self.parent)])
        if not steps:
            return None
        step = steps[-2] if len(steps) > 1 and steps[-1] == than else steps[-1]
        return open_checkpoint(self.parent / folder_name(step), self.world)

    def rewound(self, step: int, state: dict[str, Any]) -> None:
        """Training returns to the checkpoint of ``step`` with this ``loop`` and ``source``; later ones are dropped.

        It is on the disk before training goes on, so that a program killed at any instant returns to the same. Only the
        first process calls this.
        """
        record = {"step": step, "state": state}
        write_json(self.parent / REWOUND, record)
        self._drop_abandoned(record)

    def _returned(self) -> dict[str, Any] | None:
        """The last return to a checkpoint; those that were abandoned with it are gone."""
        rewound = self._rewound()
        if rewound is not None:
            self._drop_abandoned(rewound)
        return rewound

    def _rewound(self) -> dict[str, Any] | None:
        path = self.parent / REWOUND
        record = read_json(path) if path.is_file() else None
        if record is not None and not (isinstance(record, dict) and {"step", "state"} <= record.keys()):
            raise ArtifactError(f"{path} was not written by a run; delete it and run again")
        return record

    def _drop_abandoned(self, rewound: dict[str, Any]) -> None:
        """Remove checkpoints after the one that was returned to, but for those that were made since."""
        for folder in checkpoints_in(self.parent):
            if step_of(folder) > rewound["step"]:
                with contextlib.suppress(ArtifactError):  # a damaged one tells nothing, and is not gone back to
                    loop = open_checkpoint(folder).state["loop"]
                    if loop["rewinds"] < rewound["state"]["loop"]["rewinds"]:
                        shutil.rmtree(folder)


def _shard(rank: int) -> str:
    """The file of a process."""
    return f"shard-{rank:05d}.safetensors"
