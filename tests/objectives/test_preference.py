"""DPO against its closed form."""

import math

import pytest
import torch

from groundup.objectives.preference import dpo_loss


def test_dpo_loss_closed_form() -> None:
    chosen, rejected = torch.tensor([2.0, -1.0, 0.5]), torch.tensor([0.0, 1.0, 0.5])
    expected = sum(math.log1p(math.exp(-0.3 * margin)) for margin in (2.0, -2.0, 0.0))
    assert float(dpo_loss(chosen, rejected, 0.3)) == pytest.approx(expected)


def test_at_the_reference_each_pair_costs_one_bit() -> None:
    assert float(dpo_loss(torch.zeros(4), torch.zeros(4), 0.1)) == pytest.approx(4 * math.log(2))


def test_the_gradient_is_beta_times_the_probability_of_being_wrong() -> None:
    chosen, rejected = (torch.tensor([value], requires_grad=True) for value in (0.7, -0.4))
    dpo_loss(chosen, rejected, 0.5).backward()
    wrong = 1 / (1 + math.exp(0.5 * 1.1))
    assert float(chosen.grad) == pytest.approx(-0.5 * wrong)  # type: ignore[arg-type]
    assert float(rejected.grad) == pytest.approx(0.5 * wrong)  # type: ignore[arg-type]


def test_hopeless_pairs_stay_finite() -> None:
    chosen = torch.tensor([-1e4], requires_grad=True)
    loss = dpo_loss(chosen, torch.tensor([1e4]), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(2e4)
    assert float(chosen.grad) == pytest.approx(-1.0)  # type: ignore[arg-type]
