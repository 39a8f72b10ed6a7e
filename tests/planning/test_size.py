"""Parameters and floating-point operations against formulas and PyTorch's own counter."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from groundup.model import ModelConfig, Transformer
from groundup.planning import count_parameters, training_flops


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("qk_norm", [True, False])
def test_parameters_equal_the_formula(tied: bool, qk_norm: bool) -> None:
    config = ModelConfig(layers=3, width=32, heads=4, kv_heads=2, hidden=48, context=16, tied=tied, qk_norm=qk_norm)
    width, size, vocabulary = 32, 8, 50
    attention = width * size * (4 + 2 + 2) + 4 * size * width + (2 * size if qk_norm else 0)
    block = attention + 3 * width * 48 + 2 * width
    assert count_parameters(Transformer(config, vocabulary)) == 3 * block + width + vocabulary * width * (2 - tied)


def test_flops_are_near_what_pytorch_counts() -> None:
    config = ModelConfig(layers=2, width=64, heads=4, kv_heads=4, hidden=176, context=64)
    model = Transformer(config, 97)
    ids = torch.zeros(2, 64, dtype=torch.long)
    with FlopCounterMode(display=False) as counter:
        model(ids).sum().backward()
    estimate = training_flops(count_parameters(model), ids.numel(), config.layers, config.width, config.context)
    assert estimate == pytest.approx(counter.get_total_flops(), rel=0.15)


def test_flops_grow_with_tokens_and_context() -> None:
    assert training_flops(1000, 10) == 60_000
    assert training_flops(1000, 10, layers=2, width=4, context=8) == 10 * (6000 + 6 * 2 * 4 * 8)
