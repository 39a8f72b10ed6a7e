"""The road from raw text to a chat model and its report, as a list.

Nothing but wiring: each stage says what it needs, which part of the recipe it depends on, and what runs.
"""

from collections.abc import Sequence
from pathlib import Path

import groundup.corpus.build as corpus
import groundup.evaluation.evaluate as evaluation
import groundup.posttraining.dpo as dpo
import groundup.posttraining.grpo as grpo
import groundup.posttraining.sft as sft
import groundup.pretraining.build as pretraining
import groundup.report.build as report
import groundup.tokenizer.build as tokenizer
from groundup.core.run import Stage
from groundup.corpus.reading import find_files

TRAINED = ("pretrain", "sft", "dpo", "grpo")

STAGES: Sequence[Stage] = (
    Stage(
        "corpus",
        needs=(),
        code="groundup.corpus.build",
        settings=lambda recipe: recipe.corpus,
        files=lambda recipe: find_files(recipe.corpus.path) if recipe.corpus.path else (),
        run=lambda recipe, run: corpus.build(recipe.corpus, run / "corpus", recipe.seed),
    ),
    Stage(
        "tokenizer",
        needs=("corpus",),
        code="groundup.tokenizer.build",
        settings=lambda recipe: recipe.tokenizer,
        run=lambda recipe, run: tokenizer.build(recipe.tokenizer, run / "corpus", run / "tokenizer", recipe.seed),
    ),
    Stage(
        "pretrain",
        needs=("corpus", "tokenizer"),
        code="groundup.pretraining.build",
        settings=lambda recipe: {"model": recipe.model, "pretrain": recipe.pretrain},
        run=lambda recipe, run: pretraining.build(recipe.model, recipe.pretrain, run, recipe.seed),
    ),
    Stage(
        "sft",
        needs=("corpus", "pretrain"),
        code="groundup.posttraining.sft",
        settings=lambda recipe: recipe.sft,
        run=lambda recipe, run: sft.build(recipe.sft, run, recipe.seed),
    ),
    Stage(
        "dpo",
        needs=("corpus", "sft"),
        code="groundup.posttraining.dpo",
        settings=lambda recipe: recipe.dpo,
        run=lambda recipe, run: dpo.build(recipe.dpo, run, recipe.seed),
    ),
    Stage(
        "grpo",
        needs=("corpus", "dpo"),
        code="groundup.posttraining.grpo",
        settings=lambda recipe: recipe.grpo,
        run=lambda recipe, run: grpo.build(recipe.grpo, run, recipe.seed),
    ),
    Stage(
        "evaluate",
        needs=("corpus", "tokenizer", *TRAINED),
        code="groundup.evaluation.evaluate",
        settings=lambda recipe: recipe.evaluate,
        run=lambda recipe, run: evaluation.build(recipe.evaluate, run, recipe.seed),
    ),
    Stage(
        "report",
        needs=("corpus", "tokenizer", *TRAINED, "evaluate"),
        code="groundup.report.build",
        settings=lambda recipe: recipe.report,
        run=lambda recipe, run: report.build(recipe.report, run, run / "report"),
    ),
)


def finished(run: Path) -> list[str]:
    """Names of the stages whose manifest is there."""
    return [stage.name for stage in STAGES if (run / stage.name / "manifest.json").exists()]
