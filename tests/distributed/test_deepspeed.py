"""What DeepSpeed divides computes what one process does, and its checkpoints are everybody's."""

import importlib.util
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.core.device import choose_numerics
from groundup.core.errors import UsageError
from groundup.optim import OptimizerConfig
from groundup.training import TrainingConfig
from groundup.training.config import CheckpointConfig
from groundup.training.deepspeed import check
from tests.distributed.matrix import cells_of
from tests.distributed.test_launch import STAGES, groundup, quiet, untrained, weights

ADAMW = {"optimizer": OptimizerConfig(matrices="adamw")}

needs_deepspeed = pytest.mark.skipif(
    importlib.util.find_spec("deepspeed") is None,
    reason="needs the extra deepspeed: pip install --no-build-isolation '.[deepspeed]'",
)


@needs_deepspeed
@pytest.mark.parametrize("processes", [2, 4])
def test_every_stage_computes_what_one_process_does(processes: int, together: Callable[..., Any]) -> None:
    found = together(processes, "tests.distributed.with_deepspeed")
    assert list(found) == [cell.name for cell in cells_of("deepspeed", processes)]
    for name, differences in found.items():
        rough = "bfloat16" in name  # which the second step of AdamW shows: it divides small gradients by themselves
        assert differences["measures"] < (3e-2 if rough else 2e-5), name
        assert differences["tensors"] < (0.5 if rough else 1e-4), name
        assert not differences["names"], name


@needs_deepspeed
def test_a_run_through_all_stages_and_kinds_of_processes(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, start: Callable[..., subprocess.Popen[str]]
) -> None:
    """Stopped half-way, it goes on in one process, and the other way round: all end in the same weights."""
    adamw = [word for stage in STAGES for word in (f"--{stage}.optimizer.matrices", "adamw")]
    options = (*tiny_options, *adamw)
    divided = ("launch", "--nproc", "2", "run", *options, "--parallel", "engine=deepspeed,shard=2")
    runs = {name: untrained(tiny_run, tmp_path / name) for name in ("alone", "divided", "there", "back")}
    commands = {"alone": ("run", *options), "divided": divided}
    for name, command in commands.items():
        finished(start(*command, "--out", runs[name], env=quiet()))
    for name, (first, second) in {"there": ("divided", "alone"), "back": ("alone", "divided")}.items():
        begun = start(*commands[first], "--out", runs[name], env=quiet())
        while not (runs[name] / "pretrain" / "checkpoints" / "step-000002").is_dir():
            assert begun.poll() is None
            time.sleep(0.02)
        begun.send_signal(signal.SIGTERM)
        begun.communicate()
        finished(start(*commands[second], "--out", runs[name], env=quiet()))
    for name in ("divided", "there", "back"):
        for stage in STAGES:
            expected = weights(runs["alone"], stage)
            for tensor, found in weights(runs[name], stage).items():
                torch.testing.assert_close(found, expected[tensor], rtol=1e-2, atol=1e-3)


def finished(process: "subprocess.Popen[str]") -> None:
    _, errors = process.communicate()
    assert process.returncode == 0, errors


@pytest.mark.skipif(importlib.util.find_spec("deepspeed") is not None, reason="the extra deepspeed is there")
def test_without_deepspeed_one_line_says_so(tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path) -> None:
    out = untrained(tiny_run, tmp_path / "run")
    options = ("--pretrain.optimizer.matrices", "adamw", "--parallel", "engine=deepspeed,shard=2")
    command = groundup("launch", "--nproc", "2", "pretrain", *tiny_options, *options, "--out", str(out))
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=quiet())
    assert ended.returncode == 2
    assert ended.stderr.count("needs DeepSpeed; pip install --no-build-isolation") == 1
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "optimizer.matrices muon; give adamw"),
        ({**ADAMW, "compile": "on"}, "compile on; give off"),
        ({**ADAMW, "average": 0.9}, "average; give 0"),
        ({**ADAMW, "precision": "bfloat16-weights"}, "precision bfloat16-weights; give bfloat16"),
        ({**ADAMW, "checkpoints": CheckpointConfig(sharded="on")}, "checkpoints.sharded on; give auto"),
    ],
)
def test_what_it_does_not_do_is_refused(options: dict[str, Any], complaint: str) -> None:
    config = TrainingConfig(device="cpu", **options)
    numerics = choose_numerics(config.precision, torch.device("cpu"))
    with pytest.raises(UsageError, match=complaint):
        check(config, numerics)
