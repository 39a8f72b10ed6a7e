"""``groundup launch``: one command becomes several processes, by PyTorch's launcher (torchrun).

Enters: the words after ``launch``. Leaves: an exit code. Here they are read; ``agent`` starts the processes.
"""

import os
from dataclasses import dataclass
from typing import Literal

import torch

from groundup.core.config import parse
from groundup.core.errors import UsageError

USAGE = """\
groundup launch [--nproc N] [--nodes N --rendezvous HOST:PORT] [--restarts N] [--recovery torchft] COMMAND …

  COMMAND is run, pretrain, sft, dpo, grpo or profile with its recipe and options, as without launch. --parallel.data,
  --parallel.shard … say how the processes share the work; --parallel auto finds the fastest way.
"""


#: What several processes do together.
COMMANDS = ("run", "pretrain", "sft", "dpo", "grpo", "profile")


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
    recovery: Literal["checkpoint", "torchft"] = "checkpoint"
    """When one dies: all are started again from the last checkpoint; or, of processes with all weights each, that one
    alone, which gets what it lost from the others, and these go on (extra `torchft`)."""
    timeout: int = 600
    """Seconds after which a process that does not answer the others is given up."""
    logs: str = ""
    """Folder where each process's output is kept in files of its own, beside being shown."""
    ray: str = ""
    """Start them on this Ray cluster: HOST:PORT, auto, or local for one on this machine. --nproc counts all."""
    slurm: str = ""
    """Start nothing; write this file instead, a script for `sbatch`."""
    k8s: str = ""
    """Start nothing; write this file instead, a TrainJob for Kubernetes with Kubeflow Trainer."""
    hours: int = 24
    """For Slurm: how long the job may take before it is saved and queued again."""
    partition: str = ""
    """For Slurm: where the job runs."""
    account: str = ""
    """For Slurm: who pays."""
    image: str = ""
    """For Kubernetes: a container image that has groundup and its PyTorch."""
    volume: str = ""
    """For Kubernetes: CLAIM:/PATH, a persistent volume claim that all machines share, and where it is mounted."""

    def __post_init__(self) -> None:
        for name, least in (("nproc", 0), ("nodes", 1), ("restarts", 0), ("timeout", 1), ("hours", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"--{name} is {getattr(self, name)}; it must be at least {least}")
        if self.nodes > 1 and not ((self.rendezvous and self.job) or self.slurm or self.k8s):
            raise UsageError("--nodes above 1 needs --rendezvous HOST:PORT and --job NAME, the same on every machine")
        others = [name for name in ("ray", "slurm", "k8s", "logs") if getattr(self, name)]
        if self.recovery == "torchft" and (others := ["nodes"] * (self.nodes > 1) + others):
            raise UsageError(f"--recovery torchft is for one machine and does not go with --{others[0]}; leave it out")
        if self.rendezvous and not (self.host and self.rendezvous.rpartition(":")[2].isdecimal()):
            raise UsageError(f"--rendezvous is {self.rendezvous!r}; it must be HOST:PORT")

    @property
    def host(self) -> str:
        """Where the machines meet."""
        return self.rendezvous.rpartition(":")[0]

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
    if "TORCHELASTIC_RUN_ID" in os.environ:
        raise UsageError("a launcher has started this process already; give it the command without `launch`")
    if options.recovery == "torchft":
        from groundup.distributed.supervisor import run_replicas

        return run_replicas(options, words)
    if options.slurm or options.k8s:
        from groundup.distributed.cluster_files import write

        print(write(options, words))
        return 0
    if options.ray:
        from groundup.distributed.on_ray import run_on_ray

        return run_on_ray(options, words)
    from groundup.distributed.agent import run_processes

    return run_processes(options, words)
