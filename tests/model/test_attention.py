"""Attention's two paths against each other, masks, and rotation."""

from collections.abc import Callable

import pytest
import torch

from groundup.model import Record, Transformer
from groundup.model.attention import attend
from groundup.model.config import PositionConfig
from groundup.model.positions import rotary_angles, rotate


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("mask", [None, random(3, 1, 10, 10, seed=5) > -0.5, random(1, 4, 10, 10, seed=6)])
def test_looking_at_the_weights_changes_nothing(kv_heads: int, mask: torch.Tensor | None) -> None:
    if mask is not None and mask.dtype == torch.bool:
        mask = mask | torch.eye(10, dtype=torch.bool)
    query = random(3, 4, 10, 8)
    key, value = random(3, kv_heads, 10, 8, seed=1), random(3, kv_heads, 10, 5, seed=2)
    weights: list[torch.Tensor] = []
    fused = attend(query, key, value, mask, 0.3)
    torch.testing.assert_close(attend(query, key, value, mask, 0.3, record=weights), fused, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(weights[0].sum(dim=-1), torch.ones(3, 4, 10))


def test_a_sink_takes_weight_and_gives_nothing() -> None:
    query, key, value = random(1, 2, 4, 8), random(1, 2, 4, 8, seed=1), random(1, 2, 4, 8, seed=2)
    without = attend(query, key, value, None, 1.0)
    torch.testing.assert_close(attend(query, key, value, None, 1.0, sinks=torch.full((2,), -1e9)), without)
    assert attend(query, key, value, None, 1.0, sinks=torch.full((2,), 1e9)).abs().max() < 1e-6


@torch.no_grad()
def test_attention_maps_are_causal_distributions(make_model: Callable[..., Transformer]) -> None:
    model = make_model()
    ids = torch.randint(41, (2, 9), generator=torch.Generator().manual_seed(0))
    record = Record()
    torch.testing.assert_close(model(ids, record=record), model(ids), atol=1e-4, rtol=1e-4)
    assert [tuple(layer.shape) for layer in record.attention] == [(2, 4, 9, 9)] * 2
    for weights in record.attention:
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 9))
        assert not weights.triu(1).any()
    torch.testing.assert_close(model.logits(record.residuals[-1]), model(ids), atol=1e-4, rtol=1e-4)


def test_rotation_keeps_lengths_and_makes_products_relative() -> None:
    query, key = random(1, 1, 1, 16), random(1, 1, 1, 16, seed=1)

    def turned(x: torch.Tensor, place: int) -> torch.Tensor:
        return rotate(x, rotary_angles(torch.tensor([[place]]), 16, PositionConfig()))

    torch.testing.assert_close(turned(query, 7).norm(), query.norm())
    near, far = turned(query, 9) @ turned(key, 4).mT, turned(query, 105) @ turned(key, 100).mT
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(near, turned(query, 9) @ turned(key, 3).mT, atol=1e-2)
