"""Losses, gradients and weights of several processes equal those of one, for every plan."""

import os
from collections.abc import Callable
from typing import Any

import pytest

from tests.distributed.matrix import cells_of

#: Of float32 sums in another order; bfloat16 has 8 bits of mantissa.
TOLERANCES = {"float32": 2e-5, "bfloat16": 3e-2}
#: The groups of cells, and with how many processes.
GROUPS = [
    ("sharding", 2),
    ("sharding", 4),
    ("experts", 2),
    ("experts", 4),
    ("tensor", 2),
    ("tensor", 4),
    ("zero", 2),
    ("zero", 4),
    ("context", 2),
    ("context", 4),
    ("pipeline", 2),
    ("pipeline", 4),
]


@pytest.mark.parametrize(("group", "processes"), GROUPS)
def test_every_plan_computes_what_one_process_does(group: str, processes: int, together: Callable[..., Any]) -> None:
    check(group, processes, together(processes, "tests.distributed.matrix", group), slow=False)


@pytest.mark.skipif("GROUNDUP_SLOW" not in os.environ, reason="takes many minutes: set GROUNDUP_SLOW=1")
@pytest.mark.parametrize(("group", "processes"), GROUPS)
def test_every_combination_does(group: str, processes: int, together: Callable[..., Any]) -> None:
    check(group, processes, together(processes, "tests.distributed.matrix", group, "--slow"), slow=True)


def check(group: str, processes: int, found: dict[str, dict[str, float]], slow: bool) -> None:
    assert list(found) == [cell.name for cell in cells_of(group, processes, slow)]
    for name, differences in found.items():
        tolerance = TOLERANCES["bfloat16" if "bfloat16" in name else "float32"]
        assert max(differences["measures"], differences["gradients"]) < tolerance, name
        assert differences["weights"] < (0.1 if "bfloat16" in name and "muon" in name else 5 * tolerance), name
