"""A recipe: everything a run depends on, as one typed tree. The shipped ones are the ``*.toml`` files beside this."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path

from groundup.core.config import from_table, parse, read_toml
from groundup.core.errors import UsageError
from groundup.core.world import ParallelConfig
from groundup.corpus.build import CorpusConfig
from groundup.corpus.build import with_absolute_paths as corpus_with_absolute_paths
from groundup.evaluation.evaluate import EvaluateConfig
from groundup.model import ModelConfig
from groundup.model.presets import preset
from groundup.posttraining.dpo import DPOConfig
from groundup.posttraining.grpo import GRPOConfig
from groundup.posttraining.sft import SFTConfig
from groundup.pretraining.build import PretrainConfig
from groundup.report import ReportConfig
from groundup.tokenizer.build import TokenizerConfig


@dataclass(frozen=True)
class Recipe:
    """From raw text to a chat model and its report."""

    description: str = ""
    """What the recipe is for, in a line."""
    seed: int = 1337
    """All randomness of the run is a function of this number."""
    corpus: CorpusConfig = field(default_factory=CorpusConfig)
    tokenizer: TokenizerConfig = field(default_factory=TokenizerConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    pretrain: PretrainConfig = field(default_factory=PretrainConfig)
    sft: SFTConfig = field(default_factory=SFTConfig)
    dpo: DPOConfig = field(default_factory=DPOConfig)
    grpo: GRPOConfig = field(default_factory=GRPOConfig)
    evaluate: EvaluateConfig = field(default_factory=EvaluateConfig)
    report: ReportConfig = field(default_factory=ReportConfig)
    parallel: ParallelConfig = field(default_factory=ParallelConfig)


def shipped() -> Iterator[str]:
    """Names of the recipes that come with the package."""
    folder = resources.files(__package__)
    return iter(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load(name: str) -> Recipe:
    """The shipped recipe ``name``, or the one in a TOML file of that path.

    Raises:
        UsageError: there is none (with a suggestion), or one of its keys is wrong.
    """
    if name.endswith(".toml"):
        path = Path(name)
    elif name in shipped():
        path = Path(str(resources.files(__package__) / f"{name}.toml"))
    else:
        close = difflib.get_close_matches(name, list(shipped()), n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"use {', '.join(shipped())}, or the path of a .toml file"
        raise UsageError(f"unknown recipe {name!r}; {hint}")
    table, recipe, where = read_toml(path), Recipe(), f"recipe {path.name}"
    if isinstance(model := table.get("model"), dict) and (shape := model.pop("preset", "")):
        try:
            recipe = with_preset(recipe, shape)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from error
    return from_table(Recipe, recipe, table, where)


def with_preset(recipe: Recipe, name: str) -> Recipe:
    """The recipe with a published shape in the place of its whole model section.

    Raises:
        UsageError: no preset has that name.
    """
    return replace(recipe, model=preset(name).config)


def with_options(recipe: Recipe, options: Sequence[str], program: str) -> Recipe:
    """The recipe with the options of the command line, complete: it holds the same anywhere and says every value.

    Args:
        recipe: what holds where no option speaks.
        options: ``--section.key value`` …
        program: shown in ``--help``.

    Raises:
        UsageError: an option is unknown or wrong.
        SystemExit: after printing ``--help``.
    """
    recipe = with_absolute_paths(parse(Recipe, recipe, options, program, "command line"))
    return sized(replace(recipe, model=recipe.model.resolved()))


def sized(recipe: Recipe) -> Recipe:
    """The recipe with learning rates and batch of its model's width, where it says at which width they were tuned.

    Raises:
        UsageError: μP is told another width.
    """
    width, tuned = recipe.model.mup_width, recipe.pretrain.optimizer.tuned_width
    if width and tuned not in (0, width):
        raise UsageError(f"model.mup-width is {width}, but pretrain.optimizer.tuned-width is {tuned}; set them alike")
    if width:  # μP carries the rates over itself
        return recipe
    width = recipe.model.width
    return replace(
        recipe,
        pretrain=recipe.pretrain.for_width(width),
        sft=replace(recipe.sft, optimizer=recipe.sft.optimizer.for_width(width)),
        dpo=replace(recipe.dpo, optimizer=recipe.dpo.optimizer.for_width(width)),
        grpo=replace(recipe.grpo, optimizer=recipe.grpo.optimizer.for_width(width)),
    )


def with_absolute_paths(recipe: Recipe) -> Recipe:
    """The recipe with the user's paths made absolute, so that they mean the same from any folder."""

    def absolute(path: Path | None) -> Path | None:
        return None if path is None else path.expanduser().absolute()

    return replace(
        recipe,
        corpus=corpus_with_absolute_paths(recipe.corpus),
        tokenizer=replace(recipe.tokenizer, start=absolute(recipe.tokenizer.start)),
        pretrain=replace(recipe.pretrain, start=absolute(recipe.pretrain.start)),
    )
