"""A sheet to draw on: inches from the top left, a title, a line that says how to read it, and token labels that show.

Leaves: SVG and PNG with equal bytes for equal input on every machine: all text as paths, no clock, no random ids, no
system font, no user's style file.
"""

import contextlib
import itertools
import logging
import math
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.transforms import offset_copy
from rich.cells import cell_len

from groundup.tokenizer.show import shortened

#: Colours that stay apart for colour-blind readers and in grey (after Okabe & Ito 2008, darkened to be read as text).
INK, GREY, LIGHT, FAINT, ACCENT = "#16324F", "#66717D", "#B9C6D2", "#D9DEE3", "#B5482A"
HEAT = LinearSegmentedColormap.from_list("heat", ["#FFFFFF", "#C9D9E6", "#5B8DB1", "#16324F", "#0B1B2C"])
#: From this share of the heat on, letters are white; the colours of a word and of a lesser word on lighter ground.
DARK, WORD, LESSER = 0.58, "black", "#3A4652"
#: Token labels: one width for every letter, and two fonts that know more letters; all come with matplotlib.
TOKEN_FONTS = ["DejaVu Sans Mono", "DejaVu Sans", "STIXGeneral"]
#: Width of a letter of a token label, in its size; and the smallest and the largest size, in points.
LETTER, SMALLEST_LABEL, LARGEST_LABEL = 0.602, 5.0, 7.0
POINTS = 72.0
#: Inches: the margin, a line of the title and of the reading, a gap.
MARGIN, TITLE_LINE, READING_LINE, GAP = 0.3, 0.26, 0.17, 0.16
#: Letters of title and reading in an inch, about.
TITLE_LETTERS, READING_LETTERS = 11.0, 18.0
#: Dots per inch of the PNG.
RESOLUTION = 140

#: matplotlib's settings for every picture of the project.
HOUSE_STYLE: dict[Any, Any] = {
    "svg.fonttype": "path",
    "svg.hashsalt": "groundup",
    "image.composite_image": False,
    "font.family": ["STIXGeneral", "DejaVu Sans"],
    "font.size": 8,
    "text.parse_math": False,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": GREY,
    "axes.formatter.use_mathtext": False,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.3,
    "legend.frameon": False,
}


@contextlib.contextmanager
def style(own: Mapping[Any, Any] | None = None) -> Iterator[None]:
    """Draw with matplotlib's defaults, ours and ``own`` over them, whatever style file lies about.

    A character that the font lacks is drawn as a box, which is all that can be done.
    """
    with matplotlib.rc_context(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Gg]lyph")
        logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({**HOUSE_STYLE, **(own or {})})
        yield


class Sheet:
    """A picture of a given size of content, below a title and a line that says how to read it."""

    def __init__(self, title: str, reading: str, width: float, height: float) -> None:
        """
        Args:
            title: what the picture says.
            reading: how to read it.
            width: of what is drawn, in inches.
            height: likewise.
        """
        width = max(width, 5.0)
        titles = textwrap.wrap(drawable(title), int(width * TITLE_LETTERS))
        readings = textwrap.wrap(drawable(reading), int(width * READING_LETTERS))
        self._top = MARGIN + TITLE_LINE * len(titles) + READING_LINE * len(readings) + GAP
        self._size = width + 2 * MARGIN, self._top + height + MARGIN
        self._figure = Figure(figsize=self._size)
        y = -self._top + MARGIN
        for line in titles:
            self.write(0, y + TITLE_LINE / 2, line, fontsize=12, weight="bold", color=INK)
            y += TITLE_LINE
        for line in readings:
            self.write(0, y + READING_LINE / 2, line, fontsize=8.5)
            y += READING_LINE

    def write(self, x: float, y: float, text: str, **look: Any) -> None:
        """Write ``text`` at (x, y) inches from the top left of the content."""
        width, height = self._size
        place = (MARGIN + x) / width, 1 - (self._top + y) / height
        self._figure.text(*place, text, **{"color": GREY, "fontsize": 8, "va": "center_baseline", **look})

    def axes(self, x: float, y: float, width: float, height: float) -> Axes:
        """Axes with the top left corner at (x, y), in inches."""
        whole_width, whole_height = self._size
        bottom = 1 - (self._top + y + height) / whole_height
        return self._figure.add_axes(((MARGIN + x) / whole_width, bottom, width / whole_width, height / whole_height))

    def scale(self, x: float, y: float, *marks: tuple[float, str]) -> None:
        """A legend of the heat at (x, y): what some places of it, from 0 to 1, stand for."""
        width = max(0.9, 0.36 * (len(marks) - 1))
        bar = self.axes(x, y, width, 0.08)
        bar.imshow(HEAT(np.linspace(0, 1, 64))[None], extent=(0, 1, 0, 1), aspect="auto", interpolation="none")
        bar.set_yticks([])
        bar.set_xticks([place for place, _ in marks], [word for _, word in marks], fontsize=6.5)
        bar.tick_params(pad=1, length=1.5)
        bar.spines[:].set(visible=True, color=LIGHT)

    def save(self, folder: Path, name: str) -> list[Path]:
        """Write ``name.svg`` and ``name.png`` into ``folder``; return the paths."""
        paths = [folder / f"{name}.svg", folder / f"{name}.png"]
        metadata: list[dict[str, Any]] = [{"Date": None, "Creator": None}, {"Software": None}]
        for path, about in zip(paths, metadata, strict=True):
            self._figure.savefig(path, dpi=RESOLUTION, facecolor="white", metadata=about)
        return paths


