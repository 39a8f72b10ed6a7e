"""The plain versions against PyTorch, against the fast modules beside them, and against what the papers say of them."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from groundup.model import positions
from groundup.model.attention import attend
from groundup.model.config import ExpertConfig, ModelConfig, PositionConfig
from groundup.model.experts import Experts, balance_loss
from groundup.model.plain import alibi_slopes, attention, choose, load_balancing_loss, mix
from groundup.model.plain import gradients as hand
from groundup.model.plain.attention import smeared, softmax
from groundup.model.plain.rotary import (
    ntk_scaling,
    rotary_frequencies,
    rotate,
    sinusoidal_positions,
    stretched_frequencies,
)


def random(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def heads(time: int = 5, length: int = 5) -> tuple[Tensor, Tensor, Tensor]:
    """Query, key and value of two rows of three heads."""
    return random(2, 3, time, 4), random(2, 3, length, 4, seed=1), random(2, 3, length, 6, seed=2)


# Attention


def test_causal_attention_is_pytorch_s() -> None:
    query, key, value = heads()
    attended = attention(query, key, value)
    torch.testing.assert_close(attended.output, F.scaled_dot_product_attention(query, key, value, is_causal=True))
    torch.testing.assert_close(attended.weights.sum(-1), torch.ones_like(query[..., 0]))
    assert (attended.masked.isinf() == torch.ones(5, 5, dtype=torch.bool).triu(1)).all()


def test_fewer_queries_than_keys_are_the_last_ones() -> None:
    query, key, value = heads()
    whole, last = attention(query, key, value), attention(query[..., -2:, :], key, value)
    for of_whole, of_last in zip(whole, last, strict=True):
        torch.testing.assert_close(of_whole[..., -2:, :], of_last)


def test_slope_and_window_are_a_mask_that_is_added() -> None:
    query, key, value = heads()
    slopes = torch.tensor(alibi_slopes(3), dtype=torch.float64)[:, None, None]
    distance = torch.arange(5)[:, None] - torch.arange(5)
    added = (-slopes * distance).masked_fill((distance < 0) | (distance >= 3), -torch.inf)
    expected = F.scaled_dot_product_attention(query, key, value, added.expand(2, -1, -1, -1))
    torch.testing.assert_close(attention(query, key, value, slope=slopes, window=3).output, expected)


def test_mask_hides_what_causality_would_show() -> None:
    query, key, value = heads()
    segments = torch.tensor([0, 0, 1, 1, 1])
    packed = attention(query, key, value, mask=segments[:, None] == segments).output
    for piece in (slice(0, 2), slice(2, 5)):
        alone = attention(query[..., piece, :], key[..., piece, :], value[..., piece, :]).output
        torch.testing.assert_close(packed[..., piece, :], alone)


def test_softcap_bounds_scores_and_keeps_small_ones() -> None:
    query, key, value = heads()
    free = attention(query, key, value, scale=3.0)
    assert attention(query, key, value, scale=3.0, softcap=2.0).scores.abs().max() <= 2.0 < free.scores.abs().max()
    torch.testing.assert_close(attention(query, key, value, scale=3.0, softcap=1e6).weights, free.weights)


def test_sink_is_a_key_whose_value_is_nothing() -> None:
    query, key, value = heads()
    with_sink = attention(query, key, value, sink=torch.tensor(0.7, dtype=torch.float64))
    scores = torch.cat([torch.full_like(with_sink.masked[..., :1], 0.7), with_sink.masked], dim=-1)
    expected = scores.softmax(-1) @ F.pad(value, (0, 0, 1, 0))
    torch.testing.assert_close(with_sink.output, expected)
    torch.testing.assert_close(with_sink.weights.sum(-1), 1 - scores.softmax(-1)[..., 0])


@settings(max_examples=40)
@given(
    time=st.integers(1, 5),
    window=st.sampled_from([0, 1, 3]),
    softcap=st.sampled_from([0.0, 1.5]),
    sloped=st.booleans(),
    sinks=st.booleans(),
    recorded=st.booleans(),
)
def test_the_fast_attention_agrees(
    time: int, window: int, softcap: float, sloped: bool, sinks: bool, recorded: bool
) -> None:
    query, key, value = (part.float() for part in heads(time))
    slopes = torch.tensor(alibi_slopes(3))[:, None, None] * sloped
    sink = random(3, seed=3).float() if sinks else None
    places = torch.arange(5)
    distance = places[-time:, None] - places
    seen = (distance >= 0) & (distance < (window or 6))
    mask = (-slopes * distance).masked_fill(~seen, -torch.inf)[None] if sloped else seen[None, None]
    record: list[Tensor] = []
    fast = attend(query, key, value, mask, 0.4, softcap=softcap, sinks=sink, record=record if recorded else None)

    plain = attention(
        query,
        key,
        value,
        scale=0.4,
        softcap=softcap,
        slope=slopes,
        window=window,
        sink=None if sink is None else sink[:, None, None],
    )
    torch.testing.assert_close(fast, plain.output)
    for weights in record:
        torch.testing.assert_close(weights, plain.weights)


def test_softmax_of_huge_scores() -> None:
    torch.testing.assert_close(softmax(torch.tensor([1e4, 1e4, -1e4])), torch.tensor([0.5, 0.5, 0.0]))


@pytest.mark.parametrize("heads", range(1, 20))
def test_slopes(heads: int) -> None:
    slopes = alibi_slopes(heads)
    torch.testing.assert_close(torch.tensor(slopes), positions.alibi_slopes(heads))
    assert len(set(slopes)) == heads and all(0 < slope < 1 for slope in slopes)


def test_slopes_of_eight_heads_are_the_paper_s() -> None:
    assert alibi_slopes(8) == [1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64, 1 / 128, 1 / 256]


def test_smeared_keys_carry_the_key_before() -> None:
    key = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    assert smeared(key, torch.tensor(0.5)).tolist() == [[1.0, 2.0], [3.5, 5.0], [6.5, 8.0]]


# Positions


def test_each_pair_turns_by_a_rotation_matrix() -> None:
    x, frequencies = random(7, 9), rotary_frequencies(6, 100.0)
    turned = rotate(x, torch.arange(7), frequencies, magnitude=1.5)
    torch.testing.assert_close(turned[:, 6:], x[:, 6:])
    for position in range(7):
        for pair, frequency in enumerate(frequencies):
            angle = position * frequency
            matrix = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
            expected = 1.5 * torch.tensor(matrix, dtype=torch.float64) @ x[position, [pair, pair + 3]]
            torch.testing.assert_close(turned[position, [pair, pair + 3]], expected)


@given(places=st.tuples(st.integers(0, 500), st.integers(0, 500)), shift=st.integers(0, 500))
def test_products_depend_on_distance_alone(places: tuple[int, int], shift: int) -> None:
    pair, frequencies = random(2, 8), rotary_frequencies(8, 10_000.0)  # a query and a key
    here = rotate(pair, torch.tensor(places), frequencies)
    there = rotate(pair, torch.tensor(places) + shift, frequencies)
    torch.testing.assert_close(here[0] @ here[1], there[0] @ there[1])


@st.composite
def position_configs(draw: st.DrawFn) -> PositionConfig:
    low, slow = draw(st.floats(0.5, 4)), draw(st.floats(0.5, 4))
    return PositionConfig(
        base=draw(st.sampled_from([100.0, 10_000.0, 500_000.0])),
        local_base=draw(st.sampled_from([0.0, 50.0])),
        scaling=draw(st.sampled_from(["none", "linear", "ntk", "yarn", "llama3"])),
        factor=draw(st.floats(1, 64)),
        original_context=draw(st.integers(1, 10_000)),
        low_frequency=low,
        high_frequency=low + draw(st.floats(0.5, 8)),
        beta_slow=slow,
        beta_fast=slow + draw(st.floats(0.5, 40)),
        magnitude=draw(st.sampled_from([0.0, 1.25])),
    )


@given(size=st.integers(1, 40).map(lambda pairs: 2 * pairs), config=position_configs(), local=st.booleans())
def test_the_fast_frequencies_agree(size: int, config: PositionConfig, local: bool) -> None:
    frequencies, magnitude = stretched_frequencies(size, config, local=local)
    fast_cosine, fast_sine = positions.rotary_angles(torch.tensor([[0, 1]]), size, config, local=local)
    angles = torch.tensor([[0.0] * len(frequencies), frequencies], dtype=torch.float64)
    torch.testing.assert_close(fast_cosine[0, 0], (angles.cos() * magnitude).float(), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(fast_sine[0, 0], (angles.sin() * magnitude).float(), rtol=1e-4, atol=1e-9)


def test_ntk_scaling_is_a_larger_base() -> None:
    stretched = ntk_scaling(rotary_frequencies(16, 10_000.0), factor=8.0)
    assert stretched == pytest.approx(rotary_frequencies(16, 10_000.0 * 8.0 ** (16 / 14)))
    assert stretched[-1] == pytest.approx(rotary_frequencies(16, 10_000.0)[-1] / 8)


@pytest.mark.parametrize("scaling", ["yarn", "llama3"])
def test_fast_pairs_stay_and_slow_ones_are_stretched(scaling: str) -> None:
    config = PositionConfig(scaling=scaling, factor=8.0, original_context=4096)  # type: ignore[arg-type]
    stretched, _ = stretched_frequencies(64, config)
    ratios = [before / after for before, after in zip(rotary_frequencies(64, config.base), stretched, strict=True)]
    assert ratios[0] == pytest.approx(1) and ratios[-1] == pytest.approx(8)
    assert all(after >= before - 1e-9 for before, after in pairwise(ratios))


@pytest.mark.parametrize("width", [1, 6, 7])
def test_sinusoidal_positions(width: int) -> None:
    plain = sinusoidal_positions(range(9), width)
    torch.testing.assert_close(plain.float(), positions.sinusoidal(torch.arange(9), width))
    assert plain[0].tolist() == [float(dimension % 2) for dimension in range(width)]


# Gradients by hand


def test_rms_norm_and_its_gradient() -> None:
    x, scale, back = random(2, 3, 5).requires_grad_(), random(5, seed=1).requires_grad_(), random(2, 3, 5, seed=2)
    forward = hand.rms_norm(x, scale, 0.1)
    torch.testing.assert_close(forward.output, F.rms_norm(x, (5,), scale, 0.1))
    expected = torch.autograd.grad(forward.output, (x, scale), back)
    torch.testing.assert_close(hand.rms_norm_backward(back, forward, scale), expected)


def test_layer_norm_and_its_gradient() -> None:
    x, back = random(2, 3, 5).requires_grad_(), random(2, 3, 5, seed=2)
    scale, bias = random(5, seed=1).requires_grad_(), random(5, seed=3).requires_grad_()
    forward = hand.layer_norm(x, scale, bias, 0.1)
    torch.testing.assert_close(forward.output, F.layer_norm(x, (5,), scale, bias, 0.1))
    expected = torch.autograd.grad(forward.output, (x, scale, bias), back)
    torch.testing.assert_close(hand.layer_norm_backward(back, forward, scale), expected)


def test_cross_entropy_and_its_gradient() -> None:
    logits, targets = random(4, 7).requires_grad_(), torch.tensor([0, 6, 3, 3])
    loss, probabilities = hand.cross_entropy(logits, targets)
    expected = F.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(
        hand.cross_entropy_backward(probabilities, targets), torch.autograd.grad(expected, logits)[0]
    )


def test_swiglu_and_its_gradient() -> None:
    gate, up, back = random(4, 7).requires_grad_(), random(4, 7, seed=1).requires_grad_(), random(4, 7, seed=2)
    output, opening = hand.swiglu(gate, up)
    expected = F.silu(gate) * up
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(
        hand.swiglu_backward(back, gate, up, opening), torch.autograd.grad(expected, (gate, up), back)
    )


# Experts


@st.composite
def expert_configs(draw: st.DrawFn) -> ExpertConfig:
    groups, size = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    active_groups = draw(st.integers(1, groups))
    return ExpertConfig(
        count=groups * size,
        groups=groups,
        active_groups=active_groups,
        active=draw(st.integers(1, size * active_groups)),
        router=draw(st.sampled_from(["softmax", "sigmoid"])),
        normalise=draw(st.booleans()),
        scale=draw(st.sampled_from([1.0, 2.5])),
    )


@given(expert_configs(), st.integers(0, 2**31))
def test_the_fast_router_agrees(config: ExpertConfig, seed: int) -> None:
    fast = Experts(ModelConfig(layers=1, width=8, heads=1, hidden=8, experts=config).resolved())
    bias = None
    if config.router == "sigmoid":
        bias = fast.balancing_bias = random(config.count, seed=seed).float()
    routing = fast.route(random(6, 8, seed=seed).float())
    choices = [choose(logits, config, bias) for logits in routing.logits]
    assert [[choice.expert for choice in chosen] for chosen in choices] == routing.chosen.tolist()
    weights = torch.stack([torch.stack([choice.weight for choice in chosen]) for chosen in choices])
    torch.testing.assert_close(weights, routing.weights)
    if config.normalise:
        torch.testing.assert_close(weights.sum(dim=1), torch.full((6,), config.scale))
    torch.testing.assert_close(load_balancing_loss(routing.logits, choices), balance_loss(routing))


def test_balancing_bias_decides_who_not_how_much() -> None:
    config = ExpertConfig(count=3, active=1, router="sigmoid", normalise=False)
    logits = torch.tensor([2.0, 0.0, 1.0])
    [(expert, weight)] = choose(logits, config, torch.tensor([0.0, 9.0, 0.0]))
    assert (expert, weight.item()) == (1, 0.5)
    [(expert, _)] = choose(logits, config)
    assert expert == 0


def test_groups_rule_out_experts() -> None:
    config = ExpertConfig(count=4, active=2, groups=2, active_groups=1)
    logits = torch.tensor([3.0, 0.0, 2.0, 2.0])  # best expert alone, or the best pair
    assert [choice.expert for choice in choose(logits, config)] == [0, 1]
    config = ExpertConfig(count=4, active=2, groups=2, active_groups=1, router="sigmoid")
    assert [choice.expert for choice in choose(logits, config)] == [2, 3]


def test_mixing_weighs_what_the_experts_say() -> None:
    config = ExpertConfig(count=3, active=2)
    choices = choose(torch.tensor([0.0, math.log(3.0), -5.0]), config)
    mixed = mix(torch.ones(2), choices, [lambda x: x, lambda x: 5 * x, lambda x: 100 * x])
    torch.testing.assert_close(mixed, torch.full((2,), 0.25 + 0.75 * 5))


def test_even_routing_costs_the_number_of_choices_and_uneven_more() -> None:
    config = ExpertConfig(count=4, active=2)
    even = 9 * torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 1]])
    uneven = 9 * torch.tensor([[1.0, 1, 0, 0], [1, 1, 0, 0]])
    losses = [load_balancing_loss(logits, [choose(token, config) for token in logits]) for logits in (even, uneven)]
    assert losses[0].item() == pytest.approx(2)
    assert losses[1].item() == pytest.approx(4, abs=0.01)
