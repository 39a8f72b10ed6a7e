"""Two ways to even loads of experts: the balancing loss, and the bias that moves against the load without one."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.seeding import torch_rng
from groundup.dataloader import IGNORED, Batch
from groundup.model import ModelConfig, Record, Transformer
from groundup.model.config import ExpertConfig
from groundup.model.experts import Experts, Routing, balance_loss
from groundup.objectives import next_token

VOCABULARY = 24


def routing_of(logits: Tensor, active: int) -> Routing:
    weights, chosen = logits.softmax(dim=-1).topk(active, dim=-1)
    return Routing(logits, weights, chosen)


some_routing = {
    "tokens": st.integers(1, 30),
    "count": st.integers(2, 9),
    "active": st.integers(1, 2),
    "seed": st.integers(0, 99),
}


def random_logits(tokens: int, count: int, seed: int) -> Tensor:
    return 3 * torch.randn(tokens, count, generator=torch.Generator().manual_seed(seed))


@given(**some_routing)
def test_balance_loss_is_that_of_transformers(tokens: int, count: int, active: int, seed: int) -> None:
    mixtral = pytest.importorskip("transformers.models.mixtral.modeling_mixtral")
    logits = random_logits(tokens, count, seed)
    theirs = mixtral.load_balancing_loss_func((logits,), count, active)
    torch.testing.assert_close(balance_loss(routing_of(logits, active)), theirs)


@given(**some_routing)
def test_balance_loss_is_the_paper_s_sum(tokens: int, count: int, active: int, seed: int) -> None:
    """Fedus et al. 2022, equations 4 to 6: N · Σ f · P."""
    routing = routing_of(random_logits(tokens, count, seed), active)
    expected = 0.0
    for expert in range(count):
        share = sum(expert in row for row in routing.chosen.tolist()) / tokens
        probability = sum(float(row.softmax(0)[expert]) for row in routing.logits) / tokens
        expected += count * share * probability
    assert float(balance_loss(routing)) == pytest.approx(expected, rel=1e-4)


def test_balance_loss_has_its_bounds_at_even_and_at_one_sided_routing() -> None:
    even = torch.eye(4).repeat(3, 1) * 50
    torch.testing.assert_close(balance_loss(routing_of(even, 1)), torch.tensor(1.0))
    one_sided = torch.tensor([50.0, 0.0, 0.0, 0.0]).repeat(12, 1)
    torch.testing.assert_close(balance_loss(routing_of(one_sided, 1)), torch.tensor(4.0))


def skewed(**experts: Any) -> tuple[Experts, Tensor]:
    """A layer whose router sends nearly all tokens to the first two of six experts, and such tokens."""
    config = ExpertConfig(**{"count": 6, "active": 2, "hidden": 16, **experts})
    layer = Experts(ModelConfig(width=32, experts=config)).train()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0.0, parameter.shape[-1] ** -0.5, generator=generator)
        layer.router.weight[:2] += 0.1
    return layer, torch.randn(256, 32, generator=generator) + 1.0


@torch.no_grad()
def unevenness(layer: Experts, x: Tensor) -> float:
    """Load of the busiest expert over the mean load: 1 is even, and 3 when all choose the same two of six."""
    load = torch.bincount(layer.route(x).chosen.flatten(), minlength=6).float()
    return float(load.max() / load.mean())


def trained(layer: Experts, x: Tensor, steps: int = 80) -> None:
    """To give what a fixed random matrix gives."""
    wanted = x @ torch.randn(32, 32, generator=torch.Generator().manual_seed(1)) / 32**0.5
    optimizer = torch.optim.AdamW(layer.parameters(), 0.003)
    for _ in range(steps):
        record = Record()
        loss = (layer(x[None], record)[0] - wanted).square().mean()
        (loss + layer.config.balance * balance_loss(record.routing[0])).backward()
        optimizer.step()
        optimizer.zero_grad()
        layer.rebalance()


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
def test_left_alone_loads_stay_uneven(router: str) -> None:
    layer, x = skewed(router=router, balance=0.0)
    assert unevenness(layer, x) > 2.5
    trained(layer, x)
    assert unevenness(layer, x) > 2.0


@pytest.mark.parametrize(
    "way", [{"balance": 0.1}, {"router": "sigmoid", "balance": 0.0, "bias_rate": 0.01}], ids=["loss", "bias"]
)
def test_loads_become_even(way: dict[str, Any]) -> None:
    layer, x = skewed(**way)
    assert unevenness(layer, x) > 2.5
    trained(layer, x)
    assert unevenness(layer, x) < 1.35


def model_with(**experts: Any) -> Transformer:
    config = ExpertConfig(**{"count": 6, "active": 2, "hidden": 16, **experts})
    model = Transformer(ModelConfig(layers=2, width=32, heads=2, context=16, experts=config), VOCABULARY)
    return model.initialise(torch_rng(1)).train()


def some_batch(seed: int) -> Batch:
    ids = torch.randint(VOCABULARY, (8, 17), generator=torch.Generator().manual_seed(seed))
    return Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, 128)


def test_the_bias_moves_against_the_load_and_nothing_else_does() -> None:
    model = model_with(router="sigmoid", balance=0.0, bias_rate=0.125)
    weights = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    record = Record()
    for number in range(3):  # micro-batches of one step
        model(some_batch(number).tensors["inputs"], record=record)
    model.eval()(some_batch(9).tensors["inputs"])  # looking at a model counts for nothing
    model.rebalance()
    for layer, block in enumerate(model.blocks):
        chosen = torch.cat([routing.chosen.flatten() for routing in record.routing[layer::2]])
        load = torch.bincount(chosen, minlength=6).float()
        assert torch.equal(block.feed_forward.balancing_bias, 0.125 * (load.mean() - load).sign())  # type: ignore[union-attr, arg-type]
        assert not block.feed_forward.load.any()  # type: ignore[union-attr, operator]
    assert all(torch.equal(parameter, weights[name]) for name, parameter in model.named_parameters())
    before = {name: buffer.clone() for name, buffer in model.named_buffers()}
    model.rebalance()  # nothing was seen since
    assert all(torch.equal(buffer, before[name]) for name, buffer in model.named_buffers())


def test_the_bias_changes_who_is_chosen_and_never_a_weight() -> None:
    config = ModelConfig(width=16, experts=ExpertConfig(count=4, active=2, hidden=8, router="sigmoid", normalise=False))
    layer, x = Experts(config), torch.randn(20, 16, generator=torch.Generator().manual_seed(0))
    layer.balancing_bias = torch.tensor([9.0, 0.0, 0.0, 0.0])
    routing = layer.route(x)
    assert (routing.chosen == 0).any(dim=-1).all()
    torch.testing.assert_close(routing.weights, routing.logits.sigmoid().gather(-1, routing.chosen))


def test_the_objective_adds_the_mean_of_the_layers_once_per_target() -> None:
    model, batch = model_with(balance=0.25), some_batch(0)
    targets = batch.tensors["targets"].clone()
    targets[:3] = IGNORED
    batch = replace(batch, tensors={**batch.tensors, "targets": targets}, weight=80)
    record = Record()
    model(batch.tensors["inputs"], record=record)
    imbalance = torch.stack([balance_loss(routing) for routing in record.routing]).mean()
    added = next_token(model, batch) - next_token(model.eval(), batch)  # only training pays for it
    torch.testing.assert_close(added, 0.25 * imbalance * 80, rtol=1e-4, atol=1e-3)
    assert batch.metrics["imbalance"] == pytest.approx(float(imbalance.detach()))
