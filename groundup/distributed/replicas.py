"""One of several copies of the weights, each a process of its own that may die and come back: torchft's part of it.

Enters: what this replica computed of a step. Leaves: the sum over all replicas that take the step, or word that one of
them died on the way and the step is to be taken again.

Before each step all that are alive meet (torchft's quorum): they learn how many they are, and one that is behind,
because it has just been started again, is given the state of another. After it each one knows whether the sums arrived.
The one that took a step which others could not finish is ahead, and they become what it is.

torchft's own servers would listen on every address of the machine, and its ways to send a state unpickle what they
receive. Here they listen on :data:`ADDRESS` alone, and a state goes through the connections that sum the gradients.
"""

import json
import logging
import math
import os
import socket
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.distributed import ReduceOp, TCPStore

from groundup.core import heartbeat
from groundup.core.errors import LostError
from groundup.core.world import TIMEOUT

Value = TypeVar("Value")
#: What makes a training: its tensors by group and name, and what is JSON.
Tensors = Mapping[str, Mapping[str, Tensor]]
State = tuple[Tensors, dict[str, Any]]

#: The environment variable that names torchft's lighthouse, which knows who is alive.
LIGHTHOUSE = "GROUNDUP_LIGHTHOUSE"
#: Where a replica listens.
ADDRESS = "127.0.0.1"
#: Numbers that are summed at once.
BUCKET = 1 << 22
#: Seconds between looks at whether another replica is done.
_PAUSE = 0.5
_KEY = "training"


def silence() -> None:
    """Torchft's servers tell every exchange on the standard error stream, past Python: from now on only Python's words
    get there."""
    sys.stderr.flush()
    sys.stderr = open(os.dup(2), "w", buffering=1, encoding="utf-8", errors="replace")  # noqa: PTH123, SIM115
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


class BrokenError(Exception):
    """Another replica is gone, and what was to be summed with it is not."""


