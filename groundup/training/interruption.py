"""Ctrl-C and SIGTERM, the polite kill of clusters and containers: the state is saved before the program ends.

All that a step computes before its update can be abandoned at any instant, so a signal takes effect at once; only
during an update or a save it waits for the end of that.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn

from groundup.core.world import ALONE, World


class Interrupted(BaseException):
    """A signal asks to end."""


class Interruption:
    """Within this context SIGINT and SIGTERM raise :class:`Interrupted`, but never inside :meth:`deferred`.

    Outside of the main thread, where Python handles no signals, nothing changes.

    Args:
        together: several processes work together. Then a signal takes effect nowhere but in :meth:`check`, where all
            learn that one of them was asked to end: one that left in the middle would leave the others waiting.
    """

    def __init__(self, together: World = ALONE) -> None:
        self.signal: int | None = None
        self._together = together
        self._deferred = together.size > 1
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None and self._together.size == 1:  # asked twice: what is being saved is whole or absent
            self.end()
        self.signal = number
        if not self._deferred:
            raise Interrupted

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """What must not be left half done; a signal takes effect at its end."""
        if self._together.size > 1:
            yield
            return
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False
        if self.signal is not None:
            raise Interrupted

    def check(self) -> None:
        """Between two steps: end, if any of the processes was asked to."""
        if self._together.size > 1:
            asked = [number for number in self._together.gathered(self.signal) if number is not None]
            if asked:
                self.signal = asked[0]
                raise Interrupted

    def end(self) -> NoReturn:
        """End as the signal asks: as by Ctrl-C, or with the exit code of a terminated program."""
        if self.signal == signal.SIGTERM:
            raise SystemExit(128 + signal.SIGTERM)
        raise KeyboardInterrupt
