"""Curves of letters: in braille dots, eight to a letter, or in plain ASCII where a terminal knows nothing else.

Enters: points. Leaves: lines of styled text, all of the same width.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

#: Letters of the labels of the vertical axis.
LABEL = 7
#: Dots of a braille letter by row and column, as bits (Unicode block "Braille Patterns").
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
#: From this ratio of the largest to the smallest value on, the axis is logarithmic.
_DECADES = 100.0
#: What every picture is made of, and how a terminal shows it.
TITLE, FRAME, LINE, MARK = "bold", "dim", "cyan", "bold red"


@dataclass(frozen=True)
class Glyphs:
    """The letters of a picture."""

    side: str
    corner: str
    floor: str
    mark: str
    braille: bool

    @property
    def dots(self) -> tuple[int, int]:
        """Of one letter: across, down."""
        return (2, 4) if self.braille else (1, 1)


UNICODE = Glyphs("│", "└", "─", "▲", True)
ASCII = Glyphs("|", "+", "-", "^", False)


def glyphs_for(encoding: str | None, dumb: bool) -> Glyphs:
    """The letters that a terminal of this encoding can show."""
    try:
        "⣿│└─▲".encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return ASCII if dumb else UNICODE


def short(value: float) -> str:
    """A number in at most seven letters: ``3.213``, ``0.01``, ``12.3k``, ``1.2e-05``."""
    # From the limits on rounding reaches the unit.
    for limit, unit, suffix in ((999.5e9, 1e12, "T"), (999.5e6, 1e9, "G"), (999.5e3, 1e6, "M"), (9999.5, 1e3, "k")):
        if abs(value) >= limit:
            return f"{value / unit:.3g}{suffix}"
    texts = [f"{value:.{digits}g}" for digits in (4, 3, 2, 1)]
    return next((text for text in texts if len(text) <= LABEL), texts[-1])


def chart(
    title: str,
    points: Sequence[tuple[float, float]],
    span: tuple[float, float],
    width: int,
    height: int,
    glyphs: Glyphs,
    marks: Sequence[float] = (),
    last: float | None = None,
) -> list[Text]:
    """A picture of ``height`` + 3 lines.

    Args:
        title: in the first line, with the newest value.
        points: (step, value), by step.
        span: the first and the last step of the axis.
        width: of all lines, in letters; at least ``LABEL`` + 5.
        height: of the picture without title and steps, in letters.
        glyphs: what it is drawn with.
        marks: steps that are marked on the axis.
        last: the newest value; without it that of the last point.
    """
    columns = width - LABEL - 1
    canvas = _Canvas(columns, height, glyphs)
    drawn = _by_column([(canvas.column(_share(step, *span)), value) for step, value in points])
    low, high = min(drawn.values()), max(drawn.values())
    logarithmic = low > 0 and high / low >= _DECADES
    scale = math.log if logarithmic else float
    canvas.line({column: _share(scale(value), scale(low), scale(high)) for column, value in drawn.items()})
    newest = short(points[-1][1] if last is None else last)
    head = f"{title} {newest}{' (log)' if logarithmic else ''}"
    labels = {0: short(high), height - 1: short(low)} if high > low else {height // 2: short(low)}
    lines = [Text(head[:width].ljust(width), TITLE)]
    for row, letters in enumerate(canvas.rows()):
        label = labels.get(row, "")
        lines.append(Text.assemble((f"{label:>{LABEL}}{glyphs.side}", FRAME), (letters, LINE)))
    lines.append(_floor(span, columns, glyphs, marks))
    first, final = f"{span[0]:.0f}", f"{span[1]:.0f}"
    lines.append(Text(" " * (LABEL + 1) + first + final.rjust(columns - len(first)), FRAME))
    return lines


def _floor(span: tuple[float, float], columns: int, glyphs: Glyphs, marks: Sequence[float]) -> Text:
    floor = Text(" " * LABEL + glyphs.corner + glyphs.floor * columns, FRAME)
    letters = list(floor.plain)
    places = {LABEL + 1 + min(columns - 1, int(_share(mark, *span) * columns)) for mark in marks}
    for place in places:
        letters[place] = glyphs.mark
    floor = Text("".join(letters), FRAME)
    for place in places:
        floor.stylize(MARK, place, place + 1)
    return floor


def _by_column(points: Sequence[tuple[int, float]]) -> dict[int, float]:
    """The mean of the values in each column of dots, from left to right."""
    columns: dict[int, list[float]] = {}
    for column, value in points:
        columns.setdefault(column, []).append(value)
    return {column: sum(values) / len(values) for column, values in sorted(columns.items())}


def _share(value: float, low: float, high: float) -> float:
    """Where ``value`` lies between two others, from 0 to 1; in the middle of nothing."""
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


class _Canvas:
    """Letters made of dots."""

    def __init__(self, columns: int, rows: int, glyphs: Glyphs) -> None:
        across, down = glyphs.dots
        self._glyphs, self._width, self._height = glyphs, columns * across, rows * down
        self._lit = [[False] * self._width for _ in range(self._height)]

    def column(self, x: float) -> int:
        """The column of dots at ``x``, from 0 to 1."""
        return round(x * (self._width - 1))

    def line(self, heights: Mapping[int, float]) -> None:
        """Join the points of columns, whose heights go from 0, at the bottom, to 1."""
        before: tuple[int, int] | None = None
        for column, y in heights.items():
            here = (column, round((1 - y) * (self._height - 1)))
            self._join(before or here, here)
            before = here

    def _join(self, start: tuple[int, int], end: tuple[int, int]) -> None:
        steps = max(end[0] - start[0], abs(end[1] - start[1]), 1)
        for step in range(steps + 1):
            x = round(start[0] + (end[0] - start[0]) * step / steps)
            self._lit[round(start[1] + (end[1] - start[1]) * step / steps)][x] = True

    def rows(self) -> list[str]:
        """The letters."""
        across, down = self._glyphs.dots
        return [
            "".join(self._letter(top, left) for left in range(0, self._width, across))
            for top in range(0, self._height, down)
        ]

    def _letter(self, top: int, left: int) -> str:
        if not self._glyphs.braille:
            return "*" if self._lit[top][left] else " "
        bits = sum(bit for y, row in enumerate(_DOTS) for x, bit in enumerate(row) if self._lit[top + y][left + x])
        return chr(0x2800 + bits) if bits else " "
