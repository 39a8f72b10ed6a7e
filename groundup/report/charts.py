"""Charts as SVG text.

Enters: plain numbers and words. Leaves: SVG with all text as paths, equal bytes for equal input on every machine:
no clock, no random ids, no system font, no user's style file.
"""

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from groundup.inspection.drawing import ACCENT, FAINT, GREY, HEAT, INK, LIGHT, style
from groundup.report.facts import Series

STAGE_COLOURS = {"pretrain": "#8894A1", "sft": "#3A86B7", "dpo": "#D99A1C", "grpo": "#B5482A"}
STAGE_MARKERS = {"pretrain": "o", "sft": "s", "dpo": "D", "grpo": "^"}

#: Width of the text on the page, in inches: charts are drawn at the size at which they are printed.
WIDTH = 6.3
#: Points drawn per line; longer series are averaged in equal groups.
MOST_POINTS = 600
#: Points marked one by one; a longer noisy series is smoothed.
MOST_MARKED = 60
#: Heads and layers drawn in the overview of attention.
MOST_HEADS = 12

_STYLE: dict[Any, Any] = {
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.labelsize": 7.5,
    "axes.axisbelow": True,
    "axes.formatter.limits": (-4, 6),
    "lines.solid_capstyle": "round",
    "legend.fontsize": 7.5,
    "figure.constrained_layout.h_pad": 0.06,
    "figure.constrained_layout.w_pad": 0.05,
}


@dataclass(frozen=True)
class Line:
    """One series of a panel."""

    series: Series
    label: str = ""
    colour: str = INK


@dataclass(frozen=True)
class Panel:
    """One small chart: a title with the unit, lines against the step, and levels to compare with."""

    title: str
    lines: list[Line]
    levels: list[tuple[str, float]] = field(default_factory=list)
    share: bool = False
    """The values are shares: the axis reads in per cent."""
    noisy: bool = True
    """Draw the single steps light and a moving average over them."""

    def recorded(self) -> bool:
        """Whether there is anything to draw."""
        return any(len(line.series) for line in self.lines)

    def smoothed(self) -> bool:
        """Whether a moving average is drawn."""
        return self.noisy and any(len(line.series) > MOST_MARKED for line in self.lines)


@dataclass(frozen=True)
class Dot:
    """An estimate with its 95 % interval; bounds may be unknown."""

    name: str
    value: float
    low: float | None
    high: float | None
    colour: str = INK
    marker: str = "o"


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def smooth(values: Sequence[float] | np.ndarray, share: float = 0.05) -> np.ndarray:
    """Centred moving average over ``share`` of the series; at the ends over what there is."""
    width = max(1, round(len(values) * share))
    kernel = np.ones(width)
    total = np.convolve(values, kernel, mode="same") if len(values) >= width else np.asarray(values)
    weight = np.convolve(np.ones(len(values)), kernel, mode="same") if len(values) >= width else 1
    return np.asarray(total / weight)


def thin(series: Series, most: int = MOST_POINTS) -> tuple[np.ndarray, np.ndarray]:
    """Steps and values averaged in equal groups so that at most ``most`` are left."""
    steps, values = np.asarray(series.steps), np.asarray(series.values)
    groups = -(-len(values) // most)
    if groups <= 1:
        return steps, values
    edges = np.arange(0, len(values), groups)
    counts = np.diff(np.append(edges, len(values)))
    return np.add.reduceat(steps, edges) / counts, np.add.reduceat(values, edges) / counts


def apart(places: Sequence[float], gap: float) -> list[float]:
    """Places of labels, moved up where they would be nearer than ``gap`` to the one below."""
    moved: dict[int, float] = {}
    below = -np.inf
    for index in sorted(range(len(places)), key=places.__getitem__):
        below = moved[index] = max(places[index], below + gap)
    return [moved[index] for index in range(len(places))]


def curves(rows: Sequence[Sequence[Panel]], heights: Sequence[float]) -> str:
    """Rows of panels against the step; every row fills the width."""
    with style(_STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
        outer = figure.add_gridspec(len(rows), 1, height_ratios=heights)
        for index, row in enumerate(rows):
            inner = outer[index].subgridspec(1, len(row))
            for column, panel in enumerate(row):
                axes = figure.add_subplot(inner[column])
                _panel(axes, panel)
                axes.set_xlabel("step" if index == len(rows) - 1 else "")
        return _svg(figure)


def _panel(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title)
    axes.grid(axis="y", color=FAINT, linewidth=0.5)
    lines = [line for line in panel.lines if len(line.series)]
    for line in lines:
        steps, values = thin(line.series)
        if panel.noisy and len(values) > MOST_MARKED:
            axes.plot(steps, values, color=line.colour, alpha=0.28, linewidth=0.6)
            values = smooth(values)
            axes.plot(steps, values, color=line.colour, label=line.label)
        else:
            marker: dict[str, Any] = {"marker": "o", "markersize": 2.6} if panel.noisy else {}
            axes.plot(steps, values, color=line.colour, label=line.label, **marker)
    for _, level in panel.levels:
        axes.axhline(level, color=ACCENT, linewidth=0.8, linestyle=(0, (4, 2)))
    bottom, top = axes.get_ylim()
    heights = apart([level for _, level in panel.levels], 0.1 * (top - bottom))
    for (name, _), height in zip(panel.levels, heights, strict=True):
        axes.annotate(name, (1, height), xycoords=("axes fraction", "data"), xytext=(3, 0), textcoords="offset points",
                      ha="left", va="center", fontsize=7.5, color=ACCENT)  # fmt: skip
    if sum(bool(line.label) for line in lines) > 1:
        axes.legend(loc="best", handlelength=1.2)
    if panel.share:
        axes.yaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 1):g} %")
    axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5, integer=True))
    axes.yaxis.set_major_locator(matplotlib.ticker.MaxNLocator(5))
    axes.margins(x=0.02)


