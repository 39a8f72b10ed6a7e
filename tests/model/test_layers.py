"""Dropout: what its definition says of the share, the mean, the gradient and the noise."""

import pytest
import torch

from groundup.model.layers import dropout


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
def test_a_share_of_the_elements_is_zero_and_the_others_keep_the_mean(share: float) -> None:
    torch.manual_seed(0)
    count = 200_003  # no multiple of the elements that one draw serves
    made = dropout(torch.ones(count), share, training=True)
    zeros = float((made == 0).float().mean())
    assert abs(zeros - share) < 5 * (share * (1 - share) / count) ** 0.5
    assert torch.allclose(made[made != 0], torch.tensor(1 / (1 - share)), rtol=2e-4)
    neighbours = (made[:-1] == 0) & (made[1:] == 0)
    assert abs(float(neighbours.float().mean()) - share**2) < 0.005  # independent


def test_the_gradient_passes_where_the_value_did_and_one_seed_is_one_noise() -> None:
    x = torch.randn(3, 5, 7, requires_grad=True)
    torch.manual_seed(1)
    made = dropout(x, 0.4, training=True)
    made.sum().backward()
    assert x.grad is not None
    assert torch.equal(made, x * x.grad)
    torch.manual_seed(1)
    assert torch.equal(made, dropout(x, 0.4, training=True))


@pytest.mark.parametrize(("share", "training"), [(0.0, True), (0.5, False)])
def test_nothing_is_dropped_without_a_share_or_outside_training(share: float, training: bool) -> None:
    x = torch.randn(4, 4)
    assert torch.equal(dropout(x, share, training), x)


def test_all_but_everything_can_be_dropped() -> None:
    assert torch.isfinite(dropout(torch.ones(1000), 1 - 1e-9, training=True)).all()