def heat(values: npt.ArrayLike, side: int = 1) -> npt.NDArray[np.uint8]:
    """Values of 0 … 1 as a picture of ``side`` pixels a value; NaN stays empty.

    Viewers blur what they have to enlarge, so a picture has whole pixels enough.
    """
    return np.repeat(np.repeat(HEAT(np.ma.masked_invalid(values), bytes=True), side, 0), side, 1)


def on(value: float) -> tuple[str, str]:
    """The colours of a word and of a lesser word on the heat of ``value``."""
    return ("white", "white") if value > DARK else (WORD, LESSER if value < 0.3 else WORD)


def show_image(axes: Axes, values: npt.ArrayLike, side: int = 8) -> None:
    """Fill ``axes`` with the heat of ``values`` [rows, columns]: value (i, j) is the unit square at x = j, y = i."""
    rows, columns = np.shape(values)
    axes.imshow(heat(values, side), extent=(0, columns, rows, 0), aspect="auto", interpolation="none")
    axes.tick_params(length=0, pad=2)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=LIGHT)


def label_room(labels: Sequence[str]) -> float:
    """Inches that token labels take at most."""
    return max(map(cell_len, labels), default=0) * LETTER * LARGEST_LABEL / POINTS + 0.08


def _label_size(pitch: float) -> float:
    return min(LARGEST_LABEL, max(SMALLEST_LABEL, 0.85 * pitch * POINTS))


def label_step(pitch: float) -> int:
    """Of how many tokens of ``pitch`` inches one can be labelled."""
    return max(1, math.ceil(0.9 * _label_size(pitch) / (pitch * POINTS)))


def label_tokens(axes: Axes, labels: Sequence[str], pitch: float, side: str) -> None:
    """Write as many token labels as have room along the ``bottom`` or ``left`` of axes of ``pitch`` inches a token."""
    size = _label_size(pitch)
    figure: Any = axes.get_figure()
    left = side == "left"
    # Ticks would do the same, and take several times as long. All labels stand on the same line, half a small letter
    # beside the middle, so that a comma is where a word has one.
    along = axes.get_yaxis_transform() if left else axes.get_xaxis_transform()
    right, up = (-2.0, -0.27 * size) if left else (0.27 * size, -3.0)
    beside = offset_copy(along, figure, right, up, "points")
    for place in range(0, len(labels), label_step(pitch)):
        x, y = (0.0, place + 0.5) if left else (place + 0.5, 0.0)
        axes.text(x, y, labels[place], transform=beside, fontsize=size, fontfamily=TOKEN_FONTS, color="black",
                  ha="right", va="baseline", rotation=0 if left else 90, rotation_mode="anchor")  # fmt: skip


def label_numbers(axes: Axes, count: int, pitch: float, axis: str, first: int = 1) -> None:
    """Number the units of an ``axis`` (x or y) of axes of ``pitch`` inches a unit, from ``first``."""
    numbers = numbers_with_room(count, pitch, axis, first)
    places = [number - first + 0.5 for number in numbers]
    (axes.set_xticks if axis == "x" else axes.set_yticks)(places, [str(number) for number in numbers], fontsize=7)


def numbers_with_room(count: int, pitch: float, axis: str, first: int = 1) -> list[int]:
    """Which of ``count`` numbers can be written, all or the multiples of a round one."""
    letters = len(str(count + first - 1)) if axis == "x" else 1.6
    steps = (round_one * 10**power for power in itertools.count() for round_one in (1, 2, 5))
    step = next(step for step in steps if step * pitch * POINTS >= 5 * letters + 2)
    return [number for number in range(first, count + first) if step == 1 or number % step == 0]


@cache
def _drawn_characters() -> frozenset[int]:
    """Code points that a font of ours has."""
    found = (font_manager.findfont(font_manager.FontProperties(family=[name])) for name in TOKEN_FONTS)
    return frozenset(code for path in found for code in font_manager.get_font(path).get_charmap())


def drawable(text: str) -> str:
    """``text`` with every character that no font of ours has as its number: ``‹U+5B57›``."""
    known = _drawn_characters()
    return "".join(letter if ord(letter) in known else f"‹U+{ord(letter):04X}›" for letter in text)


def token_label(text: str, letters: int = 16) -> str:
    """A token's reading as a label of at most so many ``letters``."""
    return shortened(drawable(text), letters)
