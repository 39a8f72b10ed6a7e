"""Bytes kept for the backward pass: the closed form against what PyTorch's operations save."""

import dataclasses
import weakref
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.device import autocast
from groundup.dataloader import Batch
from groundup.model import ModelConfig, Transformer
from groundup.model.presets import names, preset, shrunk
from groundup.objectives import next_token
from groundup.planning.activations import MicroBatch, activation_bytes

VOCABULARY = 50


class Saved:
    """A tensor that an operation saved; it lives as long as the operation."""

    def __init__(self, tensor: Tensor) -> None:
        self.tensor = tensor.detach()


def kept_bytes(config: ModelConfig, batch: MicroBatch) -> int:
    """Memory of all tensors that are saved when the loss is there, but for parameters, buffers and the batch."""
    model = Transformer(config, VOCABULARY).train()
    if not batch.copied:
        for parameter in model.parameters():
            parameter.data = parameter.data.to(torch.bfloat16)
    ids = torch.zeros(2, batch.rows, batch.time, dtype=torch.long)
    given_before = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers(), ids)}
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()

    def save(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    dtype = torch.bfloat16 if batch.element == 2 and batch.copied else torch.float32
    with (
        torch.autograd.graph.saved_tensors_hooks(save, lambda saved: saved.tensor),
        autocast(torch.device("cpu"), dtype),
    ):
        loss = next_token(model, Batch({"inputs": ids[0], "targets": ids[1]}, batch.tokens))
    storages = {saved.tensor.untyped_storage().data_ptr(): saved.tensor.untyped_storage().nbytes() for saved in alive}
    assert loss.requires_grad
    return sum(size for place, size in storages.items() if place not in given_before)


def computed(config: ModelConfig, batch: MicroBatch) -> int:
    return sum(activation_bytes(config, VOCABULARY, batch).values())


def small(name: str) -> ModelConfig:
    """The preset, shrunk, its pattern to two layers."""
    config = preset(name).config
    attention = dataclasses.replace(config.attention, pattern="LG" if config.attention.window else "L")
    return shrunk(dataclasses.replace(config, attention=attention))


@pytest.mark.parametrize("name", {small(name): name for name in names()}.values())
def test_of_every_preset(name: str) -> None:
    """Each shape once: the sizes of a family often shrink to the same."""
    batch = MicroBatch(2, 12)
    assert computed(small(name), batch) == kept_bytes(small(name), batch)


@pytest.mark.parametrize("name", {preset(name).family: name for name in names()}.values())
def test_under_autocast(name: str) -> None:
    batch = MicroBatch(2, 12, element=2)
    assert computed(small(name), batch) == kept_bytes(small(name), batch)


@pytest.mark.parametrize("name", {preset(name).family: name for name in names()}.values())
def test_of_weights_in_bfloat16(name: str) -> None:
    """As fully sharded data parallelism gathers them."""
    batch = MicroBatch(2, 12, element=2, copied=False)
    assert computed(small(name), batch) == kept_bytes(small(name), batch)


def test_accelerators_keep_less() -> None:
    batch = MicroBatch(2, 12, element=2, copied=False)
    for name in ("llama-3-8b", "deepseek-v3", "gpt2"):
        fused = computed(small(name), replace(batch, fused=True))
        assert fused < computed(small(name), batch)


@settings(max_examples=15)
@given(st.from_type(ModelConfig), st.integers(1, 3), st.integers(2, 16))
def test_of_any_shape(config: ModelConfig, rows: int, time: int) -> None:
    batch = MicroBatch(rows, time)
    assert computed(config, batch) == kept_bytes(config, batch)


def test_every_part_is_told() -> None:
    parts = activation_bytes(shrunk(preset("deepseek-v3").config), VOCABULARY, MicroBatch(2, 8))
    assert set(parts) == {"norms", "attention", "feed_forward", "experts", "positions", "loss"}
    assert set(activation_bytes(shrunk(preset("gpt2").config), VOCABULARY, MicroBatch(2, 8))) == set(parts) - {
        "experts"
    }