def cover(series: Series) -> str:
    """The training loss as one white line for the title page; the step axis is logarithmic, nothing is labelled."""
    with style(_STYLE):
        figure = Figure(figsize=(8.27, 1.75))
        axes = figure.add_axes((0, 0, 1, 1))
        axes.axis("off")
        steps, values = np.asarray(series.steps), np.asarray(series.values)
        x = np.log(np.maximum(steps, 1))
        floor = values.min() - 0.4 * (np.ptp(values) or 1)
        axes.fill_between(x, values, floor, color="white", alpha=0.07, linewidth=0)
        axes.plot(x, values, color="white", linewidth=0.6, alpha=0.45)
        axes.plot(x, smooth(values, 0.02), color="white", linewidth=1.6)
        axes.set_xlim(x.min(), max(x.max(), x.min() + 1))
        axes.set_ylim(floor, None)
        return _svg(figure)


def funnel(steps: Sequence[str], kept: Sequence[float], removed: Sequence[float], notes: Sequence[str]) -> str:
    """What is left in bytes after each cleaning step, and what the step took away."""
    with style(_STYLE):
        figure = Figure(figsize=(WIDTH, 0.5 + 0.27 * len(steps)), layout="constrained")
        axes = figure.add_subplot()
        rows = np.arange(len(steps))
        largest = max(k + r for k, r in zip(kept, removed, strict=True)) or 1
        axes.barh(rows, kept, color=INK, height=0.62, label="kept")
        axes.barh(rows, removed, left=kept, color="#E3B7A8", height=0.62, label="removed by this step")
        for row, note in enumerate(notes):
            axes.text(largest * 1.015, row, note, va="center", color=GREY, fontsize=7.5)
        axes.set_yticks(rows, steps)
        axes.tick_params(axis="y", length=0, labelcolor="black", labelsize=8)
        axes.invert_yaxis()
        axes.set_xlim(0, largest * 1.24)
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(6))
        unit, scale = ("MB", 1e6) if largest >= 1e6 else ("kB", 1e3)
        ticks = [tick for tick in axes.get_xticks() if 0 <= tick <= largest]
        axes.set_xticks(ticks, [f"{tick / scale:g} {unit}" for tick in ticks])
        axes.spines["bottom"].set_bounds(0, largest)
        axes.spines["left"].set_visible(False)
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1), ncols=2, handlelength=1, borderpad=0)
        return _svg(figure)


