"""The pictures of an inspection.

Enters: an :class:`~groundup.inspection.inspection.Inspection`. Leaves: SVG and PNG files in a folder. Layers run from
top to bottom, tokens from left to right, and darker is always more.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.patches import Rectangle
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

from groundup.inspection.drawing import (
    ACCENT,
    FAINT,
    INK,
    RESOLUTION,
    TOKEN_FONTS,
    Sheet,
    heat,
    label_numbers,
    label_room,
    label_step,
    label_tokens,
    on,
    show_image,
    style,
    token_label,
)
from groundup.inspection.inspection import Inspection, spelled
from groundup.tokenizer.show import Token

Array = npt.NDArray[np.floating]

#: Inches that the heads side by side, or the layers below each other, take at most.
WIDEST, TALLEST = 18.0, 14.0
#: Inches: one token of an attention map where there is room, and the least that a map measures.
TOKEN, SMALLEST_MAP = 0.115, 1.25
#: Inches that names of layers take.
NAMES = 0.72
#: Tokens side by side in a table, and the size of its cells in inches.
TABLE_COLUMNS, CELL_WIDTH, CELL_HEIGHT = 24, 0.62, 0.25
#: Neighbours side by side.
MOST_NEIGHBOURS = 8
#: Letters of a token in a cell, and their size.
CELL_LETTERS, CELL_SIZE = 10, 6.4

#: Inches: the title of a panel and the legend of its colours.
HEADING = 0.5

#: What is told of each head: its key, its title, and whether it is a share.
HEAD_PANELS: Sequence[tuple[str, str, bool]] = (
    ("previous", "Looks at the token before", True),
    ("first", "Looks at the first token", True),
    ("itself", "Looks at the token itself", True),
    ("induction", "Looks at what followed the same token before", True),
    ("nothing", "Looks at nothing (the sink)", True),
    ("entropy", "Spread, in bits", False),
    ("distance", "Mean distance, in tokens", False),
)


def draw(inspection: Inspection, folder: Path, layers: Sequence[int]) -> Iterator[Path]:
    """Draw every picture into ``folder``, the maps of single layers for ``layers`` (from 0); yield the paths."""
    with style():
        yield from attention_overview(inspection).save(folder, "attention")
        for layer in layers:
            digits = len(str(inspection.config.layers))
            yield from attention_layer(inspection, layer).save(folder, f"attention-layer-{layer + 1:0{digits}}")
        yield from heads(inspection).save(folder, "heads")
        for name, pages in (("prediction", prediction(inspection)), ("final-token", final_token(inspection))):
            for number, page in enumerate(pages, 1):
                yield from page.save(folder, f"{name}-{number}" if len(pages) > 1 else name)
        yield from depth(inspection).save(folder, "depth")
        yield from residual_stream(inspection).save(folder, "stream")
        yield from neighbours(inspection).save(folder, "neighbours")
        if inspection.experts:
            yield from experts(inspection).save(folder, "experts")


def _labels(tokens: Sequence[Token], letters: int = 16) -> list[str]:
    return [token_label(spelled(token), letters) for token in tokens]


def attention_overview(inspection: Inspection) -> Sheet:
    """Every head of every layer as a small square."""
    layers, count, time, _ = inspection.attention.shape
    room = int(RESOLUTION * min(1.5, WIDEST / count, TALLEST / layers))  # pixels of a tile
    coarseness = math.ceil(time / room)
    squares = _coarse(_seen(inspection.attention.numpy()), coarseness)
    side = max(1, room // (squares.shape[-1] + 1))
    tile = squares.shape[-1] * side
    pitch = tile + max(1, tile // 16)
    values = np.full((layers * pitch, count * pitch), np.nan)
    for layer in range(layers):
        for head in range(count):
            large = np.repeat(np.repeat(squares[layer, head], side, 0), side, 1)
            values[layer * pitch :, head * pitch :][:tile, :tile] = large
    inches = pitch / RESOLUTION
    coarse = f" (the largest weight of each {coarseness} × {coarseness})" if coarseness > 1 else ""
    sheet = Sheet(
        f"Who looks at whom in {inspection.name}",
        f"Layers from top to bottom, heads from left to right. Each square is one head over the {time} tokens of the "
        f"text{coarse}: a row is the token that looks, a column the token looked at.",
        NAMES + inches * count,
        0.6 + inches * layers,
    )
    _weight_scale(sheet, NAMES)
    axes = sheet.axes(NAMES, 0.6, inches * count, inches * layers)
    axes.set_facecolor(FAINT)
    axes.imshow(heat(values), extent=(0, count, layers, 0), aspect="auto", interpolation="none")
    axes.tick_params(length=0, pad=3, top=False, bottom=False, labeltop=True, labelbottom=False)
    axes.spines[:].set_visible(False)
    label_numbers(axes, count, inches, "x")
    label_numbers(axes, layers, inches, "y")
    return sheet


def _coarse(squares: Array, factor: int) -> Array:
    """The largest value of each ``factor`` × ``factor`` block of [..., time, time]; NaN where all are."""
    missing = -squares.shape[-1] % factor
    padded = np.pad(squares, [(0, 0)] * (squares.ndim - 2) + [(0, missing)] * 2, constant_values=np.nan)
    blocks = padded.reshape(*squares.shape[:-2], padded.shape[-1] // factor, factor, -1, factor)
    return np.fmax.reduce(np.fmax.reduce(blocks, axis=-1), axis=-2)


def _weight_scale(sheet: Sheet, x: float) -> None:
    """The legend of attention weights, whose square roots are drawn so that small ones show."""
    sheet.scale(x, 0, *((math.sqrt(share), _percent(share)) for share in (0, 0.01, 0.1, 0.3, 0.6, 1)))


def _seen(weights: Array) -> Array:
    """The square roots of weights [..., time, time]; what lies in the future is empty."""
    past = np.tril(np.ones(weights.shape[-2:], dtype=bool))
    return np.where(past, np.sqrt(np.clip(weights, 0, 1)), np.nan)


def attention_layer(inspection: Inspection, layer: int) -> Sheet:
    """All heads of one layer as small multiples with token labels."""
    weights = inspection.attention[layer].numpy()
    count, time, _ = weights.shape
    rows = max(1, round(math.sqrt(count / 1.6)))
    columns = math.ceil(count / rows)
    rows = math.ceil(count / columns)
    labels = _labels(inspection.tokens)
    gap, margin = 0.12, label_room(labels)
    size = min(max(TOKEN * time, SMALLEST_MAP), (WIDEST - margin) / columns - gap)
    step = label_step(size / time)
    some = f" One of {step} tokens is named." if step > 1 else ""
    sheet = Sheet(
        f"Layer {layer + 1} of {inspection.name}: who looks at whom",
        "A row is the token that looks, a column the token looked at. Above each head: its number, and where most of "
        f"its attention goes.{some}",
        margin + columns * (size + gap) - gap, 0.3 + rows * (size + gap + 0.2) - gap + margin,
    )  # fmt: skip
    _weight_scale(sheet, margin)
    for head in range(count):
        row, column = divmod(head, columns)
        x, y = margin + column * (size + gap), 0.3 + row * (size + gap + 0.2) + 0.2
        sheet.write(x, y - 0.09, f"{head + 1}", weight="bold", color=INK, fontsize=8.5)
        sheet.write(x + size, y - 0.09, _habit(inspection, layer, head), ha="right", fontsize=7.5)
        axes = sheet.axes(x, y, size, size)
        show_image(axes, _seen(weights[head]), max(2, round(160 / time)))
        if column == 0:
            label_tokens(axes, labels, size / time, "left")
        if head + columns >= count:
            label_tokens(axes, labels, size / time, "bottom")
    return sheet


def _habit(inspection: Inspection, layer: int, head: int) -> str:
    """Where a head looks most, in words."""
    names = {"first": "the first", "previous": "the one before", "itself": "itself", "nothing": "nothing"}
    shares = {key: float(inspection.heads[key][layer, head]) for key in names if key in inspection.heads}
    most = max(shares, key=shares.__getitem__)
    return f"{_percent(shares[most])} {names[most]}"


def heads(inspection: Inspection) -> Sheet:
    """What each head does, as a panel of layers × heads for every measure."""
    panels = [panel for panel in HEAD_PANELS if panel[0] in inspection.heads]
    layers, count = inspection.config.layers, inspection.config.heads
    cell_width = min(0.42, max(0.02, 2.7 / count))
    cell_height = min(0.3, max(0.06, 3.6 / layers))
    width, height = cell_width * count, cell_height * layers
    columns = min(3, len(panels))
    whole_width, whole_height = max(width + 0.5, 3.2), height + HEADING + 0.4
    sheet = Sheet(
        f"What the heads of {inspection.name} do",
        "Layers from top to bottom, heads from left to right. All are means over the tokens of the text but the first; "
        "only what followed the same token before (induction) is measured on random tokens that come twice.",
        columns * whole_width, math.ceil(len(panels) / columns) * whole_height,
    )  # fmt: skip
    for number, (key, title, is_share) in enumerate(panels):
        row, column = divmod(number, columns)
        x, y = column * whole_width + 0.25, row * whole_height
        values = inspection.heads[key].numpy()
        low, high = (0.0, 1.0) if is_share else (float(values.min()), float(values.max()))
        shades = np.clip((values - low) / ((high - low) or 1), 0, 1)
        ends = ("0 %", "100 %") if is_share else (_short(low), _short(high))
        _heading(sheet, x, y, title, *zip((0, 1), ends, strict=True))
        axes = sheet.axes(x, y + HEADING, width, height)
        show_image(axes, shades)
        label_numbers(axes, count, cell_width, "x")
        label_numbers(axes, layers, cell_height, "y")
        if cell_width >= 0.28 and cell_height >= 0.14:
            for (layer, head), value in np.ndenumerate(values):
                told = f"{100 * value:.0f}" if is_share else _short(value)
                axes.text(head + 0.5, layer + 0.5, told, ha="center", va="center_baseline", fontsize=6.5,
                          color=on(float(shades[layer, head]))[1])  # fmt: skip
    return sheet


def _heading(sheet: Sheet, x: float, y: float, title: str, *marks: tuple[float, str]) -> None:
    """The title of a panel, and below it the legend of its colours."""
    sheet.write(x, y + 0.08, title, weight="bold", color=INK, fontsize=9)
    sheet.scale(x + 0.05, y + 0.2, *marks)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _short(value: float) -> str:
    """A number with about two digits, and all that are before the point."""
    return f"{value:,.0f}" if abs(value) >= 9.95 else f"{value:.1f}" if abs(value) >= 0.95 else f"{value:.2f}"


def prediction(inspection: Inspection) -> list[Sheet]:
    """The logit lens: what would be predicted after each layer, as pages of a table."""
    found = inspection.prediction
    probabilities = found.top_probabilities[..., 0].numpy()
    ids = found.top_ids[..., 0].tolist()
    final = found.final.ids.tolist()

    def cell(layer: int, place: int) -> tuple[str, str, bool]:
        token = inspection.known[ids[layer][place]]
        label = token_label(spelled(token), CELL_LETTERS)
        return label, _percent(probabilities[layer, place]), token.id == final[place]

    return _pages(
        inspection,
        f"How {inspection.name} arrives at the next token",
        "Below each token of the text: the most probable next token if the model ended after that layer (logit lens), "
        "and its probability, which is also the colour. Framed: it is the one that is predicted in the end. The last "
        "row is what does follow in the text.",
        probabilities,
        cell,
        ("follows", _labels(inspection.tokens[1:], CELL_LETTERS)),
    )


def final_token(inspection: Inspection) -> list[Sheet]:
    """Rank and probability, after each layer, of the token that is predicted in the end."""
    found = inspection.prediction.final
    probabilities, ranks = found.probability.numpy(), found.rank.tolist()

    def cell(layer: int, place: int) -> tuple[str, str, bool]:
        rank = ranks[layer][place]
        return f"{rank:,}", _percent(probabilities[layer, place]), rank == 1

    return _pages(
        inspection,
        f"When {inspection.name} finds the token that it predicts in the end",
        "Below each token of the text: the rank that the token which is predicted in the end (last row) has after each "
        "layer, and its probability, which is also the colour. Framed: it leads.",
        probabilities,
        cell,
        ("predicted", _labels([inspection.known[token_id] for token_id in found.ids.tolist()], CELL_LETTERS)),
    )


def _pages(
    inspection: Inspection,
    title: str,
    reading: str,
    values: Array,
    cell: Callable[[int, int], tuple[str, str, bool]],
    last: tuple[str, Sequence[str]],
) -> list[Sheet]:
    """A table of layers × tokens, cut into pages of equal width: two lines a cell, coloured by ``values``."""
    time = len(inspection.tokens)
    pages = math.ceil(time / TABLE_COLUMNS)
    width = math.ceil(time / pages)
    sheets = []
    for number in range(pages):
        places = range(number * width, min(time, (number + 1) * width))
        part = f", tokens {places.start + 1} to {places.stop} of {time}" if pages > 1 else ""
        sheets.append(_page(inspection, title + part, reading, values, cell, last, places))
    return sheets


def _page(
    inspection: Inspection,
    title: str,
    reading: str,
    values: Array,
    cell: Callable[[int, int], tuple[str, str, bool]],
    last: tuple[str, Sequence[str]],
    places: range,
) -> Sheet:
    rows, columns = len(values), len(places)
    lines = ((0, "text", _labels(inspection.tokens, CELL_LETTERS)), (rows + 1, *last))
    sheet = Sheet(title, reading, NAMES + CELL_WIDTH * columns, CELL_HEIGHT * (rows + 2))
    axes = sheet.axes(NAMES, CELL_HEIGHT, CELL_WIDTH * columns, CELL_HEIGHT * rows)
    show_image(axes, values[:, places.start : places.stop])
    axes.set_yticks(np.arange(rows) + 0.5, [f"layer {row}" if row else "embedding" for row in range(rows)], fontsize=7)
    font: dict[str, Any] = {"fontsize": CELL_SIZE, "fontfamily": TOKEN_FONTS, "ha": "center", "va": "baseline"}
    for column, place in enumerate(places):
        middle = NAMES + (column + 0.5) * CELL_WIDTH
        for row, _, words in lines:
            if place < len(words):
                sheet.write(middle, (row + 0.62) * CELL_HEIGHT, words[place], **font, weight="bold", color=INK)
        cells = [cell(row, place) for row in range(rows)]
        for row, (upper, lower, _) in enumerate(cells):
            word, lesser = on(values[row, place])
            axes.text(column + 0.5, row + 0.48, upper, **font, color=word)
            axes.text(column + 0.5, row + 0.86, lower, **{**font, "fontsize": 5}, color=lesser)
        for start, length in _runs([marked for _, _, marked in cells]):
            frame = Rectangle((column + 0.03, start + 0.06), 0.94, length - 0.12, fill=False, color=ACCENT, linewidth=1)
            axes.add_patch(frame)
    for row, name, _ in lines:
        sheet.write(NAMES - 0.04, (row + 0.5) * CELL_HEIGHT, name, fontsize=7, ha="right")
    return sheet


def _runs(marks: Sequence[bool]) -> Iterator[tuple[int, int]]:
    """Start and length of each run of marks."""
    start = 0
    for marked, run in groupby(marks):
        length = len(list(run))
        if marked:
            yield start, length
        start += length


def depth(inspection: Inspection) -> Sheet:
    """Over the layers, as means over all tokens: agreement with the end, surprise by the text, growth of the stream."""
    found, layers = inspection.prediction, inspection.config.layers
    steps = np.arange(layers + 1)
    agreeing = (found.final.rank == 1).double().mean(1).numpy()
    added = np.median(inspection.stream.added.numpy(), axis=1)
    panels = [("Prediction is the final one, % of tokens", steps, 100 * agreeing, False)]
    if found.following.ids.numel():
        surprise = -found.following.probability.double().clamp(min=1e-30).log2().mean(1).numpy()
        panels.append(("Surprise by the token that follows, bits", steps, surprise, True))
    panels.append(("What the block adds, % of the norm it finds", steps[1:], 100 * added, True))
    sheet = Sheet(
        f"{inspection.name} layer by layer",
        "Over all tokens of the text: the share whose most probable next token is already that of the end; the mean "
        "surprise by what does follow; the median of what each block adds to the stream. Layer 0 is the embedding.",
        len(panels) * 3.7, 2.5,
    )  # fmt: skip
    for number, (title, x, y, logarithmic) in enumerate(panels):
        left = number * 3.7 + 0.35
        sheet.write(left, 0.08, title, weight="bold", color=INK, fontsize=9)
        axes = sheet.axes(left, 0.3, 3.05, 1.85)
        axes.plot(x, y, color=INK, marker="o", markersize=2.4, clip_on=False)
        axes.grid(axis="y", color=FAINT, linewidth=0.5)
        if logarithmic and float(np.min(y)) > 0:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
            axes.yaxis.set_minor_locator(NullLocator())
        else:
            axes.set_ylim(0, max(100.0, 1.05 * float(np.max(y))))
        axes.set_xlim(0, layers)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        axes.set_xlabel("layer", fontsize=7.5)
    return sheet


def residual_stream(inspection: Inspection) -> Sheet:
    """Norm, additions and direction of the stream, for each layer and token."""
    found, labels = inspection.stream, _labels(inspection.tokens)
    time = len(labels)
    norm, added, cosine = found.norm.numpy(), found.added.numpy(), found.cosine.numpy()
    panels: list[tuple[str, Array, int, Callable[[float], str]]] = [
        ("Norm", np.log(np.maximum(norm, 1e-12)), 0, lambda value: _short(math.exp(value))),
        ("What the block adds, of the norm that it finds", np.log(np.maximum(added, 1e-4)), 1,
         lambda value: f"{_short(100 * math.exp(value))} %"),
        ("Cosine to the end", cosine, 0, lambda value: f"{value:.2f}"),
    ]  # fmt: skip
    columns = 3 if time <= 40 else 1
    width = max(1.2, min(0.25, 4.8 / time) * time) if columns == 3 else 0.1 * time
    cell_height = min(0.22, max(0.07, 3.4 / len(norm)))
    whole_width, whole_height = max(width + 0.5, 3.2), cell_height * len(norm) + HEADING + label_room(labels) + 0.1
    sheet = Sheet(
        f"The residual stream of {inspection.name}",
        "Layers from top to bottom (0 is the embedding), tokens from left to right. Norms and additions are coloured "
        "by their logarithm.",
        whole_width * columns - 0.25, whole_height * (3 // columns),
    )  # fmt: skip
    for number, (title, values, first, told) in enumerate(panels):
        row, column = divmod(number, columns)
        x, y = column * whole_width + 0.25, row * whole_height
        low, high = float(values.min()), float(values.max())
        _heading(sheet, x, y, title, (0, told(low)), (1, told(high)))
        axes = sheet.axes(x, y + HEADING + first * cell_height, width, cell_height * len(values))
        show_image(axes, (values - low) / ((high - low) or 1))
        label_numbers(axes, len(values), cell_height, "y", first)
        label_tokens(axes, labels, width / time, "bottom")
    return sheet


def neighbours(inspection: Inspection) -> Sheet:
    """The nearest tokens of each token of the text in the embedding."""
    rows = inspection.neighbours
    most = min(MOST_NEIGHBOURS, len(rows[0].nearest))
    letters, width, height = 16, 0.98, 0.2
    columns = 1 if len(rows) <= 40 else 2
    length = math.ceil(len(rows) / columns)
    sheet = Sheet(
        f"Nearest neighbours in the embedding of {inspection.name}",
        "For each distinct token of the text, the tokens whose vectors point most nearly the same way, with the "
        "cosine, which is also the colour.",
        columns * (width * (most + 1) + 0.3) - 0.3, length * height,
    )  # fmt: skip
    for band in range(columns):
        part = rows[band * length : (band + 1) * length]
        left = band * (width * (most + 1) + 0.3)
        values = np.array([[cosine for _, cosine in one.nearest[:most]] for one in part])
        axes = sheet.axes(left + width, 0, width * most, height * len(part))
        show_image(axes, np.clip(values, 0, 1))
        font: dict[str, Any] = {"fontsize": CELL_SIZE, "fontfamily": TOKEN_FONTS, "va": "center_baseline"}
        for row, one in enumerate(part):
            sheet.write(left + width - 0.08, (row + 0.5) * height, token_label(spelled(one.token), letters),
                        **{**font, "weight": "bold", "color": INK, "ha": "right"})  # fmt: skip
            for column, (token, cosine) in enumerate(one.nearest[:most]):
                word, lesser = on(cosine)
                axes.text(column + 0.06, row + 0.5, token_label(spelled(token), 12), **font, color=word)
                axes.text(column + 0.96, row + 0.5, f"{cosine:.2f}".replace("0.", "."), fontsize=5.5, ha="right",
                          va="center_baseline", color=lesser)  # fmt: skip
    return sheet


def experts(inspection: Inspection) -> Sheet:
    """The share of the tokens that pass each expert of each layer."""
    values = np.stack([one.tokens.numpy() for one in inspection.experts.values()])
    layers, count = values.shape
    cell_width, cell_height = min(0.4, max(0.03, 9.0 / count)), min(0.3, max(0.08, 4.0 / layers))
    top = float(values.max())
    even = inspection.config.experts.active / count
    sheet = Sheet(
        f"Load of the experts of {inspection.name}",
        f"Layers from top to bottom, experts from left to right: the share of the {len(inspection.tokens)} tokens that "
        f"pass each expert. If all were used alike it would be {100 * even:.3g} % everywhere.",
        cell_width * count + 0.25, layers * cell_height + 0.65,
    )  # fmt: skip
    sheet.scale(0.3, 0, (0, "0 %"), (1, _percent(top)))
    axes = sheet.axes(0.25, 0.4, cell_width * count, layers * cell_height)
    show_image(axes, values / top)
    label_numbers(axes, count, cell_width, "x")
    label_numbers(axes, layers, cell_height, "y", min(inspection.experts) + 1)
    return sheet
