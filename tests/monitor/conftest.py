"""A run directory as a training leaves it while it is at work."""

import json
import os
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.monitor.records import Run

STAGES = ("corpus", "pretrain", "sft")


def manifest(**metrics: float) -> dict[str, Any]:
    return {
        **{"identity": "a", "inputs": {}, "config": {}, "code_version": "b", "seed": 1, "seconds": 75.0},
        **{"peak_memory_bytes": 123_000_000, "metrics": metrics, "artifacts": {}, "environment": {"cores": 2}},
    }


def line(step: int, **more: float) -> str:
    return json.dumps({"step": step, "loss": 6.0 / step + 1, "learning_rate": 0.01, "seconds": step / 2, **more}) + "\n"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The corpus is done, pretraining is at step 40 of 100, SFT has not begun."""
    folder = tmp_path / "run"
    (folder / "corpus").mkdir(parents=True)
    (folder / "corpus" / "manifest.json").write_text(json.dumps(manifest(documents=8)), encoding="utf-8")
    pretrain = folder / "pretrain"
    pretrain.mkdir()
    (pretrain / "started.json").write_text("{}", encoding="utf-8")
    lines = ['{"step": 0, "validation_bits_per_byte": 4.5}\n']
    for step in range(1, 41):
        due = {"gradient_norm/attention": 0.5, "activation_rms/1": 0.25} if step % 20 == 0 else {}
        lines.append(line(step, gradient_norm=1.5, tokens_per_second=1000.0 * step, **due))
    (pretrain / "metrics.jsonl").write_text("".join(lines), encoding="utf-8")
    events = [
        {"step": 0, "event": "started", "why": "float32"},
        {"step": 30, "event": "rewound", "why": "the loss spiked </script> to 9"},
    ]
    (pretrain / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    sample = {"step": 20, "prompt": "To be", "text": " or not <b>to</b> be\u2028"}
    (pretrain / "samples.jsonl").write_text(json.dumps(sample) + "\n", encoding="utf-8")
    recipe = 'description = "A & B"\n[pretrain]\nsteps = 100\n[pretrain.watch]\nprice = 36.0\n'
    (folder / "recipe.toml").write_text(recipe, encoding="utf-8")
    return folder


@pytest.fixture
def run(out: Path) -> Callable[[], Run]:
    """``run()``: the run, freshly read."""
    return lambda: Run(out, STAGES).update()


@pytest.fixture
def at_work(out: Path) -> Path:
    """The same, and this process says that it works there."""
    owner = {"pid": os.getpid(), "host": platform.node(), "command": "test", "since": "now"}
    (out / ".owner.json").write_text(json.dumps(owner), encoding="utf-8")
    return out
