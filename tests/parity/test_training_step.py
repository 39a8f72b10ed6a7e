"""A step of the training loop against the plain decoder, in float64, sequence by sequence, with a mean at the end."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from groundup.core.device import Numerics
from groundup.core.seeding import torch_rng
from groundup.dataloader import IGNORED, Batch, pack
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig
from groundup.model.plain import plain_logits
from groundup.objectives import cross_entropy, next_token
from groundup.training.step import LossScale, Stepper
from groundup.training.working import Working

CPU = torch.device("cpu")
FLOAT32 = Numerics(torch.float32, "a test")
TIME, VOCABULARY = 12, 40
SHAPE: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "hidden": 24, "context": TIME}
LLAMA = ModelConfig(**SHAPE, init="normal", tied=True)
GPT2 = ModelConfig(
    **{**SHAPE, "kv_heads": 2}, init="normal", norm="layer", bias="all", feed_forward="gelu", qk_norm="none"
)
SEQUENCES = [
    [(7 * first + 3 * i + i * i) % VOCABULARY for i in range(length)]
    for first, length in enumerate((5, 8, 3, 13, 9, 4, 6, 11, 2, 13, 7, 5, 10, 3))
]


def model_of(config: ModelConfig) -> Transformer:
    return Transformer(config, VOCABULARY).initialise(torch_rng(0, "weights"))


def packed() -> Tensor:
    """Which sequence goes to which of 8 rows: first fit."""
    rows: list[list[list[int]]] = [[] for _ in range(8)]
    for sequence in SEQUENCES:
        row = next(row for row in rows if sum(len(s) - 1 for s in row) + len(sequence) - 1 <= TIME)
        row.append(sequence)
    return pack([[(s, [True] * len(s)) for s in row] for row in rows], TIME, 0)


def padded() -> dict[str, Tensor]:
    return pack([[(s, [True] * len(s))] for s in SEQUENCES], TIME, 0)


def micro_batches(tensors: dict[str, Tensor], parts: int) -> list[Batch]:
    whole = Batch(tensors, int((tensors["targets"] != IGNORED).sum()))
    return whole.split(parts)


def by_hand(config: ModelConfig, model: Transformer) -> tuple[float, dict[str, Tensor]]:
    """Mean loss over all targets, and its gradients, in float64."""
    weights = {name: w.detach().double().requires_grad_() for name, w in model.named_parameters()}
    named = {**weights, "head.weight": weights.get("head.weight", weights["embedding.weight"])}
    losses = [
        F.cross_entropy(plain_logits(config, named, torch.tensor(s[:-1])), torch.tensor(s[1:]), reduction="sum")
        for s in SEQUENCES
    ]
    loss = torch.stack(losses).sum() / sum(len(s) - 1 for s in SEQUENCES)
    loss.backward()
    return float(loss.detach()), {name: w.grad for name, w in weights.items() if w.grad is not None}


def compare(
    config: ModelConfig, stepper: Stepper, micro: list[Batch], relative: float = 1e-6, share: float = 2e-6
) -> None:
    """Loss and every gradient; ``share`` is of a gradient's largest entry."""
    model = stepper.working.master
    measured = stepper.gradients(micro, 0)
    expected, gradients = by_hand(config, model)
    assert measured is not None
    assert measured.loss == pytest.approx(expected, rel=relative)
    norm = torch.stack([gradient.norm() for gradient in gradients.values()]).norm()
    assert measured.gradient_norm == pytest.approx(float(norm), rel=10 * relative)
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.dtype is torch.float32
        error = (parameter.grad.double() - gradients[name]).abs().max() / gradients[name].abs().max()
        assert error < share, (name, float(error))


