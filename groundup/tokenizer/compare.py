"""Several tokenizers on the same texts: tokenizers and texts enter; figures, a table and a chart leave.

What is compared: bytes per token (how short a text becomes), tokens per word ("fertility"), the share of tokens that
are one bare byte, the share that is unknown, and the speed. Translations of one text are also compared across
languages, by their tokens for the same content (Petrov et al., 2023, "Language Model Tokenizers Introduce Unfairness
Between Languages").
"""

import textwrap
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from groundup.core import files
from groundup.core.errors import DataError
from groundup.core.progress import Progress
from groundup.tokenizer.pretokenize import well_formed
from groundup.tokenizer.protocol import Tokenizer

#: A text is encoded so often, and for so many seconds; the fastest time counts.
TIMED_ROUNDS, TIMED_SECONDS = 3, 0.02
#: A script with fewer than one space in so many characters does not part its words with spaces.
LONGEST_WORD = 20


@dataclass(frozen=True)
class Measurement:
    """One tokenizer on one text."""

    tokenizer: str
    kind: str
    """The kind of the text."""
    name: str
    """The name of the text."""
    bytes: int
    """Its UTF-8 bytes."""
    content_bytes: int
    """The bytes of what it translates; its own bytes otherwise."""
    words: int | None
    """Its words; None in a script that does not part them."""
    tokens: int
    single_byte: int
    """Tokens of one byte."""
    unknown: int
    """Tokens that stand for what the vocabulary cannot say."""
    seconds: float | None
    """The fastest time of encoding it once; None where nobody looked at the clock."""


@dataclass(frozen=True)
class Subject:
    """A tokenizer that was compared."""

    name: str
    vocab_size: int
    fingerprint: str


