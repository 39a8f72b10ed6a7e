"""The processes that work on one run together: which of them this is, and what they agree on.

``torchrun`` (or ``groundup launch``) starts them and says in the environment who they are; without it there is one.
What they tell each other here is small and goes through the CPU, in order of rank, so that all come to the same number,
to the last bit. Gradients and weights take another way (``groundup.distributed``).
"""

import json
import math
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cached_property
from typing import Any, Literal, TypeVar

import torch
from torch import distributed

from groundup.core import heartbeat
from groundup.core.errors import LostError, UsageError
from groundup.core.progress import muted
from groundup.core.version import VERSION

Value = TypeVar("Value")

#: What torchrun says to a process.
VARIABLES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
#: Seconds after which a collective operation that one process does not take part in ends with an error.
TIMEOUT = "GROUNDUP_TIMEOUT"
#: The number of a replica (``launch --recovery torchft``), and that it joins others at work.
REPLICA, JOINS = "GROUNDUP_REPLICA", "GROUNDUP_JOINS"
_DEFAULT_TIMEOUT = 600
#: How long the others wait for what the first one does alone, such as reading a corpus.
_PATIENCE = timedelta(days=30)


#: The dimensions of the grid of processes: the first one's neighbours are furthest apart, the last one's adjacent.
DIMENSIONS = ("pipeline", "data", "shard", "expert", "context", "tensor")

Schedule = Literal["gpipe", "1f1b", "interleaved", "zero-bubble"]


@dataclass(frozen=True)
class ParallelConfig:
    """How the processes share the work: the sizes of a grid, which multiply to their number."""

    engine: Literal["torch", "deepspeed"] = "torch"
    """What divides the state of `shard` and `zero`: PyTorch (FSDP), or DeepSpeed (extra `deepspeed`)."""
    auto: bool = False
    """Choose all of this by what the planner predicts for the model, the batch and the devices."""
    data: int = 0
    """Copies of the weights, each of which sees other rows; 0: as many as are left."""
    shard: int = 1
    """Processes that share one copy: each keeps a part of weights, gradients and optimizer state (FSDP, ZeRO)."""
    reshard: bool = True
    """Forget the weights of others after a layer's forward pass and gather them again for its backward pass (ZeRO-3);
    without, they stay from the one to the other, which takes more memory and less traffic (ZeRO-2)."""
    zero: bool = False
    """Divide the optimizer's state, and nothing else, among the copies (ZeRO-1)."""
    tensor: int = 1
    """Processes that share every matrix product (Megatron)."""
    sequence: bool = True
    """Those of a tensor group share the norms and the stream between the products, too."""
    context: int = 1
    """Processes that share every sequence; they shard the weights, too."""
    expert: int = 1
    """Processes that share the experts; all else they treat as rows of their own and weights to shard."""
    pipeline: int = 1
    """Processes that share the layers, one after the other."""
    schedule: Schedule = "1f1b"
    """The order of a pipeline's work."""
    chunks: int = 1
    """Stages of each pipeline process; interleaved has two or more."""
    split: tuple[int, ...] = ()
    """The layer, counted from 0, that each stage but the first begins with; none: as even as they go."""
    micro_batches: int = 0
    """Parts of each micro-batch that are under way in a pipeline; 0: as many as it has processes."""

    def __post_init__(self) -> None:
        for name in (*DIMENSIONS, "chunks", "micro_batches"):
            least = 0 if name in ("data", "micro_batches") else 1
            if getattr(self, name) < least:
                shown = name.replace("_", "-")
                raise UsageError(f"parallel.{shown} is {getattr(self, name)}; it must be at least {least}")
        if self.auto and replace(self, auto=False) != ParallelConfig():
            raise UsageError("parallel.auto chooses all of parallel; leave its other keys out")
        if (self.schedule == "interleaved") != (self.chunks > 1):
            raise UsageError(
                f"parallel.chunks is {self.chunks}, parallel.schedule {self.schedule}; interleaved needs 2 chunks or "
                "more, the others have one"
            )
        if self.schedule == "interleaved" and self.micro_batches % self.pipeline:
            raise UsageError(
                f"parallel.micro-batches is {self.micro_batches}; interleaved needs a multiple of parallel.pipeline "
                f"{self.pipeline}"
            )

    @property
    def sizes(self) -> dict[str, int]:
        """Of the grid's dimensions, from the outermost to the innermost; once ``data`` is known."""
        return {name: getattr(self, name) for name in DIMENSIONS}

    def resolved(self, processes: int) -> "ParallelConfig":
        """For so many processes, with nothing left open.

        Raises:
            UsageError: the sizes do not multiply to it.
        """
        inner = math.prod(replace(self, auto=False, data=1).sizes.values())
        data = self.data or max(1, processes // inner)
        if data * inner != processes:
            told = " x ".join(
                f"parallel.{name} {size or 'auto'}"
                for name, size in self.sizes.items()
                if size != 1 or name in ("data", "shard")
            )
            raise UsageError(
                f"{told} is not {processes}, the number of processes; start {data * inner} of them with "
                "`groundup launch --nproc`, or give other numbers"
            )
        return replace(self, auto=False, data=data, micro_batches=self.micro_batches or self.pipeline)


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
    replica: bool = False
    """Whether others, who come and go, train the same weights beside it; it is then a world of one, and the rank is its
    number among them."""
    joins: bool = False
    """Whether these are at work already: it takes up what they do, or nothing."""

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    @property
    def follows(self) -> bool:
        """Whether this replica begins with what another one gives it, and leaves nothing on the disk."""
        return self.replica and not self.leads

    @cached_property
    def places(self) -> dict[str, int]:
        """Where this process is along each dimension of the grid."""
        places, rest = {}, self.rank
        for name, size in reversed(self.parallel.resolved(self.size).sizes.items()):
            rest, places[name] = divmod(rest, size)
        return places

    @cached_property
    def share(self) -> tuple[int, int]:
        """Which part of a batch's rows is this process's, and of how many."""
        sizes, number, parts = self.parallel.resolved(self.size).sizes, 0, 1
        for name in ("data", "shard", "expert"):
            number, parts = number * sizes[name] + self.places[name], parts * sizes[name]
        return number, parts

    @cached_property
    def counts(self) -> bool:
        """Whether this process's part of a loss is no other's, too: those of a tensor group have the same, and of a
        pipeline the last one has it."""
        sizes = self.parallel.resolved(self.size).sizes
        return self.places["tensor"] == 0 and self.places["pipeline"] == sizes["pipeline"] - 1

    def gathered(self, value: Value, patiently: bool = False) -> list[Value]:
        """What every process gave, by rank; anything that is JSON."""
        if self.size == 1:
            return [value]
        group = self.patient if patiently else self.control
        raw = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(self.size)]
        with heartbeat.exchange(patiently):
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


