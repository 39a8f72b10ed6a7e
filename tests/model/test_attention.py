"""Attention in the open against the fused one, and the maps that the report shows."""

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional as F

from groundup.model import Transformer
from groundup.model.attention import attention_weights, plain_attention
from groundup.model.layers import rotary_angles, rotate
from groundup.model.transformer import packed_mask


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("kv_heads", [1, 2, 4])
@pytest.mark.parametrize("masked", [False, True])
def test_plain_attention_equals_the_fused_one(kv_heads: int, masked: bool) -> None:
    query = random(3, 4, 10, 8)
    key, value = random(3, kv_heads, 10, 8, seed=1), random(3, kv_heads, 10, 8, seed=2)
    segments = torch.tensor([[0] * 4 + [1] * 6, [0] * 10, [0] * 7 + [-1] * 3])
    mask = packed_mask(segments) if masked else None
    fused = F.scaled_dot_product_attention(query, key, value, attn_mask=mask, is_causal=not masked, enable_gqa=True)
    torch.testing.assert_close(plain_attention(query, key, value, mask), fused, atol=1e-5, rtol=1e-5)


def test_a_later_query_sees_all_earlier_keys() -> None:
    weights = attention_weights(random(1, 2, 3, 4), random(1, 2, 7, 4, seed=1))
    assert (weights > 0).tolist() == [[torch.ones(3, 7).tril(4).bool().tolist()] * 2]


def test_packed_mask_is_causal_within_a_segment() -> None:
    seen = packed_mask(torch.tensor([[0, 0, 1, 1, 1, -1]]))[0, 0].int().tolist()
    assert seen == [
        [1, 0, 0, 0, 0, 0],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 1, 0, 0, 0],
        [0, 0, 1, 1, 0, 0],
        [0, 0, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]


@torch.no_grad()
def test_attention_maps_are_distributions_that_reproduce_the_forward_pass(
    make_model: Callable[..., Transformer],
) -> None:
    model = make_model()
    ids = torch.randint(41, (2, 9), generator=torch.Generator().manual_seed(0))
    maps = model.attention_maps(ids)
    assert [tuple(layer.shape) for layer in maps] == [(2, 4, 9, 9)] * 2
    positions = torch.arange(9)[None]
    angles = rotary_angles(positions, model.config.head_size, model.config.rope_base)
    x = model.embedding(ids)
    for block, weights in zip(model.blocks, maps, strict=True):
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(2, 4, 9))
        assert not weights.triu(1).any()
        value = block.attention.heads(block.attention_norm(x), angles)[2].repeat_interleave(2, dim=1)
        mixed = block.attention.output((weights @ value).transpose(1, 2).flatten(2))
        torch.testing.assert_close(mixed, block.attention(block.attention_norm(x), angles), atol=1e-5, rtol=1e-5)
        x = block(x, angles, None, None)


def test_rotation_keeps_lengths_and_makes_products_relative() -> None:
    query, key = random(1, 1, 1, 16), random(1, 1, 1, 16, seed=1)

    def turned(x: torch.Tensor, place: int) -> torch.Tensor:
        return rotate(x, *rotary_angles(torch.tensor([[place]]), 16, 10_000.0))

    torch.testing.assert_close(turned(query, 7).norm(), query.norm())
    near, far = turned(query, 9) @ turned(key, 4).mT, turned(query, 105) @ turned(key, 100).mT
    torch.testing.assert_close(near, far, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(near, turned(query, 9) @ turned(key, 3).mT, atol=1e-2)
