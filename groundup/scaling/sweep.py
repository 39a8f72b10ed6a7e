"""``groundup pretrain RECIPE --sweep KEY=A,B,C``: the same recipe with several values of one key, compared.

Enters: a recipe, a key and its values. Leaves in ``OUT/sweep-KEY/`` a run directory per training, ``sweep.svg`` and
``.png`` and ``results.json``; the table on stdout. Where the key changes the size of the model, every size gets the
same amount of computation, or tokens in proportion to its parameters, and the law that follows is fitted.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.core.config import HELP_FLAGS, hint, keys_of, parse
from groundup.core.errors import UsageError
from groundup.core.files import atomic_folder, read_jsonl, write_json
from groundup.core.progress import quantity, say
from groundup.core.run import execute, read_manifest
from groundup.pipeline import STAGES
from groundup.planning.count import operations, parameters
from groundup.recipes import Recipe
from groundup.scaling.findings import Findings, Result, table
from groundup.scaling.plan import tokens_of
from groundup.scaling.words import Asked, run_directory, split

HELP = """\
groundup pretrain [RECIPE] --sweep KEY=VALUE,VALUE,… [--sweep-flops N,… | --sweep-ratio N] [--out DIR] [--key value …]

Pretrain a recipe once with each value of one key, and compare. A run that is done is kept, one that was interrupted
goes on. Corpus and tokenizer are made once, in DIR.

  --sweep KEY=A,B,C      any key that changes pretraining: depth (for model.depth), matrix-rate, model.context, seed …
  --sweep-flops N,…      operations of each training, such as 1e14; several: each value is trained with each
                         (default, where the model's size changes: as many as the recipe's own pretraining takes)
  --sweep-ratio N        tokens for each parameter instead, such as 20
  --json                 print what results.json holds
  --key value            any key of a recipe; `groundup run --help` explains them

