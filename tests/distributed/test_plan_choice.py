"""How processes come to the plan that they go by: what cannot be is refused at the start, ``auto`` is chosen."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Finish = Callable[..., object]
QUIET = {**os.environ, "OMP_NUM_THREADS": "1", "GROUNDUP_PROGRESS": "quiet"}


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("tensor=2", "--model.kv-heads", "1"), "1 key/value heads cannot be divided over a tensor dimension of 2"),
        (("pipeline=2", "--model.layers", "1"), "2 pipeline stages need as many layers, but the model has 1"),
    ],
    ids=["heads", "layers"],
)
def test_a_plan_that_cannot_be_is_refused_before_any_work(
    options: tuple[str, ...], complaint: str, tmp_path: Path, finish: Finish
) -> None:
    words = ("launch", "--nproc", "2", "run", "smoke", "--out", str(tmp_path / "run"), "--parallel", *options)
    outcome = finish(*words, env=QUIET)
    assert outcome.code == 2  # type: ignore[attr-defined]
    assert complaint in outcome.complaint  # type: ignore[attr-defined]
    assert not (tmp_path / "run" / "corpus").exists()


def test_the_chosen_plan_is_explained_and_recorded(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path
) -> None:
    later = shutil.ignore_patterns("pretrain", "sft", "dpo", "grpo", "evaluate", "report", "superseded")
    out = Path(shutil.copytree(tiny_run, tmp_path / "run", ignore=later))
    words = ("launch", "--nproc", "2", "pretrain", *tiny_options, "--out", str(out), "--parallel", "auto")
    ended = subprocess.run(
        [sys.executable, "-m", "groundup.cli", *words], capture_output=True, text=True, check=False, env=QUIET
    )
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr.count("parallel: ") == 1
    assert "is the fastest: weights and optimizer state are" in " ".join(ended.stderr.split())
    started = json.loads((out / "pretrain" / "events.jsonl").read_text().splitlines()[0])
    assert "; 2 processes: " in started["why"]
    manifests = [json.loads((run / "pretrain" / "manifest.json").read_text()) for run in (tiny_run, out)]
    assert manifests[0]["identity"] == manifests[1]["identity"]
