"""Intervals hold the truth as often as they promise."""

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError, UsageError
from groundup.core.seeding import numpy_rng
from groundup.evaluation.intervals import bootstrap_mean, bootstrap_ratio, paired_bootstrap, wilson, win_rate

Z = NormalDist().inv_cdf(0.975)


def coverage(n: int, p: float) -> float:
    """Exact probability that the interval of a binomial count holds ``p``."""
    return sum(
        math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1) if wilson(k, n).low <= p <= wilson(k, n).high
    )


@pytest.mark.parametrize("n", [10, 50, 200])
def test_wilson_covers(n: int) -> None:
    exact = [coverage(n, p) for p in np.linspace(0.02, 0.98, 49)]
    assert 0.94 < np.mean(exact) < 0.97
    assert min(exact) > 0.86


@given(st.integers(1, 2_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_bounds_solve_the_score_equation(trial: tuple[int, int]) -> None:
    successes, n = trial
    interval = wilson(successes, n)
    assert 0 <= interval.low <= interval.value <= interval.high <= 1 and interval.low < interval.high
    for bound in (interval.low, interval.high):
        assert (successes / n - bound) ** 2 == pytest.approx(Z**2 * bound * (1 - bound) / n, abs=1e-12)


def test_wilson_known_values() -> None:
    interval = wilson(8, 10)
    assert (interval.value, interval.n) == (0.8, 10)
    assert (interval.low, interval.high) == pytest.approx((0.4902, 0.9433), abs=1e-4)
    assert wilson(0, 20).low == 0 and wilson(0, 20).high == pytest.approx(Z**2 / (20 + Z**2))
    assert wilson(20, 20).high == 1
    assert wilson(50, 100, 0.99).low < wilson(50, 100, 0.95).low < wilson(50, 100, 0.5).low


def test_win_rate_counts_a_tie_half() -> None:
    rate = win_rate(wins=30, ties=40, losses=10)
    assert (rate.value, rate.n) == (0.625, 80)
    assert rate.excludes(0.5)
    assert not win_rate(20, 40, 20).excludes(0.5)
    assert win_rate(6, 0, 4) == wilson(6, 10)


def test_win_rate_covers_with_ties() -> None:
    rng = numpy_rng(0, "games")
    games = rng.multinomial(60, [0.35, 0.4, 0.25], size=2_000)
    held = np.mean([not win_rate(*row).excludes(0.55) for row in games.tolist()])
    assert held > 0.95


def test_bootstrap_of_a_mean_matches_the_normal_interval() -> None:
    values = numpy_rng(0, "values").normal(3, 2, 400)
    interval = bootstrap_mean(values, seed=0)
    margin = Z * values.std() / math.sqrt(400)
    assert interval.value == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - margin, abs=0.03)
    assert interval.high == pytest.approx(values.mean() + margin, abs=0.03)
    assert interval.n == 400


def test_bootstrap_covers() -> None:
    rng = numpy_rng(0, "coverage")
    held = [not bootstrap_mean(rng.exponential(1, 80), seed, resamples=600).excludes(1) for seed in range(400)]
    assert 0.90 < np.mean(held) < 0.98


def test_bootstrap_of_a_ratio_weighs_items_by_size() -> None:
    rng = numpy_rng(0, "ratio")
    sizes = rng.integers(100, 1_000, 300)
    bits = sizes * 2.0 + rng.normal(0, 20, 300)
    interval = bootstrap_ratio(bits, sizes, seed=4)
    assert interval.value == pytest.approx(bits.sum() / sizes.sum())
    assert not interval.excludes(2) and interval.high - interval.low < 0.02
    proportional = bootstrap_ratio(sizes * 1.5, sizes, seed=4)
    assert (proportional.low, proportional.high) == pytest.approx((1.5, 1.5))


def test_pairs_show_what_the_means_hide() -> None:
    rng = numpy_rng(0, "pairs")
    before = rng.normal(0, 10, 200)
    after = before + rng.normal(0.5, 1, 200)
    difference = paired_bootstrap(before, after, seed=5)
    assert difference.value == pytest.approx((after - before).mean())
    assert difference.low > 0 and difference.excludes(0)
    assert bootstrap_mean(before, seed=5).low < bootstrap_mean(after, seed=5).low < bootstrap_mean(before, seed=5).high
    reverse = paired_bootstrap(after, before, seed=5)
    assert (reverse.low, reverse.high) == pytest.approx((-difference.high, -difference.low))


def test_the_seed_decides() -> None:
    values = list(range(30))
    assert bootstrap_mean(values, seed=1) == bootstrap_mean(values, seed=1)
    assert bootstrap_mean(values, seed=1) != bootstrap_mean(values, seed=2)


def test_large_samples_are_drawn_in_blocks() -> None:
    values = numpy_rng(0, "large").normal(0, 1, 600_000)  # one block holds one resample of these
    interval = bootstrap_mean(values, seed=0, resamples=40)
    assert 0 < interval.high - interval.low < 0.012


def test_json_and_text() -> None:
    interval = wilson(1, 2)
    assert json.loads(json.dumps(interval.to_json())) == {
        "value": 0.5,
        "low": interval.low,
        "high": interval.high,
        "n": 2,
        "confidence": 0.95,
    }
    assert str(interval) == "0.500 [0.095, 0.905]"
    json.dumps(bootstrap_mean([1, 2, 4], seed=0).to_json())


def test_mistakes_are_named() -> None:
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(DataError, match=f"{successes} successes of {n} trials"):
            wilson(successes, n)
    with pytest.raises(UsageError, match="confidence 95"):
        wilson(1, 2, 95)
    with pytest.raises(DataError, match="negative"):
        win_rate(3, -1, 4)
    for values in ([], [1.0, math.nan], [math.inf]):
        with pytest.raises(DataError, match="bootstrap"):
            bootstrap_mean(values, seed=0)
    with pytest.raises(DataError, match="above zero"):
        bootstrap_ratio([1, 2], [1, 0], seed=0)
    with pytest.raises(DataError, match="2 values before and 1 after"):
        paired_bootstrap([1, 2], [1], seed=0)
    with pytest.raises(UsageError, match="0 resamples"):
        bootstrap_mean([1.0], seed=0, resamples=0)