Where the key changes the size of the model, the law is fitted and drawn: at equal operations the best size (the bottom
of a parabola, from three sizes on; its uncertainty from four on), over several amounts of operations how it grows, and
with tokens in proportion to the parameters how the loss falls with the operations (from four sizes on)."""

#: Sections that pretraining depends on, and where a key is looked for that names none.
SECTIONS = ("seed", "corpus.", "tokenizer.", "model.", "pretrain.")
SHORT = ("", "model.", "pretrain.", "pretrain.optimizer.", "pretrain.schedule.")
#: A training of fewer steps shows nothing.
FEWEST_STEPS = 10
#: The stages before pretraining.
BEFORE = ("corpus", "tokenizer")
#: What is compared, in metrics.jsonl.
MEASURE = "validation_bits_per_byte"


@dataclass(frozen=True)
class SweepOptions:
    """What `groundup pretrain --sweep` is told beside the keys of the recipe."""

    sweep: str = ""
    """The key and its values."""
    sweep_flops: str = ""
    """Operations of each training."""
    sweep_ratio: float = 0.0
    """Tokens for each parameter; 0: not so."""
    out: Path | None = None
    """The run directory."""
    json: bool = False
    """For programs."""

    def __post_init__(self) -> None:
        if self.sweep_ratio < 0:
            raise UsageError(f"sweep-ratio is {self.sweep_ratio:g}; it must be above 0")
        if self.sweep_ratio and self.sweep_flops:
            raise UsageError("--sweep-flops and --sweep-ratio both say how long to train; give one of them")

    @property
    def budgets(self) -> tuple[float, ...]:
        """The operations of each training; none if nothing is said.

        Raises:
            UsageError: that is no list of numbers.
        """
        try:
            budgets = tuple(float(word) for word in self.sweep_flops.split(",") if word.strip())
        except ValueError as error:
            raise UsageError(
                f"sweep-flops is {self.sweep_flops!r}; use numbers with commas between: 1e14,3e14"
            ) from error
        if any(not (budget > 0 and math.isfinite(budget)) for budget in budgets):
            raise UsageError(f"sweep-flops is {self.sweep_flops!r}; operations must be above 0")
        if len(set(budgets)) < len(budgets):
            raise UsageError(f"sweep-flops is {self.sweep_flops!r}; it says a number twice")
        return tuple(sorted(budgets))


@dataclass(frozen=True)
class Variant:
    """One training of the sweep."""

    value: str
    budget: float | None
    """Operations that it was given; None: as the recipe says."""
    recipe: Recipe
    parameters: int
    tokens: int
    operations: float
    """That it takes, whole steps as they are."""

    @property
    def folder(self) -> str:
        """A name for its run directory."""
        name = re.sub(r"[^A-Za-z0-9.+-]+", "_", self.value)
        return name if self.budget is None else f"{name}-{self.budget:.3g}"


def run(words: list[str]) -> int:
    """Train, fit, draw; returns the exit code.

    Raises:
        UsageError: the key, a value or an option is wrong.
        GroundupError: whatever a stage of a run raises.
    """
    if any(word in HELP_FLAGS for word in words):
        print(HELP)
        return 0
    own, asked = split(words, SweepOptions)
    options = parse(SweepOptions, SweepOptions(), own, "groundup pretrain --sweep", "command line")
    key, values = key_and_values(options.sweep)
    base = asked.over(asked.base(), "groundup pretrain")
    variants = plan(asked, base, key, values, options)
    out = run_directory(options.out, asked)
    folder = out / f"sweep-{key.rpartition('.')[2]}"
    shared = share(base, variants, out)
    results = []
    for number, variant in enumerate(variants, 1):
        say(
            f"\n[{number}/{len(variants)}] {key} {variant.value}: {quantity(variant.parameters)} parameters, "
            f"{quantity(variant.tokens)} tokens, {variant.operations:.3g} operations"
        )
        results.append(train(variant, shared, out, folder))
    findings = Findings(
        key, tuple(results), sized=any(variant.budget for variant in variants) or options.sweep_ratio > 0
    )
    from groundup.scaling.charts import draw_sweep  # a second that only pictures need

    write_json(folder / "results.json", findings.to_json())
    draw_sweep(findings, folder)
    print(json.dumps(findings.to_json()) if options.json else table(findings))
    say(f"\nDrawn in sweep.svg and sweep.png, every figure in results.json: {folder}")
    return 0


def key_and_values(swept: str) -> tuple[str, list[str]]:
    """``depth=2,3`` → model.depth, [2, 3].

    Raises:
        UsageError: there is no such key, it does not change pretraining, or there are not two values.
    """
    short, _, listed = swept.partition("=")
    short = short.removeprefix("--").replace("_", "-")
    known = dict(keys_of(Recipe))
    key = next((prefix + short for prefix in SHORT if prefix + short in known), None)
    if key is None:
        names = [*known, *(name.rpartition(".")[2] for name in known)]
        raise UsageError(f"--sweep: unknown key {short}{hint(short, names)}")
    if not key.startswith(SECTIONS):
        raise UsageError(
            f"--sweep: {key} does not change pretraining; sweep a key of {', '.join(SECTIONS[1:])} or seed"
        )
    values = [value.strip() for value in listed.split(",") if value.strip()]
    if len(values) < 2:
        raise UsageError(f"--sweep {swept}: a sweep compares two values at least, such as --sweep depth=2,3,4,6")
    if len(set(values)) < len(values):
        raise UsageError(f"--sweep {swept}: it says a value twice")
    return key, values


def plan(asked: Asked, base: Recipe, key: str, values: Sequence[str], options: SweepOptions) -> list[Variant]:
    """Every training, with as many steps as its operations, or its parameters, ask for.

    Raises:
        UsageError: a value is wrong, or leaves too few steps.
    """
    recipes = {value: asked.over(asked.base(), "groundup pretrain", f"--{key}={value}") for value in values}
    sizes = {parameters(recipe.model, _vocabulary(recipe)).total for recipe in recipes.values()}
    sized = key.startswith("model.") and len(sizes) == len(values)
    budgets: Sequence[float | None] = options.budgets or (None,)
    if sized and not (options.budgets or options.sweep_ratio):
        budgets = (_operations(base),)
    elif key == "pretrain.steps" and (options.budgets or options.sweep_ratio):
        raise UsageError("--sweep pretrain.steps leaves nothing to --sweep-flops and --sweep-ratio; give one of them")
    return [
        _variant(asked, key, value, recipe, budget, options.sweep_ratio)
        for budget in budgets
        for value, recipe in recipes.items()
    ]


def _variant(asked: Asked, key: str, value: str, recipe: Recipe, budget: float | None, ratio: float) -> Variant:
    """One training with the steps that ``budget`` or ``ratio`` gives it; without, those of the recipe."""
    size = parameters(recipe.model, _vocabulary(recipe)).total
    tokens = tokens_of(recipe.pretrain, recipe.model.context)
    share = budget / _operations(recipe) if budget else ratio * size / tokens
    if share:
        steps = round(share * recipe.pretrain.steps)
        if steps < FEWEST_STEPS:
            raise UsageError(
                f"{key} {value} would be trained for {steps} steps, too few to show anything; give it more operations "
                "or tokens (--sweep-flops, --sweep-ratio), or smaller steps (--pretrain.rows)"
            )
        options = (f"--{key}={value}", f"--pretrain.steps={steps}")
        recipe = asked.over(asked.base(), "groundup pretrain", *options)
    tokens = tokens_of(recipe.pretrain, recipe.model.context)
    return Variant(value, budget, recipe, size, tokens, _operations(recipe))


def _operations(recipe: Recipe) -> float:
    """Of all pretraining."""
    context = recipe.model.context
    per_token = operations(recipe.model, _vocabulary(recipe), context).training / context
    return tokens_of(recipe.pretrain, context) * per_token


def _vocabulary(recipe: Recipe) -> int:
    if recipe.tokenizer.vocab_size == "auto":
        raise UsageError("tokenizer.vocab-size is auto, which would differ; give --tokenizer.vocab-size a number")
    return recipe.tokenizer.vocab_size


def share(base: Recipe, variants: Sequence[Variant], out: Path) -> list[str]:
    """Bring those stages before pretraining up to date in ``out`` that are the same for all; return their names."""
    shared = list[str]()
    for stage in STAGES:
        alike = all(stage.settings(variant.recipe) == stage.settings(base) for variant in variants)
        same_seed = all(variant.recipe.seed == base.seed for variant in variants)
        if stage.name not in BEFORE or not (alike and same_seed and set(stage.needs) <= set(shared)):
            break
        execute(STAGES, base, base.seed, out, only=stage.name)
        shared.append(stage.name)
    return shared


def train(variant: Variant, shared: Sequence[str], out: Path, folder: Path) -> Result:
    """Bring one training up to date in its own run directory."""
    run_folder = folder / variant.folder
    for name in shared:
        link(out / name, run_folder / name)
    for name in (*BEFORE, "pretrain"):
        execute(STAGES, variant.recipe, variant.recipe.seed, run_folder, only=name)
    manifest = read_manifest(run_folder / "pretrain")
    assert manifest is not None, "the stage has just finished"
    logged = [record for record in read_jsonl(run_folder / "pretrain" / "metrics.jsonl") if MEASURE in record]
    return Result(
        variant.value,
        variant.folder,
        variant.budget,
        variant.parameters,
        variant.tokens,
        variant.operations,
        variant.recipe.pretrain.steps,
        manifest["metrics"]["epochs"],
        logged[-1][MEASURE],
        manifest["metrics"]["training_seconds"],
    )


def link(made: Path, wanted: Path) -> None:
    """Have the finished stage ``made`` at ``wanted`` as well, as hard links where the file system has them."""
    there, here = read_manifest(made), read_manifest(wanted)
    if here is not None and there is not None and here["identity"] == there["identity"]:
        return
    if wanted.exists():
        shutil.rmtree(wanted)
    wanted.parent.mkdir(parents=True, exist_ok=True)
    with atomic_folder(wanted) as temporary:
        shutil.copytree(made, temporary, copy_function=_link_or_copy, dirs_exist_ok=True)


def _link_or_copy(source: str, target: str) -> str:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target
