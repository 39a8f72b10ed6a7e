"""The processes that work on one run together: which of them this is, and what they agree on.

``torchrun`` (or ``groundup launch``) starts them and says in the environment who they are; without it there is one.
What they tell each other here is small and goes through the CPU, in order of rank, so that all come to the same number,
to the last bit. Gradients and weights take another way (``groundup.distributed``).
"""

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed

from groundup.core.errors import LostError, UsageError
from groundup.core.progress import muted

Value = TypeVar("Value")

#: What torchrun says to a process.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
#: Seconds after which a collective operation that one process does not take part in ends with an error.
TIMEOUT = "GROUNDUP_TIMEOUT"
_DEFAULT_TIMEOUT = 600
#: How long the others wait for what the first one does alone, such as reading a corpus.
_PATIENCE = timedelta(days=30)


@dataclass(frozen=True)
class ParallelConfig:
    """How the processes share the work; the numbers multiply to theirs."""

    data: int = 0
    """Copies of the weights, each of which sees other rows; 0: as many as are left."""
    shard: int = 1
    """Processes that share one copy: each keeps a part of weights, gradients and optimizer state (FSDP, ZeRO)."""
    reshard: bool = True
    """Forget the weights of others after a layer's forward pass and gather them again for its backward pass (ZeRO-3);
    without, they stay from the one to the other, which takes more memory and less traffic (ZeRO-2)."""

    def __post_init__(self) -> None:
        if self.data < 0 or self.shard < 1:
            name, least = ("data", 0) if self.data < 0 else ("shard", 1)
            raise UsageError(f"parallel.{name} is {getattr(self, name)}; it must be at least {least}")

    def shape(self, processes: int) -> tuple[int, int]:
        """(data, shard) for so many processes.

        Raises:
            UsageError: they do not multiply to it.
        """
        data = self.data or processes // self.shard
        if data * self.shard == processes:
            return data, self.shard
        told = f"parallel.data {self.data or 'auto'} x parallel.shard {self.shard}"
        raise UsageError(
            f"{told} is not {processes}, the number of processes; start {(self.data or 1) * self.shard} of them with "
            "`groundup launch --nproc`, or give other numbers"
        )


@dataclass(frozen=True)
class World:
    """This process among all."""

    rank: int = 0
    size: int = 1
    parallel: ParallelConfig = field(default_factory=ParallelConfig)
    control: Any = None
    """The group through which small things are told."""
    patient: Any = None
    """The same processes as a group in which one may take as long as it wants."""

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def gathered(self, value: Value, patiently: bool = False) -> list[Value]:
        """What every process gave, by rank; anything that is JSON."""
        if self.size == 1:
            return [value]
        group = self.patient if patiently else self.control
        raw = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        distributed.all_gather(lengths, torch.tensor([len(raw)]), group=group)
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(raw)] = raw
        rows = [torch.zeros_like(padded) for _ in range(self.size)]
        distributed.all_gather(rows, padded, group=group)
        return [json.loads(bytes(row[: int(length)].tolist())) for row, length in zip(rows, lengths, strict=True)]

    def first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes of it, for all; anything that is JSON. The others wait, however long it takes.

        Raises:
            RuntimeError: the first process ended instead.
        """
        if self.size == 1:
            return make()
        return self.gathered(make() if self.leads else None, patiently=True)[0]  # type: ignore[return-value]

    def ahead(self, make: Callable[[], Value]) -> Value:
        """Make it in every process, in the first one before the others: these find the files that it left."""
        if self.leads:
            made = make()
            self.first(lambda: None)
            return made
        self.first(lambda: None)
        return make()

    def sum(self, numbers: Sequence[float]) -> list[float]:
        """The numbers of all processes added up, each by its place."""
        return [sum(column) for column in zip(*self.gathered(list(numbers)), strict=True)]


ALONE = World()
_present = ALONE


def world() -> World:
    """The processes that this one belongs to."""
    return _present


@contextmanager
def joined(parallel: ParallelConfig) -> Iterator[World]:
    """Meet the others, if torchrun started this process; part from them at the end.

    Raises:
        UsageError: the environment is incomplete, nobody is there, or their number does not fit ``parallel``.
    """
    global _present
    if "WORLD_SIZE" not in os.environ:
        parallel.shape(1)
        yield ALONE
        return
    if missing := [name for name in VARIABLES if name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is set, but {', '.join(missing)} not; start several processes with `groundup launch`"
        )
    size = int(os.environ["WORLD_SIZE"])
    parallel.shape(size)
    seconds = timedelta(seconds=float(os.environ.get(TIMEOUT, _DEFAULT_TIMEOUT)))
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    try:
        distributed.init_process_group(backend, timeout=seconds)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0][:160]
        raise UsageError(
            f"the processes did not meet at {place} ({reason}); start all of them, or free the port"
        ) from error
    groups = [distributed.new_group(backend="gloo", timeout=limit) for limit in (seconds, _PATIENCE)]
    _present = World(distributed.get_rank(), size, parallel, *groups)
    try:
        with muted() if not _present.leads else nullcontext():
            yield _present
    except RuntimeError as error:
        if not _means_lost(error):
            raise
        raise LostError(
            f"process {_present.rank} of {size} lost the others ({str(error).splitlines()[0][:120]}): one of them "
            "ended, or did not answer in time; the same command continues from the last checkpoint"
        ) from error
    finally:
        _present = ALONE
        distributed.destroy_process_group()


def _means_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone: PyTorch's backends each have words of their own for it."""
    words = ("closed by peer", "reset by peer", "Broken pipe", "Timed out", "timed out", "NCCL", "Connection refused")
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in words)
