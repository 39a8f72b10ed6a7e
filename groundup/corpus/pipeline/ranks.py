"""Independent ranks: processes, on one machine or on many, that know nothing of each other but a folder.

A rank takes every ``world_size``-th task and waits for the files of the others where it needs them. It holds a lock,
which the operating system frees even after SIGKILL, in the folder of what it makes; that folder's name stands for all
that the result depends on. So who is at work, and with what, can be seen by whoever looks:

    corpus-shards/3f0c…/rank-2-of-4.lock      held as long as rank 2 works
    corpus-shards/3f0c…/rank-2-of-4.json      what it works with
"""

import contextlib
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import filelock

from groundup.core.errors import ArtifactError, DataError, RunLockedError, UsageError
from groundup.core.files import is_held, read_json, storage_errors, write_json
from groundup.core.progress import duration, say
from groundup.corpus.pipeline.passes import Plan

Item = TypeVar("Item")

#: Seconds between two looks whether the others are done; between two words on it at first, and at most.
LOOK, WORD, LONGEST_SILENCE = 1.0, 60.0, 1800.0
#: Files that are asked for one by one; and the time between two looks, in multiples of what one takes.
FEW, REST = 16, 10
#: Seconds that a file may take to be seen here after another machine has made it: file systems remember what was not
#: there for up to a minute.
SEEN = 120.0
#: Seconds to try for our own lock: somebody may be looking at it.
GRACE = 2.0
#: Ranks that are named in a line.
NAMED = 8


@dataclass(frozen=True)
class Rank:
    """Which part of the work is ours."""

    rank: int = 0
    world_size: int = 1
    patience: float = math.inf
    """Seconds to wait for other ranks while nothing new comes from them."""

    def mine(self, tasks: Sequence[Item]) -> list[Item]:
        """Every ``world_size``-th of the tasks."""
        return list(tasks[self.rank :: self.world_size])

    @property
    def name(self) -> str:
        """Of its files."""
        return f"rank-{self.rank}-of-{self.world_size}"


ALONE = Rank()


@contextlib.contextmanager
def taking_part(plan: Plan, rank: Rank) -> Iterator[None]:
    """Hold the place of a rank while it works.

    Raises:
        RunLockedError: another process is this rank, or is at work alone, or we are and others are at work.
        UsageError: a rank at work counts other ranks, or works with other settings.
        StorageError: the folder cannot be written.
    """
    with storage_errors(plan.folder):
        plan.folder.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(plan.folder / f"{rank.name}.lock")
        try:
            lock.acquire(timeout=GRACE)
        except filelock.Timeout as error:
            raise RunLockedError(f"{_told(rank)} is at work in {plan.folder.parent} already") from error
    try:
        write_json(plan.folder / f"{rank.name}.json", plan.made_from)
        _refuse_strangers(plan, rank)
        yield
    finally:
        lock.release()


def _told(rank: Rank) -> str:
    return f"rank {rank.rank} of {rank.world_size}" if rank.world_size > 1 else "another process"


def _refuse_strangers(plan: Plan, rank: Rank) -> None:
    """Ranks of another number, or with other settings, would wait for each other without end."""
    for path in sorted(plan.folder.parent.glob("*/rank-*-of-*.lock")):
        other = Rank(*(int(word) for word in path.stem.split("-")[1::2]))
        same = path.parent == plan.folder
        if (same and other.world_size == rank.world_size) or not is_held(path):
            continue
        working = f"{_told(other)} is at work in {plan.folder.parent}"
        if rank.world_size == 1 or other.world_size == 1:
            raise RunLockedError(f"{working}; start this one when it has ended")
        if same:
            raise UsageError(f"{working}, and this is {_told(rank)}; start all ranks with the same --world-size")
        raise UsageError(
            f"{working} with something else than {_told(rank)}: {_difference(path.with_suffix('.json'), plan)}; start "
            "all ranks with the same recipe, options, files and version"
        )


def tell_of_others(plan: Plan) -> None:
    """Say it when work that was begun with something else is of no use now."""
    for other in sorted(plan.folder.parent.glob("*/")):
        records = sorted(other.glob("rank-*-of-*.json"))
        if other != plan.folder and records and (other / "pass-0").exists():
            say(f"  what is in {other} is not used: {_difference(records[0], plan)}")


def _difference(record: Path, plan: Plan) -> str:
    """What another rank works with that is not ours, in words."""
    with contextlib.suppress(ArtifactError):  # it has not said so yet
        theirs = dict(_leaves(read_json(record)))
        for name, value in _leaves(plan.made_from):
            if theirs.get(name) != value:
                return f"{name} is {theirs.get(name)} there and {value} here"
    return "its settings are others"


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{name}.{key}" if name else key)
    else:
        yield name, list(value) if isinstance(value, tuple) else value


def await_parts(paths: Sequence[Path], folder: Path, rank: Rank) -> None:
    """Until all these files are there, of which rank r makes every ``world_size``-th from r on.

    Raises:
        DataError: nothing new has come for too long.
    """
    patience = rank.patience if rank.world_size > 1 else SEEN
    missing = _missing(enumerate(paths))
    now = news = word = time.monotonic()
    silence, took = WORD, 0.0
    while missing:
        if now - news >= patience:
            raise DataError(_complaint(missing, folder, rank, patience))
        if now >= word and rank.world_size > 1:
            say(
                f"  rank {rank.rank}: waits for {len(missing)} of {len(paths)} parts in {paths[0].parent}, of "
                f"{_whom(missing, folder, rank)}"
            )
            word, silence = now + silence, min(2 * silence, LONGEST_SILENCE)
        time.sleep(max(LOOK, REST * took))
        now, before = time.monotonic(), len(missing)
        missing = _missing(missing)
        took = time.monotonic() - now
        news = now if len(missing) < before else news


def _missing(parts: Iterable[tuple[int, Path]]) -> list[tuple[int, Path]]:
    """Those that are not there. Of many, their folders are listed: to ask for a hundred thousand one by one can take a
    file system minutes."""
    parts = list(parts)
    if len(parts) <= FEW:
        return [(number, path) for number, path in parts if not path.exists()]
    there: dict[Path, set[str]] = {folder: set() for folder in {path.parent for _, path in parts}}
    for folder, names in there.items():
        with contextlib.suppress(FileNotFoundError):
            names.update(os.listdir(folder))  # noqa: PTH208 (its names are all that is wanted)
    return [(number, path) for number, path in parts if path.name not in there[path.parent]]


def _whom(missing: Sequence[tuple[int, Path]], folder: Path, rank: Rank) -> str:
    """The ranks that have something to do, those first that are not doing it."""
    numbers = sorted({number % rank.world_size for number, _ in missing})
    works = {n: is_held(folder / f"{Rank(n, rank.world_size).name}.lock") for n in numbers}
    numbers.sort(key=works.__getitem__)
    words = [f"rank {n}" if works[n] else f"rank {n} (not at work)" for n in numbers]
    more = len(words) - NAMED
    return ", ".join(words[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _complaint(missing: Sequence[tuple[int, Path]], folder: Path, rank: Rank, patience: float) -> str:
    if rank.world_size == 1:
        return f"{missing[0][1]} was made, and is not here; all machines must see the same {folder.parent}"
    return (
        f"rank {rank.rank} has waited {duration(patience)} for nothing new of {_whom(missing, folder, rank)}; "
        "what is finished is kept: start them all again with the same options"
    )
