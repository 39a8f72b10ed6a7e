"""What a run has done and how good it is, for the terminal."""

from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from groundup.core.files import read_json
from groundup.core.progress import duration, say
from groundup.core.run import verify_artifacts
from groundup.evaluation.evaluate import STAGES as TRAINED
from groundup.evaluation.evaluate import table as rows_of
from groundup.monitor.chart import LABEL, Glyphs, chart, glyphs_for, short
from groundup.monitor.records import Run, Stage, smoothed

#: What is drawn, in this order; every other number only on the page.
DRAWN = (
    *("loss", "validation_bits_per_byte", "validation_loss", "exact_match", "accuracy", "margin", "reward"),
    *("learning_rate", "gradient_norm", "tokens_per_second"),
)
#: Letters of a picture at least, beside another one and at all, and between two.
BESIDE, NARROWEST, GAP = 38, LABEL + 12, 2
#: Letters of its height, in braille and in ASCII.
HEIGHT, ASCII_HEIGHT = 6, 8
#: Events that are told under the pictures, and those that are not news.
TOLD, USUAL = 6, ("started",)
#: From so many points on the loss is smoothed.
NOISY = 60


def new_console() -> Console:
    """Of stderr; what reads it without a terminal has room for a table."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, 120)
    return console


def show(console: Console, *parts: RenderableType) -> None:
    """Print without the spaces that fill up lines."""
    with console.capture() as drawn:
        console.print(*parts)
    say("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def stages_table(run: Run) -> Table:
    """One row a stage."""
    stages = Table("stage", "time", "memory", "what came out", title=str(run.out), title_justify="left", box=None)
    for stage in run.stages:
        if stage.manifest is None:
            stages.add_row(stage.name, "", "", _unfinished(stage))
            continue
        metrics = stage.manifest["metrics"].items()
        figures = ", ".join(f"{key.replace('_', ' ')} {_figure(value)}" for key, value in metrics)
        memory = f"{stage.manifest['peak_memory_bytes'] / 1e6:.0f} MB"
        stages.add_row(stage.name, duration(stage.manifest["seconds"]), memory, figures)
    return stages


def scores_table(out: Path, manifest: dict[str, object]) -> Table:
    """How good the stages' models are.

    Raises:
        ArtifactError: the results were changed after the run wrote them.
    """
    verify_artifacts(out / "evaluate", manifest)
    scores = Table(title="held-out scores [95 % interval]", title_justify="left", box=None)
    for column in ("", "chance", *TRAINED):
        scores.add_column(column, overflow="fold")
    for row in rows_of(read_json(out / "evaluate" / "results.json")):
        scores.add_row(*row)
    return scores


def tables(run: Run) -> list[RenderableType]:
    """Stages, and scores if there are any."""
    evaluated = next((stage.manifest for stage in run.stages if stage.name == "evaluate"), None)
    return [stages_table(run), *([scores_table(run.out, evaluated)] if evaluated else [])]


def curves(stage: Stage, console: Console) -> RenderableType:
    """The pictures of a stage side by side as they fit, and what happened."""
    glyphs = glyphs_for(console.encoding, console.is_dumb_terminal)
    names = [name for name in DRAWN if name in stage.log.curves]
    head = Text(_headline(stage), "bold underline")
    if console.width < NARROWEST:
        told = [Text(f"{_words(name)} {short(stage.log.last[name])}") for name in names]
        return Group(head, *told)
    beside = max(1, (console.width + GAP) // (BESIDE + GAP))
    width = (console.width + GAP) // beside - GAP
    pictures = [_picture(stage, name, width, glyphs) for name in names]
    lines: list[Text] = [head]
    for start in range(0, len(pictures), beside):
        row = pictures[start : start + beside]
        lines += [Text(" " * GAP).join(parts) for parts in zip(*row, strict=True)]
    return Group(*lines, *_happenings(stage, glyphs))


def _picture(stage: Stage, name: str, width: int, glyphs: Glyphs) -> list[Text]:
    buckets = stage.log.curves[name].buckets
    values = [bucket.mean for bucket in buckets]
    if name == "loss" and len(values) > NOISY:
        values = smoothed(values, 0.8)
    points = list(zip((bucket.step for bucket in buckets), values, strict=True))
    last = values[-1] if name == "loss" else stage.log.last[name]
    span = (0.0, float(max(stage.log.step, 1)))
    height = HEIGHT if glyphs.braille else ASCII_HEIGHT
    return chart(_words(name), points, span, width, height, glyphs, _marks(stage), last)


def _marks(stage: Stage) -> list[float]:
    events = [event["step"] for event in stage.events if event.get("event") not in USUAL]
    return [*events, *stage.log.skipped]


def _happenings(stage: Stage, glyphs: Glyphs) -> list[Text]:
    """The newest events, one a line, and what is odd about the log."""
    news = [event for event in stage.events if event.get("event") not in USUAL]
    lines = [
        f"{glyphs.mark} step {event['step']}: {str(event.get('event')).replace('_', ' ')}: {event.get('why', '')}"
        for event in news[-TOLD:]
    ]
    if len(news) > TOLD:
        lines.insert(0, f"{glyphs.mark} {len(news) - TOLD} earlier events")
    if stage.log.damaged:
        lines.append(f"{stage.log.damaged} damaged lines of {stage.folder / 'metrics.jsonl'} are left out")
    return [Text(_printable(line)) for line in lines]


def _headline(stage: Stage) -> str:
    told = f"{stage.name}, step {stage.log.step:,}"
    if stage.planned:
        told += f" of {stage.planned:,}"
    return f"{told}, {_clock(stage)}"


def _clock(stage: Stage) -> str:
    if stage.state != "running":
        return stage.state
    remaining = stage.remaining
    return "running" if remaining is None else f"running, {duration(remaining)} to go"


def _unfinished(stage: Stage) -> str:
    if not stage.log.step or stage.state == "not yet":
        return stage.state
    of = f" of {stage.planned:,}" if stage.planned else ""
    loss = f", loss {short(stage.log.last['loss'])}" if "loss" in stage.log.last else ""
    return f"{_clock(stage)}: step {stage.log.step:,}{of}{loss}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("tokens per second", "tokens/s")


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == int(value) or abs(value) >= 1000 else f"{value:.4g}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text)


def overview(run: Run, console: Console, rows: int) -> RenderableType:
    """What is going on now, in at most ``rows`` lines: the stages in a line each, the pictures of the newest."""
    lines = [Text(str(run.out), "bold")]
    for stage in run.stages:
        done = stage.manifest
        told = f"done in {duration(done['seconds'])}" if done else _unfinished(stage)
        lines.append(Text(f"  {stage.name:10} {told}", "" if stage.state == "running" else "dim", no_wrap=True))
    if not run.trained:
        return Group(*lines[:rows])
    with console.capture() as drawn:
        console.print(curves(run.trained[-1], console))
    pictures = Text.from_ansi(drawn.get()).split("\n", allow_blank=False)
    return Group(*[*lines, Text(), *pictures][:rows])
