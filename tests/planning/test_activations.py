"""Bytes kept for the backward pass: the closed form against what PyTorch's operations save."""

import dataclasses
import weakref
from typing import Any

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
    ids = torch.zeros(2, batch.rows, batch.time, dtype=torch.long)
    given_before = {part.untyped_storage().data_ptr() for part in (*model.parameters(), *model.buffers(), ids)}
    alive: weakref.WeakSet[Saved] = weakref.WeakSet()

    def save(tensor: Tensor) -> Saved:
        saved = Saved(tensor)
        alive.add(saved)
        return saved

    dtype = torch.float32 if batch.element == 4 else torch.bfloat16
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


def distinct_shrunk_presets() -> dict[ModelConfig, str]:
    """Presets of one family shrink to the same shape; each shape once."""
    return {shrunk(dataclasses.replace(preset(name).config, attention=attention_of(name))): name for name in names()}


def attention_of(name: str) -> Any:
    """With a pattern of two, so that two layers show it."""
    attention = preset(name).config.attention
    return dataclasses.replace(attention, pattern="LG" if attention.window else "L")


@pytest.mark.parametrize("element", [4, 2])
@pytest.mark.parametrize(("config", "name"), distinct_shrunk_presets().items(), ids=lambda value: str(value)[:20])
def test_of_every_preset(config: ModelConfig, name: str, element: int) -> None:
    batch = MicroBatch(2, 12, element)
    assert computed(config, batch) == kept_bytes(config, batch)


@settings(max_examples=20)
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
