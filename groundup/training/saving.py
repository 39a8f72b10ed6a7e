"""Checkpoints while training goes on: written in the background, kept by rule, and returned to when a loss spikes.

Enters: snapshots. Leaves: checkpoint folders, never fewer than the rule asks for: an old one goes when the new one is
on the disk, whole.
"""

import contextlib
import shutil
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from groundup.core.errors import ArtifactError
from groundup.core.files import read_json, write_json
from groundup.training.checkpoint import (
    Checkpoint,
    Snapshot,
    checkpoints_in,
    find_checkpoint,
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


class Saver:
    """Writes snapshots to ``parent``, one at a time."""

    def __init__(self, parent: Path, rule: CheckpointConfig) -> None:
        self.parent = parent
        self.rule = rule
        self._thread: threading.Thread | None = None
        self._error: Exception | None = None

    def save(self, snapshot: Snapshot, scores: Mapping[int, float]) -> None:
        """Write the snapshot and remove what the rule no longer keeps; in the background, if the rule says so.

        Raises:
            StorageError: this one, or the one before, cannot be written.
        """
        self.wait()
        if not self.rule.background:
            self._write(snapshot, scores)
            return
        arguments = (snapshot.copied(), dict(scores))
        self._thread = threading.Thread(target=self._attempt, args=arguments, name="checkpoint")
        self._thread.start()

    def wait(self) -> None:
        """Return when nothing is being written any more.

        Raises:
            StorageError: what was being written could not be.
        """
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def _attempt(self, snapshot: Snapshot, scores: Mapping[int, float]) -> None:
        try:
            self._write(snapshot, scores)
        except Exception as error:  # told where it can be: in the thread that trains
            self._error = error

    def _write(self, snapshot: Snapshot, scores: Mapping[int, float]) -> None:
        snapshot.write(self.parent)
        prune(self.parent, kept([step_of(folder) for folder in checkpoints_in(self.parent)], self.rule, scores))

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint with the state to continue with: its own, or that of the return to it."""
        rewound = self._rewound()
        if rewound is not None:
            self._drop_abandoned(rewound)
        checkpoint = find_checkpoint(self.parent)
        if checkpoint is None:
            return None
        if rewound is not None and rewound["step"] == checkpoint.step:
            return Checkpoint(checkpoint.folder, {**checkpoint.state, **rewound["state"]})
        return checkpoint

    def earlier(self, than: int | None) -> Checkpoint | None:
        """The newest checkpoint, or the one before it if the newest is that of step ``than``; None if there is none."""
        self.wait()
        folders = checkpoints_in(self.parent)
        if len(folders) > 1 and step_of(folders[-1]) == than:
            return open_checkpoint(folders[-2])
        return open_checkpoint(folders[-1]) if folders else None

    def rewound(self, step: int, state: dict[str, Any]) -> None:
        """Training returns to the checkpoint of ``step`` with this ``loop`` and ``source``; later ones are dropped.

        It is on the disk before training goes on, so that a program killed at any instant returns to the same.
        """
        record = {"step": step, "state": state}
        write_json(self.parent / REWOUND, record)
        self._drop_abandoned(record)

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