def settle(parallel: ParallelConfig) -> None:
    """Go on with these sizes, on which all processes have agreed."""
    global _present
    _present = replace(_present, parallel=parallel)


@contextmanager
def joined(parallel: ParallelConfig) -> Iterator[World]:
    """Meet the others, if torchrun started this process; part from them at the end.

    Raises:
        UsageError: the environment is incomplete, somebody is not there or not like the first, or their number does not
            fit ``parallel``; all processes raise the same.
        LostError: another process ended, or did not answer in time.
    """
    global _present
    if REPLICA in os.environ:
        _present = _beside_others(parallel)
        try:
            with muted() if _present.follows else nullcontext():
                yield _present
        finally:
            _present = ALONE
        return
    if "WORLD_SIZE" not in os.environ:
        parallel.resolved(1)
        yield ALONE
        return
    if missing := [name for name in VARIABLES if name not in os.environ]:
        raise UsageError(
            f"WORLD_SIZE is set, but {', '.join(missing)} not; start several processes with `groundup launch`"
        )
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    seconds = float(os.environ.get(TIMEOUT, _DEFAULT_TIMEOUT))
    limit = timedelta(seconds=seconds)
    heartbeat.attend(seconds)
    backend, complaint = _backend(parallel, size)
    place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
    try:
        store = _meet(backend, complaint, rank, size, timedelta(seconds=max(seconds, _DEFAULT_TIMEOUT)))
        if backend != "gloo":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        distributed.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=limit)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0][:160]
        told = f"the processes did not meet at {place} ({reason}); start all of them, or free the port"
        if "TORCHELASTIC_RUN_ID" in os.environ and "EADDRINUSE" in str(error):  # the launcher can choose another one
            raise LostError(told) from error
        raise UsageError(told) from error
    groups = [
        distributed.new_group(backend="gloo", timeout=each, group_desc=name)
        for name, each in (("control", limit), ("patient", _PATIENCE))
    ]
    _present = World(rank, size, parallel, *groups)
    try:
        with muted() if not _present.leads else nullcontext():
            yield _present
    except RuntimeError as error:
        if not _means_lost(error):
            raise
        reason = str(error).splitlines()[0][:120]
        heartbeat.tell(lost=reason, hung="timed out" in str(error).lower())
        heartbeat.write_down(traceback.format_exc())
        raise LostError(
            f"process {rank} of {size} lost the others ({reason}): one of them ended, or did not answer in time; the "
            "same command continues from the last checkpoint"
        ) from error
    finally:
        _present = ALONE
        distributed.destroy_process_group()


