"""Copies of the weights that die and come back: the training is that of one process that nothing happened to."""

import importlib.util
import json
import os
import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file

from groundup.core.device import choose_numerics
from groundup.core.errors import UsageError
from groundup.core.world import World
from groundup.dataloader import IGNORED, Batch
from groundup.distributed.replicas import _KEY, _Transfer
from groundup.training import TrainingConfig
from groundup.training.checkpoint import Given
from groundup.training.config import CheckpointConfig, MemoryConfig
from groundup.training.prepare import _check
from groundup.training.replicas import own_rows
from tests.distributed.replicated import LONGER, STEPS

needs_torchft = pytest.mark.skipif(
    importlib.util.find_spec("torchft") is None, reason="needs the extra torchft: pip install '.[torchft]'"
)


def batch(targets: list[int], paired: bool) -> Batch:
    """A row, or a pair of rows, for each number of targets."""
    rows = [each for _ in range(1 + paired) for each in targets]
    ids = torch.arange(8 * len(rows)).view(len(rows), 8)
    shown = ids.clone()
    for row, count in enumerate(rows):
        shown[row, count:] = IGNORED
    weight = len(targets) if paired else sum(targets)
    return Batch({"inputs": ids, "targets": shown}, weight, {"number": 1.0}, paired)


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 8), min_size=1, max_size=6), st.booleans()), min_size=1, max_size=3),
    st.integers(1, 5),
)
def test_every_row_is_somebodys(drawn: list[tuple[list[int], bool]], count: int) -> None:
    micro = [batch(targets, paired and min(targets) > 0) for targets, paired in drawn]
    dealt = [part for place in range(count) for part in own_rows(micro, place, count)]
    assert sum(part.weight for part in dealt) == sum(each.weight for each in micro)
    assert all(part.weight for part in dealt)
    seen = sorted(row for part in dealt for row in part.tensors["targets"].tolist())
    wanted = (row for each in micro for row in each.tensors["targets"].tolist())
    assert [row for row in seen if row[0] != IGNORED] == sorted(row for row in wanted if row[0] != IGNORED)


class Wire:
    """What two processes send each other, in order."""

    def __init__(self) -> None:
        self.sent: queue.Queue[tuple[torch.Tensor, int]] = queue.Queue()

    def send(self, tensors: list[torch.Tensor], to: int, tag: int) -> "Wire":
        self.sent.put((tensors[0].clone(), tag))
        return self

    def recv(self, tensors: list[torch.Tensor], source: int, tag: int) -> "Wire":
        sent, theirs = self.sent.get_nowait()
        assert (theirs, sent.dtype, sent.shape) == (tag, tensors[0].dtype, tensors[0].shape)
        tensors[0].copy_(sent)
        return self

    def wait(self, timeout: timedelta) -> None:
        """It is there."""


def test_a_state_arrives_as_it_was() -> None:
    tensors = {
        "model": {"weight": torch.randn(3, 5).t(), "half": torch.randn(4).bfloat16(), "none": torch.empty(0, 3)},
        "optimizer": {"weight.step": torch.tensor(7.0), "weight.count": torch.tensor([2**40])},
    }
    told = {"loop": {"step": 7, "name": "ä"}, "kept": [{"step": 6, "loss": 0.1}]}
    wire, patience = Wire(), timedelta(seconds=1)
    _Transfer(wire).send_checkpoint([1], 7, {"user": {_KEY: (tensors, told)}, "torchft": {"step": 7}}, patience)
    received = _Transfer(wire).recv_checkpoint(0, "", 7, patience)
    assert received["torchft"] == {"step": 7}
    groups, heard = received["user"][_KEY]
    assert heard == told
    for group, named in tensors.items():
        stored = Given(Path(), {}, groups).stored(group)
        assert stored.shapes == {name: tuple(tensor.shape) for name, tensor in named.items()}
        for name, tensor in named.items():
            assert stored.dtypes[name] is tensor.dtype
            assert torch.equal(stored.read(name), tensor)
    assert not Given(Path(), {}, groups).stored("average").shapes


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (
            ("--nodes", 2, "--rendezvous", "a:1", "--job", "x", "pretrain"),
            "is for one machine and does not go with --n",
        ),
        (("--ray", "auto", "pretrain"), "is for one machine and does not go with --ray"),
        (("--logs", "logs", "pretrain"), "is for one machine and does not go with --logs"),
        (("run", "smoke"), "--recovery torchft is for pretrain, sft, dpo, not `run`"),
    ],
    ids=["machines", "ray", "logs", "run"],
)
def test_wrong_use_is_one_line(words: tuple[object, ...], complaint: str, command: Callable[..., Any]) -> None:
    outcome = command("launch", "--nproc", 2, "--recovery", "torchft", *words)
    assert outcome.code == 2
    assert complaint in outcome.complaint


