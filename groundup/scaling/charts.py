"""The pictures of a sweep and of a search for the learning rate.

Enters: :class:`Findings`, or a :class:`RateCurve`. Leaves: SVG and PNG files.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from groundup.core.progress import quantity
from groundup.inspection.drawing import ACCENT, FAINT, GREY, INK, LIGHT, Sheet, style
from groundup.pretraining.find_rate import RateCurve
from groundup.scaling.findings import Findings

#: Inches of the axes: what is drawn, and what its labels need to the left and below.
WIDTH, HEIGHT, LEFT, BELOW = 5.6, 3.3, 0.55, 0.45
#: One colour per amount of operations, from the smallest on: from light to dark.
SHADES = ("#8FB3CC", "#5B8DB1", "#2F6690", INK, "#0B1B2C")


def draw_sweep(findings: Findings, folder: Path) -> list[Path]:
    """Draw the picture that suits what was found; return its files."""
    with style():
        if findings.profiles:
            sheet = _profiles(findings)
        elif findings.compute_law is not None:
            sheet = _against_compute(findings)
        else:
            sheet = _comparison(findings)
        return sheet.save(folder, "sweep")


def draw_rates(curve: RateCurve, rates: Mapping[str, float], folder: Path) -> list[Path]:
    """Draw the loss against the factor on the recipe's ``rates``; return the files."""
    with style():
        told = ", ".join(f"{name} {curve.proposal * rate:.3g}" for name, rate in rates.items())
        sheet, axes = _sheet(
            f"Learning rate: {curve.proposal:.3g} times the recipe's is proposed",
            f"That is {told}. One training in which the rate grows at every step: dots are its losses, the line is "
            "smoothed. To the left the rate is too small to learn much; from the edge of the bottom on a larger one "
            "gains nothing more, or destroys what was learned. The proposal is a third of the rate at the edge.",
        )
        axes.plot(curve.factors, curve.losses, ".", color=LIGHT, markersize=2.5)
        axes.plot(curve.factors, curve.smoothed, color=INK)
        for name, place, colour in (("edge of the bottom", curve.edge, GREY), ("proposed", curve.proposal, ACCENT)):
            axes.axvline(place, color=colour, linewidth=0.9, linestyle=(0, (4, 2)))
            axes.annotate(name, (place, 0.98), xycoords=("data", "axes fraction"), xytext=(-3, 0), rotation=90,
                          textcoords="offset points", ha="right", va="top", color=colour, fontsize=8)  # fmt: skip
        axes.set_ylim(float(curve.smoothed.min()) - 0.15, float(curve.losses[0]) + 0.5)
        axes.set_xscale("log")
        axes.set_xlabel("factor on the recipe's learning rates")
        axes.set_ylabel("loss, in nats per token")
        return sheet.save(folder, "rates")


def _profiles(findings: Findings) -> Sheet:
    """IsoFLOP profiles: loss against size, a parabola for each amount of operations, its bottom and its bounds."""
    several = len(findings.profiles) > 1
    sheet, axes = _sheet(
        f"Loss against size at equal computation ({findings.key})",
        "A dot is a training; those of one colour took the same number of operations, small models on more text. The "
        "line is the parabola through them; the cross is its bottom, the best size, with its 95 % interval."
        + (" The broken line is how the best size grows." if findings.growth is not None else ""),
    )
    for number, (budget, profile) in enumerate(findings.profiles.items()):
        colour = SHADES[min(number, len(SHADES) - 1)] if several else INK
        runs = [run for run in findings.results if run.budget == budget]
        sizes = np.array([run.parameters for run in runs], dtype=np.float64)
        axes.plot(sizes, [run.bits_per_byte for run in runs], "o", color=colour, markersize=4)
        along = np.geomspace(0.9 * sizes.min(), 1.1 * sizes.max(), 200)
        axes.plot(along, profile.loss(along), color=colour, linewidth=1, label=f"{budget:.3g} operations")
        for run in runs:
            axes.annotate(run.value, (run.parameters, run.bits_per_byte), xytext=(0, 5), textcoords="offset points",
                          ha="center", color=colour, fontsize=7.5)  # fmt: skip
        if budget in findings.optima:
            best, interval = findings.optima[budget]
            height = float(profile.loss(np.array(best)))
            if interval is not None:
                low, high = np.clip(interval, along[0], along[-1])
                axes.plot([low, high], [height, height], color=ACCENT, linewidth=1)
            axes.plot(best, height, "+", color=ACCENT, markersize=9, markeredgewidth=1.5)
    if findings.growth is not None:
        budgets = np.geomspace(min(findings.optima), max(findings.optima), 100)
        bottoms = [
            float(findings.profiles[budget].loss(np.array(best))) for budget, (best, _) in findings.optima.items()
        ]
        heights = np.interp(np.log(budgets), np.log(list(findings.optima)), bottoms)
        axes.plot(findings.growth(budgets), heights, color=ACCENT, linewidth=0.9, linestyle=(0, (4, 2)))
    axes.legend(loc="best")
    _sizes(axes, [run.parameters for run in findings.results])
    axes.set_xlabel("parameters")
    axes.set_ylabel("bits per byte of validation")
    return sheet


