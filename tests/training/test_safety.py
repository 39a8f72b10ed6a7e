"""What a training survives: spikes, memory that runs out, damaged checkpoints, signals."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.errors import ArtifactError, TrainingError, UsageError
from groundup.dataloader import Batch
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.training import Hook, TrainingResult, find_checkpoint, load_model
from groundup.training.config import CheckpointConfig, MemoryConfig, SafetyConfig
from groundup.training.guard import is_spike
from groundup.training.saving import kept
from tests.training.test_loop import log_of, outcome

Fit = Callable[..., TrainingResult]
CAREFUL: dict[str, Any] = {"steps": 60, "save_every": 10, "safety": SafetyConfig(spike=8.0, rewinds=2)}


def events_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]


def spiking(bad: set[int]) -> Callable[[Transformer, Batch], Tensor]:
    """The objective, ten times too large for the batches in ``bad``."""
    return lambda model, batch: next_token(model, batch) * (10 if batch.metrics["number"] in bad else 1)


class Killed(Exception):
    """Stands for a kill: nothing is saved when it is raised."""


def killing(objective: Any, at: int) -> Callable[[Transformer, Batch], Tensor]:
    def run(model: Transformer, batch: Batch) -> Tensor:
        if batch.metrics["number"] == at:
            raise Killed
        loss: Tensor = objective(model, batch)
        return loss

    return run


def test_a_spike_goes_back_and_leaves_its_batches_out(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    result = fit(tmp_path, numbered(), objective=spiking({35}), **CAREFUL)
    assert (result.steps, result.skipped) == (60, 0)
    [rewound] = [event for event in events_of(tmp_path) if event["event"] == "rewound"]
    assert rewound["step"] == 36 and "back to step 30" in rewound["why"]
    log = log_of(tmp_path)
    assert [row["step"] for row in log] == list(range(1, 61))
    assert [row["number"] for row in log] == [*range(30), *range(36, 66)]  # 30 … 35 are left out


def test_a_spike_and_a_kill_at_any_moment_end_the_same(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    objective = spiking({35})
    fit(tmp_path / "whole", numbered(), objective=objective, **CAREFUL)
    expected = outcome(tmp_path / "whole")
    for at in (34, 35, 36, 41, 50):  # before the spike, in it, after the return, after the next checkpoint
        folder = tmp_path / f"killed-{at}"
        with pytest.raises(Killed):
            fit(folder, numbered(), objective=killing(objective, at), **CAREFUL)
        fit(folder, numbered(), objective=objective, **CAREFUL)
        assert outcome(folder) == expected, at


def test_a_spike_that_returns_goes_further_back_and_then_gives_up(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    fit(tmp_path / "twice", numbered(), objective=spiking({35, 38}), **CAREFUL)
    returns = [event["why"] for event in events_of(tmp_path / "twice") if event["event"] == "rewound"]
    assert ["back to step 30" in why or "back to step 20" in why for why in returns] == [True, True]
    assert "back to step 20" in returns[1]
    assert [row["step"] for row in log_of(tmp_path / "twice")] == list(range(1, 61))
    with pytest.raises(TrainingError, match=r"spiked .* after 2 returns .*optimizer.matrix-rate") as caught:
        fit(tmp_path / "often", numbered(), objective=spiking(set(range(35, 90))), **CAREFUL)
    assert "\n" not in str(caught.value)


def test_a_spike_before_any_checkpoint_is_only_told(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    options = {**CAREFUL, "save_every": 60}
    assert fit(tmp_path, numbered(), objective=spiking({35}), **options).steps == 60
    assert [event["event"] for event in events_of(tmp_path)] == ["started", "spike"]


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_what_a_spike_is(scale: float) -> None:
    quiet = [scale * (2 + 0.01 * (number % 5)) for number in range(40)]
    assert not is_spike(quiet[-1], quiet, 8.0)
    assert not is_spike(scale * 2.1, quiet, 8.0)
    assert is_spike(scale * 2.6, quiet, 8.0)
    assert not is_spike(scale * 2.6, quiet, 0.0)  # nobody asked
    assert not is_spike(scale * 2.6, quiet[:5], 8.0)  # too few to tell
    noisy = [scale * (1 + number % 5) for number in range(40)]
    assert not is_spike(scale * 8, noisy, 8.0)


class Small:
    """An objective for which memory suffices for only so many rows at a time."""

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self.sizes: list[int] = []

    def __call__(self, model: Transformer, batch: Batch) -> Tensor:
        rows = len(batch.tensors["inputs"])
        if rows > self.rows:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        self.sizes.append(rows)
        return next_token(model, batch)


def test_memory_that_runs_out_splits_the_batch_and_keeps_the_curve(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    fit(tmp_path / "roomy", numbered(), steps=5)
    objective = Small(1)
    fit(tmp_path / "tight", numbered(), steps=5, objective=objective, memory=MemoryConfig(fit=True))
    assert set(objective.sizes) == {1}
    for one, other in zip(log_of(tmp_path / "roomy"), log_of(tmp_path / "tight"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
    [split] = [event for event in events_of(tmp_path / "tight") if event["event"] == "split"]
    assert "2 parts" in split["why"]


def test_memory_that_never_suffices_is_told(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    for memory in (MemoryConfig(fit=True), MemoryConfig()):
        with pytest.raises(torch.OutOfMemoryError):
            fit(tmp_path, numbered(), steps=5, objective=Small(0), memory=memory)


def test_a_damaged_checkpoint_gives_way_to_the_one_before(
    tmp_path: Path, fit: Fit, numbered: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    fit(tmp_path / "whole", numbered())
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "damaged", numbered(interrupt_at=11))
    weights = tmp_path / "damaged" / "checkpoints" / "step-000010" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    fit(tmp_path / "damaged", numbered())
    assert "going on from step-000005" in capsys.readouterr().err
    assert (tmp_path / "damaged" / "checkpoints" / "damaged-step-000010").is_dir()
    assert outcome(tmp_path / "damaged")["model"] == outcome(tmp_path / "whole")["model"]


def test_a_foreign_record_of_a_return_is_refused(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "rewound.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"rewound\.json"):
        fit(tmp_path, numbered())


class Signalling:
    """Sends this process a signal when the batch ``at`` is computed."""

    def __init__(self, number: int, at: int) -> None:
        self.number, self.at = number, at

    def __call__(self, model: Transformer, batch: Batch) -> Tensor:
        loss = next_token(model, batch)
        if batch.metrics["number"] == self.at:
            os.kill(os.getpid(), self.number)
        return loss


@pytest.mark.skipif(os.name != "posix", reason="signals to oneself are POSIX's")
@pytest.mark.parametrize(
    ("number", "ending", "code"), [(signal.SIGTERM, SystemExit, 143), (signal.SIGINT, KeyboardInterrupt, None)]
)
@pytest.mark.parametrize("accumulation", [1, 2])
def test_a_signal_saves_what_is_done(
    tmp_path: Path, fit: Fit, numbered: Any, number: int, ending: Any, code: Any, accumulation: int
) -> None:
    options = {"steps": 12, "save_every": 100, "accumulation": accumulation}
    fit(tmp_path / "whole", numbered(), **options)
    handler = signal.getsignal(number)
    with pytest.raises(ending) as caught:
        fit(tmp_path / "ended", numbered(), objective=Signalling(number, 7 * accumulation), **options)
    assert code is None or caught.value.code == code
    assert signal.getsignal(number) is handler
    checkpoint = find_checkpoint(tmp_path / "ended" / "checkpoints")
    assert checkpoint is not None and checkpoint.step == 7  # though none was due
    assert [event["event"] for event in events_of(tmp_path / "ended")] == ["started", "terminated"]
    fit(tmp_path / "ended", numbered(), **options)
    assert outcome(tmp_path / "ended") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("background", [True, False])
def test_checkpoints_are_the_same_in_the_background(tmp_path: Path, fit: Fit, numbered: Any, background: bool) -> None:
    fit(tmp_path, numbered(), checkpoints=CheckpointConfig(background=background))
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000010", "step-000012"]
    model, _ = load_model(tmp_path / "checkpoints" / "step-000012")
    again = tmp_path / "again"
    reference = fit(again, numbered(), checkpoints=CheckpointConfig(background=False))
    expected, _ = load_model(reference.checkpoint)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), expected.parameters(), strict=True))


def test_a_checkpoint_that_cannot_be_written_is_told(
    tmp_path: Path, fit: Fit, numbered: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from groundup.core.errors import StorageError
    from groundup.training import checkpoint

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, "write_file", full)
        with pytest.raises(StorageError, match="no space left"):
            fit(tmp_path / "full", numbered())
    fit(tmp_path / "full", numbered())
    fit(tmp_path / "whole", numbered())
    assert outcome(tmp_path / "full") == outcome(tmp_path / "whole")


def test_which_checkpoints_are_kept() -> None:
    steps, scores = list(range(10, 110, 10)), {20: 3.0, 40: 1.0, 60: 2.0, 100: 2.5}
    assert kept(steps, CheckpointConfig(last=2), scores) == {90, 100}
    assert kept(steps, CheckpointConfig(last=1, best=2), scores) == {40, 60, 100}
    assert kept(steps, CheckpointConfig(last=1, every=50), scores) == {50, 100}


def test_the_best_checkpoint_stays(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    scores = {0: 9.0, 3: 4.0, 6: 2.0, 9: 3.0, 12: 5.0, 15: 6.0}
    hook = Hook(3, lambda step, model: {"score": scores[step]}, "score")
    rule = CheckpointConfig(last=1, best=1)
    fit(tmp_path, numbered(), steps=15, save_every=3, hooks=[hook], checkpoints=rule)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-000006", "step-000015"]


def test_training_stops_when_validation_gets_no_better(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    scores = {0: 9.0, 2: 4.0, 4: 2.0, 6: 3.0, 8: 2.5, 10: 1.0}
    hook = Hook(2, lambda step, model: {"score": scores[step]}, "score")
    options = {"steps": 30, "hooks": [hook], "stop_after": 2}
    result = fit(tmp_path, numbered(), **options)
    assert result.steps == 8 and result.checkpoint.is_dir()
    assert [event["event"] for event in events_of(tmp_path)] == ["started", "stopped_early"]
    assert fit(tmp_path, numbered(), **options) == result  # nothing is trained when it is started again


def test_frozen_parameters_stay(tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer]) -> None:
    model = new_model()
    fit(tmp_path, numbered(), model=model, freeze=("embedding.*", "blocks.0.feed_forward.up.*"))
    for (name, weight), before in zip(model.named_parameters(), new_model().parameters(), strict=True):
        frozen = name in ("embedding.weight", "blocks.0.feed_forward.up.weight")
        assert torch.equal(weight, before) == frozen, name
    with pytest.raises(UsageError, match="'lm_head' matches no parameter"):
        fit(tmp_path / "typo", numbered(), freeze=("lm_head",))
    with pytest.raises(UsageError, match="nothing to train"):
        fit(tmp_path / "all", numbered(), freeze=("*",))


def test_the_mean_of_the_weights_is_kept_and_used(
    tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer]
) -> None:
    seen: list[Tensor] = []
    hook = Hook(1, lambda step, model: seen.append(model.head.weight.detach().clone()) or {})
    plain = [torch.zeros(0)]
    kept_hook = Hook(1, lambda step, model: plain.append(model.head.weight.detach().clone()) or {})
    model = new_model()
    result = fit(tmp_path / "mean", numbered(), model=model, average=0.9, hooks=[hook])
    fit(tmp_path / "plain", numbered(), hooks=[kept_hook])
    mean = plain[1].clone()
    for updates, weight in enumerate(plain[2:]):
        mean.lerp_(weight, 1 - min(0.9, (1 + updates) / (10 + updates)))
    torch.testing.assert_close(seen[-1], mean)
    opened, _ = load_model(result.checkpoint)
    torch.testing.assert_close(opened.head.weight, mean)
    torch.testing.assert_close(model.head.weight, plain[-1])  # training goes on from the weights, not from their mean
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", numbered(interrupt_at=8), average=0.9)
    again = fit(tmp_path / "cut", numbered(), average=0.9)
    assert (again.checkpoint / "average.safetensors").read_bytes() == (
        result.checkpoint / "average.safetensors"
    ).read_bytes()


@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
def test_a_compiled_training_resumes_bit_for_bit(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    options = {"compile": "on", "steps": 6, "save_every": 2}
    fit(tmp_path / "whole", numbered(), **options)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", numbered(interrupt_at=3), **options)
    fit(tmp_path / "cut", numbered(), **options)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")
    fit(tmp_path / "eager", numbered(), **{**options, "compile": "off"})
    for one, other in zip(log_of(tmp_path / "whole"), log_of(tmp_path / "eager"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)


@pytest.mark.parametrize(("recompute", "calls"), [("none", 1), ("block", 2)])
def test_recomputation_computes_blocks_again_and_is_taken_off(
    tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer], recompute: Any, calls: int
) -> None:
    model = new_model(dropout=0.1)
    seen: list[int] = []
    model.blocks[0].attention.register_forward_pre_hook(lambda *_: seen.append(1))
    fit(tmp_path / recompute, numbered(), model=model, steps=3, memory=MemoryConfig(recompute=recompute))
    assert len(seen) == 3 * calls
    assert "forward" not in vars(model.blocks[0])
    plain = new_model(dropout=0.1)
    fit(tmp_path / "plain", numbered(), model=plain, steps=3)
    for one, other in zip(model.parameters(), plain.parameters(), strict=True):
        assert torch.equal(one, other)  # with the same noise


@pytest.mark.parametrize("options", [{"dropout": 0.3}, {}])
def test_dropout_s_noise_does_not_depend_on_history(
    tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer], options: dict[str, float]
) -> None:
    fit(tmp_path / "whole", numbered(), model=new_model(**options))
    torch.manual_seed(99)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", numbered(interrupt_at=7), model=new_model(**options))
    fit(tmp_path / "cut", numbered(), model=new_model(**options))
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("options", [{"precision": "bfloat16-weights"}, {"memory": MemoryConfig(offload=True)}])
def test_every_kind_of_working_copy_resumes_bit_for_bit(
    tmp_path: Path, fit: Fit, numbered: Any, options: dict[str, Any]
) -> None:
    fit(tmp_path / "whole", numbered(), **options)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", numbered(interrupt_at=7), **options)
    fit(tmp_path / "cut", numbered(), **options)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


@pytest.mark.parametrize("precision", ["float16", "tf32", "float8"])
def test_a_precision_that_the_device_lacks_is_refused(tmp_path: Path, fit: Fit, numbered: Any, precision: str) -> None:
    with pytest.raises(UsageError, match=f"{precision} needs a CUDA device"):
        fit(tmp_path, numbered(), precision=precision)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    kills=st.lists(st.integers(0, 23), min_size=1, max_size=3),
    accumulation=st.sampled_from([1, 2]),
    prefetch=st.sampled_from([0, 1, 3]),
    workers=st.sampled_from([1, 3]),
    average=st.sampled_from([0.0, 0.9]),
    background=st.booleans(),
    save_every=st.integers(1, 6),
)
def test_killed_whenever_it_ends_the_same(
    tmp_path_factory: pytest.TempPathFactory,
    fit: Fit,
    numbered: Any,
    kills: list[int],
    accumulation: int,
    prefetch: int,
    workers: int,
    average: float,
    background: bool,
    save_every: int,
) -> None:
    folder = tmp_path_factory.mktemp("kills")
    options: dict[str, Any] = {"accumulation": accumulation, "average": average, "steps": 12, "save_every": save_every}
    checkpoints = CheckpointConfig(background=background)
    fit(folder / "whole", numbered(), **options, prefetch=0)
    for at in kills:
        parts: dict[str, Any] = {
            "prefetch": prefetch,
            "workers": workers,
            "checkpoints": checkpoints,
            "objective": killing(next_token, at),
        }
        with suppress(Killed):
            fit(folder / "killed", numbered(), **options, **parts)
    fit(folder / "killed", numbered(), **options, prefetch=prefetch, checkpoints=checkpoints)
    assert outcome(folder / "killed") == outcome(folder / "whole")
