"""The policy gradient against REINFORCE, and the clip that stops it."""

import math

import pytest
import torch
from torch import Tensor

from groundup.dataloader import Batch, pack
from groundup.model import ModelConfig, Transformer
from groundup.objectives import PolicyGradient, token_log_probabilities
from groundup.objectives.policy import clipped_policy_loss, group_advantages


def test_group_advantages_closed_form() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    centred = torch.tensor([[0.75, -0.25, -0.25, -0.25], [0.5, 0.5, -0.5, -0.5], [0.0, 0.0, 0.0, 0.0]])
    torch.testing.assert_close(group_advantages(rewards, normalise=False), centred)
    deviations = torch.tensor([[math.sqrt(3) / 4], [0.5], [0.0]]) + 1e-4
    torch.testing.assert_close(group_advantages(rewards), centred / deviations)


@pytest.fixture
def model() -> Transformer:
    model = Transformer(ModelConfig(1, 16, 2, 1, 24, 32), 29)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0 if parameter.ndim > 1 else 1, 0.3, generator=generator)
    return model


@pytest.fixture
def batch() -> Batch:
    answers = [([1, 2, 3, 4, 5], [False, False, True, True, True]), ([6, 7, 8], [False, False, True])]
    return Batch({**pack([[answer] for answer in answers], 6, 0), "advantages": torch.tensor([1.5, -0.5])}, weight=4)


def gradient(model: Transformer, loss: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def test_at_ratio_one_the_gradient_is_reinforce(model: Transformer, batch: Batch) -> None:
    by_token = token_log_probabilities(model, batch)
    reinforce = -(1.5 * by_token[0].sum() - 0.5 * by_token[1].sum())
    expected = gradient(model, reinforce)
    torch.testing.assert_close(gradient(model, PolicyGradient()(model, batch)), expected, atol=1e-6, rtol=1e-4)
    old = token_log_probabilities(model, batch).detach()
    recorded = Batch({**batch.tensors, "old": old}, batch.weight)
    torch.testing.assert_close(gradient(model, PolicyGradient()(model, recorded)), expected, atol=1e-6, rtol=1e-4)


def test_the_ratio_is_taken_against_the_recorded_policy(model: Transformer, batch: Batch) -> None:
    now = token_log_probabilities(model, batch).detach()
    recorded = Batch({**batch.tensors, "old": now - math.log(1.1)}, batch.weight)
    loss = PolicyGradient(clip=0.2)(model, recorded)
    assert loss.item() == pytest.approx(-1.1 * (3 * 1.5 - 0.5), rel=1e-4)


@pytest.mark.parametrize(
    ("ratio", "advantage", "moves"),
    [(1.3, 1.0, False), (1.1, 1.0, True), (0.7, 1.0, True), (0.7, -1.0, False), (0.9, -1.0, True), (1.3, -1.0, True)],
)
def test_clipping_stops_the_gradient_only_in_the_direction_already_taken(
    ratio: float, advantage: float, moves: bool
) -> None:
    now = torch.tensor([[math.log(ratio)]], requires_grad=True)
    clipped_policy_loss(now, torch.zeros(1, 1), torch.tensor([[advantage]]), clip=0.2).sum().backward()
    expected = -ratio * advantage if moves else 0.0
    assert float(now.grad) == pytest.approx(expected)  # type: ignore[arg-type]


def test_padding_and_prompts_count_nothing(model: Transformer, batch: Batch) -> None:
    longer = Batch({**wider(batch), "advantages": batch.tensors["advantages"]}, 4)
    torch.testing.assert_close(PolicyGradient()(model, longer), PolicyGradient()(model, batch))


def wider(batch: Batch) -> dict[str, Tensor]:
    """The same rows with three more padded columns."""
    filling = {"inputs": 28, "targets": -100, "positions": 0, "segments": -1}
    return {name: torch.cat([batch.tensors[name], torch.full((2, 3), value)], dim=1) for name, value in filling.items()}
