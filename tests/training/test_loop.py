"""The loop: what a step is, what is skipped, and that an interruption leaves no trace."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from groundup.core.errors import ArtifactError, TrainingError, UsageError
from groundup.dataloader import Batch
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.tokenizer import BytePairTokenizer
from groundup.training import Hook, TrainingConfig, TrainingResult
from groundup.training.config import SafetyConfig

#: What differs between two runs of the same.
CLOCKS = {"seconds", "step_seconds", "loader_seconds", "tokens_per_second", "memory_bytes", "mfu"}
PATIENCE = SafetyConfig().patience

Fit = Callable[..., TrainingResult]


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]


def timeless(rows: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{k: v for k, v in row.items() if k not in CLOCKS} for row in rows]


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that a training leaves, but for the time it took."""
    *_, checkpoint = sorted((folder / "checkpoints").iterdir())
    state = json.loads((checkpoint / "state.json").read_text(encoding="utf-8"))
    loop = {key: value for key, value in state["loop"].items() if key not in ("seconds", "record")}
    tensors = {name: (checkpoint / f"{name}.safetensors").read_bytes() for name in ("model", "optimizer")}
    return {"step": state["step"], "source": state["source"], "loop": loop, "log": timeless(log_of(folder)), **tensors}


def test_it_learns(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    class Repeated(numbered):  # type: ignore[misc]
        """The same batch again and again."""

        def __iter__(self) -> Any:
            first = next(super().__iter__())
            while True:
                yield first

    result = fit(tmp_path, Repeated(), steps=40)
    losses = [row["loss"] for row in log_of(tmp_path)]
    assert losses[-1] < 0.2 * losses[0]
    assert (result.steps, result.skipped, result.tokens) == (40, 0, 40 * 16)
    assert result.checkpoint == tmp_path / "checkpoints" / "step-000040"


@pytest.mark.parametrize("accumulation", [1, 2])
def test_an_interrupted_training_ends_bit_for_bit_the_same(
    tmp_path: Path, fit: Fit, numbered: Any, accumulation: int
) -> None:
    options = {"accumulation": accumulation, "steps": 12, "save_every": 5}
    fit(tmp_path / "whole", numbered(), **options)
    expected = outcome(tmp_path / "whole")
    assert [row["step"] for row in expected["log"]] == list(range(1, 13))
    rng = random.Random(accumulation)
    for attempt in range(4):
        folder = tmp_path / f"interrupted-{attempt}"
        for batch in sorted(rng.sample(range(1, 12 * accumulation), 3)):
            with pytest.raises(KeyboardInterrupt):
                fit(folder, numbered(interrupt_at=batch), **options)
        fit(folder, numbered(), **options)
        assert outcome(folder) == expected


def test_an_interrupted_hook_is_run_again(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    """The checkpoint of step 4 is on the disk when its hook is interrupted; its line must not be lost."""

    def number(step: int, model: Transformer) -> dict[str, float]:
        return {"norm": float(model.embedding.weight.norm())}

    def interrupted(step: int, model: Transformer) -> dict[str, float]:
        if step == 4:
            raise KeyboardInterrupt
        return number(step, model)

    fit(tmp_path / "whole", numbered(), steps=6, save_every=4, hooks=[Hook(2, number)])
    expected = outcome(tmp_path / "whole")
    assert [row["step"] for row in expected["log"] if "norm" in row] == [0, 2, 4, 6]
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "again", numbered(), steps=6, save_every=4, hooks=[Hook(2, interrupted)])
    fit(tmp_path / "again", numbered(), steps=6, save_every=4, hooks=[Hook(2, number)])
    assert outcome(tmp_path / "again") == expected


def test_a_line_cut_by_a_kill_is_written_again(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    fit(tmp_path / "whole", numbered(), steps=6, save_every=4)
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path / "cut", numbered(interrupt_at=5), steps=6, save_every=4)
    log = tmp_path / "cut" / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-9])
    fit(tmp_path / "cut", numbered(), steps=6, save_every=4)
    assert outcome(tmp_path / "cut") == outcome(tmp_path / "whole")


