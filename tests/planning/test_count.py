"""The closed forms against what PyTorch has and does: every preset, and random shapes."""

import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from groundup.model import KVCache, ModelConfig, Transformer
from groundup.model.config import AttentionConfig, LatentConfig
from groundup.model.presets import names, preset, shrunk
from groundup.planning import cache_bytes, count_parameters, operations, parameters


def counted(config: ModelConfig, vocab_size: int, time: int, backward: bool = True) -> tuple[int, int]:
    """What PyTorch counts in a forward and in a backward pass over one sequence."""
    with torch.device("meta"):
        model = Transformer(config, vocab_size)
    ids = torch.zeros(1, time, dtype=torch.long, device="meta")
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(backward):
        logits = model(ids)
        forward = counter.get_total_flops()
        if backward:
            logits.sum().backward()
    return forward, counter.get_total_flops() - forward


def with_a_layer_of_every_kind(config: ModelConfig) -> ModelConfig:
    """The same widths with as few layers as show all kinds; all others repeat them."""
    layers = config.experts.dense_layers + (2 if "G" in config.attention.pattern else 1)
    attention = dataclasses.replace(config.attention, pattern="LG" if config.attention.window else "L")
    return dataclasses.replace(config, layers=layers, attention=attention)


@pytest.mark.parametrize("name", list(names()))
def test_parameters_of_a_preset(name: str) -> None:
    config, vocab_size = preset(name).config, preset(name).vocab_size
    with torch.device("meta"):
        model = Transformer(config, vocab_size)
    sizes = {key: parameter.numel() for key, parameter in model.named_parameters()}
    ours = parameters(config, vocab_size)
    assert ours.total == count_parameters(model)
    assert ours.embedding == sum(size for key, size in sizes.items() if "embedding" in key)
    assert ours.parts["norms"] == sum(size for key, size in sizes.items() if "norm." in key)
    assert ours.parts.get("router", 0) == sum(size for key, size in sizes.items() if ".router." in key)
    used = sum(
        size if parameter.ndim < 3 else size // config.experts.count * config.experts.active
        for (key, size), parameter in zip(sizes.items(), model.parameters(), strict=True)
    )
    assert ours.active == used


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("mixtral-8x7b", 12.9),
        ("mixtral-8x22b", 39),
        ("qwen3-30b-a3b", 3.3),
        ("qwen3-235b-a22b", 22),
        ("deepseek-v2-lite", 2.7),
        ("deepseek-v2", 21),
        ("deepseek-v3", 37),
    ],
)
def test_active_parameters_are_those_of_the_paper(name: str, billions: float) -> None:
    active = parameters(preset(name).config, preset(name).vocab_size).active
    assert active == pytest.approx(billions * 1e9, rel=0.02)


@pytest.mark.parametrize("name", list(names()))
def test_operations_of_a_preset(name: str) -> None:
    config, vocab_size = with_a_layer_of_every_kind(preset(name).config), preset(name).vocab_size
    assert operations(config, vocab_size, 16).forward == counted(config, vocab_size, 16, backward=False)[0]


@pytest.mark.parametrize("name", {preset(name).family: name for name in names()}.values())
def test_operations_of_training_of_every_family(name: str) -> None:
    config, vocab_size = shrunk(preset(name).config), 50
    ours = operations(config, vocab_size, 16)
    assert (ours.forward, ours.training - ours.forward) == counted(config, vocab_size, 16)


def test_operations_of_whole_models() -> None:
    """Of which PyTorch's counter has been asked once; it takes half a minute for the largest."""
    asked = {
        "gpt2": 1_978_871_808,
        "llama-3.1-405b": 6_460_494_839_808,
        "gemma-3-27b": 432_192_880_640,
        "deepseek-v3": 586_313_367_552,
    }
    for name, count in asked.items():
        assert operations(preset(name).config, preset(name).vocab_size, 8).forward == count


@pytest.mark.parametrize("window", [0, 1, 5, 16, 40])
@pytest.mark.parametrize("latent", [LatentConfig(), LatentConfig(key_rank=12, value_size=6)])
def test_useful_scores_are_those_of_pairs_that_see_each_other(window: int, latent: LatentConfig) -> None:
    attention = AttentionConfig(window=window, pattern="LLG")
    config = ModelConfig(layers=4, width=32, heads=4, qk_norm="none", attention=attention, latent=latent).resolved()
    pairs, time = 0, 16
    for layer in range(config.layers):
        reach = window if config.windowed(layer) else time
        pairs += sum(1 for query in range(time) for key in range(query + 1) if query - key < reach)
    value_size = 6 if latent.key_rank else 8
    query_size = 8 + (4 if latent.key_rank else 0)
    ours = operations(config, 50, time)
    assert ours.seen_scores == 2 * config.heads * (query_size + value_size) * pairs
    assert ours.scores == 2 * config.heads * (query_size + value_size) * config.layers * time**2
    assert ours.useful_training == 3 * (ours.weights + ours.seen_scores) < ours.training


def test_long_sequences_approach_the_rule_of_thumb() -> None:
    """Six operations per parameter and token (Kaplan et al. 2020) hold where attention is small beside the weights."""
    config, vocab_size = preset("llama-3-8b").config, preset("llama-3-8b").vocab_size
    sizes = parameters(config, vocab_size)
    per_token = operations(config, vocab_size, 512).training / 512
    assert per_token == pytest.approx(6 * (sizes.total - sizes.embedding), rel=0.03)


@pytest.mark.parametrize("name", list(names()))
def test_cache_of_a_preset(name: str) -> None:
    config = preset(name).config.resolved()
    cache = KVCache.empty(config, 2, 3, torch.zeros(1, dtype=torch.bfloat16))
    assert cache_bytes(config, 2 * 3, 2) == sum(part.untyped_storage().nbytes() for part in cache.keys + cache.values)


@settings(max_examples=25)
@given(st.from_type(ModelConfig))
def test_parameters_of_any_shape(config: ModelConfig) -> None:
    with torch.device("meta"):
        model = Transformer(config, 50)
    assert parameters(config, 50).total == count_parameters(model)


@settings(max_examples=8)
@given(st.from_type(ModelConfig), st.integers(1, 16))
def test_operations_of_any_shape(config: ModelConfig, time: int) -> None:
    ours = operations(config, 50, time)
    assert (ours.forward, ours.training - ours.forward) == counted(config, 50, time)
