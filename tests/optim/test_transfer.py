"""Learning rates at other widths than that they were tuned at: μP's coordinate check, and the plain rule.

After some steps, what the layers give must have changed by as much in a wide model as in a narrow one (Yang et al.
2022, "Tensor Programs V", appendix D.1), and so must each matrix, by its spectral norm (Yang, Simon & Bernstein 2023,
"A spectral condition for feature learning"). Without μP both change more the wider the model is.
"""

from dataclasses import dataclass, replace
from functools import cache
from statistics import median

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.seeding import torch_rng
from groundup.dataloader import Batch
from groundup.model import ModelConfig, Record, Transformer
from groundup.model.config import AttentionConfig, ExpertConfig
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig, build_optimizers

TUNED, WIDTHS = 32, (32, 64, 128)
VOCABULARY, STEPS, RATE, MATRIX_RATE = 32, 5, 0.004, 0.02
HEADS = ("more heads", "larger heads")
OPTIMIZERS = {
    "AdamW": OptimizerConfig(0.0, RATE, weight_decay=0.0),
    "Muon": OptimizerConfig(MATRIX_RATE, RATE, weight_decay=0.0),
    "Lion": OptimizerConfig(RATE / 2, RATE, "lion", weight_decay=0.0),
}
every_optimizer = pytest.mark.parametrize("optimizer", OPTIMIZERS.values(), ids=OPTIMIZERS)


@dataclass(frozen=True)
class Changed:
    """By how much, after a few steps."""

    outputs: dict[str, float]
    """Root mean square of the change of the stream and of the logits."""
    weights: dict[str, float]
    """Of each matrix: the largest change of what it gives over the size of what it reads, both root mean square."""
    loss: float
    """After them."""


@torch.no_grad()
def outputs(model: Transformer, ids: Tensor) -> dict[str, Tensor]:
    record = Record()
    logits = model(ids, record=record)
    return {"stream": record.residuals[-1], "logits": logits}


def gain(name: str, change: Tensor, logits_scale: float) -> float:
    """What :class:`Changed` tells of a matrix [..., out, in]; a table is read one row at a time."""
    if name == "embedding.weight":
        return float(change.square().mean().sqrt())
    rows, columns = change.shape[-2:]
    largest = torch.linalg.matrix_norm(change, 2).max()
    return float(largest * (columns / rows) ** 0.5) * (logits_scale if name == "head.weight" else 1.0)


