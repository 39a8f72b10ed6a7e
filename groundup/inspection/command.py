"""``groundup inspect``: a model and a text enter; a summary leaves on stdout, figures and pictures in a folder."""

import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table

from groundup.core.config import parse
from groundup.core.errors import ArtifactError, UsageError
from groundup.core.files import atomic_folder, read_json
from groundup.core.progress import Progress, say
from groundup.inference.opening import open_model
from groundup.inspection.inspection import FORMAT, Inspection, inspect, spelled
from groundup.tokenizer.show import Token, shortened

#: Where the pictures go when nothing is said.
DEFAULT_OUT = Path("inspection")
NUMBERS = "inspection.json"
#: Rows of the summary's table of tokens before the earlier ones are left out, and columns of a token in it.
MOST_ROWS, TOKEN_COLUMNS = 24, 18
#: Figures of the heads that the summary ranks, in words.
HABITS = {
    "previous": "look at the token before",
    "first": "look at the first token",
    "itself": "look at the token itself",
    "induction": "look at what followed the same token before",
    "nothing": "look at nothing",
}


@dataclass(frozen=True)
class InspectOptions:
    """Look inside a model while it reads a TEXT (or standard input): a summary, pictures, and every figure as JSON."""

    out: Path | None = None
    """Folder of the pictures and of inspection.json; an earlier inspection in it is replaced. Default: inspection."""
    layers: tuple[int, ...] = ()
    """Layers whose attention is drawn head by head and written in numbers, from 1; without it, all."""
    top: int = 5
    """How many predictions, neighbours and heads are told."""
    json: bool = False
    """Print everything as JSON instead of the summary; without --out nothing is written."""

    def __post_init__(self) -> None:
        if not 1 <= self.top <= 100:
            raise UsageError(f"--top is {self.top}; use 1 to 100")


def options_of(words: list[str]) -> InspectOptions:
    """The options of a command line.

    Raises:
        UsageError: one is unknown or has a value that cannot be.
    """
    return parse(InspectOptions, InspectOptions(), words, "groundup inspect MODEL TEXT", "command line")


def run(path: Path, text: str, options: InspectOptions) -> int:
    """Inspect the model at ``path`` reading ``text``."""
    if not text:
        raise UsageError('the text is empty; give some words: groundup inspect MODEL "Once upon a time"')
    out = options.out or (None if options.json else DEFAULT_OUT)
    if out is not None:
        _check_replaceable(out)  # rather now than after the work
    opened = open_model(path)
    layers = _layers(options.layers, opened.model.config.layers)
    name = path.resolve().name.removesuffix(".gguf")
    inspection = inspect(opened.model, opened.tokenizer, text, begin=opened.begin, name=name, top=options.top)
    figures = inspection.to_json(layers)
    names = [] if out is None else _write(inspection, figures, out, layers)
    if options.json:
        print(json.dumps(figures, ensure_ascii=False, allow_nan=False))
        return 0
    for table in summary(inspection, options.top):
        _print(table)
    say(f"{len(names)} pictures, each as .svg and .png, and every figure in {NUMBERS}:")
    print(out)
    return 0


def _layers(wanted: Sequence[int], count: int) -> list[int]:
    """The layers that were asked for, from 0; all without any."""
    if wrong := [layer for layer in wanted if not 1 <= layer <= count]:
        raise UsageError(f"--layers has {wrong[0]}; the model has layers 1 to {count}")
    return sorted({layer - 1 for layer in wanted}) or list(range(count))


def _check_replaceable(out: Path) -> None:
    """Refuse a place that holds anything but an earlier inspection."""
    if not out.exists():
        return
    if not out.is_dir():
        raise UsageError(f"{out} is no folder; choose another --out")
    found = {path.name for path in out.iterdir()}
    if foreign := sorted(found - _own_files(out)):
        raise UsageError(f"{out} holds {foreign[0]}, which no inspection wrote; choose another --out")


def _own_files(out: Path) -> set[str]:
    """The files that an earlier inspection wrote into ``out``."""
    try:
        written = read_json(out / NUMBERS)
    except ArtifactError:
        return set()
    if not isinstance(written, dict) or written.get("format") != FORMAT:
        return set()
    return {NUMBERS, *written.get("files", ())}


