"""The command line with two processes: the same models as with one, whatever happens to them."""

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import torch
from safetensors.torch import load_file

from groundup.training import find_checkpoint

Start = Callable[..., subprocess.Popen[str]]
Finish = Callable[..., object]
slow = pytest.mark.skipif("GROUNDUP_SLOW" not in os.environ, reason="takes some minutes: set GROUNDUP_SLOW=1")
STAGES = ("pretrain", "sft", "dpo", "grpo")


def weights(run: Path, stage: str) -> dict[str, torch.Tensor]:
    checkpoint = find_checkpoint(run / stage / "checkpoints")
    assert checkpoint is not None
    return load_file(checkpoint.folder / "model.safetensors")


def untrained(tiny_run: Path, out: Path) -> Path:
    """A copy of the tiny run whose models are still to be trained."""
    later = shutil.ignore_patterns(*STAGES, "evaluate", "report", "superseded")
    return Path(shutil.copytree(tiny_run, out, ignore=later))


@pytest.fixture(scope="module")
def trained_by_two(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """All stages, by two processes that share one copy of the weights, and what they said."""
    out = untrained(tiny_run, tmp_path_factory.mktemp("two") / "run")
    command = ("launch", "--nproc", "2", "run", *tiny_options, "--out", str(out), "--parallel.shard", "2")
    ended = subprocess.run(groundup(*command), capture_output=True, text=True, check=False, env=quiet())
    assert ended.returncode == 0, ended.stderr
    return out, ended.stderr


def groundup(*words: str) -> list[str]:
    import sys

    return [sys.executable, "-m", "groundup.cli", *words]


def quiet() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "GROUNDUP_PROGRESS": "quiet"}


@pytest.mark.parametrize("stage", STAGES)
def test_two_processes_train_what_one_does(tiny_run: Path, trained_by_two: tuple[Path, str], stage: str) -> None:
    alone, together = weights(tiny_run, stage), weights(trained_by_two[0], stage)
    assert alone.keys() == together.keys()
    for name, tensor in alone.items():
        torch.testing.assert_close(together[name], tensor, rtol=1e-3, atol=1e-4)


def test_one_of_them_speaks(trained_by_two: tuple[Path, str]) -> None:
    out, said = trained_by_two
    for stage in STAGES:
        assert said.count(f"▶ {stage}\n") == 1
        assert said.count(f"{stage}: float32 on cpu") == 1
    steps = [line for line in (out / "pretrain" / "metrics.jsonl").read_text().splitlines() if '"loss"' in line]
    assert len(steps) == 6
    assert (out / "report" / "report.pdf").is_file()


