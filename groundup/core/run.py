"""The run directory: stages, their manifests, and what must run again.

    runs/quickstart/
      recipe.toml              the resolved configuration, complete
      <stage>/manifest.json    inputs, configuration, code version, seed, seconds, memory, metrics, artifacts
      <stage>/…                the stage's artifacts
      superseded/<stage>-…     results that a changed recipe or program replaced; never deleted for you

A stage runs again only when its inputs, its part of the configuration or its code changed. A stage that
was interrupted continues in its folder. One process at a time works in a run directory.
"""

import contextlib
import hashlib
import json
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import filelock
import psutil
import torch

from groundup.core import heartbeat
from groundup.core.config import to_json, to_toml
from groundup.core.errors import ArtifactError, DataError, RunLockedError, UsageError
from groundup.core.files import read_json, remove_leftovers, sha256_of, storage_errors, write_json, write_text
from groundup.core.progress import duration, say
from groundup.core.version import VERSION
from groundup.core.world import world

MANIFEST = "manifest.json"
STARTED = "started.json"
SUPERSEDED = "superseded"
OWNER = ".owner.json"


@dataclass(frozen=True)
class Stage:
    """One stage of a recipe.

    ``run(recipe, run_directory)`` fills ``run_directory / name`` and returns metrics. ``settings(recipe)`` is the part
    of the configuration that it depends on, ``code`` the module that it begins in, ``needs`` the stages whose
    results it reads, ``files(recipe)`` the user's own files that it reads.
    """

    name: str
    needs: tuple[str, ...]
    code: str
    settings: Callable[[Any], Any]
    run: Callable[[Any, Path], dict[str, float]]
    files: Callable[[Any], Sequence[Path]] = lambda recipe: ()
    together: bool = False
    """Whether several processes, if there are, all work on it; else the first one does, and the others wait."""


def execute(stages: Sequence[Stage], recipe: Any, seed: int, out: Path, only: str | None = None) -> None:
    """Bring every stage (or ``only`` the named one) up to date in the run directory ``out``.

    Raises:
        RunLockedError: another process works there.
        ArtifactError: an artifact of a finished stage is missing, truncated or foreign.
        DataError: a file of the user's has an impossible name.
        StorageError: the directory cannot be written.
    """
    leads = world().leads
    heartbeat.tell(run=str(out.absolute()))
    with locked(out) if leads else contextlib.nullcontext():
        if leads:
            remove_leftovers(out)
        # All identities at once: a source file edited during a long run must not end up in a later stage's.
        fingerprints: dict[str, dict[str, Any]] = {}
        for stage in stages:
            identities = {name: fingerprints[name]["identity"] for name in stage.needs}
            fingerprints[stage.name] = _fingerprint(stage, recipe, seed, identities)
        _refuse_differences(fingerprints)
        _refuse_other_disks(out)
        if only is not None:
            stages = [stage for stage in stages if stage.name == only]
            for name in stages[0].needs:
                _require(out / name, fingerprints[name], only)
        if leads:
            write_text(out / "recipe.toml", to_toml(recipe))
        for stage in stages:
            _bring_up_to_date(stage, recipe, seed, out, fingerprints[stage.name])


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """The manifest of a finished stage; None if the stage is not finished.

    Raises:
        ArtifactError: it is damaged, or no manifest.
    """
    keys = ("identity", "inputs", "config", "code_version", "seed", "seconds", "peak_memory_bytes", "metrics")
    return _read_record(folder / MANIFEST, (*keys, "artifacts"))


