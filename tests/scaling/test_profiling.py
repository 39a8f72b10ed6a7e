"""Where the time of a step goes: what is planted is found, and the parts add up to the step."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.world import ALONE, ParallelConfig, World
from groundup.pretraining.build import PretrainConfig
from groundup.scaling.profiling import PARTS, Step, advice, length, slow_ones, text, united
from groundup.training.config import MemoryConfig
from tests.distributed.conftest import run_together
from tests.scaling.profiled import LATE


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("profile")
    return folder, run_together(2, "tests.scaling.profiled", str(folder))


def test_what_is_planted_is_found(planted: tuple[Path, dict[str, Any]]) -> None:
    _, found = planted
    first, second = found["ranks"]
    assert found["slow"] == [1]
    assert "Process 1 is slow: computing" in found["advice"]
    assert min(first["loading"], second["loading"]) >= LATE
    assert first["waiting"] > max(second["waiting"], first["messages"])
    assert found["plan"] == "shard 2"


def test_the_parts_are_the_step(planted: tuple[Path, dict[str, Any]]) -> None:
    folder, found = planted
    for rank in found["ranks"]:
        assert sum(rank[part] for part in PARTS) == pytest.approx(rank["step"])
        assert all(rank[part] >= 0 for part in PARTS)
    assert found["tokens_per_second"] == pytest.approx(4 * 16 / found["step_seconds"])
    assert found["tokens_per_second_per_device"] == pytest.approx(found["tokens_per_second"] / 2)
    for rank in range(2):
        trace = json.loads((folder / f"rank-{rank}.json").read_text())
        assert any("attention" in event.get("name", "") for event in trace["traceEvents"])
    assert all(title in text({**found, "tokens": "random"}) for title in PARTS.values())


times = st.floats(0, 10)


@given(times, times, times, times, times)
def test_waiting_is_for_those_who_have_more_to_do(
    loading: float, computing: float, optimizer: float, messages: float, slowest: float
) -> None:
    step = Step(loading, computing, optimizer, messages)
    behind = step.behind(slowest)
    assert behind.total == pytest.approx(step.total)
    assert behind.own == step.own
    assert 0 <= behind.waiting <= max(0.0, slowest - step.own)
    assert behind.messages >= 0


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)).map(lambda pair: (pair[0], sum(pair)))))
def test_intervals_count_every_moment_once(intervals: list[tuple[int, int]]) -> None:
    moments = {moment for start, end in intervals for moment in range(start, end)}
    assert length(intervals) == len(moments)
    assert {moment for start, end in united(intervals) for moment in range(int(start), int(end))} == moments


def test_the_slow_are_those_far_from_the_middle() -> None:
    assert slow_ones([1.0, 1.1, 0.9, 1.0]) == []
    assert slow_ones([1.0, 2.0]) == [1]
    assert slow_ones([3.0, 1.0, 1.0, 1.0, 2.0]) == [0, 4]


def found_with(memory: float = 1e9, mfu: float = 0.5, **shares: float) -> dict[str, Any]:
    """Of one process, whose step takes a second."""
    parts = {**dict.fromkeys(PARTS, 0.0), **shares}
    parts["computing"] = 1 - sum(parts.values())
    return {"ranks": [{**parts, "memory_bytes": memory}], "step_seconds": 1.0, "slow": [], "mfu": mfu}


@pytest.mark.parametrize(
    ("found", "options", "said"),
    [
        ({"loading": 0.3}, {}, "Loading data takes 30% of a step: raise pretrain.prefetch"),
        ({"optimizer": 0.4}, {}, "The optimizer takes 40% of a step: more accumulation"),
        ({"messages": 0.4}, {}, "Messages take 40% of a step: try more accumulation or rows"),
        (
            {"memory": 1e8},
            {"memory": MemoryConfig(recompute="block")},
            "Only 10% of the memory is in use: set memory.rec",
        ),
        ({"memory": 1e8, "mfu": 0.1}, {}, "reach 10% of their speed"),
        ({}, {}, "Nothing stands out: 100% of a step is computing."),
    ],
)
def test_advice_follows_the_numbers(found: dict[str, float], options: dict[str, Any], said: str) -> None:
    assert said in advice(found_with(**found), PretrainConfig(**options), ALONE, 1e9)


def test_advice_knows_the_plan() -> None:
    shard, tensor = World(size=2, parallel=ParallelConfig(shard=2)), World(size=2, parallel=ParallelConfig(tensor=2))
    pipeline = World(size=2, parallel=ParallelConfig(pipeline=2))
    assert "--parallel.no-reshard" in advice(found_with(messages=0.3), PretrainConfig(), shard, 1e9)
    assert "a smaller --parallel.tensor" in advice(found_with(messages=0.3), PretrainConfig(), tensor, 1e9)
    assert "--parallel.micro-batches" in advice(found_with(waiting=0.3), PretrainConfig(), pipeline, 1e9)
