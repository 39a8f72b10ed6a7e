"""The planner's memory against what processes really have at once."""

import pytest

from tests.distributed.conftest import run_together

#: Within which share of the measured bytes a prediction is.
CLOSE = 0.1


@pytest.mark.parametrize(
    ("processes", "plans"),
    [(1, ["one device"]), (2, ["data 2", "shard 2, recomputed", "pipeline 2, bfloat16"])],
    ids=["one", "two"],
)
def test_memory_is_as_predicted(processes: int, plans: list[str]) -> None:
    found = run_together(processes, "tests.planning.memory", "--only", *plans)
    assert found.keys() == set(plans)
    for name, row in found.items():
        assert row["predicted"] == pytest.approx(row["measured"], rel=CLOSE), (name, row)
