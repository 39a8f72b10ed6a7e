"""Muon against a singular value decomposition, a plain loop, and PyTorch's own."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.optim import Muon, orthogonalise

SHAPES = [(16, 16), (24, 8), (8, 40)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 24), columns=st.integers(2, 24), scale=st.floats(1e-4, 1e4), seed=st.integers(0, 99))
def test_orthogonalise_keeps_directions_and_levels_strengths(rows: int, columns: int, scale: float, seed: int) -> None:
    rank = min(rows, columns)
    left, _ = torch.linalg.qr(random(rows, rank, seed=seed))
    right, _ = torch.linalg.qr(random(columns, rank, seed=seed + 1))
    strengths = torch.linspace(1.0, 0.1, rank)
    levelled = orthogonalise(left @ (scale * strengths).diag() @ right.mT)
    seen = left.mT @ levelled @ right  # diagonal if the directions are kept
    torch.testing.assert_close(seen, seen.diagonal().diag(), atol=1e-3, rtol=0.0)
    assert seen.diagonal().min() > 0.5 and seen.diagonal().max() < 1.3
    torch.testing.assert_close(levelled, left @ seen @ right.mT, atol=1e-3, rtol=0.0)


def test_orthogonalise_takes_stacks_and_zeros() -> None:
    stack = torch.stack([random(6, 9), torch.zeros(6, 9), random(6, 9, seed=1)])
    together = orthogonalise(stack)
    torch.testing.assert_close(together[2], orthogonalise(stack[2]))
    assert not together[1].any()


def plain_muon(weight: Tensor, gradients: list[Tensor], lr: float, momentum: float, decay: float) -> Tensor:
    buffer = torch.zeros_like(weight)
    for gradient in gradients:
        buffer = momentum * buffer + (1 - momentum) * gradient
        update = orthogonalise(momentum * buffer + (1 - momentum) * gradient)
        weight = weight - lr * decay * weight - lr * 0.2 * math.sqrt(max(weight.shape)) * update
    return weight


def stepped(optimizer: torch.optim.Optimizer, weights: list[Tensor], steps: int) -> list[list[Tensor]]:
    """Take steps with made-up gradients, which are returned; ours must leave them alone."""
    history = []
    for step in range(steps):
        gradients = [random(*w.shape, seed=100 * step + number) for number, w in enumerate(weights)]
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient.clone()
        optimizer.step()
        assert all(torch.equal(w.grad, g) for w, g in zip(weights, gradients, strict=True))  # type: ignore[arg-type]
        history.append(gradients)
    return history


def test_muon_equals_the_plain_loop() -> None:
    start = [random(*shape, seed=number) for number, shape in enumerate([*SHAPES, SHAPES[0]])]
    weights = [torch.nn.Parameter(weight.clone()) for weight in start]
    history = stepped(Muon(weights, lr=0.03, momentum=0.9, weight_decay=0.2), weights, 5)
    for number, weight in enumerate(weights):
        expected = plain_muon(start[number], [step[number] for step in history], 0.03, 0.9, 0.2)
        torch.testing.assert_close(weight.detach(), expected, atol=1e-5, rtol=1e-5)


def test_the_update_has_the_size_of_an_adamw_update() -> None:
    for shape in SHAPES:
        weight = torch.nn.Parameter(torch.zeros(shape))
        stepped(Muon([weight], lr=1.0), [weight], 1)
        assert 0.12 < weight.detach().square().mean().sqrt() < 0.28


def test_a_matrix_without_gradient_stays() -> None:
    moved, still = (torch.nn.Parameter(random(4, 4, seed=seed)) for seed in (0, 1))
    before = still.detach().clone()
    moved.grad = random(4, 4, seed=2)
    Muon([moved, still], lr=0.1, weight_decay=0.5).step()
    assert torch.equal(still, before)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon of its own")
def test_muon_equals_pytorchs() -> None:
    """Both iterate in bfloat16, in different orders of rounding: updates agree to a few parts in a hundred."""
    start = [random(*shape, seed=number) for number, shape in enumerate(SHAPES)]
    ours, theirs = ([torch.nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    options = {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.1}
    stepped(Muon(ours, dtype=torch.bfloat16, **options), ours, 6)  # type: ignore[arg-type]
    builtin = torch.optim.Muon(theirs, nesterov=True, adjust_lr_fn="match_rms_adamw", **options)
    stepped(builtin, theirs, 6)
    for mine, reference, before in zip(ours, theirs, start, strict=True):
        assert (mine - reference).norm() < 0.03 * (reference - before).norm()
