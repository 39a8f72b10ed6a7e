"""Losses, gradients and weights of several processes equal those of one, for every plan."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.distributed.matrix import cells

#: Of float32 sums in another order; bfloat16 has 8 bits of mantissa.
TOLERANCES = {"float32": 2e-5, "bfloat16": 3e-2}


@pytest.fixture(scope="module", params=[2, 4])
def differences(request: pytest.FixtureRequest, together: Callable[..., Any]) -> tuple[int, dict[str, list[float]]]:
    return request.param, together(request.param, "tests.distributed.matrix")


def test_every_plan_computes_what_one_process_does(differences: tuple[int, dict[str, list[float]]]) -> None:
    processes, found = differences
    assert list(found) == [cell.name for cell in cells(processes)]
    for name, (measures, gradients, weights) in found.items():
        tolerance = TOLERANCES["bfloat16" if "bfloat16" in name else "float32"]
        assert max(measures, gradients) < tolerance, name
        assert weights < (0.1 if "bfloat16" in name and "muon" in name else 5 * tolerance), name
