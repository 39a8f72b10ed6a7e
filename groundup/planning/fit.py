"""Runs → the scaling law that they follow, with its uncertainty.

Enters: parameters, tokens and final losses of runs. Leaves: the :class:`ParametricLaw` that fits them best in the sense
of Hoffmann et al. 2022 (approach 3), laws of bootstrap samples (Efron 1979) for intervals, and IsoFLOP profiles
(approach 2).
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from groundup.core.seeding import numpy_rng
from groundup.planning.laws import ParametricLaw

Array = npt.NDArray[np.float64]

#: From this residual of the logarithm on, the Huber loss grows with the residual and no longer with its square.
HUBER = 1e-3
#: The paper's starting points: α, β, log E, log A, log B.
STARTS = ((0.0, 0.5, 1.0, 1.5, 2.0),) * 2 + ((-1.0, -0.5, 0.0, 0.5, 1.0),) + ((0.0, 5.0, 10.0, 15.0, 20.0, 25.0),) * 2
#: Of these, so many of least loss are followed, and so many steps at most.
FOLLOWED, STEPS = 12, 400
#: The least damping, as a share of the matrix's diagonal.
DAMPING = 1e-8
#: A descent is at its end where a step gains less than this share, or only a step damped so much would gain.
SETTLED, STUCK = 1e-10, 1e9
#: Constants of the law.
CONSTANTS = 5


@dataclass(frozen=True)
class Fit:
    """The law, and those of resampled runs."""

    law: ParametricLaw
    resampled: tuple[ParametricLaw, ...]

    def interval(self, figure: Callable[[ParametricLaw], float], level: float = 0.95) -> tuple[float, float]:
        """Between which bounds ``figure`` of the law lies in the middle ``level`` of the bootstrap samples."""
        values = [figure(law) for law in self.resampled]
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)


def fit_law(
    parameters: Sequence[float] | Array,
    tokens: Sequence[float] | Array,
    losses: Sequence[float] | Array,
    resamples: int = 200,
    seed: int = 0,
) -> Fit:
    """Fit L(N, D) = E + A / N^α + B / D^β: least Huber loss of log L over a grid of starting points.

    That is the objective and the grid of the paper. Instead of L-BFGS from one start after the other, damped
    Gauss-Newton steps (Marquardt 1963) go from the best starts, and for all bootstrap samples, at once.

    Args:
        parameters: N of each run, at least five runs that differ.
        tokens: D of each run.
        losses: final loss of each run, above 0.
        resamples: bootstrap samples of the runs.
        seed: of the resampling.
    """
    runs = np.log(np.array([parameters, tokens, losses], dtype=np.float64))  # [3, runs]
    assert runs.shape[1] >= CONSTANTS, "fewer runs than constants"
    grid = np.array([(a, b, e, alpha, beta) for alpha, beta, e, a, b in itertools.product(*STARTS)])
    # The factors are those at the mean of log N and log D: else they and the exponents pull at each other.
    middle = runs[:2].mean(axis=1)
    centred = runs - np.array([*middle, 0.0])[:, None]
    grid[:, :2] -= grid[:, 3:] * middle
    everyone = np.ones(runs.shape[1])
    best = grid[np.argsort(_objective(grid, centred, everyone))[:FOLLOWED]]
    found = _descend(best, centred, np.tile(everyone, (len(best), 1)))
    found = found[np.argsort(_objective(found, centred, everyone))]
    rng = numpy_rng(seed, "bootstrap")
    counts = rng.multinomial(runs.shape[1], everyone / len(everyone), size=resamples).astype(np.float64)
    again = _descend(np.tile(found[0], (resamples, 1)), centred, counts)
    laws = [_law(constants, middle) for constants in (found[0], *again)]
    return Fit(laws[0], tuple(laws[1:]))


def _law(constants: Array, middle: Array) -> ParametricLaw:
    a, b, e, alpha, beta = constants
    factors = np.exp(np.array([a, b]) + constants[3:] * middle)
    return ParametricLaw(float(np.exp(e)), float(factors[0]), float(factors[1]), float(alpha), float(beta))


def _predict(constants: Array, runs: Array) -> tuple[Array, Array]:
    """log L [laws, runs], and which shares of L the three terms are [laws, runs, 3]."""
    a, b, e, alpha, beta = (constants[:, [place]] for place in range(CONSTANTS))
    terms = np.stack(np.broadcast_arrays(a - alpha * runs[0], b - beta * runs[1], e), axis=-1)
    highest = terms.max(axis=-1, keepdims=True)
    shares = np.exp(terms - highest)
    total = shares.sum(axis=-1, keepdims=True)
    return (highest + np.log(total))[..., 0], shares / total


def _objective(constants: Array, runs: Array, counts: Array) -> Array:
    """Huber loss [laws] of the residuals, each run as often as ``counts`` says."""
    size = np.abs(_predict(constants, runs)[0] - runs[2])
    return np.asarray((counts * np.where(size < HUBER, size**2 / 2, HUBER * (size - HUBER / 2))).sum(axis=-1))


def _descend(constants: Array, runs: Array, counts: Array) -> Array:
    """From each row of ``constants`` [laws, 5] down to where it no longer falls; ``counts`` [laws, runs]."""
    constants, moving = constants.copy(), np.arange(len(constants))
    damping, loss = np.ones(len(constants)), _objective(constants, runs, counts)
    for _ in range(STEPS):
        trial = constants[moving] + _newton_step(constants[moving], runs, counts[moving], damping[moving])
        reached = _objective(trial, runs, counts[moving])
        gain = loss[moving] - reached
        better = gain > 0
        constants[moving[better]], loss[moving[better]] = trial[better], reached[better]
        damping[moving] = np.maximum(DAMPING, damping[moving] * np.where(better, 1 / 3, 4.0))
        moving = moving[np.where(better, gain > SETTLED * reached, damping[moving] < STUCK)]
        if not len(moving):
            break
    return constants


def _newton_step(constants: Array, runs: Array, counts: Array, damping: Array) -> Array:
    """The damped Gauss-Newton step [laws, 5]; residuals beyond the Huber bound count less, as if they lay nearer."""
    predicted, shares = _predict(constants, runs)
    residual = predicted - runs[2]
    weight = counts * np.minimum(1.0, HUBER / np.maximum(np.abs(residual), 1e-300))
    slopes = np.concatenate([shares, -shares[..., :2] * runs[:2].T], axis=-1)  # [laws, runs, 5]
    weighted = slopes * weight[..., None]
    matrix = weighted.swapaxes(1, 2) @ slopes
    diagonal = np.einsum("lcc->lc", matrix).copy()
    diagonal += 1e-9 * diagonal.sum(axis=1, keepdims=True) + 1e-300  # few runs may say nothing about a constant
    matrix += damping[:, None, None] * np.eye(CONSTANTS) * diagonal[:, None]
    downhill = -(weighted * residual[..., None]).sum(axis=1)
    return np.asarray(np.clip(np.linalg.solve(matrix, downhill[..., None])[..., 0], -1.0, 1.0))


@dataclass(frozen=True)
class Profile:
    """Losses of one amount of computation against the size of the model, as a parabola in log N (IsoFLOP profile)."""

    middle: float
    """Mean of log N, from which the parabola's x counts."""
    coefficients: Array
    """Of 1, x and x²."""
    drawn: Array
    """Plausible coefficients [draws, 3], as far apart as the residuals say; none where three runs leave no residual."""

    def loss(self, parameters: Array) -> Array:
        """The parabola's loss."""
        x = np.log(parameters) - self.middle
        return np.asarray(np.polynomial.polynomial.polyval(x, self.coefficients))

    @property
    def optimum(self) -> float:
        """N at the bottom; 0 or infinite where the parabola has none and falls to that side."""
        return float(np.exp(self.middle + _bottom(self.coefficients)))

    @property
    def drawn_optima(self) -> Array:
        """The same of each of the plausible parabolas [draws]."""
        return np.exp(self.middle + _bottom(self.drawn))

    def interval(self, level: float = 0.95) -> tuple[float, float] | None:
        """Bounds of the optimum, 0 or infinite where there is none; None if nothing can be said."""
        if not len(self.drawn):
            return None
        low, high = np.quantile(self.drawn_optima, [(1 - level) / 2, (1 + level) / 2], method="nearest")
        return float(low), float(high)


