"""Smeared keys: the same with and without a cache, in packed rows as alone, and really carrying the key before."""

import pytest
import torch

from groundup.model import KVCache, ModelConfig, Record, Transformer
from groundup.model.attention import smeared

CONFIG = ModelConfig(layers=2, width=32, heads=4, kv_heads=2, hidden=48, context=32, key_smear=True)


@pytest.fixture
def model() -> Transformer:
    model = Transformer(CONFIG, 50)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:  # no zeros: every path counts
                parameter.normal_(0.0, 0.5, generator=generator)
    return model.eval()


def test_each_key_carries_its_share_of_the_one_before() -> None:
    key = torch.randn(2, 2, 5, 8, generator=torch.Generator().manual_seed(1))
    share = torch.tensor([0.25, 2.0])
    result = smeared(key, share)
    assert torch.equal(result[:, :, 0], key[:, :, 0])
    for head in range(2):
        expected = key[:, head, 1:] + share[head] * key[:, head, :-1]
        assert torch.allclose(result[:, head, 1:], expected)


def test_a_cache_changes_nothing(model: Transformer) -> None:
    ids = torch.randint(0, 50, (3, 12), generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        whole = model(ids)
        cache = KVCache.empty(CONFIG, 3, 16, whole)
        parts = [model(ids[:, :5], cache=cache)]
        cache.advance(5)
        for place in range(5, 12):
            parts.append(model(ids[:, place : place + 1], cache=cache))
            cache.advance(1)
    assert torch.allclose(torch.cat(parts, dim=1), whole, atol=1e-4)


def test_nothing_is_smeared_from_one_packed_sequence_into_the_next(model: Transformer) -> None:
    ids = torch.randint(0, 50, (1, 12), generator=torch.Generator().manual_seed(3))
    segments = torch.tensor([[0] * 5 + [1] * 7])
    positions = torch.cat([torch.arange(5), torch.arange(7)])[None]
    with torch.no_grad():
        packed = model(ids, positions=positions, segments=segments)
        alone = model(ids[:, 5:])
    assert torch.allclose(packed[:, 5:], alone, atol=1e-4)


def test_attention_maps_are_those_of_the_smeared_keys(model: Transformer) -> None:
    ids = torch.randint(0, 50, (1, 6), generator=torch.Generator().manual_seed(4))
    smeared_maps, plain_maps = Record(), Record()
    with torch.no_grad():
        model(ids, record=smeared_maps)
        for block in model.blocks:
            block.attention.smear.zero_()
        model(ids, record=plain_maps)
    assert not torch.allclose(smeared_maps.attention[0], plain_maps.attention[0])
