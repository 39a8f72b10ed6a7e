"""What the processes of a launch told of themselves → which of them hangs, and a report of what each was doing.

A process hangs if the others waited for it in vain, or if it is stopped, for as long as the launcher allows. Those that
waited end by themselves (their exchange fails); the launcher asks the rest for their stacks, writes all of it into one
file of the run directory, and ends them.
"""

import json
import platform
import shutil
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import psutil

from groundup.core import heartbeat
from groundup.core.progress import duration

#: Seconds in which those that waited together have all ended, and a process that is not stuck has answered.
GRACE = 4.0
#: Of each process's flight record, so many operations are shown.
_SHOWN = 3
FOLDER = "failures"


class Watchdog:
    """Of the processes of one start, on this machine.

    Args:
        folder: where the processes tell what they do.
        timeout: seconds after which one that does not take part is given up.
    """

    def __init__(self, folder: Path, timeout: float) -> None:
        self.folder, self.timeout = folder, timeout
        self.finding = ""
        """Who hung, and where it is written; "" while nobody does."""
        self._stopped: dict[int, float] = {}

    def reset(self) -> None:
        """Before the processes are started again."""
        self.finding = ""
        self._stopped = {}
        for path in self.folder.iterdir():
            path.unlink()

    def look(self, pids: Mapping[int, int]) -> list[int]:
        """Which processes hang, of these ids by rank; called every half second."""
        if self.finding:
            return []
        told = heartbeat.read(self.folder)
        states = {rank: state_of(pid) for rank, pid in pids.items()}
        hung = self._stopped_for_long(states)
        first = told.get(0, {"waits": ""})
        if first["waits"] and time.time() - first["since"] > self.timeout:  # nobody else is waited for patiently
            hung += [rank for rank in pids if rank in told and not told[rank]["waits"]]
        if not hung and not any(facts.get("hung") for facts in told.values()):
            return []
        (self.folder / heartbeat.REQUEST).touch()
        end = time.monotonic() + GRACE
        while (waiting := self._unheard(pids)) and time.monotonic() < end:
            time.sleep(0.1)
        hung = sorted({*hung, *waiting} & {rank for rank, pid in pids.items() if state_of(pid) != "gone"})
        told = heartbeat.read(self.folder)
        self.finding = _line(hung, states, told, self.folder) + f"; {self._report(hung, states, told)}"
        return hung

    def _stopped_for_long(self, states: Mapping[int, str]) -> list[int]:
        now = time.monotonic()
        self._stopped = {r: self._stopped.get(r, now) for r, state in states.items() if state == "stopped"}
        return [rank for rank, since in self._stopped.items() if now - since > self.timeout]

    def _unheard(self, pids: Mapping[int, int]) -> list[int]:
        """Those that live, and neither wait for others nor have waited in vain."""
        told, states = heartbeat.read(self.folder), {rank: state_of(pid) for rank, pid in pids.items()}
        waited = {rank for rank, facts in told.items() if facts.get("lost") or facts["waits"]}
        return [r for r, state in states.items() if state == "stopped" or (state == "alive" and r not in waited)]

    def _report(self, hung: Sequence[int], states: Mapping[int, str], told: Mapping[int, dict[str, Any]]) -> str:
        """Write the file; where it is."""
        now = datetime.now()
        run = next((facts["run"] for facts in told.values() if "run" in facts), tempfile.gettempdir())
        path = Path(run) / FOLDER / f"hung-{now:%Y%m%d-%H%M%S}-{platform.node()}.txt"
        lines = [f"What each process on {platform.node()} was doing, {now:%Y-%m-%d %H:%M:%S}", ""]
        for rank, state in states.items():
            facts = told.get(rank)
            mark = "   <- did not take part" if rank in hung else ""
            lines.append(f"process {rank}: {_doing(facts, state)}{mark}")
        lines += ["", "The last collective operations that each entered (PyTorch's flight record):", ""]
        lines += [f"process {rank}: {text}" for rank in states for text in _operations(self.folder, rank)]
        for rank in states:
            with suppress(OSError):
                stack = (self.folder / f"{rank}.stack").read_text(encoding="utf-8", errors="replace")
                lines += ["", f"Where process {rank} was:", "", stack.rstrip()]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            for record in self.folder.glob("nccl_trace_*"):  # `torchfrtrace` of PyTorch reads them
                shutil.copy(record, path.with_name(f"{path.stem}-{record.name}"))
            path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        except OSError as error:
            return f"what each was doing could not be written to {path} ({error.strerror})"
        return f"what each was doing is in {path}"


def state_of(pid: int) -> str:
    """Of a process: "gone", "stopped" or "alive"."""
    with suppress(psutil.Error):
        status = psutil.Process(pid).status()
        if status != psutil.STATUS_ZOMBIE:
            return "stopped" if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP) else "alive"
    return "gone"


def _line(hung: Sequence[int], states: Mapping[int, str], told: Mapping[int, dict[str, Any]], folder: Path) -> str:
    """Who did not take part in what."""
    where = next((facts["place"] for rank, facts in told.items() if rank not in hung and facts["waits"]), "")
    waited = f"the others waited in {where}" if where else "the others waited"
    if not hung:
        return f"{waited} for a process on another machine, which did not take part"
    each = []
    for rank in hung:
        place = told[rank]["place"] if rank in told else "the start"
        state = "is stopped" if states[rank] == "stopped" else _stuck(folder / f"{rank}.stack")
        each.append(f"process {rank} {state} in {place}")
    return f"{', '.join(each)} and did not take part ({waited})"


def _stuck(stack: Path) -> str:
    """Where the main thread is, the last one of a stack dump."""
    with suppress(OSError):
        calls = stack.read_text(encoding="utf-8", errors="replace").split("(most recent call first):")[-1].split("\n")
        if here := next((call.strip() for call in calls if call.startswith("  File")), ""):
            return f"is stuck ({here.removeprefix('File ')})"
    return "does not answer"


def _doing(facts: Mapping[str, Any] | None, state: str) -> str:
    if facts is None:
        return f"{state}; it has told nothing"
    waits = f", waited {facts['waits']}" if facts["waits"] else ""
    lost = f" until: {facts['lost']}" if "lost" in facts else ""
    ago = duration(time.time() - facts["since"])
    return f"{state}, in {facts['place']}, exchange {facts['entered']}{waits}{lost} (last heard of {ago} ago)"


def _operations(folder: Path, rank: int) -> list[str]:
    try:
        entries = json.loads((folder / f"{rank}.collectives").read_bytes())["entries"]
    except (OSError, ValueError, LookupError):
        return ["no record"]
    return [
        f"{entry['record_id'] + 1}. {entry['profiling_name']} ({entry['process_group'][-1]}): "
        f"{entry['input_sizes']} -> {entry['output_sizes']}"
        for entry in entries[-_SHOWN:]
    ]


def describe(code: int) -> str:
    """An exit code, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed ({name}{'; was the memory full?' if name == 'SIGKILL' else ''})"
