"""What a run has written down, read while it may still be writing.

Enters: a run directory. Leaves: its stages with their state, and curves of a bounded number of points however long the
log. A half-written last line waits for its other half, a damaged one is counted and left out, and a step that is
logged again, because training went back to before it, replaces what was logged after it.
"""

import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeGuard

from groundup.core.errors import ArtifactError
from groundup.core.files import read_json
from groundup.core.run import STARTED, is_running, read_manifest

#: A curve has up to twice as many points as this; then neighbours are merged.
POINTS = 400
#: Lines of the smaller files that are kept, the newest.
MOST_LINES = 2000

State = Literal["done", "running", "interrupted", "not yet"]


@dataclass(slots=True)
class Bucket:
    """Consecutive logged values as one point."""

    first: float
    last: float
    """Steps of the first and of the last one."""
    count: int
    total: float
    low: float
    high: float

    @property
    def step(self) -> float:
        """In its middle."""
        return (self.first + self.last) / 2

    @property
    def mean(self) -> float:
        """Of its values."""
        return self.total / self.count

    def join(self, later: "Bucket") -> None:
        """Take in what comes after it."""
        self.last = later.last
        self.count += later.count
        self.total += later.total
        self.low, self.high = min(self.low, later.low), max(self.high, later.high)


class Curve:
    """One logged number against the step, in buckets of equally many values."""

    def __init__(self) -> None:
        self.buckets: list[Bucket] = []
        self._size = 1

    def add(self, step: float, value: float) -> None:
        """Append a value; ``step`` is larger than all before."""
        if self.buckets and (bucket := self.buckets[-1]).count < self._size:  # in place: a log has millions of values
            bucket.last = step
            bucket.count += 1
            bucket.total += value
            if value < bucket.low:
                bucket.low = value
            elif value > bucket.high:
                bucket.high = value
            return
        if len(self.buckets) == 2 * POINTS:
            merged = self.buckets[::2]
            for left, right in zip(merged, self.buckets[1::2], strict=True):
                left.join(right)
            self.buckets, self._size = merged, 2 * self._size
        self.buckets.append(Bucket(step, step, 1, value, value, value))

    def forget_from(self, step: float) -> None:
        """Drop the buckets that reach ``step``."""
        while self.buckets and self.buckets[-1].last >= step:
            self.buckets.pop()