def logged(run: Path) -> int:
    """The last step that the log of a training has."""
    try:
        lines = (run / "pretrain" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        return int(json.loads(lines[-1])["step"])
    except (OSError, LookupError, ValueError):  # not yet there, or just being written
        return 0


@pytest.mark.long
@pytest.mark.parametrize("kills", [1, pytest.param(3, marks=slow)])
def test_four_of_which_some_are_killed_train_what_undisturbed_ones_do(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, start: Start, kills: int
) -> None:
    undisturbed, out = (untrained(tiny_run, tmp_path / name) for name in ("undisturbed", "run"))
    command = ("launch", "--nproc", "4", "pretrain", *tiny_options, "--parallel.shard", "2")
    _, errors = (alone := start(*command, "--out", undisturbed, env=quiet())).communicate()
    assert alone.returncode == 0, errors
    launched = start(*command, "--out", out, env=quiet())
    rng, killed = random.Random(11), 0
    for step in sorted(rng.sample(range(1, 6), kills)):
        while launched.poll() is None and logged(out) < step:
            time.sleep(0.01)
        with suppress(psutil.NoSuchProcess, IndexError):
            rng.choice(psutil.Process(launched.pid).children()).kill()
            killed += 1
    _, errors = launched.communicate()
    assert launched.returncode == 0, errors
    assert killed and "was killed (SIGKILL; was the memory full?) in pretrain step" in errors
    expected = weights(undisturbed, "pretrain")
    for name, tensor in weights(out, "pretrain").items():
        assert torch.equal(tensor, expected[name])


def test_a_plan_may_change_where_a_training_was_interrupted(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, start: Start
) -> None:
    out = untrained(tiny_run, tmp_path / "run")
    options = (*tiny_options, "--out", out)
    launched = start("launch", "--nproc", "2", "pretrain", *options, "--parallel.shard", "2", env=quiet())
    while not (out / "pretrain" / "checkpoints" / "step-000002").is_dir():
        assert launched.poll() is None
        time.sleep(0.02)
    launched.send_signal(signal.SIGTERM)
    _, errors = launched.communicate()
    assert "Traceback" not in errors
    if launched.returncode:  # it may have been done already
        assert launched.returncode == 128 + signal.SIGTERM
        assert "pretrain: saved at step" in errors
    _, told = (alone := start("pretrain", *options, env=quiet())).communicate()
    assert alone.returncode == 0, told
    if launched.returncode:
        assert told.count("(processes before: 2; a step has the same rows)") == 1
    for name, tensor in weights(tiny_run, "pretrain").items():
        torch.testing.assert_close(weights(out, "pretrain")[name], tensor, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("launch",), "launch needs a command, such as `groundup launch --nproc 2 pretrain quickstart`"),
        (("launch", "--nproc", "-1", "run"), "--nproc is -1; it must be at least 0"),
        (("launch", "chat", "x"), "launch cannot start `chat`; it starts run, pretrain, sft, dpo, grpo"),
        (("launch", "--nodes", "2", "run"), "--nodes above 1 needs --rendezvous HOST:PORT and --job NAME"),
        (
            ("launch", "--nproc", "2", "pretrain", "smoke", "--parallel.shard", "3"),
            "parallel.data auto x parallel.shard 3 is not 2, the number of processes",
        ),
        (("pretrain", "smoke", "--parallel.data", "2"), "parallel.data 2 x parallel.shard 1 is not 1"),
        (("run", "smoke", "--parallel.shard", "0"), "parallel.shard is 0; it must be at least 1"),
    ],
    ids=["no command", "no processes", "chat", "no meeting", "three of two", "two of one", "none"],
)
def test_wrong_use_is_one_line(words: tuple[str, ...], complaint: str, tmp_path: Path, finish: Finish) -> None:
    place = ("--out", str(tmp_path / "run")) if "smoke" in words else ()
    outcome = finish(*words, *place, env=quiet())
    assert outcome.code == 2  # type: ignore[attr-defined]
    assert complaint in outcome.complaint  # type: ignore[attr-defined]


def by_hand(rank: int, port: int, **more: str) -> dict[str, str]:
    variables = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}
    return {**quiet(), **variables, "MASTER_PORT": str(port), **more}


def test_processes_with_other_options_are_refused(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, start: Start
) -> None:
    out = untrained(tiny_run, tmp_path / "run")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    differing = ((), ("--pretrain.steps", "7"))
    started = [
        start("pretrain", *tiny_options, *more, "--out", out, env=by_hand(rank, port))
        for rank, more in enumerate(differing)
    ]
    first, second = (process.communicate()[1] for process in started)
    assert [process.returncode for process in started] == [2, 2]
    assert "process 1 is not like process 0: of pretrain, pretrain.steps changed from 6 to 7" in first
    assert "Traceback" not in first + second


def test_incomplete_variables_and_a_port_in_use(tmp_path: Path, finish: Finish) -> None:
    words = ("pretrain", "smoke", "--out", tmp_path / "run")
    alone = {name: value for name, value in by_hand(0, 1).items() if not name.startswith("MASTER")}
    outcome = finish(*words, env=alone)
    assert "MASTER_ADDR, MASTER_PORT" in outcome.complaint  # type: ignore[attr-defined]
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = finish(*words, env=by_hand(0, taken.getsockname()[1], GROUNDUP_TIMEOUT="5"))
    assert "the processes did not meet at 127.0.0.1:" in outcome.complaint  # type: ignore[attr-defined]
