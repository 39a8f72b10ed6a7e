"""Muon against the plain rule, and how it treats what it is given."""

from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.optim import Muon
from groundup.optim.orthogonal import Iteration, quintics
from groundup.optim.plain import muon

SHAPES = [(16, 16), (24, 8), (8, 40), (16, 16), (40, 8)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def stepped(optimizer: torch.optim.Optimizer, weights: list[Any], steps: int, first: int = 0) -> list[list[Tensor]]:
    """Take steps with made-up gradients, which are returned; they must be left alone."""
    history = []
    for step in range(first, first + steps):
        gradients = [random(*w.shape, seed=100 * step + number).to(w.dtype) for number, w in enumerate(weights)]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        assert all(torch.equal(w.grad, g) for w, g in zip(weights, gradients, strict=True))
        history.append(gradients)
    return history


def parameters(*shapes: tuple[int, ...]) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(random(*shape, seed=number).double()) for number, shape in enumerate(shapes)]


@pytest.mark.parametrize("iteration", ["newton-schulz", "polar-express"])
@pytest.mark.parametrize("steps", [3, 5])
def test_it_equals_the_plain_rule(iteration: Iteration, steps: int) -> None:
    polynomials = quintics(iteration, steps)
    weights = parameters(*SHAPES)
    expected = [weight.detach().clone() for weight in weights]
    optimizer = Muon(weights, 0.03, 0.9, 0.2, polynomials=polynomials, dtype=torch.float64)
    history = stepped(optimizer, weights, 5)
    means = [torch.zeros_like(weight) for weight in expected]
    for gradients in history:
        for number, gradient in enumerate(gradients):
            expected[number], means[number] = muon(
                expected[number],
                gradient,
                means[number],
                rate=0.03,
                momentum=0.9,
                decay=0.2,
                polynomials=polynomials,
            )
    for weight, reference in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), reference, atol=1e-6, rtol=0.0)


def test_the_experts_of_a_stack_are_matrices_of_their_own() -> None:
    (stack,) = parameters((3, 8, 20))
    matrices = [torch.nn.Parameter(matrix.clone()) for matrix in stack.detach()]
    one, other = (Muon(p, 0.1, dtype=torch.float64) for p in ([stack], matrices))
    for step in range(3):
        stack.grad = random(3, 8, 20, seed=step).double()
        for number, matrix in enumerate(matrices):
            matrix.grad = stack.grad[number]
        one.step()
        other.step()
    torch.testing.assert_close(stack.detach(), torch.stack([matrix.detach() for matrix in matrices]))


def test_a_turned_matrix_gets_the_turned_update() -> None:
    """And both are in one stack."""
    (upright,) = parameters((20, 8))
    lying = torch.nn.Parameter(upright.detach().T.clone())
    optimizer = Muon([upright, lying], 0.1, dtype=torch.float64)
    for step in range(3):
        upright.grad = random(20, 8, seed=step).double()
        lying.grad = upright.grad.T.clone()
        optimizer.step()
    torch.testing.assert_close(upright.detach(), lying.detach().T)


def test_the_update_has_the_size_of_an_adamw_update() -> None:
    for shape in SHAPES:
        weight = torch.nn.Parameter(torch.zeros(shape))
        stepped(Muon([weight], lr=1.0), [weight], 1)
        assert 0.12 < weight.detach().square().mean().sqrt() < 0.28


def test_a_matrix_without_gradient_stays() -> None:
    moved, still = parameters((4, 4), (4, 4))
    before = still.detach().clone()
    optimizer = Muon([moved, still], lr=0.1, weight_decay=0.5)
    optimizer.step()
    moved.grad = random(4, 4, seed=2).double()
    optimizer.step()
    assert torch.equal(still, before)


def test_the_momentum_warms_up() -> None:
    """One step of the full momentum after the warm-up, from its state, is one of an optimizer without warm-up."""
    (weight,) = parameters((8, 8))
    optimizer = Muon([weight], 0.1, 0.95, momentum_warmup=4, dtype=torch.float64)
    means = torch.zeros(8, 8).double()
    for step, momentum in enumerate([0.85, 0.875, 0.9, 0.925, 0.95, 0.95]):
        stepped(optimizer, [weight], 1, first=step)
        means.lerp_(random(8, 8, seed=100 * step).double(), 1 - momentum)
        torch.testing.assert_close(optimizer.state[weight]["momentum"], means)


def test_a_low_momentum_does_not_warm_up() -> None:
    (weight,) = parameters((8, 8))
    optimizer = Muon([weight], 0.1, 0.5, momentum_warmup=4)
    stepped(optimizer, [weight], 1)
    torch.testing.assert_close(optimizer.state[weight]["momentum"], 0.5 * random(8, 8).double())