class MetricsLog:
    """``metrics.jsonl`` as curves; :meth:`update` reads on where it had stopped."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_again()

    def _start_again(self) -> None:
        self.curves: dict[str, Curve] = {}
        self.last: dict[str, float] = {}
        """The newest value of each number."""
        self.skipped: list[float] = []
        """Steps without an update."""
        self.damaged = 0
        """Lines that are not JSON."""
        self._offset = 0
        self._file: int | None = None
        self._end = b""

    @property
    def step(self) -> int:
        """The last one that was logged."""
        return int(self.last.get("step", 0))

    def update(self) -> None:
        """Read what was written since; a file that was replaced, as after a resumption, is read from its beginning."""
        try:
            with self._path.open("rb") as handle:
                status = self._path.stat()
                if status.st_ino != self._file or status.st_size < self._offset or not self._continues(handle):
                    self._start_again()
                    self._file = status.st_ino
                handle.seek(self._offset)
                for line in handle:
                    if not line.endswith(b"\n"):
                        break  # the rest is still to come
                    self._offset += len(line)
                    self._end = line
                    self._take(line)
        except (FileNotFoundError, NotADirectoryError):
            self._start_again()

    def _continues(self, handle: Any) -> bool:
        """Whether the line before the offset is the one that was read there."""
        handle.seek(self._offset - len(self._end))
        return bool(handle.read(len(self._end)) == self._end)

    def _take(self, line: bytes) -> None:
        record = parsed(line)
        step = record.get("step") if record is not None else None
        if record is None or not _is_number(step):
            self.damaged += 1
            return
        if step <= self.last.get("step", -1):
            for curve in self.curves.values():
                curve.forget_from(step)
            self.skipped = [skipped for skipped in self.skipped if skipped < step]
        for name, value in record.items():
            if _is_number(value):
                self.last[name] = value
                if name == "skipped":
                    self.skipped.append(step)
                elif name != "step":
                    self.curves.setdefault(name, Curve()).add(step, value)


@dataclass
class Stage:
    """One stage of a run and what it has written."""

    name: str
    folder: Path
    log: MetricsLog
    state: State = "not yet"
    manifest: dict[str, Any] | None = None
    planned: int = 0
    """Steps that the recipe wants; 0: not said."""
    events: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    model: dict[str, Any] = field(default_factory=dict)
    """``model.json``, of the stage that makes one."""

    @property
    def remaining(self) -> float | None:
        """Seconds of training that are left, at the speed so far."""
        step, seconds = self.log.step, self.log.last.get("seconds", 0.0)
        if self.state != "running" or step == 0 or seconds == 0 or self.planned <= step:
            return None
        return seconds / step * (self.planned - step)

    def update(self, running: bool) -> None:
        """Read what is new.

        Raises:
            ArtifactError: the manifest is damaged.
        """
        self.manifest = read_manifest(self.folder)
        begun = (self.folder / STARTED).exists()
        self.state = "done" if self.manifest else ("running" if running else "interrupted") if begun else "not yet"
        self.log.update()
        self.events = [event for event in _lines(self.folder / "events.jsonl") if _is_number(event.get("step"))]
        self.samples = [line for line in _lines(self.folder / "samples.jsonl") if _is_number(line.get("step"))]
        with suppress(ArtifactError):
            self.model = read_json(self.folder / "model.json")


class Run:
    """A run directory.

    Args:
        out: the directory.
        stages: the names of its stages in their order.
    """

    def __init__(self, out: Path, stages: Sequence[str]) -> None:
        self.out = out
        self.running = False
        self.recipe: dict[str, Any] = {}
        self.recipe_text = ""
        self.stages = [Stage(name, out / name, MetricsLog(out / name / "metrics.jsonl")) for name in stages]

    def update(self) -> "Run":
        """Read what is new.

        Raises:
            ArtifactError: a manifest is damaged.
        """
        self.running = is_running(self.out)
        with suppress(OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
            self.recipe_text = (self.out / "recipe.toml").read_text(encoding="utf-8")
            self.recipe = tomllib.loads(self.recipe_text)
        for stage in self.stages:
            section = self.recipe.get(stage.name)
            steps = section.get("steps") if isinstance(section, dict) else None
            stage.planned = steps if isinstance(steps, int) else 0  # the corpus has a list of them
            stage.update(self.running)
        return self

    @property
    def trained(self) -> list[Stage]:
        """The stages that have curves."""
        return [stage for stage in self.stages if stage.log.curves]

    @property
    def findings(self) -> list[dict[str, Any]]:
        """What the doctor said last, if ``doctor.json`` tells."""
        with suppress(ArtifactError):
            said = read_json(self.out / "doctor.json")
            found = said.get("findings", []) if isinstance(said, dict) else said
            return [finding for finding in found if isinstance(finding, dict)] if isinstance(found, list) else []
        return []


def smoothed(values: Sequence[float], decay: float) -> list[float]:
    """The running mean with weights that fall by ``decay`` from one value to the one before it."""
    means, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = decay * total + value, decay * weight + 1
        means.append(total / weight)
    return means


def parsed(line: bytes | str) -> dict[str, Any] | None:
    """A line of a log; None if it is no JSON object."""
    with suppress(ValueError, RecursionError):
        value = json.loads(line)
        return value if isinstance(value, dict) else None
    return None


def _lines(path: Path) -> list[dict[str, Any]]:
    """The newest whole lines of a small log."""
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return []
    return list(_objects(text.splitlines()[-MOST_LINES:]))


def _objects(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if (value := parsed(line)) is not None:
            yield value


def _is_number(value: Any) -> TypeGuard[float]:
    return type(value) in (int, float) and math.isfinite(value)
