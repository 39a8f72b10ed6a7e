"""Our model against Hugging Face transformers' Llama and Qwen3: the same weights give the same logits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from groundup.model import ModelConfig, Transformer
from groundup.model.config import PositionConfig

Twins = Callable[[ModelConfig, int], tuple[Transformer, Any]]


@pytest.mark.parametrize("qk_norm", ["none", "head"], ids=["llama", "qwen3"])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (4, 1)])
@torch.no_grad()
def test_logits_equal(twins: Twins, qk_norm: str, tied: bool, heads: int, kv_heads: int) -> None:
    config = ModelConfig(
        layers=3,
        width=48,
        heads=heads,
        kv_heads=kv_heads,
        hidden=80,
        context=64,
        positions=PositionConfig(base=500.0),
        qk_norm=qk_norm,
        tied=tied,
    )
    ours, theirs = twins(config, 71)
    ids = torch.randint(71, (3, 40), generator=torch.Generator().manual_seed(1))
    expected = theirs(ids).logits
    assert expected.std() > 0.3  # the weights are loud enough for a difference to show
    torch.testing.assert_close(ours(ids), expected, atol=1e-4, rtol=1e-4)