def fit_profile(parameters: Sequence[float], losses: Sequence[float], draws: int = 2000, seed: int = 0) -> Profile:
    """Fit the parabola by least squares to three runs or more.

    Its coefficients are uncertain as those of any linear regression: Student's t with as many degrees of freedom as
    runs are left over.
    """
    x = np.log(np.asarray(parameters, dtype=np.float64))
    middle = float(x.mean())
    design = np.vander(x - middle, 3, increasing=True)
    coefficients = np.linalg.lstsq(design, np.asarray(losses), rcond=None)[0].astype(np.float64)
    freedom = len(x) - 3
    if freedom < 1:
        return Profile(middle, coefficients, np.empty((0, 3)))
    residuals = losses - design @ coefficients
    covariance = np.linalg.inv(design.T @ design) * float(residuals @ residuals) / freedom
    rng = numpy_rng(seed, "profile")
    normal = rng.multivariate_normal(np.zeros(3), covariance, size=draws)
    scale = np.sqrt(freedom / rng.chisquare(freedom, size=(draws, 1)))
    return Profile(middle, coefficients, coefficients + normal * scale)


def _bottom(coefficients: Array) -> Array:
    """x of the lowest point of each parabola [..., 3]; infinite where it opens downwards."""
    slope, bend = coefficients[..., 1], coefficients[..., 2]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.where(bend > 0, -slope / (2 * bend), -np.sign(slope) * np.inf))