def _read_record(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    if not path.exists():
        return None
    record = read_json(path)
    if not isinstance(record, dict) or not record.keys() >= set(keys):
        raise ArtifactError(f"{path} was not written by a run; delete it and run again")
    return record


def _require(folder: Path, fingerprint: dict[str, Any], by: str) -> None:
    """Refuse to work on results that are missing, damaged, or of other settings than these."""
    manifest = read_manifest(folder)
    if manifest is None:
        raise ArtifactError(f"{by} needs the results of {folder.name}; run `groundup run` first")
    if manifest["identity"] != fingerprint["identity"]:
        raise ArtifactError(
            f"{by} needs {folder.name}, which must run again because {_difference(manifest, fingerprint)}; "
            f"use `groundup run` with these options, or give {by} those of the earlier run"
        )
    verify_artifacts(folder, manifest)


def _bring_up_to_date(stage: Stage, recipe: Any, seed: int, out: Path, fingerprint: dict[str, Any]) -> None:
    here = world()
    heartbeat.tell(place=stage.name)
    started = here.first(lambda: _begin(stage, out, fingerprint))
    if started is None:
        return
    if stage.together:
        _run(stage, recipe, seed, out, fingerprint, started, here.leads)
        here.first(lambda: None)  # nobody goes on before the results are whole
    else:
        here.first(lambda: _run(stage, recipe, seed, out, fingerprint, started))


def _begin(stage: Stage, out: Path, fingerprint: dict[str, Any]) -> dict[str, Any] | None:
    """Make the stage's folder ready; the record of its start, or None if there is nothing to do."""
    folder = out / stage.name
    manifest = read_manifest(folder)
    if manifest is not None and manifest["identity"] == fingerprint["identity"]:
        verify_artifacts(folder, manifest)
        say(f"✓ {stage.name}: up to date")
        return None
    started = _read_record(folder / STARTED, ("identity", "inputs", "config", "seed", "started", "seconds_before"))
    previous = manifest or started
    if (here := world()).joins and (previous is None or previous["identity"] != fingerprint["identity"]):
        changed = "it has not begun" if previous is None else _difference(previous, fingerprint)
        raise UsageError(f"replica {here.rank} is not like the others: of {stage.name}, {changed}; start all again")
    if previous is not None and previous["identity"] != fingerprint["identity"]:
        moved = _supersede(out, folder)
        reason = _difference(previous, fingerprint)
        say(f"↻ {stage.name}: runs again because {reason}; the earlier result is kept in {moved}")
    elif previous is None and folder.is_dir() and any(folder.iterdir()):
        moved = _supersede(out, folder)
        say(f"↻ {stage.name}: its folder held files of unknown origin; they are kept in {moved}")
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    if started is not None and started["identity"] == fingerprint["identity"]:
        say(f"▶ {stage.name}: continues where it was interrupted")
        return started
    now = datetime.now(UTC).isoformat(timespec="seconds")
    started = {**fingerprint, "started": now, "seconds_before": 0.0}
    write_json(folder / STARTED, started)
    say(f"▶ {stage.name}")
    return started


def _run(
    stage: Stage,
    recipe: Any,
    seed: int,
    out: Path,
    fingerprint: dict[str, Any],
    started: dict[str, Any],
    leads: bool = True,
) -> None:
    """Do the stage's work; of several processes that do it together, the one that leads records it."""
    folder, begin = out / stage.name, time.perf_counter()
    with _PeakMemory() as memory:
        try:
            metrics = stage.run(recipe, out)
        except BaseException:
            started["seconds_before"] += time.perf_counter() - begin
            if leads:
                with contextlib.suppress(Exception):
                    write_json(folder / STARTED, started)
            raise
    if not leads:
        return
    seconds = started["seconds_before"] + time.perf_counter() - begin
    write_json(
        folder / MANIFEST,
        {
            "stage": stage.name,
            **fingerprint,
            "seed": seed,
            "started": started["started"],
            "seconds": round(seconds, 2),
            "peak_memory_bytes": memory.peak,
            "metrics": metrics,
            "artifacts": _artifacts(folder),
            "environment": environment(),
        },
    )
    (folder / STARTED).unlink()
    say(f"✓ {stage.name}: done in {duration(seconds)}, {memory.peak / 1e6:.0f} MB at most")


def _refuse_differences(fingerprints: dict[str, dict[str, Any]]) -> None:
    """Several processes that work together must have the same code, data and configuration.

    Raises:
        UsageError: one differs from the first; the message says in what.
    """
    first, *others = world().gathered(fingerprints)
    for rank, theirs in enumerate(others, start=1):
        for name in first:
            if first[name]["identity"] != theirs[name]["identity"]:
                raise UsageError(
                    f"process {rank} is not like process 0: of {name}, {_difference(first[name], theirs[name])}; start "
                    "all with the same program, files and options"
                )


def _refuse_other_disks(out: Path) -> None:
    """All processes must see the same run directory.

    Raises:
        UsageError: one, on another machine, does not find what the first one writes there.
    """
    here = world()
    if here.size == 1:
        return
    token = out / here.first(lambda: f".together-{os.urandom(8).hex()}")  # a new name: no disk remembers its absence
    here.first(lambda: write_text(token, ""))
    found = here.gathered([token.is_file(), platform.node()])
    if here.leads:
        token.unlink()
    if lacking := [name for seen, name in found if not seen]:
        raise UsageError(
            f"{lacking[0]} sees another {out.absolute()} than {found[0][1]}; give --out a folder of a disk that all "
            "machines share"
        )


def verify_artifacts(folder: Path, manifest: dict[str, Any]) -> None:
    """Compare every artifact of a finished stage with its recorded size and hash.

    Raises:
        ArtifactError: one is missing, truncated or foreign; the message names it.
    """
    for name, recorded in manifest["artifacts"].items():
        path = folder / name
        remedy = f"restore it, or delete {folder} and run again"
        if not path.is_file():
            raise ArtifactError(f"{path} is missing; {remedy}")
        size = path.stat().st_size
        if size != recorded["bytes"]:
            raise ArtifactError(f"{path} has {size} bytes instead of {recorded['bytes']}; {remedy}")
        if sha256_of(path) != recorded["sha256"]:
            raise ArtifactError(f"{path} was changed after the run wrote it (its hash differs); {remedy}")


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the run directory alone. The operating system frees it even after SIGKILL."""
    with storage_errors(out):
        out.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(out / ".lock")
        owner = out / OWNER
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout as error:
            who = "another process"
            with contextlib.suppress(Exception):  # it may not have said yet who it is
                held = read_json(owner)
                who = f"process {held['pid']} on {held['host']} (`{held['command']}`, since {held['since']})"
            raise RunLockedError(f"{out} is in use by {who}; wait for it, or choose another --out") from error
    try:
        write_json(
            owner,
            {
                "pid": os.getpid(),
                "host": platform.node(),
                "command": " ".join(Path(sys.argv[0]).name.split() + sys.argv[1:]),
                "since": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        )
        yield
    finally:
        owner.unlink(missing_ok=True)
        lock.release()


def is_running(out: Path) -> bool:
    """Whether a process of this machine says that it works in the run directory, and lives."""
    with contextlib.suppress(ArtifactError, LookupError, TypeError):
        held = read_json(out / OWNER)
        return bool(held["host"] == platform.node() and psutil.pid_exists(held["pid"]))
    return False


def environment() -> dict[str, Any]:
    """Versions and hardware, for the record."""
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    return {
        "groundup": VERSION,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "platform": platform.platform(),
        "processor": _processor_name(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "device": str(accelerator or "cpu"),
    }


def _processor_name() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _fingerprint(stage: Stage, recipe: Any, seed: int, identities: dict[str, str]) -> dict[str, Any]:
    inputs = dict(identities)
    for path in stage.files(recipe):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise DataError(f"the name of the file {str(path)!r} is not valid Unicode; rename it") from error
        inputs[str(path)] = sha256_of(path)
    parts = {
        "inputs": inputs,
        "config": to_json(stage.settings(recipe)),
        "config_hash": "",
        "code_version": code_version(stage.code),
        "seed": seed,
    }
    parts["config_hash"] = hashlib.sha256(json.dumps(parts["config"], sort_keys=True).encode()).hexdigest()[:16]
    identity = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return {"identity": identity, **parts}


@cache
def code_version(module: str) -> str:
    """Hash of a module's source and of every module of this package that it imports, however far down.

    What lies beside them and is no Python, such as the templates of the report, counts as well.
    """
    root = Path(__file__).parent.parent
    seen: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split(".")[1:])
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen[name] = path
        if name.count(".") > 1:
            waiting.append(name.rpartition(".")[0])
        waiting += _mentioned(path)
    for folder in {path.parent for path in seen.values()}:
        data = (path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc"))
        seen |= {path.relative_to(root).as_posix(): path for path in data}
    digest = hashlib.sha256()
    for name in sorted(seen):
        digest.update(name.encode() + b"\0" + seen[name].read_bytes() + b"\0")
    return digest.hexdigest()[:16]


#: Imports, in one line or in brackets, and names in quotes: a compiled kernel is named, not imported.
_IMPORTS = re.compile(
    r"""from (groundup[\w.]+) import (\([^)]*\)|.*)|import (groundup[\w.]+)|["'](groundup\.[\w.]+)[:"']"""
)


