"""``groundup pretrain RECIPE --find-lr``: a recipe enters; a learning rate leaves, with the curve that it is read from.

Writes ``rates.svg``, ``rates.png`` and ``rates.json`` into ``OUT/pretrain-rates/``; checkpoints are not touched.
"""

import json
import math
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from groundup.core.config import HELP_FLAGS, parse
from groundup.core.files import TEMPORARY_PREFIX, write_json
from groundup.core.progress import say
from groundup.core.run import execute
from groundup.monitor.chart import chart, glyphs_for
from groundup.pipeline import STAGES
from groundup.pretraining.build import first_model
from groundup.pretraining.find_rate import RateCurve, check_range, find_rate
from groundup.pretraining.tokens import encode_split, make_source
from groundup.recipes import Recipe
from groundup.scaling.sweep import link
from groundup.scaling.words import run_directory, split
from groundup.tokenizer import load as load_tokenizer

HELP = """\
groundup pretrain [RECIPE] --find-lr [--lr-steps N] [--lr-low N] [--lr-high N] [--out DIR] [--json] [--key value …]

Find a learning rate: train from the initial weights on the real text while the rate grows at every step from far too
small to far too large, and look where the loss falls. Both optimizers' rates grow together. Nothing of the run is
touched; the curve is shown, and drawn in DIR/pretrain-rates.

  --lr-steps N   steps of the search (default 200)
  --lr-low N     where it begins, as a factor on the recipe's rates (default 0.001)
  --lr-high N    where it ends, if the training does not diverge before (default 100)
  --json         print what rates.json holds
  --key value    any key of a recipe; `groundup run --help` explains them

The proposal is a third of the rate from which on the loss falls no further. It is the right order of magnitude, no
more: a long training wants a smaller rate than a short one, and what the schedule and the weight decay do is not seen.
Compare a few rates around it with --sweep matrix-rate=… before a long training."""

#: The folder in the run directory.
FOLDER = "pretrain-rates"
#: Letters of the drawing on the terminal.
NARROWEST, WIDEST, HEIGHT = 24, 100, 12


@dataclass(frozen=True)
class RateOptions:
    """What `groundup pretrain --find-lr` is told beside the keys of the recipe."""

    find_lr: bool = True
    """Find the rate."""
    lr_steps: int = 200
    """Steps."""
    lr_low: float = 1e-3
    """The first factor."""
    lr_high: float = 100.0
    """The last factor."""
    out: Path | None = None
    """The run directory."""
    json: bool = False
    """For programs."""

    def __post_init__(self) -> None:
        check_range(self.lr_steps, self.lr_low, self.lr_high)


def run(words: list[str]) -> int:
    """Search, draw, print; returns the exit code.

    Raises:
        UsageError: an option or a key is wrong.
        TrainingError: the loss fell at no rate.
    """
    if any(word in HELP_FLAGS for word in words):
        print(HELP)
        return 0
    own, asked = split(words, RateOptions)
    options = parse(RateOptions, RateOptions(), own, "groundup pretrain --find-lr", "command line")
    recipe = asked.over(asked.base(), "groundup pretrain")
    out = run_directory(options.out, asked)
    for stage in ("corpus", "tokenizer"):
        execute(STAGES, recipe, recipe.seed, out, only=stage)
    found = search(recipe, out, options)
    figures = to_json(found, recipe)
    from groundup.scaling.charts import draw_rates  # a second that only pictures need

    folder = out / FOLDER
    write_json(folder / "rates.json", figures)
    draw_rates(found, rates(recipe), folder)
    if options.json:
        print(json.dumps(figures))
        return 0
    print("\n".join(drawn(found)))
    print(f"\n{found.proposal:.3g} times the recipe's rates:")
    for key, value in figures["proposal"].items():
        print(f"  --pretrain.optimizer.{key.replace('_', '-')} {value:.3g}")
    say(f"\nDrawn in rates.svg and rates.png, every figure in rates.json: {folder}")
    return 0


def search(recipe: Recipe, out: Path, options: RateOptions) -> RateCurve:
    """Train on the run's corpus while the rate grows."""
    tokenizer = load_tokenizer(out / "tokenizer")
    pretrain, context, seed = recipe.pretrain, recipe.model.context, recipe.seed
    model = first_model(recipe.model, pretrain, tokenizer, seed)
    # The shards go to a run directory of their own: files in that of the recipe would be taken for its stage's.
    with TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=out, ignore_cleanup_errors=True) as temporary:
        link(out / "corpus", Path(temporary) / "corpus")
        tokens = encode_split(Path(temporary), "train", tokenizer, pretrain.data)
        source = make_source(tokens, pretrain.data, pretrain.rows, context, tokenizer, seed)
        return find_rate(model, source, pretrain, seed, options.lr_steps, options.lr_low, options.lr_high)


def drawn(found: RateCurve) -> list[str]:
    """The curve for the terminal."""
    points = list(zip(np.log10(found.factors).tolist(), found.smoothed.tolist(), strict=True))
    glyphs = glyphs_for(sys.stdout.encoding, os.environ.get("TERM") == "dumb")
    width = max(NARROWEST, min(WIDEST, shutil.get_terminal_size().columns))
    title = "smoothed loss over log10 of the factor; lowest"
    lines = chart(
        title, points, (points[0][0], points[-1][0]), width, HEIGHT, glyphs, [math.log10(found.proposal)],
        float(found.smoothed.min()),
    )  # fmt: skip
    return [line.plain.rstrip() for line in lines]


def rates(recipe: Recipe) -> dict[str, float]:
    """The recipe's rates that are in use."""
    optimizer = recipe.pretrain.optimizer
    used = {"matrix_rate": optimizer.matrix_rate, "rate": optimizer.rate}
    return {name: rate for name, rate in used.items() if rate}


def to_json(found: RateCurve, recipe: Recipe) -> dict[str, Any]:
    """Every figure."""
    return {
        "format": "groundup-rates-1",
        "recipe_rates": rates(recipe),
        "proposal": {name: found.proposal * rate for name, rate in rates(recipe).items()},
        "factors": {"proposal": found.proposal, "edge_of_the_bottom": found.edge},
        "diverged": found.diverged,
        "curve": [
            {"factor": factor, "loss": loss, "smoothed": smoothed}
            for factor, loss, smoothed in zip(
                found.factors.tolist(), found.losses.tolist(), found.smoothed.tolist(), strict=True
            )
        ],
    }