@dataclass(frozen=True)
class ComputeLaw:
    """L = E + K / C^γ: the loss of models that grow with their data, against the computation."""

    irreducible: float
    factor: float
    exponent: float

    def loss(self, operations: Array) -> Array:
        """L(C)."""
        return np.asarray(self.irreducible + self.factor / operations**self.exponent)


def fit_compute_law(operations: Sequence[float], losses: Sequence[float]) -> tuple[ComputeLaw, tuple[ComputeLaw, ...]]:
    """Fit E, K and γ by least squares to four runs or more.

    Returns:
        The best law, and all whose γ an F-test at 95 % does not reject, each with the E and K that fit it best.
    """
    compute, loss = np.asarray(operations, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    freedom = len(compute) - 3
    assert freedom >= 1, "fewer runs than constants and one more"
    exponents = np.geomspace(0.005, 2.0, 3000)
    powers = (compute / compute[0]) ** -exponents[:, None]  # [exponents, runs]
    centred = powers - powers.mean(axis=1, keepdims=True)
    factors = centred @ loss / (centred**2).sum(axis=1)
    irreducible = loss.mean() - factors * powers.mean(axis=1)
    errors = ((irreducible[:, None] + factors[:, None] * powers - loss) ** 2).sum(axis=1)
    allowed = errors.min() * (1 + student(freedom) ** 2 / freedom) + 1e-30

    def law(place: int) -> ComputeLaw:
        factor = factors[place] * compute[0] ** exponents[place]
        return ComputeLaw(float(irreducible[place]), float(factor), float(exponents[place]))

    return law(int(errors.argmin())), tuple(law(int(place)) for place in np.flatnonzero(errors <= allowed))


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t."""
    table = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
    if freedom <= len(table):
        return table[freedom - 1]
    z = 1.959964  # Cornish-Fisher expansion about the normal quantile
    terms = ((z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384)
    return z + sum(term / freedom ** (number + 1) for number, term in enumerate(terms))
