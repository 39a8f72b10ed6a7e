"""What held a run up, or ended it: waiting for batches, competing work, want of memory, an interruption.

Enters: a stage's records. Leaves: findings.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np

from groundup.diagnosis.finding import Finding
from groundup.diagnosis.host import memory_limit
from groundup.diagnosis.learning import running_median
from groundup.diagnosis.records import Numbers, Stage

#: Share of a step's time that it may wait for its batches.
WAITING = 0.25
#: Slow stretches take so many times as long as quick ones when other work competes.
SPREAD = 1.8
#: First steps, which load and compile, and the steps of a stretch.
WARM_UP, STRETCH = 3, 9
#: Share of the memory from which a process that vanished was probably ended for want of it.
MEMORY = 0.85


def check_loader(stage: Stage) -> Iterator[Finding]:
    """Steps that wait for their batches."""
    steps, waited = stage.series("loader_seconds")
    _, taken = stage.series("step_seconds")
    if len(waited) != len(taken) or len(waited) <= WARM_UP + 5:
        return
    waited, taken = waited[WARM_UP:], taken[WARM_UP:]
    share = float(waited.sum() / max(taken.sum(), 1e-9))
    usual = float(np.median(waited / np.maximum(taken, 1e-9)))
    if min(share, usual) < WAITING:
        return
    evidence = (
        f"{share:.0%} of the time of {len(taken)} steps was spent on waiting for batches; the median step waited "
        f"{1e3 * np.median(waited):.1f} of {1e3 * np.median(taken):.1f} ms"
    )
    remedy = f"make batches ready in the background (--{stage.name}.prefetch 4), keep the shards on a local disk"
    where, numbers = stage.steps(steps[WARM_UP], steps[-1]), {"share": share}
    yield Finding("loader-bound", "warning", "training waits for its data", evidence, remedy, where, numbers)


def check_contention(stage: Stage) -> Iterator[Finding]:
    """Equal steps that took very different times."""
    steps, seconds = _seconds_per_token(stage)
    if len(seconds) < WARM_UP + 3 * STRETCH:
        return
    smooth = running_median(seconds[WARM_UP:], STRETCH)[STRETCH - 1 :]
    quick, slow = (float(value) for value in np.quantile(smooth, [0.1, 0.9]))
    if slow < SPREAD * quick:
        return
    place = int(smooth.argmax()) + WARM_UP + STRETCH - 1
    evidence = (
        f"{1 / quick:,.0f} tokens/s in its quick stretches, {1 / slow:,.0f} in its slow ones, slowest around step "
        f"{steps[place]}"
    )
    remedy = (
        "end other work on the machine; `groundup doctor` says who competes now; the result is the same, only later"
    )
    where, numbers = stage.steps(steps[WARM_UP], steps[-1]), {"quick": 1 / quick, "slow": 1 / slow}
    yield Finding("contended", "warning", "the speed varied: other work competed", evidence, remedy, where, numbers)


def _seconds_per_token(stage: Stage) -> tuple[np.ndarray, Numbers]:
    """Computing time per token of each step that was logged as taken, its wait for batches left out."""
    rows = [row for row in stage.rows if row.get("tokens_per_second")]
    speed = np.array([row["tokens_per_second"] for row in rows], np.float64)
    computing = np.array([1 - row.get("loader_seconds", 0.0) / row["step_seconds"] if row.get("step_seconds") else 1.0
                          for row in rows])  # fmt: skip
    return np.array([row["step"] for row in rows]), np.maximum(computing, 1e-3) / np.maximum(speed, 1e-9)


def check_memory(stage: Stage) -> Iterator[Finding]:
    """Memory that did not suffice: told by the run, or by how it ended."""
    split = [event for event in stage.events if event.get("event") == "split"]
    failed = [event for event in stage.events if event not in split and "memory" in str(event.get("why", ""))]
    rows = max(1, int(stage.setting("rows", default=1)) // 2)
    accumulation = 2 * int(stage.setting("accumulation", default=1))
    remedy = f"set --{stage.name}.rows {rows} --{stage.name}.accumulation {accumulation} (the same loss curve)"
    if events := failed or split:
        said = "; ".join(f"step {event.get('step')}: {event.get('why')}" for event in events[:3])
        where = stage.steps(events[0].get("step", 0), events[-1].get("step", 0))
        what = "the memory did not suffice" + ("" if failed else "; micro-batches were split and it went on")
        yield Finding("out-of-memory", "failure" if failed else "warning", what, said, remedy, where)
    _, used = stage.series("memory_bytes")
    limit = memory_limit()
    if stage.interrupted and not failed and len(used) and used.max() > MEMORY * limit:
        evidence = f"{used.max() / 1e9:.1f} GB of {limit / 1e9:.1f} GB were in use when it vanished{_killed()}"
        what, where = "the process was probably ended for want of memory", stage.steps(stage.last_step, stage.last_step)
        yield Finding("out-of-memory", "failure", what, evidence, remedy, where, {"memory_bytes": float(used.max())})


def check_end(stage: Stage) -> Iterator[Finding]:
    """A stage that was begun, is not done, and on which nobody works."""
    if not stage.interrupted:
        return
    planned = stage.setting("steps", default=0)
    at = stage.state.get("step", 0)
    saved = f"the newest checkpoint is of step {at}" if at else "there is no checkpoint, so it starts again"
    evidence = f"the log ends at step {stage.last_step} of {planned}, {saved}{_killed()}"
    remedy = f"groundup run {stage.run}/recipe.toml --out {stage.run}"
    what = "the stage was interrupted and nobody works on it"
    yield Finding("interrupted", "warning", what, evidence, remedy, stage.steps(stage.last_step, stage.last_step))


def _killed() -> str:
    """How many processes the kernel has ended for want of memory since it started, in words."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            name, _, count = line.partition(" ")
            if name == "oom_kill" and int(count):
                return f"; the kernel has ended {count} processes for want of memory since it started"
    return ""