@dataclass(frozen=True)
class Comparison:
    """Every tokenizer on every text."""

    subjects: tuple[Subject, ...]
    measurements: tuple[Measurement, ...]
    """By kind, by text, by tokenizer."""
    parallel: tuple[str, ...] = ()
    """Kinds whose texts all say the same."""

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(kind, name) of each text."""
        return list(dict.fromkeys((measured.kind, measured.name) for measured in self.measurements))

    @property
    def original(self) -> tuple[str, str] | None:
        """(kind, name) of the text that the others of the parallel kinds translate."""
        return next((text for text in self.texts if text[0] in self.parallel), None)

    def of(self, tokenizer: str, kind: str | None = None, name: str | None = None) -> list[Measurement]:
        """The measurements of one tokenizer on all texts, those of a kind, or one of them."""
        return [
            measured
            for measured in self.measurements
            if measured.tokenizer == tokenizer and kind in (None, measured.kind) and name in (None, measured.name)
        ]

    def to_json(self) -> dict[str, Any]:
        """Everything as plain JSON values, with the figures worked out for each text, each kind and in all.

        Without speeds where they were not measured: the same tokenizers and texts then give the same values.
        """
        kinds = dict.fromkeys(kind for kind, _ in self.texts)
        untimed = any(measured.seconds is None for measured in self.measurements)

        def told(values: dict[str, Any]) -> dict[str, Any]:
            return {name: value for name, value in values.items() if not (untimed and name in SPEEDS)}

        return {
            "parallel": list(self.parallel),
            "tokenizers": [
                {
                    **asdict(subject),
                    **told(figures_of(self.of(subject.name))),
                    "kinds": {kind: told(figures_of(self.of(subject.name, kind))) for kind in kinds},
                }
                for subject in self.subjects
            ],
            "texts": [told({**asdict(measured), **figures_of([measured])}) for measured in self.measurements],
        }


@dataclass(frozen=True)
class Figure:
    """Something to compare tokenizers by, over one text or several."""

    title: str
    of: Callable[[Sequence[Measurement]], float | None]
    spell: str
    """How a value is formatted."""


def _ratio(above: float, below: float) -> float | None:
    return above / below if below else None


def _tokens_per_word(measured: Sequence[Measurement]) -> float | None:
    parted = [one for one in measured if one.words is not None]
    return _ratio(sum(one.tokens for one in parted), sum(one.words or 0 for one in parted))


def _per_token(name: str) -> Callable[[Sequence[Measurement]], float | None]:
    return lambda measured: _ratio(sum(getattr(one, name) for one in measured), sum(one.tokens for one in measured))


FIGURES = {
    "bytes_per_token": Figure("bytes per token", _per_token("bytes"), ".2f"),
    "tokens_per_100_bytes": Figure(
        "tokens for 100 bytes",
        lambda measured: _ratio(100 * sum(one.tokens for one in measured), sum(one.content_bytes for one in measured)),
        ".0f",
    ),
    "tokens_per_word": Figure("tokens per word", _tokens_per_word, ".2f"),
    "single_byte_share": Figure("single-byte tokens", _per_token("single_byte"), ".0%"),
    "unknown_share": Figure("unknown tokens", _per_token("unknown"), ".1%"),
    "megabytes_per_second": Figure(
        "MB/s",
        lambda measured: _ratio(sum(one.bytes for one in measured) / 1e6, sum(one.seconds or 0 for one in measured)),
        ".1f",
    ),
}

#: What the clock says.
SPEEDS = ("seconds", "megabytes_per_second")
#: What the chart shows, and the tables by text.
CHARTED = "tokens_per_100_bytes"


def figures_of(measured: Sequence[Measurement]) -> dict[str, float | None]:
    """Every figure over these texts; None where there is none, as tokens per word in a script without spaces."""
    return {name: figure.of(measured) for name, figure in FIGURES.items()}


def compare(
    tokenizers: Mapping[str, Tokenizer],
    texts: Mapping[str, Mapping[str, str]],
    parallel: Collection[str] = (),
    timed: bool = True,
) -> Comparison:
    """Encode every text with every tokenizer.

    Args:
        tokenizers: name → tokenizer.
        texts: kind → name → text.
        parallel: kinds whose texts are all translations of the first text of the first of these kinds.
        timed: measure the speed too, which encodes each text several times.

    Raises:
        DataError: there is nothing to compare, or a text is empty.
    """
    if not tokenizers or not any(texts.values()):
        raise DataError("there is nothing to compare; name at least one tokenizer and one text")
    original = next((text for kind, group in texts.items() if kind in parallel for text in group.values()), "")
    rulers = {name: _Ruler(tokenizer, timed) for name, tokenizer in tokenizers.items()}
    measurements = []
    rounds = len(tokenizers) * sum(map(len, texts.values()))
    with Progress("tokenizer: compare", rounds, "text") as progress:
        for kind, group in texts.items():
            for name, text in group.items():
                clean = well_formed(text)
                if not clean:
                    raise DataError(f"the text {name} is empty; give one that holds something")
                size, words = len(clean.encode()), len(clean.split())
                content = len(original.encode()) if kind in parallel else size
                parted = words if words * LONGEST_WORD > len(clean) else None
                for tokenizer, ruler in rulers.items():
                    measurements.append(
                        Measurement(tokenizer, kind, name, size, content, parted, *ruler.measure(clean))
                    )
                    progress.advance()
    subjects = tuple(Subject(name, one.vocab_size, one.fingerprint) for name, one in tokenizers.items())
    return Comparison(subjects, tuple(measurements), tuple(kind for kind in texts if kind in parallel))


class _Ruler:
    """Counts the tokens of texts by one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, timed: bool) -> None:
        self._timed = timed
        self._encode = getattr(tokenizer, "encode_array", tokenizer.encode)
        self._unknown = getattr(tokenizer, "unknown_id", None)
        self._single = np.array([len(tokenizer.token_bytes(number)) == 1 for number in range(tokenizer.vocab_size)])

    def measure(self, text: str) -> tuple[int, int, int, float | None]:
        """Its tokens, those of a single byte, the unknown ones, and the seconds if they are asked for."""
        started = time.perf_counter()
        ids = np.asarray(self._encode(text), np.int64)
        times = [time.perf_counter() - started]
        while self._timed and (len(times) < TIMED_ROUNDS or sum(times) < TIMED_SECONDS):
            started = time.perf_counter()
            self._encode(text)
            times.append(time.perf_counter() - started)
        unknown = 0 if self._unknown is None else int((ids == self._unknown).sum())
        return len(ids), int(self._single[ids].sum()), unknown, min(times) if self._timed else None


def tables(comparison: Comparison, details: bool = False) -> list[Table]:
    """For people: the tokenizers over all texts, then figures by kind of text, or with ``details`` by text."""
    overall = Table("tokenizer", title="All texts", title_justify="left", box=None)
    overall.add_column("vocabulary", justify="right")
    shown = [name for name in FIGURES if _says_something(comparison, name)]
    for name in shown:
        overall.add_column(FIGURES[name].title, justify="right")
    for subject in comparison.subjects:
        values = [spelled(FIGURES[name], comparison.of(subject.name)) for name in shown]
        overall.add_row(subject.name, f"{subject.vocab_size:,}", *values)
    return [overall, *(_by_text(comparison, FIGURES[name], details or name == CHARTED) for name in shown)]