def test_a_finished_training_changes_nothing_when_started_again(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    first = fit(tmp_path, numbered())
    before = outcome(tmp_path)
    again = fit(tmp_path, numbered())
    assert outcome(tmp_path) == before
    assert again == first


def test_hooks_see_a_checkpoint_that_is_safe(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    seen: list[tuple[int, list[str], bool, bool]] = []

    def look(step: int, model: Transformer) -> dict[str, float]:
        folders = sorted(path.name for path in (tmp_path / "checkpoints").glob("*"))
        seen.append((step, folders, model.training, torch.is_grad_enabled()))
        return {"looked": 1}

    fit(tmp_path, numbered(), steps=7, save_every=3, hooks=[Hook(3, look)])
    assert seen == [
        (0, [], False, False),
        (3, ["step-000003"], False, False),
        (6, ["step-000003", "step-000006"], False, False),
        (7, ["step-000006", "step-000007"], False, False),
    ]
    assert [row["step"] for row in log_of(tmp_path) if "looked" in row] == [0, 3, 6, 7]


def test_steps_without_targets_are_skipped_and_counted(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    result = fit(tmp_path / "gaps", numbered(empty=frozenset({2, 5, 6})), steps=10)
    assert (result.steps, result.skipped, result.tokens) == (10, 3, 7 * 16)
    assert [row["step"] for row in log_of(tmp_path / "gaps") if row.get("skipped")] == [3, 6, 7]


def test_a_skipped_step_changes_no_weight(
    tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer]
) -> None:
    model = new_model()
    result = fit(tmp_path, numbered(empty=frozenset(range(9))), steps=4, model=model)
    assert result.skipped == 4
    assert result.final_loss is None
    assert "final_loss" not in result.metrics()
    for weight, before in zip(model.parameters(), new_model().parameters(), strict=True):
        assert torch.equal(weight, before)


def test_a_micro_batch_without_targets_leaves_the_step_to_the_others(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    fit(tmp_path, numbered(empty=frozenset({1, 2})), steps=2, accumulation=2)
    first, second = log_of(tmp_path)
    assert "skipped" not in first and "skipped" not in second


def poisoned(bad: set[int]) -> Callable[[nn.Module, Batch], Tensor]:
    """The objective, not a number for the batches in ``bad``."""

    def objective(model: nn.Module, batch: Batch) -> Tensor:
        loss = next_token(model, batch)
        return loss * float("nan") if batch.metrics["number"] in bad else loss

    return objective


def test_a_loss_that_is_no_number_skips_its_step(
    tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer]
) -> None:
    model = new_model()
    norms: list[float] = []

    def watch(step: int, model: Transformer) -> dict[str, float]:
        norms.append(float(model.embedding.weight.detach().norm()))
        return {}

    result = fit(tmp_path, numbered(), steps=6, model=model, objective=poisoned({2, 3}), hooks=[Hook(1, watch)])
    assert result.skipped == 2
    assert norms[2] == norms[3] == norms[4] != norms[5]
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    assert [row["step"] for row in log_of(tmp_path) if row.get("skipped")] == [3, 4]


def test_patience_ends(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    bad = set(range(PATIENCE - 1)) | set(range(PATIENCE, 2 * PATIENCE))  # one good step between the two rows
    with pytest.raises(TrainingError, match=f"step {2 * PATIENCE}") as caught:
        fit(tmp_path, numbered(), steps=3 * PATIENCE, objective=poisoned(bad))
    assert "\n" not in str(caught.value)


def test_accumulated_micro_batches_equal_one_big_batch(
    tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer]
) -> None:
    class Joined(numbered):  # type: ignore[misc]
        """Pairs of batches as one."""

        def __iter__(self) -> Any:
            batches = super().__iter__()
            while True:
                both = [next(batches), next(batches)]
                tensors = {name: torch.cat([b.tensors[name] for b in both]) for name in ("inputs", "targets")}
                yield Batch(tensors, sum(b.weight for b in both), both[0].metrics)

    accumulated, whole = new_model(), new_model()
    fit(tmp_path / "accumulated", numbered(), steps=3, accumulation=2, model=accumulated)
    fit(tmp_path / "whole", Joined(), steps=3, model=whole)
    for one, other in zip(log_of(tmp_path / "accumulated"), log_of(tmp_path / "whole"), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=1e-4)
        assert one["gradient_norm"] == pytest.approx(other["gradient_norm"], rel=1e-3)
    for one_weight, other_weight in zip(accumulated.parameters(), whole.parameters(), strict=True):
        torch.testing.assert_close(one_weight, other_weight, atol=2e-3, rtol=1e-2)


def test_the_checkpoint_of_another_tokenizer_is_refused(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, numbered(interrupt_at=7))
    with pytest.raises(ArtifactError, match="another tokenizer"):
        fit(tmp_path, numbered(), tokenizer=BytePairTokenizer.from_merges([(97, 98)]))


def test_the_checkpoint_of_another_shape_is_refused(
    tmp_path: Path, fit: Fit, numbered: Any, new_model: Callable[..., Transformer]
) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, numbered(interrupt_at=7))
    with pytest.raises(ArtifactError, match="another shape"):
        fit(tmp_path, numbered(), model=new_model(width=32))


def test_a_truncated_checkpoint_stops_the_training(tmp_path: Path, fit: Fit, numbered: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        fit(tmp_path, numbered(interrupt_at=7))
    weights = tmp_path / "checkpoints" / "step-000005" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ArtifactError, match=r"step-000005.model\.safetensors"):
        fit(tmp_path, numbered())


@pytest.mark.parametrize("options", [{"steps": 0}, {"accumulation": 0}, {"save_every": 0}, {"clip": 0.0}])
def test_impossible_settings_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(options)).replace("_", "-")):
        TrainingConfig(**options)
