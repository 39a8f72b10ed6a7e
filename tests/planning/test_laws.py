"""Scaling laws against the figures of their papers, and their optima against a numeric minimum."""

import dataclasses

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from groundup.planning.laws import (
    CHINCHILLA,
    CHINCHILLA_ENVELOPE,
    CHINCHILLA_ISOFLOP,
    CHINCHILLA_PARAMETRIC,
    KAPLAN,
    KAPLAN_COMPUTE,
    KAPLAN_OPTIMUM,
    KAPLAN_PARAMETERS,
    KAPLAN_TOKENS,
    PETAFLOP_DAY,
    JointLaw,
    ParametricLaw,
    PowerLaw,
)

FACTORS, EXPONENTS = st.floats(1.0, 1e5), st.floats(0.05, 1.0)
COMPUTE = st.floats(1e12, 1e27)


def least(law: ParametricLaw | JointLaw, operations: float) -> tuple[float, float]:
    """The best N and its loss, looked for along 6·N·D = C: on a grid, and on a finer one about the best of it."""
    low, high = 0.0, float(np.log(operations / 6))
    for _ in range(3):
        sizes = np.exp(np.linspace(low, high, 1001))
        losses = law.loss(sizes, operations / (6 * sizes))
        best = int(losses.argmin())
        low, high = (float(np.log(sizes[place])) for place in (max(0, best - 1), min(1000, best + 1)))
    return float(sizes[best]), float(losses[best])


@given(st.builds(ParametricLaw, st.floats(0.0, 3.0), FACTORS, FACTORS, EXPONENTS, EXPONENTS), COMPUTE)
def test_the_optimum_is_the_numeric_minimum(law: ParametricLaw, operations: float) -> None:
    best = law.optimum(operations)
    assume(1 < best.parameters < operations / 6)
    reducible = dataclasses.replace(law, irreducible=0.0)  # the same optimum, not hidden in the rounding of E
    parameters, loss = least(reducible, operations)
    assert best.operations == pytest.approx(operations)
    assert best.parameters == pytest.approx(parameters, rel=1e-3)
    assert law.loss(best.parameters, best.tokens) == pytest.approx(law.irreducible + loss, rel=1e-9)


@given(COMPUTE)
def test_the_optimum_of_the_joint_law_is_the_numeric_minimum(operations: float) -> None:
    best = KAPLAN.optimum(operations)
    parameters, loss = least(KAPLAN, operations)
    assert best.operations == pytest.approx(operations)
    assert KAPLAN.loss(best.parameters, best.tokens) == pytest.approx(loss, rel=1e-9)
    assert best.parameters == pytest.approx(parameters, rel=1e-3)


#: Parameters, operations and tokens of Hoffmann et al. 2022, tables 3 and A3.
ENVELOPE = [
    (400e6, 1.92e19, 8.0e9),
    (1e9, 1.21e20, 20.2e9),
    (10e9, 1.23e22, 205.1e9),
    (67e9, 5.76e23, 1.5e12),
    (175e9, 3.85e24, 3.7e12),
    (280e9, 9.90e24, 5.9e12),
    (520e9, 3.43e25, 11.0e12),
    (1e12, 1.27e26, 21.2e12),
    (10e12, 1.30e28, 216.2e12),
]
ISOFLOP = [
    (400e6, 1.84e19, 7.7e9),
    (1e9, 1.20e20, 20.0e9),
    (10e9, 1.32e22, 219.5e9),
    (67e9, 6.88e23, 1.7e12),
    (175e9, 4.54e24, 4.3e12),
    (280e9, 1.18e25, 7.1e12),
    (520e9, 4.19e25, 13.4e12),
    (1e12, 1.59e26, 26.5e12),
    (10e12, 1.75e28, 292.0e12),
]
PARAMETRIC = [(400e6, 2.21e19, 9.2e9), (1e9, 1.62e20, 27.1e9), (10e9, 2.46e22, 410.1e9), (67e9, 1.71e24, 4.1e12)]


@pytest.mark.parametrize(
    ("law", "rows", "within"),
    [
        (CHINCHILLA_ENVELOPE, ENVELOPE, 0.06),
        (CHINCHILLA_ISOFLOP, ISOFLOP, 0.06),
        (CHINCHILLA_PARAMETRIC, PARAMETRIC, 0.07),
    ],
)
def test_chinchillas_tables(
    law: PowerLaw | ParametricLaw, rows: list[tuple[float, float, float]], within: float
) -> None:
    for parameters, operations, tokens in rows:
        best = law.optimum(operations)
        assert best.parameters == pytest.approx(parameters, rel=within)
        assert best.tokens == pytest.approx(tokens, rel=within)


def test_chinchilla_itself() -> None:
    """70 billion parameters on 1.4 trillion tokens, which took as much as Gopher: 5.76e23 operations."""
    best = CHINCHILLA.optimum(5.76e23)
    assert best.parameters == pytest.approx(70e9, rel=0.05)
    assert best.tokens == pytest.approx(1.4e12, rel=0.06)
    assert pytest.approx(5.76e23, rel=0.03) == 6 * 70e9 * 1.4e12


def test_what_the_corrected_fit_changes() -> None:
    """Besiroglu et al. 2024: the published fit wants some 70 tokens a parameter at Gopher's computation, theirs 20; and
    parameters and tokens grow alike."""
    published, corrected = (law.optimum(5.76e23) for law in (CHINCHILLA_PARAMETRIC, CHINCHILLA))
    assert published.tokens / published.parameters == pytest.approx(60, abs=5)
    assert corrected.tokens / corrected.parameters == pytest.approx(20, abs=2)
    assert CHINCHILLA.optimal_exponent == pytest.approx(0.513, abs=0.001)
    assert CHINCHILLA_PARAMETRIC.optimal_exponent == pytest.approx(0.46, abs=0.005)


def test_kaplans_figures() -> None:
    """Of the paper's summary: N_c, D_c and C_c are where a power law reaches a loss of one nat."""
    assert KAPLAN_PARAMETERS(8.8e13) == pytest.approx(1.0)
    assert KAPLAN_TOKENS(5.4e13) == pytest.approx(1.0)
    assert KAPLAN_COMPUTE(3.1e8 * PETAFLOP_DAY) == pytest.approx(1.0)
    assert KAPLAN_OPTIMUM(PETAFLOP_DAY) == pytest.approx(1.3e9)
    # "each time we increase the model size 8x, we only need to increase the data by roughly 5x"
    overfitting = [(8.0**n * 1e6, 5.0**n * 1e7) for n in range(3)]
    losses = [KAPLAN.loss(*each) / KAPLAN.loss(each[0], 1e30) for each in overfitting]
    assert max(losses) - min(losses) < 0.03
    # "a billion-fold increase in compute": mostly larger models, hardly more data.
    first, last = (KAPLAN_OPTIMUM.optimum(operations) for operations in (1e18, 1e27))
    assert last.parameters / first.parameters == pytest.approx(1e9**0.73)
    assert last.operations == pytest.approx(1e27)


def test_laws_take_arrays() -> None:
    sizes = np.array([1e8, 1e9])
    assert CHINCHILLA.loss(sizes, 20 * sizes).tolist() == [CHINCHILLA.loss(size, 20 * size) for size in sizes]
