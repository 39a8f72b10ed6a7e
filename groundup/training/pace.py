"""Which of several processes holds the others up.

All end a step together, so its length says nothing of one of them. What a process does not spend waiting for messages
is its own work; now and then all tell theirs, and one that is slow several times on end is named. On accelerators,
where devices wait and not processes, only memory is told: there ``groundup profile`` finds the slow ones.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from statistics import fmean, median_low

import torch

from groundup.core.world import World
from groundup.distributed.waiting import Waited, waits

#: Steps from one measurement to the next.
EVERY = 10
#: A process is slow whose own work takes so many times the median's, so many measurements on end.
SLOW, TIMES = 1.2, 3


class Pace:
    """Measures some steps of a training. In every process::

        with pace.measuring(step):
            ...                                   # gradients and update
            record |= pace.numbers(elapsed, memory)

    Args:
        world: the processes; of one alone nothing is measured.
        device: where it computes.
        compiled: whether the model is.
        every: steps from one measurement to the next.
    """

    def __init__(self, world: World, device: torch.device, compiled: bool, every: int = EVERY) -> None:
        self._world, self._every, self._compiled = world, every, compiled
        self._waits = device.type == "cpu"
        self._waited: Waited | None = None
        self._slow = [0] * world.size
        self.complaint = ""
        """Of the last measurement: the process that has just been found slow, in words."""

    @contextmanager
    def measuring(self, step: int) -> Iterator[None]:
        """Around a step, counted from 1."""
        if self._world.size == 1 or step % self._every:
            yield
            return
        with waits(self._compiled) as self._waited:
            try:
                yield
            finally:
                self._waited = None

    def numbers(self, elapsed: float, memory: float) -> dict[str, float]:
        """What all tell of a step that is measured, nothing of others.

        ``memory_most`` bytes of process ``memory_process``; on a CPU also ``waiting_share`` of the step, the mean of
        all, and ``slowest_seconds`` of own work of process ``slowest_process``.

        Args:
            elapsed: seconds of the step.
            memory: bytes in use.
        """
        self.complaint = ""
        if self._waited is None:
            return {}
        told = self._world.gathered([elapsed - self._waited.seconds, self._waited.seconds / elapsed, memory])
        own, shares, memories = (list(column) for column in zip(*told, strict=True))
        most = max(memories)
        numbers = {"memory_most": most, "memory_process": memories.index(most)}
        if not self._waits:
            return numbers
        self._judge(own)
        slowest = max(own)
        numbers |= {"slowest_seconds": round(slowest, 5), "slowest_process": own.index(slowest)}
        return {**numbers, "waiting_share": round(fmean(shares), 5)}

    def _judge(self, own: list[float]) -> None:
        """Count in how many measurements on end each was slow."""
        usual = median_low(own)
        for rank, seconds in enumerate(own):
            self._slow[rank] = self._slow[rank] + 1 if seconds > SLOW * usual else 0
            if self._slow[rank] == TIMES:
                self.complaint = (
                    f"process {rank} is slow: its own work took {seconds:.3g} s of a step, that of the median "
                    f"{usual:.3g} s, in {TIMES} measurements on end"
                )
