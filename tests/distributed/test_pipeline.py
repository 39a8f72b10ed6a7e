"""A model whose layers are divided: called and trained, it does what the whole one does."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.core.world import ParallelConfig
from groundup.distributed.pipeline import Given, check_schedule, parts_of
from groundup.planning.mesh import Mesh
from tests.distributed.test_launch import STAGES, groundup, quiet, untrained, weights
from tests.distributed.test_sharding import batch_of


@given(rows=st.integers(1, 9), count=st.integers(1, 12), paired=st.booleans())
def test_every_term_is_in_one_part_and_all_parts_are_alike(rows: int, count: int, paired: bool) -> None:
    batch = batch_of(2 * rows if paired else rows, paired)
    parts = parts_of(batch, count)
    assert len(parts) == count
    assert sum(part.weight for part in parts) == batch.weight
    most = max(len(part.tensors["inputs"]) for part in parts)
    for part in parts:
        told = Given.of(part, most)
        assert told.ids.shape == (most, 4)
        assert torch.equal(told.ids[: told.rows], part.tensors["inputs"])


def test_outside_of_training_all_processes_get_what_the_whole_model_gives(together: Callable[..., Any]) -> None:
    for name, differences in together(2, "tests.distributed.called").items():
        assert max(differences.values()) < 1e-6, (name, differences)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"micro_batches": 1}, "parallel.micro-batches is 1; 1f1b needs at least one for each of the 2 pipeline"),
        ({"micro_batches": 3, "schedule": "zero-bubble"}, "zero-bubble needs a multiple of parallel.pipeline 2"),
    ],
)
def test_schedules_refuse_what_they_cannot_order(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        check_schedule(Mesh.of(ParallelConfig(pipeline=2, **options), 2))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--model.layers", "1"), "2 pipeline stages need as many layers, but the model has 1"),
        (
            ("--model.layers", "2", "--parallel.schedule", "zero-bubble", "--pretrain.compile", "on"),
            "--compile on cannot be with --parallel.schedule zero-bubble",
        ),
        (
            (
                *("--model.layers", "2", "--parallel.schedule", "zero-bubble"),
                *("--pretrain.memory.recompute", "selective"),
            ),
            "memory.recompute selective cannot be with --parallel.schedule zero-bubble",
        ),
    ],
)
def test_wrong_use_is_one_line(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, options: tuple[str, ...], complaint: str
) -> None:
    out = untrained(tiny_run, tmp_path / "run")
    words = ("launch", "--nproc", "2", "pretrain", *tiny_options, "--out", str(out), "--parallel.pipeline", "2")
    ended = subprocess.run(groundup(*words, *options), capture_output=True, text=True, check=False, env=quiet())
    assert ended.returncode == 2
    assert complaint in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.skipif("GROUNDUP_SLOW" not in os.environ, reason="takes some minutes: set GROUNDUP_SLOW=1")
@pytest.mark.parametrize("schedule", ["1f1b", "zero-bubble"])
def test_all_stages_of_a_run_give_the_same_models(tiny_options: tuple[str, ...], tmp_path: Path, schedule: str) -> None:
    deep = ("--model.layers", "3", "--model.tied")
    plan = ("--parallel.pipeline", "2", "--parallel.schedule", schedule)
    for words in (("run",), ("launch", "--nproc", "2", "run", *plan)):
        out = tmp_path / words[0]
        rest = (*tiny_options, *deep, "--out", str(out))
        command = groundup(words[0], *(words[1:4] if words[0] == "launch" else ()), *rest, *words[4:])
        ended = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet())
        assert ended.returncode == 0, ended.stderr
    for stage in STAGES:
        alone, together = weights(tmp_path / "run", stage), weights(tmp_path / "launch", stage)
        assert alone.keys() == together.keys()
        one, other = (
            [json.loads(line).get("loss", 0.0) for line in (tmp_path / run / stage / "metrics.jsonl").open()]
            for run in ("run", "launch")
        )
        assert other == pytest.approx(one, rel=1e-3, abs=1e-5)
        if stage in ("dpo", "grpo"):
            continue  # of two or three steps: the first one of Adam makes 1e-8 of a gradient into the whole rate
        for name, tensor in alone.items():
            torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-4)