def _against_compute(findings: Findings) -> Sheet:
    """Loss against operations, the fitted law and the band of all laws that fit nearly as well."""
    assert findings.compute_law is not None
    law, near = findings.compute_law
    sheet, axes = _sheet(
        f"Loss against computation ({findings.key})",
        f"A dot is a training whose tokens are in proportion to its parameters. The line is {law.irreducible:.3f} + "
        f"{law.factor:.3g} / operations^{law.exponent:.3f}; the band holds all laws that the dots do not rule out "
        "at 95 %, up to ten times the largest training.",
    )
    compute = np.array([run.operations for run in findings.results])
    along = np.geomspace(compute.min(), 10 * compute.max(), 200)
    losses = np.stack([each.loss(along) for each in near])
    axes.fill_between(along, losses.min(axis=0), losses.max(axis=0), color=LIGHT, alpha=0.4, linewidth=0)
    axes.plot(along, law.loss(along), color=INK)
    for run in findings.results:
        axes.plot(run.operations, run.bits_per_byte, "o", color=ACCENT, markersize=4)
        axes.annotate(run.value, (run.operations, run.bits_per_byte), xytext=(4, 4), textcoords="offset points",
                      color=ACCENT, fontsize=7.5)  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlabel("operations")
    axes.set_ylabel("bits per byte of validation")
    return sheet


def _comparison(findings: Findings) -> Sheet:
    """Loss of every value, in the order in which they were given."""
    sheet, axes = _sheet(
        f"Loss against {findings.key}",
        "A dot is a training, the marked one has the least loss. One training each: a difference that another seed "
        "could turn round is none.",
    )
    groups = sorted({run.budget for run in findings.results}, key=lambda budget: budget or 0)
    values = list(dict.fromkeys(run.value for run in findings.results))
    for number, budget in enumerate(groups):
        runs = [run for run in findings.results if run.budget == budget]
        colour = SHADES[min(number, len(SHADES) - 1)] if len(groups) > 1 else INK
        label = f"{budget:.3g} operations" if budget else None
        places = [values.index(run.value) for run in runs]
        axes.plot(places, [run.bits_per_byte for run in runs], "o-", color=colour, linewidth=0.8, label=label)
    best = findings.best
    axes.plot(values.index(best.value), best.bits_per_byte, "o", color=ACCENT, markersize=7)
    axes.set_xticks(range(len(values)), values)
    axes.margins(x=0.08, y=0.15)
    axes.set_xlabel(findings.key)
    axes.set_ylabel("bits per byte of validation")
    if len(groups) > 1:
        axes.legend(loc="best")
    return sheet


def _sheet(title: str, reading: str) -> tuple[Sheet, Axes]:
    sheet = Sheet(title, reading, LEFT + WIDTH, HEIGHT + BELOW)
    axes = sheet.axes(LEFT, 0, WIDTH, HEIGHT)
    axes.grid(color=FAINT, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    return sheet, axes


def _sizes(axes: Axes, sizes: list[int]) -> None:
    """A logarithmic axis of parameters with a mark at each size that is not too near the one before."""
    marks = list[int]()
    for size in sorted(sizes):
        if not marks or size > 1.1 * marks[-1]:
            marks.append(size)
    axes.set_xscale("log")
    axes.set_xticks(marks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda size, _: quantity(size)))
    axes.xaxis.set_minor_locator(NullLocator())
