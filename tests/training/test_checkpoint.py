"""Checkpoints: what is written is what is read, and what is damaged or foreign is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.core.errors import ArtifactError
from groundup.model import Transformer
from groundup.optim import OptimizerConfig, build_optimizers
from groundup.tokenizer import BytePairTokenizer
from groundup.training import find_checkpoint, load_model, resolve_model, save_checkpoint
from groundup.training.checkpoint import restore_optimizers, restore_weights

NewModel = Callable[..., Transformer]


def trained(model: Transformer, steps: int = 3) -> list[torch.optim.Optimizer]:
    """Optimizers with a history, after steps with made-up gradients."""
    optimizers = build_optimizers(model, OptimizerConfig())
    for step in range(steps):
        take_step(model, optimizers, seed=step)
    return optimizers


def take_step(model: Transformer, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    for optimizer in optimizers:
        optimizer.step()


def assert_same_weights(first: Transformer, second: Transformer) -> None:
    for (name, weight), other in zip(first.state_dict().items(), second.state_dict().values(), strict=True):
        assert torch.equal(weight, other), name


@pytest.fixture
def saved(tmp_path: Path, new_model: NewModel, byte_tokenizer: BytePairTokenizer) -> Path:
    model = new_model()
    return save_checkpoint(tmp_path, 3, model, trained(model), byte_tokenizer, {"loop": {}, "source": {}})


@pytest.mark.parametrize("tied", [True, False])
def test_weights_and_optimizers_round_trip_bit_for_bit(
    tmp_path: Path, new_model: NewModel, byte_tokenizer: BytePairTokenizer, tied: bool
) -> None:
    model = new_model(tied=tied)
    optimizers = trained(model)
    save_checkpoint(tmp_path, 3, model, optimizers, byte_tokenizer, {"source": {"position": 7}})

    checkpoint = find_checkpoint(tmp_path)
    assert checkpoint is not None and checkpoint.step == 3
    assert checkpoint.state["source"] == {"position": 7}
    other = new_model(seed=1, tied=tied)
    restored = build_optimizers(other, OptimizerConfig())
    restore_weights(other, checkpoint)
    restore_optimizers(other, restored, checkpoint)
    assert_same_weights(model, other)
    assert (other.head.weight is other.embedding.weight) == tied
    for seed in (10, 11):  # the same future: the moments and the step counts came back too
        take_step(model, optimizers, seed)
        take_step(other, restored, seed)
    assert_same_weights(model, other)


def test_a_loaded_model_is_ready_to_use(saved: Path, new_model: NewModel, byte_tokenizer: BytePairTokenizer) -> None:
    model, tokenizer = load_model(saved)
    expected = new_model()
    trained(expected)
    assert_same_weights(model, expected)
    assert not model.training
    assert tokenizer.fingerprint == byte_tokenizer.fingerprint


def test_only_the_newest_stays(tmp_path: Path, new_model: NewModel, byte_tokenizer: BytePairTokenizer) -> None:
    model = new_model()
    optimizers = trained(model)
    for step in (5, 10):
        save_checkpoint(tmp_path, step, model, optimizers, byte_tokenizer, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step-000010"]


def test_an_optimizer_without_history_round_trips(
    tmp_path: Path, new_model: NewModel, byte_tokenizer: BytePairTokenizer
) -> None:
    model = new_model()
    save_checkpoint(tmp_path, 1, model, build_optimizers(model, OptimizerConfig()), byte_tokenizer, {})
    checkpoint = find_checkpoint(tmp_path)
    assert checkpoint is not None
    restore_optimizers(model, build_optimizers(model, OptimizerConfig()), checkpoint)


FILES = ("model.safetensors", "optimizer.safetensors", "model.json", "tokenizer.json", "state.json")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["truncated", "missing", "empty"])
def test_a_damaged_file_is_named(saved: Path, name: str, damage: str) -> None:
    path = saved / name
    content = path.read_bytes()
    path.write_bytes({"truncated": content[: len(content) // 2], "missing": b"", "empty": b""}[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(ArtifactError, match=name) as caught:
        load_model(saved)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES[:-1])
def test_one_changed_byte_is_noticed(saved: Path, name: str) -> None:
    content = bytearray((saved / name).read_bytes())
    content[len(content) // 2] ^= 1
    (saved / name).write_bytes(content)
    with pytest.raises(ArtifactError, match=name):
        load_model(saved)


@pytest.mark.parametrize("foreign", [{}, [], {"step": 3}, {"global_step": 3, "epoch": 1.0}, "text"])
def test_a_foreign_state_is_named(saved: Path, foreign: Any) -> None:
    (saved / "state.json").write_text(json.dumps(foreign), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"state\.json"):
        load_model(saved)


def test_weights_of_another_shape_are_refused(saved: Path, new_model: NewModel) -> None:
    checkpoint = find_checkpoint(saved.parent)
    assert checkpoint is not None
    with pytest.raises(ArtifactError, match=r"model\.safetensors"):
        restore_weights(new_model(width=32), checkpoint)


def test_a_tokenizer_from_elsewhere_is_refused(saved: Path) -> None:
    """Even where someone recorded the hash of the exchanged file."""
    BytePairTokenizer.from_merges([(97, 98)]).save(saved)
    state = json.loads((saved / "state.json").read_text(encoding="utf-8"))
    del state["files"]["tokenizer.json"]
    (saved / "state.json").write_text(json.dumps(state), encoding="utf-8")
    with pytest.raises(ArtifactError, match="another tokenizer"):
        load_model(saved)


def test_resolve_model_finds_the_last_finished_stage(
    tmp_path: Path, new_model: NewModel, byte_tokenizer: BytePairTokenizer
) -> None:
    model = new_model()
    optimizers = trained(model)
    with pytest.raises(ArtifactError, match="no trained model"):
        resolve_model(tmp_path)
    for stage in ("pretrain", "sft", "dpo"):
        save_checkpoint(tmp_path / stage / "checkpoints", 4, model, optimizers, byte_tokenizer, {})
    for stage in ("pretrain", "sft"):  # dpo is still under way
        (tmp_path / stage / "manifest.json").write_text("{}", encoding="utf-8")
    newest = tmp_path / "sft" / "checkpoints" / "step-000004"
    assert resolve_model(tmp_path) == newest
    assert resolve_model(newest) == newest
    assert resolve_model(tmp_path / "dpo") == tmp_path / "dpo" / "checkpoints" / "step-000004"