@cache
def changed(width: int, mup: bool, config: OptimizerConfig, heads: str = "more heads") -> Changed:
    """After ``STEPS`` steps of a model with an ordinary layer and one of experts."""
    larger = heads == "larger heads"
    shape = ModelConfig(
        layers=2,
        width=width,
        heads=TUNED // 16 if larger else width // 16,
        hidden=4 * width,
        context=16,
        tied=False,
        mup_width=TUNED if mup else 0,
        experts=ExpertConfig(count=4, active=2, dense_layers=1),
        attention=AttentionConfig(scale=16**0.5 / (16 * width // TUNED) if larger else 0.0),
    )
    model = Transformer(shape, VOCABULARY).initialise(torch_rng(1))
    ids = torch.randint(VOCABULARY, (8, 17), generator=torch.Generator().manual_seed(0))
    batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, 128)
    first = {name: parameter.detach().clone() for name, parameter in model.named_parameters() if parameter.ndim > 1}
    before = outputs(model, batch.tensors["inputs"])
    optimizers = build_optimizers(model, config)
    for _ in range(STEPS):
        (next_token(model, batch) / batch.weight).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    last, after = dict(model.named_parameters()), outputs(model, batch.tensors["inputs"])
    with torch.no_grad():
        return Changed(
            {name: float((after[name] - before[name]).square().mean().sqrt()) for name in before},
            {name: gain(name, last[name] - weights, model.config.logits_scale) for name, weights in first.items()},
            float(next_token(model.eval(), batch)) / batch.weight,
        )


def spread(values: list[float]) -> float:
    return max(values) / min(values)


@every_optimizer
@pytest.mark.parametrize("heads", HEADS)
def test_with_mup_steps_are_as_large_at_any_width(optimizer: OptimizerConfig, heads: str) -> None:
    seen = [changed(width, True, optimizer, heads) for width in WIDTHS]
    for name in seen[0].outputs:
        assert spread([one.outputs[name] for one in seen]) < 1.5, name
    spreads = {name: spread([one.weights[name] for one in seen]) for name in seen[0].weights}
    assert max(spreads.values()) < 2.2, spreads
    assert median(spreads.values()) < 1.5, spreads


@every_optimizer
def test_without_it_wide_models_take_larger_steps(optimizer: OptimizerConfig) -> None:
    """Matrices by the width, with Muon by its root; head and router, which have AdamW, by the width."""
    seen = [changed(width, False, optimizer) for width in WIDTHS]
    stream = [one.outputs["stream"] for one in seen]
    assert stream == sorted(stream) and spread(stream) > 1.8
    for name in seen[0].weights:
        sizes = [one.weights[name] for one in seen]
        if name == "embedding.weight":
            assert spread(sizes) < 1.3
        else:
            by_root = optimizer.rule == "muon" and not name.endswith(("head.weight", "router.weight"))
            assert sizes == sorted(sizes) and spread(sizes) > (1.6 if by_root else 2.0), name


@every_optimizer
def test_with_mup_wider_is_better(optimizer: OptimizerConfig) -> None:
    losses = [changed(width, True, optimizer).loss for width in WIDTHS]
    assert losses == sorted(losses, reverse=True)


def test_at_the_tuned_width_nothing_changes() -> None:
    shape = ModelConfig(layers=1, width=128, tied=False, experts=ExpertConfig(count=4))
    models = [Transformer(replace(shape, mup_width=width), 11).initialise(torch_rng(1)) for width in (0, 128)]
    for weights, same in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(weights, same)
    ids = torch.arange(8)[None]
    assert torch.equal(models[0](ids), models[1](ids))
    groups = [[g for o in build_optimizers(m, OptimizerConfig()) for g in o.param_groups] for m in models]
    for one, other in zip(*groups, strict=True):
        assert {**one, "params": 0} == {**other, "params": 0}


@given(depth=st.integers(1, 40))
def test_more_heads_score_alike(depth: int) -> None:
    """A wider model's heads are no larger, so that neither are their scores."""
    config = ModelConfig(depth=depth, tied=False, mup_width=128).resolved()
    assert config.attention_scale == 1 / 8 and config.heads == depth


@every_optimizer
@pytest.mark.parametrize("mup_width", [0, TUNED])
def test_decay_takes_the_same_share_of_all_matrices(optimizer: OptimizerConfig, mup_width: int) -> None:
    """Rate times decay, whatever the width: μP shrinks the rate of a matrix, not how fast it forgets."""
    config = ModelConfig(layers=1, width=256, tied=False, mup_width=mup_width, experts=ExpertConfig(count=4))
    optimizers = build_optimizers(Transformer(config, 11), replace(optimizer, weight_decay=0.1))
    groups = [group for optimizer in optimizers for group in optimizer.param_groups]
    taken = {round(group["lr"] * group["weight_decay"], 10) for group in groups}
    assert taken == {0.0, RATE * 0.1, (optimizer.matrix_rate or RATE) * 0.1}


@given(tuned=st.integers(1, 4096), width=st.integers(1, 4096), matrix_rate=st.floats(0, 1), rate=st.floats(1e-6, 1))
def test_the_plain_rule_is_the_root_of_the_ratio(tuned: int, width: int, matrix_rate: float, rate: float) -> None:
    config = OptimizerConfig(matrix_rate, rate, tuned_width=tuned)
    other = config.for_width(width)
    factor = (tuned / width) ** 0.5
    assert (other.rate, other.matrix_rate) == (pytest.approx(rate * factor), pytest.approx(matrix_rate * factor))
    assert replace(other, rate=rate, matrix_rate=matrix_rate, tuned_width=tuned) == config  # the rates and no more
    assert other.for_width(width) is other  # it is said once, so that it cannot be done twice
    assert other.for_width(tuned).rate == pytest.approx(rate)


def test_rates_that_name_no_width_are_used_as_they_are() -> None:
    config = OptimizerConfig()
    assert config.for_width(8192) is config