@cache
def _mentioned(path: Path) -> tuple[str, ...]:
    """Modules of this package that a source file may import; parsing it for certain would take ten times as long."""
    names: list[str] = []
    for module, imported, plain, quoted in _IMPORTS.findall(path.read_text(encoding="utf-8")):
        names += [name for name in (module, plain, quoted) if name]
        names += [f"{module}.{name}" for name in re.findall(r"\w+", imported)]
    return tuple(names)


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """Why a result no longer holds, in words."""
    names = sorted(before["inputs"].keys() | now["inputs"].keys())
    if changed := [name for name in names if before["inputs"].get(name) != now["inputs"].get(name)]:
        return f"{changed[0]} changed"
    old, new = dict(_leaves(before["config"])), dict(_leaves(now["config"]))
    for key, value in new.items():
        if old.get(key) != value:
            return f"{key} changed from {old.get(key)} to {value}"
    if before["seed"] != now["seed"]:
        return f"the seed changed from {before['seed']} to {now['seed']}"
    return "the program changed"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from _leaves(item, name)
    else:
        yield name, value


def _supersede(out: Path, folder: Path) -> Path:
    stamp = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    target = out / SUPERSEDED / f"{folder.name}-{stamp}"
    number = 1
    while target.exists():
        number += 1
        target = target.with_name(f"{folder.name}-{stamp}-{number}")
    with storage_errors(target):
        target.parent.mkdir(exist_ok=True)
        folder.rename(target)
    return target


def _artifacts(folder: Path) -> dict[str, dict[str, Any]]:
    return {
        path.relative_to(folder).as_posix(): {"sha256": sha256_of(path), "bytes": path.stat().st_size}
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (MANIFEST, STARTED)
    }


class _PeakMemory:
    """Samples this process's resident memory while a stage runs."""

    interval = 0.2

    def __enter__(self) -> "_PeakMemory":
        self._process = psutil.Process()
        self.peak = self._process.memory_info().rss
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def _watch(self) -> None:
        while not self._stop.wait(self.interval):
            self.peak = max(self.peak, self._process.memory_info().rss)

    def __exit__(self, *exception: object) -> None:
        self.peak = max(self.peak, self._process.memory_info().rss)
        self._stop.set()
        self._thread.join()