def _beside_others(parallel: ParallelConfig) -> World:
    """A replica's world of one."""
    if parallel != ParallelConfig():
        raise UsageError("--recovery torchft is for processes with all weights each; leave the keys of parallel out")
    heartbeat.attend(float(os.environ.get(TIMEOUT, _DEFAULT_TIMEOUT)))
    here = World(int(os.environ[REPLICA]), replica=True, joins=JOINS in os.environ)
    if torch.cuda.is_available():
        torch.cuda.set_device(here.rank % torch.cuda.device_count())
    return here


def _backend(parallel: ParallelConfig, size: int) -> tuple[str, str]:
    """What carries the tensors of this process, and what is wrong with it or with ``parallel``, if anything."""
    try:
        parallel.resolved(size)
    except UsageError as error:
        return "gloo", str(error)
    if not torch.cuda.is_available():
        return "gloo", ""
    place, devices = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    complaint = ""
    if place >= devices:
        complaint = (
            f"there are more processes on a machine than its {devices} accelerators; give --nproc {devices}, or hide "
            "them (CUDA_VISIBLE_DEVICES=) to train on the processor"
        )
    elif not distributed.is_nccl_available():
        complaint = "this PyTorch has no NCCL, by which several accelerators talk; install one that has it"
    return "cpu:gloo,cuda:nccl", complaint


def _meet(backend: str, complaint: str, rank: int, size: int, limit: timedelta) -> distributed.Store:
    """The store through which the processes find each other, once all are there and alike.

    Raises:
        UsageError: they are not; the first process finds out, and all raise what it says.
    """
    from torch.distributed.rendezvous import rendezvous

    store, *_ = next(rendezvous("env://", timeout=limit))
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True":  # it outlives us: what is there may be of others
        store = distributed.PrefixStore(os.environ["TORCHELASTIC_RESTART_COUNT"], store)
    own = {"error": complaint, "groundup": VERSION, "torch": torch.__version__, "backend": backend, "WORLD_SIZE": size}
    store.set(f"groundup/{rank}", json.dumps(own))
    if rank == 0:
        store.set("groundup/verdict", _verdict(store, own, size, limit))
    store.wait(["groundup/verdict"], 2 * limit)
    if verdict := store.get("groundup/verdict").decode():
        raise UsageError(verdict)
    return store


def _verdict(store: distributed.Store, own: dict[str, Any], size: int, limit: timedelta) -> str:
    """What keeps the processes from working together; "" for nothing."""
    names = [f"groundup/{rank}" for rank in range(size)]
    try:
        store.wait(names, limit)
    except RuntimeError:
        late = [str(rank) for rank, name in enumerate(names) if not store.check([name])]
        seconds = f"{limit.total_seconds():.0f} s"
        return f"process {', '.join(late)} of {size} did not come within {seconds}; start all of them"
    if own["error"]:
        return str(own["error"])
    for rank, name in enumerate(names):
        theirs = json.loads(store.get(name))
        if theirs["error"]:
            return f"process {rank}: {theirs['error']}"
        for what, value in own.items():
            if theirs[what] != value:
                return (
                    f"process {rank} is not like process 0: its {what} is {theirs[what]}, not {value}; start all with "
                    "the same program on machines of one kind"
                )
    return ""


def _means_lost(error: RuntimeError) -> bool:
    """Whether an error says that another process is gone: PyTorch's backends each have words of their own for it."""
    words = ("closed by peer", "reset by peer", "Broken pipe", "Timed out", "timed out", "NCCL", "Connection refused")
    return isinstance(error, distributed.DistError) or any(word in str(error) for word in words)
