"""The learning-rate finder: its rule on planted curves, and a real search on a tiny model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from groundup.core.errors import TrainingError, UsageError
from groundup.core.seeding import torch_rng
from groundup.dataloader import TokenSource
from groundup.model import ModelConfig, Transformer
from groundup.optim import OptimizerConfig
from groundup.pretraining.build import PretrainConfig
from groundup.pretraining.find_rate import RateCurve, find_rate

MODEL = ModelConfig(layers=1, width=32, heads=2, kv_heads=2, context=16)
CONFIG = PretrainConfig(rows=8, precision="float32")


def search(config: PretrainConfig = CONFIG, seed: int = 1, **options: float) -> RateCurve:
    tokens = np.tile(np.arange(24, dtype=np.uint16), 60)  # learned at once: what follows a token is always the same
    source = TokenSource(tokens, config.rows, MODEL.context, seed)
    model = Transformer(MODEL, 24).initialise(torch_rng(seed, "weights"))
    return find_rate(model, source, config, seed, **{"steps": 60, **options})  # type: ignore[arg-type]


def planted(bottom: float, steps: int = 200, flat: float = 0.0) -> RateCurve:
    """A loss that falls from 5 to 2 until ``bottom``, stays for ``flat`` decades and rises."""
    factors = np.geomspace(1e-3, 100, steps)
    beyond = np.log10(factors / bottom)
    losses = np.where(beyond < 0, 2 + 3 / (1 + np.exp(-6 * (-beyond - 1))), 2 + 4 * np.maximum(0, beyond - flat))
    noise = 0.02 * np.random.default_rng(0).standard_normal(steps)
    return RateCurve(factors, losses + noise, False)


@pytest.mark.parametrize("bottom", [0.05, 1.0, 10.0])
@pytest.mark.parametrize("flat", [0.0, 0.5])
def test_the_proposal_is_somewhat_below_the_bottom_however_flat(bottom: float, flat: float) -> None:
    curve = planted(bottom, flat=flat)
    assert bottom / 4 < curve.edge <= 1.3 * bottom
    assert curve.proposal == pytest.approx(curve.edge / 3)


def test_smoothing_keeps_the_mean_and_lessens_the_noise() -> None:
    noisy = RateCurve(np.geomspace(1, 10, 400), 3 + np.random.default_rng(0).standard_normal(400), False)
    assert noisy.smoothed.mean() == pytest.approx(noisy.losses.mean(), abs=0.05)
    assert noisy.smoothed.std() < noisy.losses.std() / 2
    constant = RateCurve(np.geomspace(1, 10, 50), np.full(50, 2.5), False)
    assert constant.smoothed == pytest.approx(2.5)


def test_a_search_is_a_function_of_the_seed() -> None:
    first, second, third = (search(seed=seed) for seed in (1, 1, 2))
    assert first.losses.tolist() == second.losses.tolist()
    assert first.losses.tolist() != third.losses.tolist()


def test_the_proposed_rate_trains_and_does_not_depend_on_the_recipes() -> None:
    """Rates ten times as large are given a tenth of the factor."""
    larger = replace(CONFIG, optimizer=OptimizerConfig(matrix_rate=0.1, rate=0.04, weight_decay=0.0))
    smaller = replace(CONFIG, optimizer=OptimizerConfig(matrix_rate=0.01, rate=0.004, weight_decay=0.0))
    found = [search(smaller).proposal, 10 * search(larger, low=1e-4, high=10.0).proposal]
    assert found[0] == pytest.approx(found[1], rel=0.02)


def test_both_optimizers_rates_grow(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[list[float]] = []
    step = torch.optim.AdamW.step

    def watched(self: torch.optim.AdamW, *arguments: object) -> object:
        rates.append([group["lr"] for group in self.param_groups])
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    curve = search(low=0.01, high=1.0, steps=20)
    assert [max(each) for each in rates] == pytest.approx((CONFIG.optimizer.rate * curve.factors).tolist())


def test_it_stops_where_what_was_learned_is_lost() -> None:
    config = replace(CONFIG, optimizer=OptimizerConfig(matrix_rate=0.0, rate=0.1, weight_decay=0.0), clip=1e9)
    curve = search(config, high=1e6, steps=120)
    assert curve.diverged
    assert len(curve.losses) < 120
    assert np.isfinite(curve.losses).all()
    assert np.isfinite(curve.proposal)


def test_a_range_without_learning_is_told() -> None:
    with pytest.raises(TrainingError, match="the loss fell at no rate"):
        search(low=1e-9, high=1e-8)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [({"steps": 5}, "fewest"), ({"low": 2.0, "high": 1.0}, "smaller"), ({"low": 0.0}, "above 0")],
)
def test_impossible_searches_are_refused(options: dict[str, float], complaint: str) -> None:
    with pytest.raises(UsageError, match=complaint):
        search(**options)