def test_without_torchft_it_says_so(command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("groundup.distributed.supervisor.find_spec", lambda name: None)
    outcome = command("launch", "--nproc", 2, "--recovery", "torchft", "pretrain", "smoke")
    assert outcome.code == 2
    assert "--recovery torchft needs torchft; pip install 'groundup[torchft]'" in outcome.complaint


def test_other_ways_to_share_the_work_are_refused(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GROUNDUP_REPLICA", "0")
    outcome = command("pretrain", "smoke", "--parallel.shard", 2, "--out", tmp_path / "run")
    assert outcome.code == 2
    assert "is for processes with all weights each; leave the keys of parallel out" in outcome.complaint


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"memory": MemoryConfig(fit=True)}, "memory.fit"),
        ({"checkpoints": CheckpointConfig(sharded="on")}, "checkpoints.sharded on"),
    ],
)
def test_what_replicas_cannot_do_is_refused(options: dict[str, Any], what: str) -> None:
    device = torch.device("cpu")
    with pytest.raises(UsageError, match=f"{what} does not go with --recovery torchft"):
        _check(TrainingConfig(**options), device, choose_numerics("float32", device), World(1, replica=True))


def begin(words: str, folder: Path, *options: object) -> subprocess.Popen[str]:
    """``tests.distributed.replicated``, by replicas or alone."""
    folder.mkdir(parents=True, exist_ok=True)
    launch = (*map(str, options), "--recovery", "torchft", "--timeout", "120", "pretrain") if options else ()
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.replicated", *launch, words, str(folder)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ".", "GROUNDUP_PROGRESS": "quiet"},
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(started: subprocess.Popen[str], code: int = 0) -> list[str]:
    """What the launcher told."""
    _, errors = started.communicate()
    assert started.returncode == code, errors
    assert "Traceback" not in errors
    return [line.removeprefix("groundup: ") for line in errors.splitlines() if line.startswith("groundup: ")]


def lines(folder: Path, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / name).read_text(encoding="utf-8").splitlines()]


def assert_same(folder: Path, undisturbed: Path, steps: int = STEPS) -> None:
    """Weights, moments, mean, position and log, up to the order of additions; no step is lost, none is there twice."""
    last = f"checkpoints/step-{steps:06d}"
    for name in ("model", "optimizer", "average"):
        found, expected = (load_file(each / last / f"{name}.safetensors") for each in (folder, undisturbed))
        assert found.keys() == expected.keys()
        for key, tensor in expected.items():
            torch.testing.assert_close(found[key], tensor, rtol=1e-4, atol=1e-5)
    states = [json.loads((each / last / "state.json").read_text(encoding="utf-8")) for each in (folder, undisturbed)]
    assert states[0]["source"] == states[1]["source"]
    assert [line["step"] for line in lines(folder)] == list(range(steps + 1))
    for line, expected_line in zip(lines(folder), lines(undisturbed), strict=True):
        for key in ("loss", "gradient_norm", "number", "norm", "tokens"):
            assert (key in line) == (key in expected_line)
            assert line.get(key, 0) == pytest.approx(expected_line.get(key, 0), rel=1e-4)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    finished(begin("alone", folder))
    return folder


@needs_torchft
def test_each_of_two_is_killed_and_no_step_is_lost(undisturbed: Path, tmp_path: Path) -> None:
    told = finished(begin("8:1:killed,18:0:killed", tmp_path, "--nproc", 2))
    assert told == [
        f"replica {number} was killed (SIGKILL; was the memory full?) in toy step {step}; it is started again (restart "
        f"{restart} of 3), the others go on"
        for restart, (step, number) in enumerate([(8, 1), (18, 0)], start=1)
    ]
    assert_same(tmp_path, undisturbed)
    took = {line["step"]: line["replicas"] for line in lines(tmp_path)[1:]}
    assert (took[7], took[8], took[17], took[18]) == (2, 1, 2, 1)
    counts = [line["why"] for line in lines(tmp_path, "events.jsonl") if line["event"] == "replicas"]
    assert counts[:4] == [f"{count} take the next steps" for count in (1, 2, 1, 2)]


@needs_torchft
def test_one_dies_when_all_is_summed_and_one_does_not_hear_the_others(undisturbed: Path, tmp_path: Path) -> None:
    """Of three, of which one has no rows. Who took a step that another could not take is what that one becomes."""
    told = finished(begin("8:0:late,18:1:deaf", tmp_path, "--nproc", 3))
    assert len(told) == 1 and told[0].startswith("replica 0 was killed")
    assert (tmp_path / "18-deaf").exists()
    assert_same(tmp_path, undisturbed)


@needs_torchft
def test_asked_to_end_they_save_and_one_process_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    assert finished(begin("8:1:asked", tmp_path, "--nproc", 2), 128 + signal.SIGTERM) == []
    assert 5 < len(lines(tmp_path)) < STEPS
    finished(begin("alone", tmp_path))
    assert_same(tmp_path, undisturbed)


@needs_torchft
def test_without_a_restart_left_the_others_go_on_alone(undisturbed: Path, tmp_path: Path) -> None:
    told = finished(begin("18:1:killed", tmp_path, "--nproc", 2, "--restarts", 0))
    assert len(told) == 1 and told[0].endswith("in toy step 18; no restart is left, the others go on without it")
    assert_same(tmp_path, undisturbed)


@needs_torchft
def test_after_a_spike_all_go_back_to_the_same_checkpoint(tmp_path: Path) -> None:
    alone, folder = tmp_path / "alone", tmp_path / "replicas"
    finished(begin("30:0:spike", alone))
    assert finished(begin("30:0:spike", folder, "--nproc", 2)) == []
    for each in (alone, folder):
        [event] = [line for line in lines(each, "events.jsonl") if line["event"] == "rewound"]
        assert event["step"] == 30 and "back to step 25" in event["why"]
    assert_same(folder, alone, LONGER)
    assert {line["replicas"] for line in lines(folder)[3:]} == {2}
