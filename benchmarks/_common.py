"""What the benchmarks share: sides that take turns, each in a process of its own, and the record they leave.

Enters: for each side, a function that prepares its work. Leaves: a JSON record of every measurement, and a
table of the ratios ours / peer.
"""

import gc
import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

import psutil
import torch

from benchmarks import OURS
from benchmarks._memory import peak_bytes
from groundup.core.config import parse, to_json
from groundup.core.errors import GroundupError, UsageError
from groundup.core.files import write_json
from groundup.core.progress import Progress, quantity, say
from groundup.core.run import environment


@dataclass(frozen=True)
class Recorded:
    """Where the record goes."""

    out: Path | None = None
    """File for the JSON record; stdout when not given."""


@dataclass(frozen=True)
class Rounds(Recorded):
    """How often everything is measured."""

    rounds: int = 7
    """Times that the sides take turns; one more, untimed, goes before."""

    def __post_init__(self) -> None:
        require_positive(self, "rounds")


@dataclass(frozen=True)
class Case:
    """One thing that is timed."""

    amount: float
    """Work in one measurement, in the benchmark's unit."""
    begin: Callable[[], Callable[[], object]]
    """Makes ready, untimed; returns the call that is timed."""


@dataclass(frozen=True)
class Prepared:
    """One side, ready to be timed."""

    answer: Any
    """What it computes, as JSON values: sides that do not agree on it are not timed."""
    cases: Mapping[str, Case]
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Other things worth recording."""


Settings = TypeVar("Settings", bound=Recorded)


def require_positive(settings: Any, *names: str) -> None:
    """Refuse settings in which one of the numbers ``names`` is below 1."""
    for name in names:
        if getattr(settings, name) < 1:
            raise UsageError(f"{name} is {getattr(settings, name)}; it must be at least 1")


def main(kind: type[Settings], name: str, run: Callable[[Settings], dict[str, Any]]) -> int:
    """Read the command line, run, write the record; returns the exit code, 1 where the record counts differences."""
    # By default SIGTERM ends this process alone, and not what it has started.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        settings = parse(kind, kind(), sys.argv[1:], f"python -m benchmarks.{name}", "the command line")
        record = {"benchmark": name, "settings": to_json(settings), **run(settings)}
        if settings.out is not None:
            write_json(settings.out, record)
        else:
            print(json.dumps(record, indent=2))
    except GroundupError as error:
        say(f"error: {error}")
        return error.exit_code
    return 1 if record.get("differences") else 0


def compare(
    sides: Mapping[str, Callable[[], Prepared]],
    unit: str,
    rounds: int,
    packages: Iterable[str],
    ours: Sequence[str] = (OURS,),
) -> dict[str, Any]:
    """Measure all sides in turn, A B A B, every case in every round.

    Args:
        sides: name → a picklable function that prepares the side; it runs in the side's own process.
        unit: what a rate counts per second.
        rounds: timed measurements of each case.
        packages: distributions whose versions are recorded.
        ours: the sides that are ours; all others are peers.

    Raises:
        GroundupError: two sides do not compute the same.
        UsageError: a package is not installed.
    """
    versions = {package: version_of(package) for package in packages}
    before = {"load_average": psutil.getloadavg(), "environment": environment()}
    with ExitStack() as stack:
        workers = {side: stack.enter_context(_Worker(prepare)) for side, prepare in sides.items()}
        first = next(iter(workers))
        for side, worker in workers.items():
            if not agree(workers[first].answer, worker.answer):
                raise GroundupError(f"{first} and {side} do not compute the same; nothing was timed")
        cases = {case: [side for side in workers if case in workers[side].cases] for case in workers[first].cases}
        rates: dict[str, dict[str, list[float]]] = {case: {side: [] for side in cases[case]} for case in cases}
        with Progress("measure", (1 + rounds) * sum(map(len, cases.values())), "measurement") as progress:
            for number in range(1 + rounds):
                for case, takers in cases.items():
                    for side in takers:
                        rate = workers[side].measure(case)
                        if number > 0:
                            rates[case][side].append(rate)
                        progress.advance(note=f"{case}, {side}")
        memory = {side: worker.memory() for side, worker in workers.items()}
        facts = {side: dict(worker.facts) for side, worker in workers.items()}
    ratios = [
        ratio(case, side, peer, rates[case][side], rates[case][peer])
        for case, takers in cases.items()
        for side in takers
        for peer in takers
        if side in ours and peer not in ours
    ]
    _show(ratios, rates, memory, unit)
    results = {"unit": f"{unit}/s", "ratios": ratios, "rates": rates, "memory": memory, "facts": facts}
    return {**before, "packages": versions, **results}


def ratio(case: str, side: str, peer: str, ours: Sequence[float], theirs: Sequence[float]) -> dict[str, Any]:
    """Ours / peer of each round, summed up; above 1 we are faster."""
    each = [a / b for a, b in zip(ours, theirs, strict=True)]
    return {"case": case, "ours": side, "peer": peer, "median": median(each), "min": min(each), "max": max(each)}


def agree(one: Any, other: Any) -> bool:
    """Equal; numbers with a fraction, which depend on the order of summation and the precision, within 1 %."""
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=0.01)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(agree, one, other))
    return bool(one == other)


def version_of(package: str) -> str:
    """The installed version.

    Raises:
        UsageError: there is none.
    """
    try:
        return version(package)
    except PackageNotFoundError as error:
        raise UsageError(f"{package} is not installed, so there is nothing to compare with; install it") from error


def _show(ratios: Sequence[Mapping[str, Any]], rates: Any, memory: Mapping[str, Any], unit: str) -> None:
    rows = [("case", "ours", "peer", f"ours {unit}/s", f"peer {unit}/s", "ratio, median (min–max)")]
    for row in ratios:
        case, side, peer = row["case"], row["ours"], row["peer"]
        speeds = (quantity(median(rates[case][name])) for name in (side, peer))
        rows.append((case, side, peer, *speeds, f"{row['median']:.2f} ({row['min']:.2f}–{row['max']:.2f})"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for cells in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip())
    for side, record in memory.items():
        known = {key.removesuffix("_bytes"): value for key, value in record.items() if value is not None}
        say(f"memory of {side}: " + ", ".join(f"{key} {value / 1e6:.0f} MB" for key, value in known.items()))


class _Worker:
    """A side in a fresh process, which does nothing between its turns."""

    def __init__(self, prepare: Callable[[], Prepared]) -> None:
        self._pool = ProcessPoolExecutor(1, mp_context=get_context("spawn"))
        self._prepare = prepare

    def __enter__(self) -> "_Worker":
        try:
            self.answer, self.facts, self.cases = self._pool.submit(_prepare, self._prepare).result()
        except BaseException:
            self._pool.shutdown()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self._pool.shutdown()

    def measure(self, case: str) -> float:
        """The rate of one measurement."""
        return self._pool.submit(_measure, case).result()

    def memory(self) -> dict[str, int | None]:
        """Of the process so far, in bytes."""
        return self._pool.submit(_memory).result()


# What follows runs in a side's process and keeps its state there.
_here: dict[str, Any] = {}


def _prepare(prepare: Callable[[], Prepared]) -> tuple[Any, Mapping[str, Any], list[str]]:
    _here["start"] = psutil.Process().memory_info().rss
    _here["side"] = side = prepare()
    return side.answer, side.facts, list(side.cases)


def _measure(name: str) -> float:
    case = _here["side"].cases[name]
    call = case.begin()
    gc.collect()
    _synchronise()
    started = time.perf_counter()
    call()
    _synchronise()
    return float(case.amount / (time.perf_counter() - started))


def _synchronise() -> None:
    if torch.accelerator.is_available():
        torch.accelerator.synchronize()


def _memory() -> dict[str, int | None]:
    """Resident before the side was prepared, and at most since; allocated on the GPU. None: not known here."""
    gpu = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else None
    return {"start_bytes": _here["start"], "peak_bytes": peak_bytes(), "peak_gpu_bytes": gpu}
