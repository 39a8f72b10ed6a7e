"""Progress on stderr: a description, how far, the rate and the time left.

On a terminal one line is redrawn (live); without one (a log file, a pipe, a dumb terminal) a whole line is printed at
most every ``PLAIN_INTERVAL`` seconds (plain). ``GROUNDUP_PROGRESS`` decides otherwise: live, plain, or quiet, which
shows none. Nothing is shown for work shorter than two seconds. Where nobody can read it (a closed pipe, a full log
disk) it is dropped: telling never stops the work.
"""

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from groundup.core.errors import UsageError

Item = TypeVar("Item")

SWITCH = "GROUNDUP_PROGRESS"
MODES = ("live", "plain", "quiet")

#: Seconds before the first line: shorter work needs no progress.
DELAY = 2.0
#: Seconds between redraws on a terminal, and between lines without one.
REDRAW_INTERVAL = 0.2
PLAIN_INTERVAL = 15.0


def duration(seconds: float) -> str:
    """``75`` → ``1:15``; hours are added when there are any."""
    minutes, rest = divmod(int(round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def quantity(value: float) -> str:
    """A short human number: ``1234567`` → ``1.23M``."""
    # The limits are where three digits round up to the unit: 999.6k is 1M.
    for limit, unit, suffix in ((9.995e8, 1e9, "G"), (9.995e5, 1e6, "M"), (1e4, 1e3, "k")):
        if abs(value) >= limit:
            scaled = value / unit
            return f"{scaled:.3g}{suffix}" if abs(scaled) < 999.5 else f"{scaled:.0f}{suffix}"
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"


def mode() -> str:
    """How progress is shown: ``live``, ``plain`` or ``quiet``.

    Raises:
        UsageError: the environment asks for another.
    """
    wish = os.environ.get(SWITCH, "")
    if wish and wish not in MODES:
        raise UsageError(f"{SWITCH} is {wish!r}; use {', '.join(MODES[:-1])} or {MODES[-1]}")
    return wish or ("live" if sys.stderr.isatty() and os.environ.get("TERM") != "dumb" else "plain")


class Progress:
    """Counts work and shows it. Use as a context manager::

    with Progress("pretrain", total=600, unit="step") as progress:
        progress.advance(1, note="loss 3.21")
    """

    def __init__(self, description: str, total: float | None = None, unit: str = "", done: float = 0) -> None:
        self.description = description
        self.total = total
        self.unit = unit
        self.done = done
        self.note = ""
        self._done_before = done
        self._mode = mode()
        self._start = self._last = time.monotonic()
        self._shown = False
        self._last_done = done

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._shown and (self._mode == "live" or self.done != self._last_done):
            self._show(final=True)

    def advance(self, amount: float = 1, note: str | None = None) -> None:
        """Count ``amount`` more units done; ``note`` is shown at the end of the line."""
        self.done += amount
        if note is not None:
            self.note = note
        now = time.monotonic()
        if self._mode == "quiet" or now - self._start < DELAY:
            return
        if not self._shown or now - self._last >= (REDRAW_INTERVAL if self._mode == "live" else PLAIN_INTERVAL):
            self._last = now
            self._show()

    def line(self, width: int | None = None) -> str:
        """The line as it stands; in a narrow ``width`` first the rate is left out, then the count, then the end."""
        elapsed = max(time.monotonic() - self._start, 1e-9)
        rate = (self.done - self._done_before) / elapsed
        parts = [f"  {self.description}"]
        if self.total:
            parts.append(f"{min(100.0, 100 * self.done / self.total):3.0f}%")
        count = f"{quantity(self.done)}/{quantity(self.total)}" if self.total else quantity(self.done)
        count, speed = f"{count} {self.unit}".rstrip(), f"{quantity(rate)} {self.unit}/s"
        parts += [count, speed]
        if self.total and rate > 0 and self.done < self.total:
            parts.append(f"ETA {duration((self.total - self.done) / rate)}")
        else:
            parts.append(duration(elapsed))
        if self.note:
            parts.append(self.note)
        for lesser in (speed, count) if self.total else (speed,):
            if width is not None and len("  ".join(parts)) > width:
                parts.remove(lesser)
        return "  ".join(parts)[:width]

    def _show(self, final: bool = False) -> None:
        self._shown = True
        self._last_done = self.done
        if self._mode == "live":
            width = max(0, shutil.get_terminal_size().columns - 1)
            _tell("\r" + self.line(width).ljust(width) + ("\n" if final else ""))
        else:
            _tell(self.line() + "\n")


def track(items: Iterable[Item], description: str, total: int | None = None, unit: str = "") -> Iterator[Item]:
    """Iterate over ``items`` showing progress."""
    with Progress(description, total, unit) as progress:
        for item in items:
            yield item
            progress.advance()


def say(text: str) -> None:
    """Print one human line on stderr; results for programs go to stdout elsewhere."""
    _tell(text + "\n")


_quiet = False


@contextlib.contextmanager
def muted() -> Iterator[None]:
    """Within this context nothing is told: another process speaks for all."""
    global _quiet
    _quiet = True
    try:
        yield
    finally:
        _quiet = False


def _tell(text: str) -> None:
    if _quiet:
        return
    with contextlib.suppress(OSError):
        sys.stderr.write(text)
        sys.stderr.flush()