@pytest.fixture(params=["none", "block", "selective"])
def recompute(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield request.param


@pytest.mark.parametrize("accumulation", [1, 2, 4, 8])
@pytest.mark.parametrize("laid_out", [packed, padded])
@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("config", [LLAMA, GPT2], ids=["llama", "gpt2"])
def test_a_step_is_that_of_a_plain_loop(
    accumulation: int,
    laid_out: Any,
    chunked: bool,
    config: ModelConfig,
    recompute: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if chunked:
        monkeypatch.setattr(cross_entropy, "LEAST_TOKENS", 5)
        monkeypatch.setattr(cross_entropy, "LOGITS", 5 * VOCABULARY)
    model = model_of(config)
    stepper = Stepper(Working(model, CPU, FLOAT32, recompute), next_token, FLOAT32, CPU, 1.0, 0)
    compare(config, stepper, micro_batches(laid_out(), accumulation))


@pytest.mark.parametrize("split", [2, 4, 64])
def test_parts_of_a_micro_batch_change_nothing(split: int) -> None:
    stepper = Stepper(Working(model_of(LLAMA), CPU, FLOAT32), next_token, FLOAT32, CPU, 1.0, 0, split=split)
    compare(LLAMA, stepper, micro_batches(padded(), 2))


def test_a_scaled_loss_changes_nothing() -> None:
    stepper = Stepper(
        Working(model_of(LLAMA), CPU, FLOAT32), next_token, FLOAT32, CPU, 1.0, 0, scale=LossScale(2.0**16)
    )
    compare(LLAMA, stepper, micro_batches(padded(), 2))


def test_bfloat16_weights_are_those_of_the_master_rounded() -> None:
    """Forward and backward read rounded weights; the master's gradients are float32 and nearly right."""
    numerics = Numerics(torch.bfloat16, "a test", weights=torch.bfloat16)
    working = Working(model_of(LLAMA), CPU, numerics)
    assert not working.is_master
    for master, copy in working.pairs:
        assert copy.dtype is torch.bfloat16 and torch.equal(copy, master.bfloat16())
    compare(LLAMA, Stepper(working, next_token, numerics, CPU, 1.0, 0), micro_batches(packed(), 4), 2e-2, 8e-2)


def test_a_small_update_is_not_lost_in_bfloat16_weights() -> None:
    numerics = Numerics(torch.bfloat16, "a test", weights=torch.bfloat16)
    working = Working(model_of(LLAMA), CPU, numerics)
    stepper = Stepper(working, next_token, numerics, CPU, 1e9, 0)
    optimizer = torch.optim.SGD(working.master.parameters(), lr=1e-6)
    optimizer.param_groups[0]["full_lr"] = 1e-6
    before = working.master.embedding.weight.detach().clone()
    for step in range(3):
        assert stepper.gradients(micro_batches(packed(), 1), step)
        stepper.update([optimizer], 1.0, 1.0)
        working.clear()
    assert not torch.equal(working.master.embedding.weight, before)
    assert torch.equal(working.model.embedding.weight, working.master.embedding.weight.bfloat16())


@pytest.mark.parametrize("recompute", ["none", "block"])
def test_experts_are_balanced_alike_in_a_working_copy(recompute: Any) -> None:
    experts = ExpertConfig(count=4, active=2, router="sigmoid", bias_rate=0.01)
    config = ModelConfig(**SHAPE, init="normal", experts=experts)
    biases = []
    for numerics in (FLOAT32, Numerics(torch.bfloat16, "a test", weights=torch.bfloat16)):
        working = Working(model_of(config), CPU, numerics, recompute)
        stepper = Stepper(working, next_token, FLOAT32, CPU, 1.0, 0)
        working.train()
        stepper.gradients(micro_batches(packed(), 2), 0)
        stepper.update([], 1.0, 1.0)
        bias = working.master.blocks[0].feed_forward.balancing_bias
        assert isinstance(bias, Tensor) and bias.abs().max() == pytest.approx(0.01)
        biases.append(bias.sign())
    assert (biases[0] == biases[1]).float().mean() >= 0.75  # a token may choose otherwise with rounded weights


def test_gradients_are_clipped_to_the_norm() -> None:
    working = Working(model_of(LLAMA), CPU, FLOAT32)
    stepper = Stepper(working, next_token, FLOAT32, CPU, 0.01, 0)
    measured = stepper.gradients(micro_batches(packed(), 1), 0)
    assert measured is not None and measured.gradient_norm > 0.01
    stepper.update([], measured.gradient_norm, 1.0)
    gradients = [parameter.grad for parameter in working.master.parameters() if parameter.grad is not None]
    assert float(torch.nn.utils.get_total_norm(gradients)) == pytest.approx(0.01, rel=1e-3)


def test_the_loss_scale_follows_overflow() -> None:
    scale = LossScale(8.0)
    scale.update(False)
    assert scale.factor == 4.0
    for _ in range(2000):
        scale.update(True)
    assert (scale.factor, scale.good) == (8.0, 0)
    for _ in range(9):
        scale.update(False)
    assert scale.factor == 1.0
