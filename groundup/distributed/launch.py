"""``groundup launch``: one command becomes several processes, by PyTorch's launcher (torchrun).

Enters: how many processes, on which machines, and the command. Leaves: its exit code. The launcher tells each process
who it is, starts all of them again from the last checkpoint when one dies (as often as allowed), and ends all of them
when it is itself asked to end.
"""

import logging
import os
import sys
import uuid
from dataclasses import dataclass

import torch

from groundup.core.config import parse
from groundup.core.errors import UsageError
from groundup.core.progress import say

USAGE = """\
groundup launch [--nproc N] [--nodes N --rendezvous HOST:PORT] [--restarts N] COMMAND …

  COMMAND is run, pretrain, sft, dpo or grpo with its recipe and options, as without launch. --parallel.data and
  --parallel.shard say how the processes share the work.
"""


#: What several processes do together.
COMMANDS = ("run", "pretrain", "sft", "dpo", "grpo")


@dataclass(frozen=True)
class LaunchOptions:
    """How many processes, and where they meet."""

    nproc: int = 0
    """Processes on this machine; 0: one for each accelerator."""
    nodes: int = 1
    """Machines; give the same command on each."""
    rendezvous: str = ""
    """HOST:PORT of one of the machines, where all meet; needed for more than one."""
    job: str = ""
    """Name that tells this job from others at the same place; needed for more than one machine."""
    restarts: int = 3
    """How often all processes are started again when one dies."""
    timeout: int = 600
    """Seconds after which a process that does not answer the others is given up."""

    def __post_init__(self) -> None:
        for name, least in (("nproc", 0), ("nodes", 1), ("restarts", 0), ("timeout", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} is {getattr(self, name)}; it must be at least {least}")
        if self.nodes > 1 and not (self.rendezvous and self.job):
            raise UsageError("--nodes above 1 needs --rendezvous HOST:PORT and --job NAME, the same on every machine")

    @property
    def processes(self) -> int:
        """On this machine."""
        return self.nproc or (torch.accelerator.device_count() if torch.accelerator.is_available() else 1)


def run(words: list[str]) -> int:
    """Start the processes; return the exit code of the first that failed, or 0."""
    own: list[str] = []
    while words and words[0].startswith("-"):
        takes_value = words[0] not in ("-h", "--help") and "=" not in words[0]
        own, words = own + words[: 1 + takes_value], words[1 + takes_value :]
    if own[:1] in (["-h"], ["--help"]):
        print(USAGE)
    options = parse(LaunchOptions, LaunchOptions(), own, "groundup launch", "command line")
    if not words:
        raise UsageError("launch needs a command, such as `groundup launch --nproc 2 pretrain quickstart`")
    alone = sorted({"--find-lr", "--sweep"} & {word.partition("=")[0] for word in words})
    if words[0] not in COMMANDS or alone:
        raise UsageError(f"launch cannot start `{' '.join([words[0], *alone])}`; it starts {', '.join(COMMANDS)}")
    return _launch(options, words)


def _launch(options: LaunchOptions, command: list[str]) -> int:
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)  # each process has told its own error
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, cores // options.processes)))
    os.environ["GROUNDUP_TIMEOUT"] = str(options.timeout)
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(options.timeout))
    left = options.restarts
    while True:
        config = LaunchConfig(
            min_nodes=options.nodes,
            max_nodes=options.nodes,
            nproc_per_node=options.processes,
            run_id=options.job or uuid.uuid4().hex,
            rdzv_backend="c10d",
            rdzv_endpoint=options.rendezvous,
            # On one machine the launcher meets itself in a private file: what it reads there it unpickles.
            rdzv_configs={} if options.rendezvous else {"store_type": "file"},
            local_addr=None if options.rendezvous else "127.0.0.1",
            # Of one machine we start again ourselves: wrong use does not get better.
            max_restarts=options.restarts if options.nodes > 1 else 0,
            monitor_interval=0.5,
        )
        try:
            elastic_launch(config, sys.executable)("-m", "groundup.cli", *command)
        except ChildFailedError as error:
            rank, failure = error.get_first_failure()
            code = failure.exitcode
            left -= 1
            if options.nodes == 1 and code != UsageError.exit_code and left >= 0:
                continue
            if code < 0:
                say(f"groundup: process {rank} was killed (signal {-code}), after {options.restarts} restarts")
                return 128 - code
            return code
        except SignalException as signal:
            return 128 + signal.sigval
        return 0
