"""Is my loss normal at this step? Reference bands of the shipped recipes, from real runs.

A file of ``bands/`` says of one recipe which settings decide its loss, and for some steps a low, the median over
several seeds, and a high. :func:`record` makes one from finished runs; ``groundup doctor --record RUN…`` prints it. A
run of other settings has no band: a law that said something about every run would not be honest at this size.
"""

import json
from collections.abc import Iterator, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from groundup.core.errors import DataError
from groundup.diagnosis.finding import Finding
from groundup.diagnosis.records import Stage, open_stages

#: Settings that decide the loss of a stage, beside its own section.
SHARED = ("corpus.source", "corpus.path", "tokenizer.vocab_size", "model.layers", "model.width", "model.heads",
          "model.kv_heads", "model.hidden", "model.context")  # fmt: skip
OWN = ("steps", "rows", "accumulation", "optimizer.matrix_rate", "optimizer.rate", "optimizer.weight_decay")
#: Stages that have bands: the losses of the others are those of their own samples.
STAGES = ("pretrain", "sft")
#: Steps of a band, spread by their logarithm, and the share of a step over which losses are taken together.
POINTS, WINDOW = 12, 0.1
#: Half the width of a band: standard deviations over the seeds, and at least this share of the median. Six deviations
#: of five runs hold 99 % of all runs with 95 % confidence (normal tolerance limits).
DEVIATIONS, LEAST = 6.0, 0.02
#: Runs that a band needs.
LEAST_RUNS = 3


def loss_at(stage: Stage, step: int) -> float | None:
    """Median loss around ``step``; None where it was not reached."""
    steps, loss = stage.series("loss")
    near = loss[np.abs(steps - step) <= max(1, WINDOW * step)]
    return float(np.median(near)) if len(near) and steps[-1] >= step else None


def record(runs: Sequence[Path]) -> dict[str, Any]:
    """The bands of runs that differ in their seeds alone.

    Raises:
        DataError: there are too few, or their settings differ.
        UsageError: one is no run.
    """
    if len(runs) < LEAST_RUNS:
        raise DataError(f"a band needs at least {LEAST_RUNS} runs of different seeds; {len(runs)} were given")
    stages = [stage for run in runs for stage in open_stages(run)]
    found: dict[str, Any] = {}
    for name in STAGES:
        own = [stage for stage in stages if stage.name == name]
        if len(own) >= LEAST_RUNS:
            found[name] = _band(own)
    if not found:
        raise DataError(f"none of {', '.join(STAGES)} is in {LEAST_RUNS} of these runs; run them to their end first")
    return found


def _band(stages: Sequence[Stage]) -> dict[str, Any]:
    settings = [settings_of(stage) for stage in stages]
    for stage, own in zip(stages, settings, strict=True):
        if own != settings[0]:
            key = next(key for key in own if own[key] != settings[0].get(key))
            raise DataError(f"{stage.folder} has {key} {own[key]}, not {settings[0].get(key)}; give runs of one recipe")
    last = min(stage.last_step for stage in stages)
    points = []
    for step in sorted({round(float(step)) for step in np.geomspace(1, last, POINTS)}):
        losses = [loss for stage in stages if (loss := loss_at(stage, step)) is not None]
        middle = float(np.median(losses))
        half = max(DEVIATIONS * float(np.std(losses, ddof=1)), LEAST * middle)
        points.append([step, *(round(value, 3) for value in (middle - half, middle, middle + half))])
    seeds = sorted(int(stage.recipe.get("seed", 0)) for stage in stages)
    return {"settings": settings[0], "seeds": seeds, "columns": ["step", "low", "median", "high"], "points": points}


def settings_of(stage: Stage) -> dict[str, Any]:
    """What decides the loss of the stage, by dotted key; None where the recipe does not say."""
    return {key: _looked_up(stage.recipe, key) for key in (*SHARED, *(f"{stage.name}.{key}" for key in OWN))}


def _looked_up(table: Any, key: str) -> Any:
    for name in key.split("."):
        table = table.get(name) if isinstance(table, dict) else None
    return table


def shipped() -> Iterator[tuple[str, dict[str, Any]]]:
    """Recipe and bands of every file that comes with the package."""
    for entry in sorted(resources.files("groundup.diagnosis").joinpath("bands").iterdir(), key=lambda file: file.name):
        if entry.name.endswith(".json"):
            yield entry.name.removesuffix(".json"), json.loads(entry.read_text(encoding="utf-8"))


def check_band(stage: Stage) -> Iterator[Finding]:
    """The loss of a run with the settings of a shipped recipe, beside that of other seeds."""
    settings = settings_of(stage)
    for recipe, bands in shipped():
        band = bands.get(stage.name)
        if band is None or band["settings"] != settings:
            continue
        outside, last = [], None
        for step, low, middle, high in band["points"]:
            if (loss := loss_at(stage, step)) is not None:
                last = (step, loss, low, middle, high)
                if not low <= loss <= high:
                    outside.append(last)
        if last is not None:
            yield _verdict(stage, recipe, len(band["seeds"]), outside, last)


Point = tuple[int, float, float, float, float]


def _verdict(stage: Stage, recipe: str, seeds: int, outside: Sequence[Point], last: Point) -> Finding:
    step, loss, low, middle, high = outside[-1] if outside else last
    evidence = (
        f"loss {loss:.3f} at step {step}; {seeds} seeds of {recipe} had {middle:.3f}, normal is {low:.3f} to {high:.3f}"
    )
    where = stage.steps(step, step)
    numbers = {"step": step, "loss": loss, "low": low, "median": middle, "high": high}
    if not outside or (outside[-1][0] < last[0] and len(outside) < 3):
        return Finding("reference", "ok", f"{stage.name}: the loss is normal", evidence, where=where, numbers=numbers)
    way = "higher" if loss > high else "lower"
    remedy = "see the other findings; without any, compare recipe.toml and the corpus with the shipped ones"
    what = f"the loss is {way} than that of other runs of this recipe"
    return Finding("reference", "warning", what, evidence, remedy, where, numbers)