def _write(inspection: Inspection, figures: dict[str, Any], out: Path, layers: Sequence[int]) -> list[str]:
    """Write pictures and numbers, all or nothing; return the pictures' names."""
    from groundup.inspection.figures import draw  # a second that only pictures need

    files = []
    with atomic_folder(out.resolve()) as folder:
        with Progress("pictures", unit="file") as progress:
            for path in draw(inspection, folder, layers):
                files.append(path.name)
                progress.advance(1)
        written = {"format": FORMAT, "files": files, **figures}
        lines = (f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False, allow_nan=False)}"
                 for key, value in written.items())  # fmt: skip
        (folder / NUMBERS).write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8", newline="\n")
        _check_replaceable(out)
        if out.exists():
            shutil.rmtree(out.resolve())
    return sorted({Path(name).stem for name in files})


def summary(inspection: Inspection, top: int) -> list[RenderableType]:
    """What a person wants to know first, for the terminal."""
    config = inspection.config
    title = (
        f"{inspection.name}: {inspection.parameters:,} parameters, {config.layers} layers of {config.heads} heads, "
        f"{len(inspection.tokens)} tokens"
    )
    return [title, "", _predictions(inspection), "", _habits(inspection, top), "", *_remarks(inspection)]


def _predictions(inspection: Inspection) -> Table:
    """For each token: what follows, how probable that was, what was predicted instead, and after which layer."""
    encoding = Console().encoding

    def spelt(token: Token) -> str:
        return shortened(spelled(token, encoding), TOKEN_COLUMNS, encoding)

    table = Table(box=None, title_justify="left", pad_edge=False)
    for column in ("token", "follows", "probability", "rank", "predicted", "probability", "from layer"):
        table.add_column(column, justify="left" if column in ("token", "follows", "predicted") else "right")
    found, told = inspection.prediction, [spelt(token) for token in inspection.tokens]
    first = max(0, len(told) - MOST_ROWS)
    if first:
        table.title = f"the last {MOST_ROWS} of {len(told)} tokens"
    expected = [_percent(share, 1) for share in found.following.probability[-1].tolist()]
    ranks = [f"{rank:,}" for rank in found.following.rank[-1].tolist()]
    predicted = [spelt(inspection.known[token_id]) for token_id in found.final.ids.tolist()]
    sure = [_percent(share, 1) for share in found.final.probability[-1].tolist()]
    settled = [str(layer or "embedding") for layer in found.settled.tolist()]
    columns = (told, [*told[1:], ""], [*expected, ""], [*ranks, ""], predicted, sure, settled)
    for row in list(zip(*columns, strict=True))[first:]:
        table.add_row(*row)
    return table


def _habits(inspection: Inspection, top: int) -> Table:
    """The heads that do most of each thing."""
    table = Table(box=None, pad_edge=False)
    table.add_column("heads that")
    table.add_column(f"the {top} strongest, as layer.head" if top > 1 else "the strongest, as layer.head")
    for key, words in HABITS.items():
        if key not in inspection.heads:
            continue
        values = inspection.heads[key]
        best = values.flatten().topk(min(top, values.numel()))
        heads = (divmod(place, values.shape[1]) for place in best.indices.tolist())
        told = (
            f"{layer + 1}.{head + 1} {_percent(share)}"
            for (layer, head), share in zip(heads, best.values.tolist(), strict=True)
        )
        table.add_row(words, ", ".join(told))
    return table


def _remarks(inspection: Inspection) -> list[str]:
    """One line on the stream, and one on the experts if there are any."""
    norms = inspection.stream.norm.median(1).values
    strongest = int(inspection.stream.added.median(1).values.argmax())
    lines = [
        f"stream: median norm {norms[0]:.3g} after the embedding, {norms[-1]:.3g} in the end; "
        f"layer {strongest + 1} adds most to what it finds"
    ]
    if inspection.experts:
        unused = sum(int((one.tokens == 0).sum()) for one in inspection.experts.values())
        every = sum(one.tokens.numel() for one in inspection.experts.values())
        busiest = max((float(one.tokens.max()), layer + 1, int(one.tokens.argmax()) + 1)
                      for layer, one in inspection.experts.items())  # fmt: skip
        lines.append(
            f"experts: {busiest[1]}.{busiest[2]} has the most tokens ({_percent(busiest[0])}); "
            f"{unused} of {every} have none"
        )
    return lines


def _percent(share: float, digits: int = 0) -> str:
    return f"{100 * share:.{digits}f} %"


def _print(thing: RenderableType) -> None:
    """Print through ``sys.stdout``, whose errors ``cli`` knows, instead of rich's own way out."""
    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    with console.capture() as drawn:
        console.print(thing, soft_wrap=isinstance(thing, str))
    sys.stdout.write("".join(line.rstrip() + "\n" for line in drawn.get().splitlines()) or "\n")
