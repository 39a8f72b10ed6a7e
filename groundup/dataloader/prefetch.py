"""A source whose next batches are made ready in the background while the model computes.

Enters: any source whose batches do not depend on the training itself. Leaves: the same batches in the same order, and
at every moment the position behind the batches that were taken, however many more are ready.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol, runtime_checkable

from groundup.dataloader.batch import Batch, Source

#: Seconds between looks at whether Ctrl-C was pressed, where waiting cannot be interrupted (Windows).
ALERT = 0.5


@runtime_checkable
class PlannedSource(Source, Protocol):
    """A source whose batches are planned in order, and can be read in any."""

    def plan(self) -> Any:
        """All that decides the next batch; the position is then behind it."""

    def assemble(self, plan: Any) -> Batch:
        """The batch of a plan; safe to call from several threads at once."""


@dataclass
class _Slot:
    """A batch that is ready or in the making."""

    make: Callable[[], Batch] | None = None
    state: dict[str, Any] = field(default_factory=dict)
    """The source's position behind it."""
    batch: Batch | None = None
    error: BaseException | None = None
    """What came instead."""
    done: bool = False


class Prefetch:
    """Takes batches from ``source`` ahead of time; a context manager and an iterator.

    An error in the background is raised where its batch would have come. ``close`` ends the threads, and leaves
    ``source`` itself at the position behind the batches that were taken.

    Args:
        source: where batches come from. Nobody else may use it until ``close``.
        depth: batches that are ready or in the making.
        workers: threads. More than one help only with a :class:`PlannedSource`, whose batches they read side by side;
            those of others must be made one after the other.
        prepare: what else is done to a batch in the background, such as pinning its memory.
    """

    def __init__(
        self, source: Source, depth: int = 2, workers: int = 1, prepare: Callable[[Batch], Batch] = lambda batch: batch
    ) -> None:
        assert depth >= 1 and workers >= 1
        self.source = source
        self._depth = depth
        self._workers = workers
        self._prepare = prepare
        self._state = source.state_dict()
        self._threads: list[threading.Thread] = []
        self._source_lock = threading.Lock()  # who holds it may use the source
        self._changed = threading.Condition()  # guards and announces what follows
        self._slots = deque[_Slot]()
        self._closed = False

    def __enter__(self) -> "Prefetch":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        if not self._threads:
            self._start()
        with self._changed:
            while not (self._slots and self._slots[0].done):
                self._changed.wait(ALERT)
            slot = self._slots[0]
            if slot.error is not None:
                raise slot.error  # it stays: whoever asks again is told again
            self._slots.popleft()
            self._changed.notify_all()
        assert slot.batch is not None
        self._state = slot.state
        return slot.batch

    def state_dict(self) -> dict[str, Any]:
        """The position behind the batches that were taken."""
        return self._state

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``; what was made ready is forgotten."""
        self._state = state
        self.close()

    def close(self) -> None:
        """End the threads and bring the source to the position of this one; iterating starts them again."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()
        self._threads = []
        self._slots.clear()
        self.source.load_state_dict(self._state)

    def _start(self) -> None:
        self._closed = False
        draw = _drawing(self.source)
        # A daemon does not keep a process alive that ends without closing.
        self._threads = [threading.Thread(target=self._work, args=(draw,), daemon=True) for _ in range(self._workers)]
        for thread in self._threads:
            thread.start()

    def _work(self, draw: Callable[[], Callable[[], Batch]]) -> None:
        """One thread: batches are drawn in turn and made side by side."""
        while (slot := self._drawn(draw)) is not None:
            if slot.make is not None:
                try:
                    slot.batch = self._prepare(slot.make())
                except BaseException as error:
                    slot.error = error
            with self._changed:
                slot.done = True
                self._changed.notify_all()

    def _drawn(self, draw: Callable[[], Callable[[], Batch]]) -> _Slot | None:
        """The next batch to make, as soon as there is room for it; None once closed."""
        with self._source_lock:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._slots) < self._depth)
                if self._closed:
                    return None
            slot = _Slot()
            try:
                slot.make = draw()
                slot.state = self.source.state_dict()
            except BaseException as error:
                slot.error = error
            with self._changed:
                self._slots.append(slot)
            return slot


def _drawing(source: Source) -> Callable[[], Callable[[], Batch]]:
    """A function that moves ``source`` on by a batch, and returns the function that makes it."""
    if isinstance(source, PlannedSource):
        return lambda: partial(source.assemble, source.plan())
    batches = iter(source)

    def draw() -> Callable[[], Batch]:
        batch = next(batches)
        return lambda: batch

    return draw
