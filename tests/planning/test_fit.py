"""The fits: planted laws come back, within the intervals that they are given."""

from operator import attrgetter

import numpy as np
import pytest

from groundup.planning.fit import fit_compute_law, fit_law, fit_profile, student
from groundup.planning.laws import CHINCHILLA, ParametricLaw

NAMES = ("irreducible", "parameter_factor", "token_factor", "parameter_exponent", "token_exponent")


def runs(law: ParametricLaw, noise: float, seed: int, count: int = 40) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sizes, tokens and losses, the logarithm of the losses disturbed."""
    rng = np.random.default_rng(seed)
    parameters, tokens = 10 ** rng.uniform(7, 10, count), 10 ** rng.uniform(8.5, 11.5, count)
    return parameters, tokens, law.loss(parameters, tokens) * np.exp(noise * rng.standard_normal(count))


@pytest.mark.parametrize("law", [CHINCHILLA, ParametricLaw(0.5, 20.0, 900.0, 0.2, 0.4)])
def test_a_planted_law_comes_back(law: ParametricLaw) -> None:
    found = fit_law(*runs(law, 0.0, 1), resamples=2).law
    for name in NAMES:
        assert getattr(found, name) == pytest.approx(getattr(law, name), rel=2e-2), name
    assert found.optimum(1e21).parameters == pytest.approx(law.optimum(1e21).parameters, rel=2e-3)


def test_intervals_hold_what_was_planted() -> None:
    """95 % of them would; of these few, most do, and the wide ones are not cheating."""
    figures = (attrgetter("parameter_exponent"), attrgetter("token_exponent"), attrgetter("optimal_exponent"))
    held = total = 0
    for seed in range(6):
        fit = fit_law(*runs(CHINCHILLA, 0.005, seed), resamples=60, seed=seed)
        for figure in figures:
            low, high = fit.interval(figure)
            held += low <= figure(CHINCHILLA) <= high
            total += 1
            assert high - low < 0.4
    assert held >= 0.75 * total


def test_outliers_hardly_matter() -> None:
    parameters, tokens, losses = runs(CHINCHILLA, 0.002, 3)
    losses[::20] *= 1.3
    found = fit_law(parameters, tokens, losses, resamples=2).law
    assert found.optimal_exponent == pytest.approx(CHINCHILLA.optimal_exponent, abs=0.03)


def test_the_same_seed_gives_the_same_intervals() -> None:
    given = runs(CHINCHILLA, 0.01, 5, count=12)
    first, second, third = (fit_law(*given, resamples=20, seed=seed) for seed in (1, 1, 2))
    assert first == second
    assert first.law == third.law
    assert first.resampled != third.resampled


def test_a_handful_of_runs_is_fitted_without_a_crash_and_with_wide_intervals() -> None:
    """Bootstrap samples of eight runs hold four or five that differ: fewer than constants."""
    fit = fit_law(*runs(CHINCHILLA, 0.01, 2, count=8), resamples=100)
    low, high = fit.interval(attrgetter("optimal_exponent"))
    assert np.isfinite([low, high]).all()
    assert high - low > 0.05


def test_the_minimum_is_scipys() -> None:
    """An optimizer of another kind finds nothing lower."""
    optimize = pytest.importorskip("scipy.optimize")
    given = runs(CHINCHILLA, 0.02, 7)
    size, text, loss = np.log(given)

    def objective(constants: np.ndarray) -> float:
        a, b, e, alpha, beta = constants
        predicted = np.logaddexp(np.logaddexp(a - alpha * size, b - beta * text), e)
        error = np.abs(predicted - loss)
        return 1e4 * float(np.where(error < 1e-3, error**2 / 2, 1e-3 * (error - 5e-4)).sum())

    law = fit_law(*given, resamples=1).law
    ours = np.array([*np.log([law.parameter_factor, law.token_factor, law.irreducible]), law.parameter_exponent,
                     law.token_exponent])  # fmt: skip
    start = np.array([*np.log([400, 2000, 1.8]), 0.35, 0.37])
    theirs = optimize.minimize(objective, start, method="Nelder-Mead", options={"maxfev": 6000, "adaptive": True})
    assert objective(ours) <= theirs.fun * (1 + 1e-6)


def test_the_bottom_of_a_profile() -> None:
    sizes = np.geomspace(1e5, 1e7, 5)
    planted = 2.0 + 0.05 * np.log(sizes / 8e5) ** 2
    profile = fit_profile(sizes, planted)
    assert profile.optimum == pytest.approx(8e5, rel=1e-6)
    assert profile.loss(np.array(8e5)) == pytest.approx(2.0)
    low, high = profile.interval() or (0, 0)
    assert low == pytest.approx(high, rel=1e-6)


def test_the_interval_of_a_profile_holds_its_bottom_and_grows_with_the_noise() -> None:
    sizes, rng = np.geomspace(1e5, 1e7, 7), np.random.default_rng(0)
    held, widths = 0, []
    for _ in range(40):
        noisy = 2.0 + 0.05 * np.log(sizes / 8e5) ** 2 + 0.01 * rng.standard_normal(7)
        low, high = fit_profile(sizes, noisy).interval() or (0, 0)
        held += low <= 8e5 <= high
        widths.append(high / low)
    assert held >= 34
    quiet = 2.0 + 0.05 * np.log(sizes / 8e5) ** 2 + 0.001 * rng.standard_normal(7)
    low, high = fit_profile(sizes, quiet).interval() or (0, 0)
    assert high / low < np.median(widths)


def test_a_profile_says_when_it_has_no_bottom_and_three_runs_have_no_interval() -> None:
    sizes = np.geomspace(1e5, 1e7, 5)
    assert fit_profile(sizes, 3.0 - 0.1 * np.log(sizes) - 0.01 * np.log(sizes) ** 2).optimum == np.inf
    assert fit_profile(sizes, 3.0 + 0.1 * np.log(sizes) - 0.001 * np.log(sizes) ** 2).optimum == 0
    assert fit_profile([1e5, 1e6, 1e7], [2.2, 2.0, 2.1]).interval() is None


def test_the_law_of_computation() -> None:
    compute = np.geomspace(1e13, 1e17, 7)
    planted = 0.7 + 40 * compute**-0.12
    law, near = fit_compute_law(compute.tolist(), planted.tolist())
    assert law.exponent == pytest.approx(0.12, abs=0.002)
    assert law.loss(np.array(1e18)) == pytest.approx(0.7 + 40 * 1e18**-0.12, rel=1e-3)
    noisy = planted + 0.01 * np.random.default_rng(1).standard_normal(7)
    law, near = fit_compute_law(compute.tolist(), noisy.tolist())
    exponents = [each.exponent for each in near]
    assert min(exponents) <= 0.12 <= max(exponents)
    assert law in near


def test_students_quantiles() -> None:
    assert [student(freedom) for freedom in (1, 10)] == [12.706, 2.228]
    assert student(11) == pytest.approx(2.201, abs=2e-3)
    assert student(1000) == pytest.approx(1.962, abs=1e-3)
