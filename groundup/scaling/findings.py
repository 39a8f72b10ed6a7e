"""The results of a sweep → what they say: the best value, the law with its uncertainty, and what they do not say.

Enters: a :class:`Result` per training. Leaves: :class:`Findings`, as JSON and as a table.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from itertools import groupby
from operator import attrgetter
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core.progress import quantity
from groundup.planning.fit import CONSTANTS, ComputeLaw, Fit, Profile, fit_compute_law, fit_law, fit_profile
from groundup.planning.laws import PowerLaw

#: Passes over the same text that are worth nearly as much as new text (Muennighoff et al. 2023).
EPOCHS = 4
#: A law of parameters and tokens is fitted to this many runs, three more than it has constants.
LAW_RUNS = CONSTANTS + 3
#: Format of ``results.json``.
FORMAT = "groundup-sweep-1"


@dataclass(frozen=True)
class Result:
    """What came out of one training."""

    value: str
    """Of the key that is swept."""
    folder: str
    """Its run directory, within that of the sweep."""
    budget: float | None
    """Operations that it was given; None: as many as its tokens took."""
    parameters: int
    tokens: int
    operations: float
    """That it took."""
    steps: int
    epochs: float
    """Passes over the text."""
    bits_per_byte: float
    """Of validation, after the last step."""
    seconds: float
    """Of training."""


@dataclass(frozen=True)
class Findings:
    """A sweep and the laws that can be fitted to it."""

    key: str
    results: tuple[Result, ...]
    sized: bool
    """Whether the values differ in the number of parameters and were given comparable computation."""

    @property
    def best(self) -> Result:
        """The training of least loss."""
        return min(self.results, key=lambda result: result.bits_per_byte)

    @cached_property
    def profiles(self) -> dict[float, Profile]:
        """A parabola for every amount of operations that three sizes or more were given."""
        if not self.sized:
            return {}
        given = sorted((result for result in self.results if result.budget), key=lambda result: result.budget or 0)
        groups = ((budget, list(group)) for budget, group in groupby(given, key=lambda result: result.budget or 0))
        return {
            budget: fit_profile([one.parameters for one in group], [one.bits_per_byte for one in group])
            for budget, group in groups
            if len(group) >= 3
        }

    @cached_property
    def optima(self) -> dict[float, tuple[float, tuple[float, float] | None]]:
        """Of every profile whose bottom lies between the sizes that were tried: the best size and its bounds."""
        sizes = [result.parameters for result in self.results]
        return {
            budget: (profile.optimum, profile.interval())
            for budget, profile in self.profiles.items()
            if min(sizes) <= profile.optimum <= max(sizes)
        }

    @cached_property
    def growth(self) -> PowerLaw | None:
        """How the best size grows with the operations: through two optima, or as near as can be to more."""
        if len(self.optima) < 2:
            return None
        compute = np.log(list(self.optima))
        slope, start = np.polyfit(compute, np.log([size for size, _ in self.optima.values()]), 1)
        return PowerLaw(float(np.exp(start)), float(slope))

    @cached_property
    def growth_interval(self) -> tuple[float, float] | None:
        """Bounds of the exponent, from how uncertain each optimum is."""
        profiles = [self.profiles[budget] for budget in self.optima]
        if self.growth is None or not all(len(profile.drawn) for profile in profiles):
            return None
        compute = np.log(list(self.optima))
        drawn = np.log(np.stack([profile.drawn_optima for profile in profiles]))
        drawn = drawn[:, np.isfinite(drawn).all(axis=0)]
        if drawn.shape[1] < 100:
            return None
        low, high = np.quantile(np.polyfit(compute, drawn, 1)[0], [0.025, 0.975])
        return float(low), float(high)

    @property
    def enough_for_law(self) -> bool:
        """Whether there are runs enough, at more than one amount of operations, to fit L(N, D) to."""
        several = len({result.budget for result in self.results}) > 1
        return self.sized and several and len(self.results) >= LAW_RUNS

    @cached_property
    def law(self) -> Fit | None:
        """L(N, D), if the runs tell for sure that the loss falls with parameters and with tokens."""
        if not self.enough_for_law:
            return None
        fit = fit_law(self._all("parameters"), self._all("tokens"), self._all("bits_per_byte"))
        told = all(fit.interval(attrgetter(name))[0] > 0 for name in ("parameter_exponent", "token_exponent"))
        return fit if told else None

    @cached_property
    def compute_law(self) -> tuple[ComputeLaw, tuple[ComputeLaw, ...]] | None:
        """L(C), where every size has tokens in proportion to its parameters; and all laws that fit nearly as well."""
        if not self.sized or len(self.results) < 4 or any(result.budget for result in self.results):
            return None
        return fit_compute_law(self._all("operations").tolist(), self._all("bits_per_byte").tolist())

    def _all(self, name: str) -> npt.NDArray[np.float64]:
        return np.array([getattr(result, name) for result in self.results], dtype=np.float64)

    def to_json(self) -> dict[str, Any]:
        """Every figure; a bound that is open is null."""
        found: dict[str, Any] = {
            "format": FORMAT,
            "key": self.key,
            "runs": [asdict(result) for result in self.results],
            "best": self.best.value,
        }
        if self.profiles:
            found["best_sizes"] = [
                {
                    "operations": budget,
                    "parameters": _finite(profile.optimum),
                    "interval": [_finite(bound) for bound in profile.interval() or (None, None)],
                    "between_sizes_tried": budget in self.optima,
                }
                for budget, profile in self.profiles.items()
            ]
        if self.growth is not None:
            found["best_size_grows"] = {**asdict(self.growth), "interval": self.growth_interval}
        if self.law is not None:
            found["law"] = {
                name: {"value": value, "interval": self.law.interval(attrgetter(name))}
                for name, value in asdict(self.law.law).items()
            }
        if self.compute_law is not None:
            best, near = self.compute_law
            exponents = [law.exponent for law in near]
            found["compute_law"] = {**asdict(best), "interval": [min(exponents), max(exponents)]}
        return found

    def lines(self) -> Iterator[str]:
        """What is found, in sentences."""
        best = self.best
        yield f"least loss: {self.key} {best.value}, {best.bits_per_byte:.4f} bits per byte"
        for budget, profile in self.profiles.items():
            yield self._profile_line(budget, profile)
        if self.growth is not None:
            bounds = "" if self.growth_interval is None else " [{:.2f}, {:.2f}]".format(*self.growth_interval)
            yield (
                f"the best size grows as operations^{self.growth.exponent:.2f}{bounds}; "
                "Chinchilla found 0.50 (Hoffmann et al. 2022)"
            )
        if self.law is not None:
            yield _law_line(self.law)
        if self.compute_law is not None:
            law, near = self.compute_law
            exponents = [each.exponent for each in near]
            more = 10 * max(result.operations for result in self.results)
            losses = [float(each.loss(np.array(more))) for each in near]
            yield (
                f"loss = {law.irreducible:.3f} + {law.factor:.3g} / operations^{law.exponent:.3f} "
                f"[{min(exponents):.3f}, {max(exponents):.3f}]; at ten times the largest run's operations it would be "
                f"{float(law.loss(np.array(more))):.3f} [{min(losses):.3f}, {max(losses):.3f}]"
            )
        yield from self._reservations()

    def _profile_line(self, budget: float, profile: Profile) -> str:
        given = sorted((one.parameters, one.tokens) for one in self.results if one.budget == budget)
        begin = f"at {budget:.3g} operations"
        if budget not in self.optima:
            side = "below" if profile.optimum < given[0][0] else "above"
            return f"{begin} the best size is {side} those that were tried: sweep other values"
        sizes, tokens = np.log(np.array(given, dtype=np.float64)).T
        each = np.exp(np.interp(np.log(profile.optimum), sizes, tokens)) / profile.optimum
        interval = profile.interval()
        bounds = "" if interval is None else " [{}, {}]".format(*(_bound(bound) for bound in interval))
        return f"{begin} the best size is {quantity(profile.optimum)} parameters{bounds}, {each:.3g} tokens for each"

    def _reservations(self) -> Iterator[str]:
        """Why one should not believe too much."""
        if repeated := [result for result in self.results if result.epochs > EPOCHS]:
            most = max(result.epochs for result in repeated)
            yield (
                f"{len(repeated)} of {len(self.results)} trainings read the text more than {EPOCHS} times (up to "
                f"{most:.1f}): no longer as good as new text (Muennighoff et al. 2023)"
            )
        if self.key != "seed":
            yield "one seed each: sweep seed to see what chance does"
        if self.enough_for_law and self.law is None:
            yield "no law of parameters and tokens: these trainings do not tell how much either helps"
        if self.sized and not (self.profiles or self.compute_law):
            yield "too few sizes for a law: three for the best size, four for its uncertainty"


def _law_line(fit: Fit) -> str:
    law = fit.law
    alpha, beta = (
        "[{:.2f}, {:.2f}]".format(*fit.interval(attrgetter(name))) for name in ("parameter_exponent", "token_exponent")
    )
    return (
        f"loss = {law.irreducible:.3f} + {law.parameter_factor:.3g} / parameters^{law.parameter_exponent:.2f} {alpha}"
        f" + {law.token_factor:.3g} / tokens^{law.token_exponent:.2f} {beta}"
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) and value > 0 else None


def _bound(value: float) -> str:
    return "open" if _finite(value) is None else quantity(value)


def table(findings: Findings) -> str:
    """A line per training under a line of column names, then what is found."""
    cells = [[findings.key, "parameters", "tokens", "operations", "steps", "epochs", "seconds", "bits per byte"]]
    for one in findings.results:
        cells.append(
            [
                one.value,
                f"{one.parameters:,}",
                f"{one.tokens:,}",
                f"{one.operations:.3g}",
                f"{one.steps:,}",
                f"{one.epochs:.2f}",
                f"{one.seconds:,.0f}",
                f"{one.bits_per_byte:.4f}" + (" *" if one is findings.best else ""),
            ]
        )
    widths = [max(len(row[column].removesuffix(" *")) for row in cells) for column in range(len(cells[0]))]
    lines = ["  ".join(_right(cell, width) for cell, width in zip(row, widths, strict=True)) for row in cells]
    return "\n".join([*(line.rstrip() for line in lines), "", *findings.lines()])


def _right(cell: str, width: int) -> str:
    """``cell`` to the right of its column, its star outside."""
    return cell.removesuffix(" *").rjust(width) + (" *" if cell.endswith(" *") else "")
