"""Which process holds the others up: who is named, and when."""

from typing import Any

import pytest
import torch
from torch import distributed

from groundup.core.world import ALONE, World
from groundup.training.pace import TIMES, Pace

CPU = torch.device("cpu")


class Told(World):
    """Three processes, of which the others' numbers are given."""

    def gathered(self, value: Any, patiently: bool = False) -> list[Any]:
        return [value, *OTHERS]


OTHERS: list[list[float]] = []


def numbers(pace: Pace, step: int, *others: list[float]) -> dict[str, float]:
    """Of a step of a second; ``others`` tell own seconds, share of waiting, bytes."""
    OTHERS[:] = others
    with pace.measuring(step):
        return pace.numbers(1.0, 100)


def test_a_slow_process_is_named_once() -> None:
    pace = Pace(Told(size=3), CPU, compiled=False, every=1)
    complaints = []
    for step in range(1, TIMES + 3):
        found = numbers(pace, step, [1.0, 0.1, 200], [1.3, 0.2, 50])
        complaints.append(pace.complaint)
    assert [bool(complaint) for complaint in complaints] == [False] * (TIMES - 1) + [True, False, False]
    assert complaints[TIMES - 1].startswith(
        "process 2 is slow: its own work took 1.3 s of a step, that of the median 1 s"
    )
    assert found == {
        "memory_most": 200,
        "memory_process": 1,
        "slowest_seconds": 1.3,
        "slowest_process": 2,
        "waiting_share": pytest.approx(0.1),
    }


def test_one_that_recovers_is_not_named() -> None:
    pace = Pace(Told(size=3), CPU, compiled=False, every=1)
    for step in range(1, 4 * TIMES):
        numbers(pace, step, [1.0, 0.0, 0], [2.0 if step % TIMES else 1.1, 0.0, 0])
        assert not pace.complaint


def test_only_some_steps_of_several_processes_are_measured() -> None:
    several = Pace(Told(size=3), CPU, compiled=False, every=5)
    assert [bool(numbers(several, step, [1, 0, 0], [1, 0, 0])) for step in range(1, 11)] == [*[False] * 4, True] * 2
    assert not numbers(Pace(ALONE, CPU, compiled=False, every=1), 1)


def test_pytorch_waits_as_before_afterwards() -> None:
    before = distributed.Work.wait
    pace = Pace(Told(size=3), CPU, compiled=False, every=1)
    with pytest.raises(KeyError), pace.measuring(1):
        assert distributed.Work.wait is not before
        raise KeyError
    assert distributed.Work.wait is before