class Replicas:
    """Those that train the same weights, seen from the one that has this number.

    place: of this replica among those that take the present step, counted from 0, and how many they are.
    """

    def __init__(self, number: int) -> None:
        silence()
        import torchft.manager
        from torchft.coordination import ManagerServer
        from torchft.process_group import ProcessGroupGloo

        def server(**options: Any) -> Any:
            return ManagerServer(**{**options, "bind": f"{ADDRESS}:0"})

        self.number = number
        self.place = (0, 0)
        for name in ("torchft", "torchft_errors"):  # what it logs is no concern of a user's: it is what it is for
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        patience = timedelta(seconds=float(os.environ[TIMEOUT]))
        listening = socket.create_server((ADDRESS, 0))
        port = listening.getsockname()[1]
        self._store = TCPStore(
            ADDRESS, port, is_master=True, wait_for_workers=False, master_listen_fd=listening.detach()
        )
        self._group = ProcessGroupGloo(timeout=patience)
        torchft.manager.ManagerServer = server
        self._manager = torchft.manager.Manager(
            pg=self._group,
            load_state_dict=None,
            state_dict=None,
            min_replica_size=1,
            use_async_quorum=False,
            timeout=patience,
            quorum_timeout=patience,
            rank=0,
            world_size=1,
            store_addr=ADDRESS,
            store_port=port,
            lighthouse_addr=os.environ[LIGHTHOUSE],
            replica_id=f"replica_{number:05d}",
            hostname=ADDRESS,
            checkpoint_transport=_Transfer(self._group),
            init_sync=False,  # all begin with the same weights, as a function of the seed or from one file
        )
        heartbeat.tell(trains=True)

    def begin(self, step: int, given: Callable[[], State], take: Callable[[Tensors, dict[str, Any]], None]) -> None:
        """Say at which step this replica is, how its state is had, and how it becomes another's."""
        self._manager.load_state_dict({"step": step, "batches_committed": 0})
        self._manager.register_state_dict_fn(_KEY, lambda state: take(*state), given)

    def meet(self) -> bool:
        """Wait for all that are alive, and become what they are, if they are further; whether their number changed.

        Raises:
            LostError: they cannot be reached.
        """
        before = self.place[1]
        try:
            with heartbeat.exchange(patiently=True):
                self._manager.start_quorum()
        except (RuntimeError, TimeoutError, OSError) as error:
            reason = str(error).splitlines()[0][:120]
            raise LostError(f"replica {self.number} does not find the others ({reason})") from error
        self.place = (self._manager.participating_rank(), self._manager.num_participants())
        return before != self.place[1]

    def gathered(self, value: Value) -> list[Value]:
        """What every one gave, by place; anything that is JSON.

        Raises:
            BrokenError: one of them is gone.
        """
        place, count = self.place
        raw = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = torch.zeros(count, dtype=torch.int64)
        lengths[place] = len(raw)
        self._summed([lengths])
        rows = torch.zeros(count, int(lengths.max()), dtype=torch.uint8)
        rows[place, : len(raw)] = raw
        self._summed([rows])
        return [json.loads(bytes(row[:length].tolist())) for row, length in zip(rows, lengths.tolist(), strict=True)]

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Add up the tensors of all, in place, in float32 and through the memory of the CPU.

        Raises:
            BrokenError: one of them is gone; what the tensors hold is then undefined.
        """
        buckets: list[list[Tensor]] = [[]]
        for tensor in tensors:
            if buckets[-1] and sum(map(Tensor.numel, buckets[-1])) + tensor.numel() > BUCKET:
                buckets.append([])
            buckets[-1].append(tensor)
        flat = [torch.cat([each.detach().float().flatten() for each in bucket]).cpu() for bucket in buckets if bucket]
        self._summed(flat)
        for bucket, numbers in zip(buckets, flat, strict=False):
            for tensor, part in zip(bucket, numbers.split([each.numel() for each in bucket]), strict=True):
                tensor.detach().copy_(part.view_as(tensor))

    def _summed(self, tensors: Sequence[Tensor]) -> None:
        works = [self._manager.allreduce(each, reduce_op=ReduceOp.SUM) for each in tensors]
        for work in works:
            work.wait()
        if self._manager.errored():
            raise BrokenError

    def agreed(self) -> bool:
        """Whether what was summed since they met has arrived; if not, all meet again."""
        if self._manager.should_commit():
            return True
        self._group.abort(errored=False)  # those that still wait for this one learn it
        return False

    def forget(self) -> None:
        """Be behind all others: the next time they meet, this one becomes what they are."""
        self._manager.load_state_dict({"step": 0, "batches_committed": 0})

    def wait_for(self, path: Path) -> None:
        """Be there for whoever comes back, until ``path`` exists."""
        while not path.exists():
            self.meet()
            self.agreed()
            time.sleep(_PAUSE)

    def close(self) -> None:
        """Leave the others; they go on."""
        self._manager.shutdown(wait=False)


class _Transfer:
    """How torchft brings a state to a replica that is behind: JSON and plain numbers, through the group itself."""

    def __init__(self, group: Any) -> None:
        self._group = group

    def metadata(self) -> str:
        return ""

    def send_checkpoint(
        self, dst_ranks: Sequence[int], step: int, state_dict: dict[str, Any], timeout: timedelta
    ) -> None:
        groups, told = state_dict["user"][_KEY]
        tensors = {(group, name): tensor for group, named in groups.items() for name, tensor in named.items()}
        described = [[*names, _name(tensor.dtype), list(tensor.shape)] for names, tensor in tensors.items()]
        header = json.dumps({"torchft": state_dict["torchft"], "told": told, "tensors": described}).encode()
        parts = [
            torch.tensor([len(header)]).view(torch.uint8),
            torch.frombuffer(bytearray(header), dtype=torch.uint8),
            *(tensor.detach().cpu().contiguous().flatten().view(torch.uint8) for tensor in tensors.values()),
        ]
        for to in dst_ranks:
            for number, part in enumerate(parts):
                if len(part):
                    self._group.send([part], to, number).wait(timeout)

    def recv_checkpoint(self, src_rank: int, metadata: str, step: int, timeout: timedelta) -> dict[str, Any]:
        def received(length: int, number: int) -> Tensor:
            raw = torch.empty(length, dtype=torch.uint8)
            if length:
                self._group.recv([raw], src_rank, number).wait(timeout)
            return raw

        length = int(received(8, 0).view(torch.int64))
        header = json.loads(bytes(received(length, 1).tolist()))
        groups: dict[str, dict[str, Tensor]] = {}
        for number, (group, name, of, shape) in enumerate(header["tensors"], start=2):
            dtype = _DTYPES[of]
            raw = received(math.prod(shape) * dtype.itemsize, number)
            groups.setdefault(group, {})[name] = raw.view(dtype).view(shape)
        return {"user": {_KEY: (groups, header["told"])}, "torchft": header["torchft"]}

    def disallow_checkpoint(self) -> None:
        """Nothing is left to send when the step begins."""

    def shutdown(self, wait: bool = True) -> None:
        """There is nothing of its own."""


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


_DTYPES = {
    _name(dtype): dtype
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.int32, torch.uint8)
}
