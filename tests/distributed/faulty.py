"""A small program for several processes, in which one of them goes wrong in the way that it is told.

It runs as ``python -m tests.distributed.faulty --nproc 2 HOW FOLDER`` what ``groundup launch`` runs, with itself as the
command: every process takes twenty steps, in each of which all exchange a number; process 1 goes wrong at step 5, when
they are started for the first time.
"""

import os
import signal
import sys
import time
from pathlib import Path

from groundup.cli import _fail
from groundup.core import heartbeat
from groundup.core.errors import GroundupError, TrainingError
from groundup.core.world import ParallelConfig, World, joined


def go_wrong(how: str, here: World) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "stopped":
        os.kill(os.getpid(), signal.SIGSTOP)
    if how in ("stuck", "late"):
        time.sleep(10_000)
    if how == "crashed":
        raise ZeroDivisionError("an error that nobody foresaw")


def work(how: str, folder: Path) -> int:
    try:
        with joined(ParallelConfig(shard=3 if how == "mesh" else 1)) as here:
            heartbeat.tell(run=str(folder))
            first = not here.first((folder / "started").exists)
            here.first((folder / "started").touch)
            for step in range(1, 21):
                heartbeat.tell(place=f"toy step {step}")
                if step == 5 and first and here.rank == 1:
                    go_wrong(how, here)
                if step == 5 and how == "diverged":
                    raise TrainingError("toy: the loss is not a finite number")
                if how == "slow":
                    time.sleep(0.2)
                here.gathered(step, patiently=how == "late")  # as for what the first process does alone
            if here.leads:
                print(f"done, {'at once' if first else 'after a restart'}", flush=True)
    except GroundupError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    return 0


def launch(words: list[str]) -> int:
    """As ``groundup.cli`` does."""
    from groundup.core.config import parse
    from groundup.distributed.agent import run_processes
    from groundup.distributed.launch import LaunchOptions
    from groundup.distributed.on_ray import run_on_ray

    try:
        options = parse(LaunchOptions, LaunchOptions(), words[:-2], "faulty", "command line")
        start = run_on_ray if options.ray else run_processes
        return start(options, words[-2:], "tests.distributed.faulty")
    except GroundupError as error:
        return _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


if __name__ == "__main__":
    sys.exit(work(sys.argv[1], Path(sys.argv[2])) if "RANK" in os.environ else launch(sys.argv[1:]))
