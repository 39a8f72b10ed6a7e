"""Characters of Shakespeare to a validation loss, from the start of the process: our recipe and the usual plain loop.

Enters: the text (tiny Shakespeare; the first 90 % teach, the last 10 % measure). Leaves: for each seed the seconds
until the validation that shows the loss was written, and the loss of the whole validation text, measured afterwards for
both sides on the same characters.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import psutil
import torch

from benchmarks import OURS
from groundup.core.errors import GroundupError, UsageError
from groundup.core.files import read_jsonl, sha256_of
from groundup.core.progress import say
from groundup.core.run import environment
from groundup.dataloader import IGNORED, Batch
from groundup.inference.opening import open_model
from groundup.objectives import next_token

PEER = "plain loop"
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class TimeToLoss:
    """The part time-to-loss."""

    text: Path | None = None
    """Tiny Shakespeare: input.txt of https://github.com/karpathy/char-rnn, 1,115,394 characters."""
    recipe: str = "shakespeare-char"
    """Of ours."""
    seeds: int = 5
    """Our runs."""
    peer_seeds: int = 2
    """The peer's runs, among the first of ours; one takes minutes; 0: none."""
    target: float = 1.88
    """Nats per character that our run must reach on the whole validation text."""


def time_to_loss(settings: TimeToLoss) -> dict[str, Any]:
    """Both sides in turn, a fresh process each time.

    Raises:
        UsageError: there is no text.
        GroundupError: a process failed.
    """
    if settings.text is None or not settings.text.is_file():
        raise UsageError("time-to-loss needs --time.text FILE: tiny Shakespeare, as a text file")
    text = settings.text.absolute()
    load = psutil.getloadavg()
    runs: dict[str, list[dict[str, Any]]] = {OURS: [], PEER: []}
    with tempfile.TemporaryDirectory() as folder:
        # Bytecode is written once, as on anyone's machine, and then only read.
        surroundings = {**os.environ, "PYTHONPYCACHEPREFIX": f"{folder}/bytecode", "PYTHONDONTWRITEBYTECODE": ""}
        options = ["--corpus.path", str(text)]
        _ours(settings.recipe, Path(folder) / "first", 0, [*options, "--pretrain.steps", "1"], text, surroundings)
        if settings.peer_seeds:
            _call(["benchmarks._plain_loop", str(text), "0", "0"], surroundings)
        for seed in range(1, settings.seeds + 1):
            if seed <= settings.peer_seeds:
                runs[PEER].append(_theirs(text, seed, surroundings))
                _tell(PEER, runs)
            folder_of_run = Path(folder) / f"seed-{seed}"
            runs[OURS].append(_ours(settings.recipe, folder_of_run, seed, options, text, surroundings))
            _tell(OURS, runs)
    seconds = {side: sorted(run["seconds"] for run in each) for side, each in runs.items()}
    ratio = None
    if runs[PEER]:
        ratio = {
            "median": median(seconds[PEER]) / median(seconds[OURS]),
            "min": seconds[PEER][0] / seconds[OURS][-1],
            "max": seconds[PEER][-1] / seconds[OURS][0],
        }
        say(f"sooner by {ratio['median']:.1f} × ({ratio['min']:.1f}–{ratio['max']:.1f})")
    reached = sum(run["loss"] <= settings.target for run in runs[OURS])
    say(f"{reached} of {len(runs[OURS])} runs reached {settings.target}")
    facts = {"load_average": load, "environment": environment(), "text_sha256": sha256_of(text)}
    return {**facts, "ratio": ratio, "reached": reached, "runs": runs}


def _tell(side: str, runs: dict[str, list[dict[str, Any]]]) -> None:
    last = runs[side][-1]
    say(f"{side}, seed {last['seed']}: {last['seconds']:.1f} s to {last['loss']:.4f}")


def _theirs(text: Path, seed: int, surroundings: dict[str, str]) -> dict[str, Any]:
    """All of the peer's 2,000 updates: it does not stop before, and its loss falls to the end."""
    started = time.time()
    record = json.loads(_call(["benchmarks._plain_loop", str(text), str(seed)], surroundings).splitlines()[-1])
    estimates = [{**each, "time": each["time"] - started} for each in record["estimates"]]
    return {
        "seed": seed,
        "seconds": record["finished"] - started,
        "start": record["began"] - started,
        "loss": record["whole_validation"],
        "estimates": estimates,
    }


def _ours(
    recipe: str, run: Path, seed: int, options: list[str], text: Path, surroundings: dict[str, str]
) -> dict[str, Any]:
    """The command that a user would give, after the stages that make the ids of the text, which the peer has too."""
    for stage in ("corpus", "tokenizer"):
        _call(["groundup.cli", stage, recipe, "--out", str(run), *options, "--seed", str(seed)], surroundings)
    started = time.time()
    _call(["groundup.cli", "pretrain", recipe, "--out", str(run), *options, "--seed", str(seed)], surroundings)
    ended = time.time()
    log = run / "pretrain" / "metrics.jsonl"
    rows = list(read_jsonl(log))
    shown = [row["validation_bits_per_byte"] for row in rows if "validation_bits_per_byte" in row][-1]
    return {
        "seed": seed,
        "seconds": log.stat().st_mtime - started,  # the last line is that of the last validation
        "process_seconds": ended - started,
        "training_seconds": rows[-1]["seconds"],
        "loss": validation_loss(run, text),
        "loss_overlapping": validation_loss(run, text, overlap=True),
        "loss_shown": shown * math.log(2),
        "steps": rows[-1]["step"],
    }


@torch.no_grad()
def validation_loss(run: Path, text: Path, overlap: bool = False) -> float:
    """Nats per character of the last 10 % of ``text``, in windows of the model's context that follow one another.

    Args:
        overlap: each window begins in the middle of the one before, and only what is new in it counts: so characters
            are predicted from half a context or more, three quarters on average instead of a half.
    """
    opened = open_model(run)
    characters = text.read_text(encoding="utf-8")
    ids = opened.tokenizer.encode(characters[int(0.9 * len(characters)) - 1 :])
    assert len(ids) == len(characters) - int(0.9 * len(characters)) + 1, "the recipe must have a token a character"
    stream = torch.from_numpy(np.asarray(ids, dtype=np.int64))
    context, terms = opened.model.config.context, len(stream) - 1
    inputs, targets = stream[:-1], stream[1:].clone()
    total, counted = 0.0, 0
    for start in range(0, terms, context // 2 if overlap else context):
        part = slice(start, start + context)
        batch = Batch({"inputs": inputs[None, part], "targets": targets[None, part]}, 1)
        total += float(next_token(opened.model, batch))
        counted += int((targets[part] != IGNORED).sum())
        targets[part] = IGNORED
    assert counted == terms, "every character counts once"
    return total / terms


def _call(words: list[str], surroundings: dict[str, str]) -> str:
    """Standard output of a module.

    Raises:
        GroundupError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", *words], cwd=ROOT, env=surroundings, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GroundupError(f"`{' '.join(words)}` failed: {' '.join(done.stderr.split())[-300:]}")
    return done.stdout
