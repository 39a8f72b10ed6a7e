"""The learning-rate finder: one short training in which the rate grows from far too small to far too large.

Enters: a model with its initial weights, batches, and how it is to be trained. Leaves: the loss at every rate, and a
proposal. All rates of all optimizers grow together, so that what is found is a factor on those of the recipe.

The idea is Smith's (2017, "Cyclical learning rates for training neural networks", section 3.3).
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from groundup.core.errors import TrainingError, UsageError
from groundup.core.progress import Progress
from groundup.dataloader import Source
from groundup.model import Transformer
from groundup.pretraining.trial import Trial
from groundup.training import TrainingConfig

Array = npt.NDArray[np.float64]

#: Standard deviation of the Gaussian that smooths the losses, as a share of the steps.
SMOOTHING = 0.02
#: Losses whose mean tells whether the training has diverged, and the share of the first loss that must have been lost
#: before it can.
RECENT, LEARNED = 5, 0.02
#: The proposal is this part of the smallest rate from which on the loss hardly falls any more: of all that it falls,
#: only this share. (The lowest loss itself lies anywhere on a flat bottom; and too large a rate costs more than too
#: small a one.)
PART, HARDLY = 1 / 3, 0.02
#: The fewest steps whose curve says anything.
FEWEST = 20


@dataclass(frozen=True)
class RateCurve:
    """The loss while the rate grows."""

    factors: Array
    """What the recipe's rates were multiplied by, at each step."""
    losses: Array
    """Before the update of that step."""
    diverged: bool
    """Whether the end was reached because nothing of what was learned was left; else it was the end of the range."""

    @property
    def smoothed(self) -> Array:
        """Means of the losses around each step, weighted by a Gaussian."""
        steps = np.arange(len(self.losses))
        width = max(1.0, SMOOTHING * len(self.losses))
        weights = np.exp(-0.5 * ((steps[:, None] - steps) / width) ** 2)
        return np.asarray((weights @ self.losses) / weights.sum(axis=1))

    @property
    def edge(self) -> float:
        """The smallest factor whose smoothed loss is as good as the lowest: the left edge of the bottom."""
        smoothed = self.smoothed
        enough = smoothed.min() + HARDLY * (smoothed[0] - smoothed.min())
        return float(self.factors[int((smoothed <= enough).argmax())])

    @property
    def proposal(self) -> float:
        """A factor for the recipe's rates."""
        return PART * self.edge


def find_rate(
    model: Transformer,
    source: Source,
    config: TrainingConfig,
    seed: int,
    steps: int = 200,
    low: float = 1e-3,
    high: float = 100.0,
) -> RateCurve:
    """Train ``model`` in place for ``steps`` steps with all rates times ``low`` … ``high``, in equal ratios.

    It ends before where the loss is back at what it was in the beginning, or is no finite number.

    Raises:
        TrainingError: the loss fell at no rate.
        UsageError: the range is empty or too few steps are asked for.
    """
    check_range(steps, low, high)
    factors = np.geomspace(low, high, steps)
    losses = list[float]()
    trial = Trial(model, source, config, seed)
    with Progress("find the rate", steps, "step") as progress:
        for loss in _losses(trial, factors):
            losses.append(loss)
            progress.advance(1, note=f"rates × {factors[len(losses) - 1]:.3g}  loss {loss:.3f}")
            if _is_back(losses):
                break
    if len(losses) < FEWEST or not _has_learned(losses):
        raise TrainingError(
            f"the loss fell at no rate between {low:g} and {high:g} times the recipe's; lower --lr-low, or give more "
            "--lr-steps"
        )
    return RateCurve(factors[: len(losses)], np.array(losses), len(losses) < steps)


def check_range(steps: int, low: float, high: float) -> None:
    """Refuse a search that can find nothing.

    Raises:
        UsageError: the range is empty or too few steps are asked for.
    """
    if steps < FEWEST:
        raise UsageError(f"lr-steps is {steps}; {FEWEST} are the fewest whose curve says anything")
    if not 0 < low < high:
        raise UsageError(f"lr-low is {low:g} and lr-high {high:g}; they must be above 0, and the first the smaller one")


def _losses(trial: Trial, factors: Array) -> Iterator[float]:
    """The loss of each step, until one is not finite or there was nothing to learn."""
    for factor in factors:
        measured = trial.step(float(factor))
        if measured is None or not math.isfinite(measured.loss):
            return
        yield measured.loss


def _has_learned(losses: list[float]) -> bool:
    means = np.convolve(losses, np.ones(RECENT) / RECENT, mode="valid")
    return bool(means.min() < (1 - LEARNED) * losses[0])


def _is_back(losses: list[float]) -> bool:
    """Whether the loss fell and has risen to where it began."""
    return len(losses) > RECENT and _has_learned(losses) and float(np.mean(losses[-RECENT:])) >= losses[0]
