"""Losses, gradients and weights of several processes equal those of one, for every plan."""

import os
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from tests.distributed.matrix import cells_of

#: Of float32 sums in another order; bfloat16 has 8 bits of mantissa.
TOLERANCES = {"float32": 2e-5, "bfloat16": 4e-2}
#: Of weights in float32, as a multiple: rules that make large steps of small gradients make large differences of
#: rounding.
AMPLIFIED = {"muon": 10, "adamw": 50}
#: The groups of cells, and the numbers of processes that each is computed with.
GROUPS = ("sharding", "experts", "tensor", "zero", "context", "pipeline")
PROCESSES = (2, 4)


@pytest.mark.long
@pytest.mark.parametrize("processes", PROCESSES)
def test_every_plan_computes_what_one_process_does(processes: int, together: Callable[..., Any]) -> None:
    """All groups in one start, which is a good part of their time."""
    found = together(processes, "tests.distributed.matrix", ",".join(GROUPS))
    for group in GROUPS:
        assert list(found[group]) == [cell.name for cell in cells_of(group, processes)]
        assert not beyond(found[group])


@pytest.mark.skipif("GROUNDUP_SLOW" not in os.environ, reason="takes many minutes: set GROUNDUP_SLOW=1")
@pytest.mark.parametrize("processes", PROCESSES)
@pytest.mark.parametrize("group", GROUPS)
def test_every_combination_does(group: str, processes: int, together: Callable[..., Any]) -> None:
    found = together(processes, "tests.distributed.matrix", group, "--slow")[group]
    assert list(found) == [cell.name for cell in cells_of(group, processes, slow=True)]
    assert not beyond(found)


def beyond(found: Mapping[str, Mapping[str, float]]) -> dict[str, Mapping[str, float]]:
    """The cells that differ from one process by more than rounding."""
    wrong = {}
    for name, differences in found.items():
        rough = "bfloat16" in name
        tolerance = TOLERANCES["bfloat16" if rough else "float32"]
        if rough and "compile" in name and "compile off" not in name:
            tolerance *= 3  # generated code rounds elsewhere, and a router's gradient is a tenth from float32's already
        weights = tolerance * (4 if rough else next((times for rule, times in AMPLIFIED.items() if rule in name), 5))
        most = {"measures": tolerance, "gradients": tolerance, "weights": weights}
        if not all(differences[what] < limit for what, limit in most.items()):  # NaN is less than nothing
            wrong[name] = differences
    return wrong
