"""The road from raw text to a chat model and its report, as a list.

Nothing but wiring: each stage says what it needs, which part of the recipe it depends on, and what runs.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from groundup.core.run import Stage
from groundup.corpus.build import build as build_corpus
from groundup.corpus.build import input_files
from groundup.corpus.build import settings as corpus_settings
from groundup.evaluation.evaluate import build as build_evaluation
from groundup.model import Transformer
from groundup.planning.size import count_parameters
from groundup.posttraining.dpo import build as build_dpo
from groundup.posttraining.grpo import build as build_grpo
from groundup.posttraining.sft import build as build_sft
from groundup.pretraining.build import build as build_base_model
from groundup.recipes import Recipe
from groundup.tokenizer.autosize import Body
from groundup.tokenizer.build import build as build_tokenizer
from groundup.training import resolve_model

TRAINED = ("pretrain", "sft", "dpo", "grpo")


def _body(recipe: Recipe) -> Body | None:
    """The model without its vocabulary, on whose size an automatic vocabulary depends."""
    if recipe.tokenizer.vocab_size != "auto":
        return None
    with torch.device("meta"):
        rest = Transformer(recipe.model, vocab_size=1)
    rows = recipe.model.width * (1 if recipe.model.tied else 2)
    return Body(count_parameters(rest) - rows, recipe.model.width, recipe.model.tied)


def _report(recipe: Recipe, run: Path) -> dict[str, float]:
    from groundup.report.build import build  # its drawing library takes a second, which only this stage needs

    return build(recipe.report, run, run / "report")


def _files_of(start: Path | None) -> list[Path]:
    """What a run that goes on from another model depends on."""
    if start is None or not start.exists():  # the stage says what is wrong
        return []
    if start.is_file():
        return [start]
    if not (start / "config.json").is_file() and not (start / "tokenizer.json").is_file():
        start = resolve_model(start)
    return sorted(path for path in start.iterdir() if path.suffix in (".json", ".safetensors", ".gguf"))


STAGES: Sequence[Stage] = (
    Stage(
        "corpus",
        needs=(),
        code="groundup.corpus.build",
        settings=lambda recipe: corpus_settings(recipe.corpus),
        files=lambda recipe: input_files(recipe.corpus),
        run=lambda recipe, run: build_corpus(recipe.corpus, run / "corpus", recipe.seed),
    ),
    Stage(
        "tokenizer",
        needs=("corpus",),
        code="groundup.tokenizer.build",
        settings=lambda recipe: (
            {"tokenizer": recipe.tokenizer, "body": body} if (body := _body(recipe)) else recipe.tokenizer
        ),
        files=lambda recipe: _files_of(recipe.tokenizer.start),
        run=lambda recipe, run: build_tokenizer(
            recipe.tokenizer, run / "corpus", run / "tokenizer", recipe.seed, _body(recipe)
        ),
    ),
    Stage(
        "pretrain",
        together=True,
        needs=("corpus", "tokenizer"),
        code="groundup.pretraining.build",
        settings=lambda recipe: {"model": recipe.model, "pretrain": recipe.pretrain},
        files=lambda recipe: _files_of(recipe.pretrain.start),
        run=lambda recipe, run: build_base_model(recipe.model, recipe.pretrain, run, recipe.seed),
    ),
    Stage(
        "sft",
        together=True,
        needs=("corpus", "pretrain"),
        code="groundup.posttraining.sft",
        settings=lambda recipe: recipe.sft,
        run=lambda recipe, run: build_sft(recipe.sft, run, recipe.seed),
    ),
    Stage(
        "dpo",
        together=True,
        needs=("corpus", "sft"),
        code="groundup.posttraining.dpo",
        settings=lambda recipe: recipe.dpo,
        run=lambda recipe, run: build_dpo(recipe.dpo, run, recipe.seed),
    ),
    Stage(
        "grpo",
        together=True,
        needs=("corpus", "dpo"),
        code="groundup.posttraining.grpo",
        settings=lambda recipe: recipe.grpo,
        run=lambda recipe, run: build_grpo(recipe.grpo, run, recipe.seed),
    ),
    Stage(
        "evaluate",
        needs=("corpus", "tokenizer", *TRAINED),
        code="groundup.evaluation.evaluate",
        settings=lambda recipe: recipe.evaluate,
        run=lambda recipe, run: build_evaluation(recipe.evaluate, run, recipe.seed),
    ),
    Stage(
        "report",
        needs=("corpus", "tokenizer", *TRAINED, "evaluate"),
        code="groundup.report.build",
        settings=lambda recipe: recipe.report,
        run=_report,
    ),
)


def finished(run: Path) -> list[str]:
    """Names of the stages whose manifest is there."""
    return [stage.name for stage in STAGES if (run / stage.name / "manifest.json").exists()]