def costs(panels: Sequence[Mapping[str, Mapping[str, Sequence[float]]]], ours: str, others: str) -> str:
    """Panels side by side of groups of texts: what each costs with our vocabulary, its first value, and with others."""
    with style(_STYLE):
        most = max(sum(len(texts) + 1 for texts in groups.values()) for groups in panels)
        largest = [max(max(costs) for texts in groups.values() for costs in texts.values()) for groups in panels]
        figure = Figure(figsize=(WIDTH, 0.75 + 0.165 * most), layout="constrained")
        grid = figure.add_gridspec(1, len(panels), width_ratios=largest)  # a token is as long in every panel
        for column, groups in enumerate(panels):
            axes = figure.add_subplot(grid[column])
            rows = [row for title, texts in groups.items() for row in ((title, None), *texts.items())]
            axes.set_yticks(range(len(rows)), [name for name, _ in rows])
            axes.tick_params(axis="y", length=0, labelcolor="black", pad=2)
            for row, (label, (_, values)) in enumerate(zip(axes.get_yticklabels(), rows, strict=True)):
                if values is None:
                    label.set(color=INK, weight="bold")
                    continue
                own, *rest = values
                axes.axhline(row, color=FAINT, linewidth=0.4, zorder=0)
                if rest:
                    axes.plot([min(rest), max(rest)], [row, row], color=LIGHT, linewidth=4, zorder=1)
                    axes.plot(rest, [row] * len(rest), "|", color=GREY, markersize=5, markeredgewidth=0.8)
                axes.plot([own], [row], "D", color=ACCENT, markersize=3.8)
            axes.set_ylim(most - 0.5, -0.5)
            axes.set_xlim(0, 1.05 * largest[column])
            axes.xaxis.set_major_locator(
                matplotlib.ticker.MaxNLocator(max(2, round(5 * largest[column] / max(largest))))
            )
            axes.spines["bottom"].set_position(("data", len(rows) - 0.4))
            axes.set_xlabel("tokens for 100 bytes")
            axes.spines["left"].set_visible(False)
        marks: list[tuple[str, dict[str, Any]]] = [(ours, {"color": ACCENT, "marker": "D", "linewidth": 0})]
        if any(len(costs) > 1 for groups in panels for texts in groups.values() for costs in texts.values()):
            marks.append((others, {"color": LIGHT, "marker": "|", "markeredgecolor": GREY, "linewidth": 4}))
        handles = [matplotlib.lines.Line2D([], [], label=name, markersize=4, **look) for name, look in marks]
        figure.legend(handles=handles, loc="outside upper center", ncols=2, handlelength=1.6)
        return _svg(figure)


def attention_heads(heads: Sequence[tuple[str, np.ndarray]], tokens: Sequence[str]) -> str:
    """A few heads side by side: row = the token that looks, column = the token looked at."""
    with style(_STYLE):
        width = WIDTH / max(len(heads), 3)
        figure = Figure(figsize=(width * len(heads), width + 0.75), layout="constrained")
        size = min(6.5, 130 / max(len(tokens), 1))
        for index, (title, weights) in enumerate(heads):
            axes = figure.add_subplot(1, len(heads), index + 1)
            axes.set_title(title, fontsize=8)
            mesh = axes.pcolormesh(weights, cmap=HEAT, vmin=0, vmax=1, edgecolors="white", linewidth=0.25)
            mesh.set_rasterized(False)
            axes.set_aspect("equal")
            axes.invert_yaxis()
            places = np.arange(len(tokens)) + 0.5
            axes.set_xticks(places, tokens, rotation=90, fontsize=size, fontfamily="DejaVu Sans Mono")
            axes.set_yticks(places, tokens if index == 0 else [], fontsize=size, fontfamily="DejaVu Sans Mono")
            axes.tick_params(length=0, pad=1.5, labelcolor="#333333")
            axes.spines[:].set_visible(False)
        return _svg(figure)


def attention_overview(layers: Sequence[Sequence[np.ndarray]]) -> str:
    """Every head of every layer as a small square: darkness is the square root of the weight."""
    with style(_STYLE):
        rows, columns = min(len(layers), MOST_HEADS), min(max(map(len, layers)), MOST_HEADS)
        # One picture of whole pixels per weight: viewers blur what they have to enlarge.
        side = max(1, round(120 / len(layers[0][0])))
        tile = len(layers[0][0]) * side
        pitch = tile + 10
        image = np.full((rows * pitch - 10, columns * pitch - 10), np.nan)
        for row, heads in enumerate(layers[:rows]):
            for column, weights in enumerate(heads[:columns]):
                picture = np.kron(np.sqrt(np.clip(weights, 0, 1)), np.ones((side, side)))
                image[row * pitch : row * pitch + tile, column * pitch : column * pitch + tile] = picture
        inches = min(0.62, (WIDTH - 0.6) / columns, 3.2 / rows)
        figure = Figure(figsize=(0.4 + inches * columns, 0.2 + inches * rows), layout="constrained")
        axes = figure.add_subplot()
        axes.imshow(image, cmap=HEAT, vmin=0, vmax=1, interpolation="none")
        axes.set_xticks([column * pitch + tile / 2 for column in range(columns)],
                        [f"head {column + 1}" for column in range(columns)])  # fmt: skip
        axes.set_yticks([row * pitch + tile / 2 for row in range(rows)], [f"layer {row + 1}" for row in range(rows)])
        axes.tick_params(length=0, top=False, labeltop=True, labelbottom=False, pad=1.5, labelsize=7)
        axes.spines[:].set_visible(False)
        for row in range(rows):
            for column in range(len(layers[row][:columns])):
                corner = (column * pitch - 0.5, row * pitch - 0.5)
                axes.add_patch(Rectangle(corner, tile, tile, fill=False, edgecolor=FAINT, linewidth=0.5))
        return _svg(figure)