def _says_something(comparison: Comparison, name: str) -> bool:
    """Not so the unknown where all is known, nor a speed that was not measured."""
    if name in SPEEDS:
        return all(measured.seconds is not None for measured in comparison.measurements)
    return name != "unknown_share" or any(measured.unknown for measured in comparison.measurements)


def _by_text(comparison: Comparison, figure: Figure, details: bool) -> Table:
    """A row for each kind, and with ``details`` one for each of its texts."""
    table = Table("", title=f"{figure.title[0].upper()}{figure.title[1:]}", title_justify="left", box=None)
    for subject in comparison.subjects:
        table.add_column(subject.name, justify="right")
    for kind in dict.fromkeys(kind for kind, _ in comparison.texts):
        over = [spelled(figure, comparison.of(subject.name, kind)) for subject in comparison.subjects]
        table.add_row(kind, *over, style="bold" if details else "")
        for name in [name for of, name in comparison.texts if of == kind] if details else ():
            values = [spelled(figure, comparison.of(subject.name, kind, name)) for subject in comparison.subjects]
            table.add_row(f"  {name}", *values)
    return table


def spelled(figure: Figure, measured: Sequence[Measurement]) -> str:
    """The figure over these texts, for people."""
    value = figure.of(measured)
    return "–" if value is None else format(value, figure.spell)


def save(comparison: Comparison, folder: Path) -> list[Path]:
    """Write ``comparison.json``, ``comparison.svg`` and ``comparison.png`` into ``folder``; return the paths."""
    numbers = folder / "comparison.json"
    files.write_json(numbers, comparison.to_json())
    drawings = [folder / "comparison.svg", folder / "comparison.png"]
    for path in drawings:
        chart(comparison, path)
    return [numbers, *drawings]


#: Colours: the least tokens of a row, the others, words, lesser words. They stay apart in grey and for every eye.
BEST, OTHERS, INK, GREY = "#B5482A", "#B9C6D2", "#16324F", "#66717D"
#: Inches: a row, a group's heading, a tokenizer's column and its bars, the names of the texts, the margin.
ROW, HEADING, COLUMN, BAR, NAMES, MARGIN = 0.235, 0.42, 1.22, 0.8, 1.65, 0.28
#: Inches: the least width; a letter of the title and of what is below it, and a line of each.
NARROWEST, LETTER, SMALL_LETTER, LINE, SMALL_LINE = 8.0, 0.132, 0.078, 0.27, 0.2


