"""Progress is readable on a wide, narrow, dumb or absent terminal, and never stops the work."""

import errno
import io
import re
import sys
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core import progress
from groundup.core.errors import UsageError
from groundup.core.progress import Progress, duration, quantity, say, track


class Terminal(io.StringIO):
    """A stderr that says it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """Stands in for the clock; moves only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock.monotonic)
    return clock


@pytest.fixture
def work(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """``work(stderr, seconds=…)``: a hundred steps in that time; what was written."""

    monkeypatch.delenv("GROUNDUP_PROGRESS", raising=False)

    def run(stderr: io.StringIO, seconds: float = 100.0, total: float | None = 100) -> str:
        monkeypatch.setattr(sys, "stderr", stderr)
        with Progress("pretrain", total, "step") as shown:
            for step in range(100):
                clock.now += seconds / 100
                shown.advance(1, note=f"loss {step}")
        return stderr.getvalue()

    return run


def test_without_a_terminal_whole_lines_come_now_and_then(work: Callable[..., str]) -> None:
    lines = work(io.StringIO()).split("\n")
    assert lines.pop() == ""
    assert 5 <= len(lines) <= 9
    assert not any("\r" in line or "\x1b" in line for line in lines)
    assert re.fullmatch(r"  pretrain  +\d+%  \d+/100 step  1 step/s  ETA 1:\d\d  loss \d+", lines[0])
    assert lines[-1] == "  pretrain  100%  100/100 step  1 step/s  1:40  loss 99"


def test_on_a_terminal_one_line_is_redrawn(work: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    written = work(Terminal())
    assert written.count("\n") == 1
    redrawn = written.rstrip("\n").split("\r")[1:]
    assert len(redrawn) > 50
    assert {len(line) for line in redrawn} == {59}


@pytest.mark.parametrize("columns", ["1", "2", "20"])
def test_on_a_narrow_terminal_the_line_is_cut(
    columns: str, work: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    assert all(len(line) < int(columns) for line in work(Terminal()).rstrip("\n").split("\r"))


def test_a_dumb_terminal_gets_lines(work: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    written = work(Terminal())
    assert "\r" not in written
    assert 5 <= written.count("\n") <= 9


@pytest.mark.parametrize(("columns", "expected"), [("60", "100/100 step"), ("45", "100%  1:40"), ("33", "100%  1:40")])
def test_on_a_narrow_terminal_what_matters_least_goes_first(
    columns: str, expected: str, work: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", columns)
    last = work(Terminal()).rstrip("\n").split("\r")[-1]
    assert expected in last
    assert "loss 99" in last


def test_the_environment_decides_how_it_is_shown(work: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("GROUNDUP_PROGRESS", "quiet")
    assert work(Terminal()) == ""
    monkeypatch.setenv("GROUNDUP_PROGRESS", "plain")
    assert "\r" not in (written := work(Terminal()))
    assert 5 <= written.count("\n") <= 9
    monkeypatch.setenv("GROUNDUP_PROGRESS", "live")
    assert work(io.StringIO()).count("\r") > 50
    monkeypatch.setenv("GROUNDUP_PROGRESS", "loud")
    with pytest.raises(UsageError, match="GROUNDUP_PROGRESS is 'loud'; use live, plain or quiet"):
        work(io.StringIO())


def test_short_work_is_silent(work: Callable[..., str]) -> None:
    assert work(io.StringIO(), seconds=1.9) == ""
    assert work(Terminal(), seconds=1.9) == ""


def test_an_unknown_total_shows_count_and_time(work: Callable[..., str]) -> None:
    last = work(io.StringIO(), total=None).splitlines()[-1]
    assert last == "  pretrain  100 step  1 step/s  1:40  loss 99"


def test_what_was_done_before_is_not_in_the_rate(clock: Clock) -> None:
    shown = Progress("sft", total=200, unit="step", done=100)
    clock.now = 10.0
    shown.advance(50)
    assert shown.line() == "  sft   75%  150/200 step  5 step/s  ETA 0:10"


def test_nobody_to_tell_does_not_stop_the_work(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stderr", Gone())
    say("hello")
    done = []
    for item in track(range(5), "work", total=5):
        clock.now += 10
        done.append(item)
    assert done == [0, 1, 2, 3, 4]


def test_an_exception_ends_the_line(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    stderr = Terminal()
    monkeypatch.setattr(sys, "stderr", stderr)
    monkeypatch.setenv("TERM", "xterm")
    with pytest.raises(KeyboardInterrupt), Progress("work", total=3) as shown:
        clock.now += 5
        shown.advance()
        raise KeyboardInterrupt
    assert stderr.getvalue().endswith("\n")


def test_durations() -> None:
    assert [duration(seconds) for seconds in (0, 59.4, 59.6, 75, 3599.7, 7265)] == [
        *("0:00", "0:59", "1:00", "1:15", "1:00:00", "2:01:05")
    ]


def test_quantities() -> None:
    numbers = (0, 7, 0.1234, 99.94, 512.7, 9999, 10_000, 999_499, 999_600, 1_234_567, 999_600_000, 2.5e9, 7.1e12, -4e6)
    shown = ("0", "7", "0.123", "99.9", "513", "9999", "10k", "999k", "1M", "1.23M", "1G", "2.5G", "7100G", "-4M")
    assert tuple(quantity(number) for number in numbers) == shown


@given(st.floats(0.01, 1e15))
def test_quantities_are_short_and_true(value: float) -> None:
    text = quantity(value)
    factor = {"k": 1e3, "M": 1e6, "G": 1e9}.get(text[-1], 1)
    assert "e" not in text
    assert float(text.rstrip("kMG")) * factor == pytest.approx(value, rel=0.006)