def bits_per_byte(dots: Sequence[Dot], levels: Sequence[tuple[str, float]]) -> str:
    """Each model's bits per byte with its interval against the baselines (vertical lines)."""
    with style(_STYLE):
        figure = Figure(figsize=(WIDTH, 0.8 + 0.26 * len(dots)), layout="constrained")
        axes = figure.add_subplot()
        _dots(axes, dots, [float(row) for row in range(len(dots))])
        for index, (name, level) in enumerate(sorted(levels, key=lambda item: item[1])):
            axes.axvline(level, color=GREY, linewidth=0.9, linestyle=(0, (4, 2)))
            axes.annotate(f"{name}, {level:.3f}", (level, 1), xycoords=("data", "axes fraction"), ha="center",
                          xytext=(0, 3 + 9 * (index % 2)), textcoords="offset points",
                          color=GREY, fontsize=7.5)  # fmt: skip
        for row, dot in enumerate(dots):
            axes.annotate(f"{dot.value:.3f}", (1, row), xycoords=("axes fraction", "data"), xytext=(4, 0),
                          textcoords="offset points", va="center", fontsize=8, color="black")  # fmt: skip
        axes.set_yticks(range(len(dots)), [dot.name for dot in dots])
        axes.set_ylim(len(dots) - 0.5, -0.8)
        every = [bound for dot in dots for bound in (dot.value, dot.low, dot.high) if bound is not None]
        every += [level for _, level in levels]
        room = 0.12 * (max(every) - min(every)) or 0.1
        axes.set_xlim(min(every) - room, max(every) + room)
        axes.set_xlabel("bits per byte of held-out text (lower is better)")
        axes.tick_params(axis="y", length=0, labelcolor="black", labelsize=8)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=FAINT, linewidth=0.5)
        return _svg(figure)


def exact_match(
    groups: Sequence[tuple[str, Sequence[tuple[str, float | None, Sequence[Dot]]]]],
) -> str:
    """A panel per split; a row per family with its chance level and a dot with interval per stage."""
    with style(_STYLE):
        most = max(len(rows) for _, rows in groups)
        figure = Figure(figsize=(WIDTH, 0.85 + 0.29 * most), layout="constrained")
        shown: dict[str, Dot] = {}
        for column, (title, rows) in enumerate(groups):
            axes = figure.add_subplot(1, len(groups), column + 1)
            axes.set_title(title)
            for row, (_, chance, dots) in enumerate(rows):
                if row % 2:
                    axes.axhspan(row - 0.5, row + 0.5, color="#F4F6F8", linewidth=0)
                offsets = (np.arange(len(dots)) - (len(dots) - 1) / 2) * 0.19
                _dots(axes, dots, [row + offset for offset in offsets], size=3)
                shown |= {dot.name: dot for dot in dots}
                if chance is not None:
                    axes.plot([chance, chance], [row - 0.42, row + 0.42], color="black", linewidth=1)
            axes.set_yticks(range(len(rows)), [name for name, _, _ in rows] if column == 0 else [])
            axes.tick_params(axis="y", length=0, labelcolor="black", labelsize=8)
            axes.set_ylim(most - 0.5, -0.5)
            axes.set_xlim(-0.03, 1.03)
            axes.xaxis.set_major_formatter(lambda value, _: f"{round(100 * value, 1):g} %")
            axes.grid(axis="x", color=FAINT, linewidth=0.5)
            axes.spines["left"].set_visible(False)
        handles = [
            matplotlib.lines.Line2D([], [], color=dot.colour, marker=dot.marker, markersize=4, linewidth=1, label=name)
            for name, dot in shown.items()
        ]
        handles.append(
            matplotlib.lines.Line2D([], [], color="black", marker="|", markersize=8, linewidth=0, label="chance")
        )
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), handlelength=1.6)
        return _svg(figure)


def _dots(axes: Axes, dots: Sequence[Dot], rows: Sequence[float], size: float = 4.5) -> None:
    for dot, row in zip(dots, rows, strict=True):
        if dot.low is not None and dot.high is not None:
            axes.plot([dot.low, dot.high], [row, row], color=dot.colour, linewidth=1.3)
        axes.plot([dot.value], [row], color=dot.colour, marker=dot.marker, markersize=size, linewidth=0)