def chart(comparison: Comparison, path: Path) -> None:
    """Draw what each text costs with each tokenizer, as SVG or PNG by the suffix of ``path``.

    A column for each tokenizer, the shortest texts first; a row for each text, the cheapest of its kind first. The
    same comparison gives the same bytes on every machine: no clock, no system font, no user's style file.
    """
    import matplotlib  # half a second that only a chart needs
    from matplotlib.figure import Figure as Drawing

    figure = FIGURES[CHARTED]
    measured = {(one.kind, one.name, one.tokenizer): one for one in comparison.measurements}
    values = {place: figure.of([one]) or 0.0 for place, one in measured.items()}
    subjects = sorted(comparison.subjects, key=lambda subject: figure.of(comparison.of(subject.name)) or 0.0)
    kinds = dict.fromkeys(kind for kind, _ in comparison.texts)
    rows = {kind: sorted((text for text in comparison.texts if text[0] == kind), key=lambda text: _mean(values, text))
            for kind in kinds}  # fmt: skip

    width = max(NARROWEST, NAMES + COLUMN * len(subjects) + MARGIN)
    title = textwrap.wrap(finding(comparison), int((width - 2 * MARGIN) / LETTER))
    reading = [
        line
        for words in _reading(comparison)
        for line in textwrap.wrap(words, int((width - 2 * MARGIN) / SMALL_LETTER))
    ]
    above = MARGIN + LINE * len(title) + SMALL_LINE * len(reading) + 0.65
    height = above + sum(HEADING + ROW * len(texts) for texts in rows.values()) + MARGIN
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "groundup", "text.parse_math": False})
        drawing = Drawing(figsize=(width, height))
        axes = drawing.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))  # in inches, from the top left
        axes.axis("off")

        def write(x: float, y: float, text: str, **style: Any) -> None:
            axes.text(x, y, text, **{"color": INK, "fontsize": 9, "va": "center_baseline", **style})

        for number, line in enumerate(title):
            write(MARGIN, MARGIN + LINE * (number + 0.4), line, fontsize=14, weight="bold")
        for number, line in enumerate(reading):
            write(MARGIN, MARGIN + LINE * len(title) + SMALL_LINE * (number + 0.6), line, color=GREY)
        for column, subject in enumerate(subjects):
            left = NAMES + COLUMN * column
            write(left, above - 0.3, subject.name, weight="bold", fontsize=10)
            write(left, above - 0.12, f"{subject.vocab_size:,} ids", color=GREY, fontsize=8)
        scale = (BAR - 0.05) / max(values.values())
        y = above
        for kind, texts in rows.items():
            y += HEADING
            write(MARGIN, y - 0.13, kind[:1].upper() + kind[1:], weight="bold", fontsize=9.5)
            for column in range(len(subjects)):
                axes.plot([NAMES + COLUMN * column] * 2, [y, y + ROW * len(texts)], color=GREY, linewidth=0.6)
            for text in texts:
                y += ROW
                write(MARGIN + 0.12, y - ROW / 2, text[1])
                known = [values[*text, one.name] for one in subjects if not measured[*text, one.name].unknown]
                for column, subject in enumerate(subjects):
                    left, value = NAMES + COLUMN * column, values[*text, subject.name]
                    unknown = measured[*text, subject.name].unknown > 0
                    least = not unknown and round(value) == round(min(known))
                    colour, words = (BEST, BEST) if least else (OTHERS, INK)
                    axes.barh(y - ROW / 2, scale * value, 0.68 * ROW, left=left, edgecolor=OTHERS,
                              facecolor="none" if unknown else colour, linewidth=0.8 if unknown else 0)  # fmt: skip
                    write(left + scale * value + 0.04, y - ROW / 2, f"{value:.0f}{'?' if unknown else ''}", color=words,
                          fontsize=8, weight="bold" if least else "normal")  # fmt: skip
        metadata: dict[str, Any] = {"Date": None, "Creator": None} if path.suffix == ".svg" else {"Software": None}
        with files.atomic_file(path) as temporary:
            drawing.savefig(temporary, format=path.suffix[1:], dpi=140, facecolor="white", metadata=metadata)


def _mean(values: Mapping[tuple[str, str, str], float], text: tuple[str, str]) -> float:
    """Mean over the tokenizers."""
    return float(np.mean([value for (*place, _), value in values.items() if tuple(place) == text]))


def finding(comparison: Comparison) -> str:
    """What the comparison says, in one sentence."""
    names = [subject.name for subject in comparison.subjects]
    if comparison.original:
        order = sorted((*dearest, name) for name in names if (dearest := premium(comparison, name)))
        if order:
            (least, _, fair), (most, text, unfair) = order[0], order[-1]
            costs = f"A page of {text} costs {most:.1f} pages of {comparison.original[1]} with {unfair}"
            return costs if fair == unfair else f"{costs}; with {fair} none costs more than {least:.1f}"
    figure = FIGURES["bytes_per_token"]
    by_length = sorted(names, key=lambda name: -(figure.of(comparison.of(name)) or 0))
    first, last = by_length[0], by_length[-1]
    return f"{spelled(figure, comparison.of(first))} bytes per token with {first}" + (
        "" if first == last else f", {spelled(figure, comparison.of(last))} with {last}"
    )


def premium(comparison: Comparison, tokenizer: str) -> tuple[float, str] | None:
    """How many times the tokens of the original its dearest translation takes, and which that is.

    None without translations that the tokenizer knows all of.
    """
    known = {
        (measured.kind, measured.name): measured.tokens
        for kind in comparison.parallel
        for measured in comparison.of(tokenizer, kind)
        if not measured.unknown
    }
    base = known.pop(comparison.original, None) if comparison.original else None
    return max(((tokens / base, name) for (_, name), tokens in known.items()), default=None) if base else None


def _reading(comparison: Comparison) -> list[str]:
    """How the chart is read."""
    what = "Tokens for 100 bytes of text"
    if comparison.original:
        what += f"; of a translation, for what 100 bytes of the {comparison.original[1]} text say"
    how = "Less is better: models read and write faster and remember more. The least of each row is red."
    if any(measured.unknown for measured in comparison.measurements):
        how += " ?: the vocabulary does not know all of it."
    return [what + ".", how]
