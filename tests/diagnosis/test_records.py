"""Reading what a run left, whatever state it is in."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from groundup.core.errors import UsageError
from groundup.diagnosis import Finding, diagnose
from groundup.diagnosis.records import Stage, open_stages

Wrong = Callable[[Path], list[Finding]]


@pytest.fixture
def run(healthy: Path, tmp_path: Path) -> Path:
    """A copy of a healthy run that may be damaged."""
    return Path(shutil.copytree(healthy, tmp_path / "run"))


@pytest.mark.parametrize("place", ["", "pretrain", "pretrain/checkpoints/step-000064"])
def test_a_run_a_stage_and_a_checkpoint_mean_the_same(place: str, healthy: Path) -> None:
    (stage,) = open_stages(healthy / place)
    assert (stage.name, stage.run, stage.last_step) == ("pretrain", healthy.resolve(), 64)
    assert stage.checkpoint == healthy.resolve() / "pretrain/checkpoints/step-000064"
    assert stage.setting("optimizer", "rate", default=0) == 0.01


def test_what_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no records of a run"):
        diagnose(tmp_path)
    (tmp_path / "recipe.toml").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match="has not trained anything yet"):
        diagnose(tmp_path)


def test_lines_that_a_kill_cut_are_left_out(run: Path) -> None:
    log = run / "pretrain" / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-20] + b"\n\xff\xfe{\n[1]\nnull\n")
    (stage,) = open_stages(run)
    assert stage.last_step == 63
    assert len(stage.series("loss")[0]) == 63


def test_the_last_word_on_a_step_counts(tmp_path: Path) -> None:
    lines = [{"step": 1, "loss": 5.0}, {"step": 2, "loss": float("nan")}, {"step": 1, "loss": 4.0}]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    steps, loss = Stage(tmp_path).series("loss")
    assert (steps.tolist(), loss.tolist()) == ([1], [4.0])


def test_a_run_without_checkpoint_corpus_tokens_and_new_records_is_judged_by_what_is_left(
    run: Path, wrong: Wrong
) -> None:
    folder = run / "pretrain"
    for name in ("checkpoints", "tokens"):
        shutil.rmtree(folder / name)
    shutil.rmtree(run / "corpus")
    (folder / "events.jsonl").unlink(missing_ok=True)
    kept = ("step", "loss", "learning_rate", "gradient_norm", "tokens", "seconds", "validation_bits_per_byte")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    lines = [json.dumps({key: row[key] for key in kept if key in row}) for row in rows]
    (folder / "metrics.jsonl").write_text("\n".join(lines), encoding="utf-8")
    assert wrong(run) == []
    assert wrong(folder) == []


def test_tokens_of_an_earlier_version_are_read(run: Path, wrong: Wrong) -> None:
    for split in ("train", "validation"):
        folder = run / "pretrain" / "tokens" / split
        np.save(folder.with_suffix(".npy"), np.load(folder / "00000.tokens.npy"))
        shutil.rmtree(folder)
    (stage,) = open_stages(run)
    tokens = stage.tokens("train")
    assert tokens is not None and len(tokens) > 1000
    assert wrong(run) == []


@pytest.mark.parametrize(
    "name",
    ["checkpoints/step-000064/model.safetensors", "checkpoints/step-000064/state.json", "tokens/train/index.json"],
)
def test_a_damaged_file_is_a_finding_and_not_the_end(name: str, run: Path) -> None:
    (run / "pretrain" / name).write_bytes(b"damaged")
    findings = diagnose(run)
    assert findings[0].severity == "failure"
    assert "reference" not in {finding.name for finding in findings if finding.severity == "failure"}
    assert len(findings) < 12
