"""Orthogonalising against a singular value decomposition, and its polynomials against what they promise."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.optim import orthogonalise
from groundup.optim.orthogonal import Iteration, Quintic, best_quintic, polar_express, quintics
from groundup.optim.plain import orthogonal

SHAPES = [(16, 16), (24, 8), (8, 40), (1, 5)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def applied(polynomials: tuple[Quintic, ...], values: np.ndarray) -> np.ndarray:
    for a, b, c in polynomials:
        values = a * values + b * values**3 + c * values**5
    return values


@settings(max_examples=15, deadline=None)
@given(
    rows=st.integers(2, 24),
    columns=st.integers(2, 24),
    scale=st.floats(1e-4, 1e4),
    iteration=st.sampled_from(["newton-schulz", "polar-express"]),
    seed=st.integers(0, 99),
)
def test_directions_are_kept_and_strengths_levelled(
    rows: int, columns: int, scale: float, iteration: Iteration, seed: int
) -> None:
    rank = min(rows, columns)
    left, _ = torch.linalg.qr(random(rows, rank, seed=seed))
    right, _ = torch.linalg.qr(random(columns, rank, seed=seed + 1))
    strengths = torch.linspace(1.0, 0.1, rank)
    levelled = orthogonalise(left @ (scale * strengths).diag() @ right.mT, quintics(iteration, 5))
    seen = left.mT @ levelled @ right  # diagonal if the directions are kept
    torch.testing.assert_close(seen, seen.diagonal().diag(), atol=1e-3, rtol=0.0)
    assert seen.diagonal().min() > 0.5 and seen.diagonal().max() < 1.3
    torch.testing.assert_close(levelled, left @ seen @ right.mT, atol=1e-3, rtol=0.0)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("steps", [1, 2, 5])
@pytest.mark.parametrize("iteration", ["newton-schulz", "polar-express"])
def test_it_equals_the_plain_iteration(shape: tuple[int, int], steps: int, iteration: Iteration) -> None:
    polynomials = quintics(iteration, steps)
    matrix = random(*shape).double()
    expected = orthogonal(matrix, polynomials)
    torch.testing.assert_close(orthogonalise(matrix, polynomials), expected, atol=2e-5, rtol=0.0)
    torch.testing.assert_close(orthogonalise(matrix.float(), polynomials), expected.float(), atol=3e-5, rtol=0.0)
    half = orthogonalise(matrix.bfloat16(), polynomials)
    assert half.dtype == torch.bfloat16
    assert (half.double() - expected).norm() < 0.15 * expected.norm()


def test_many_steps_give_the_polar_factor() -> None:
    matrix = random(12, 30).double()
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(orthogonalise(matrix, polar_express(12, 0.01)), left @ right, atol=1e-6, rtol=0.0)


@pytest.mark.parametrize("shape", [(6, 9), (6, 7), (9, 6)])
def test_stacks_and_zeros(shape: tuple[int, int]) -> None:
    stack = torch.stack([random(*shape), torch.zeros(shape), random(*shape, seed=1)])
    together = orthogonalise(stack)
    torch.testing.assert_close(together[2], orthogonalise(stack[2]))
    assert not together[1].any()
    torch.testing.assert_close(orthogonalise(stack[None])[0], together)


@pytest.mark.parametrize("shape", [(8, 8), (8, 30)])
def test_a_matrix_of_low_rank_stays_finite(shape: tuple[int, int]) -> None:
    """Rounding gives x·xᵀ eigenvalues a little below zero, which the iteration must not blow up."""
    found = orthogonalise(random(shape[0], 2) @ random(2, shape[1], seed=1))
    strengths = torch.linalg.svdvals(found)
    assert strengths[:2].min() > 0.8 and strengths[2:].max() < 0.2


@settings(max_examples=60)
@given(low=st.floats(1e-3, 0.9), width=st.floats(0.01, 1.0), shift=st.tuples(*[st.floats(-1, 1)] * 3))
def test_no_quintic_is_nearer_to_one(low: float, width: float, shift: tuple[float, float, float]) -> None:
    high = low + width
    values = np.geomspace(low, high, 2000)
    best = best_quintic(low, high)
    error = np.abs(1 - applied((best,), values)).max()
    other = tuple(value + 0.05 * abs(value) * by for value, by in zip(best, shift, strict=True))
    assert error <= np.abs(1 - applied((other,), values)).max() + 1e-6  # type: ignore[arg-type]
    assert applied((best,), np.array([low]))[0] == pytest.approx(1 - error, abs=1e-5)


@pytest.mark.parametrize("steps", range(2, 9))
def test_the_steps_bring_singular_values_near_one(steps: int) -> None:
    ends = applied(polar_express(steps), np.geomspace(4.0**-steps, 1.0, 2000))
    assert ends.min() > 0.7 and ends.max() < 1.3
    small = applied(polar_express(steps), np.array([0.0, 1e-9]))
    assert small[0] == 0 and 0 < small[1] < 1e-4


def test_more_steps_come_nearer() -> None:
    values = np.geomspace(1e-3, 1.0, 2000)
    errors = [np.abs(1 - applied(polar_express(steps, 1e-3), values)).max() for steps in range(1, 9)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-6
