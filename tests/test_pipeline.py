"""The whole road on a tiny corpus: every stage leaves what it promises, and a change runs what it must, no more."""

import dataclasses
import itertools
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup import pipeline
from groundup.core.files import read_json, read_jsonl
from groundup.core.run import execute, read_manifest
from groundup.pipeline import STAGES, TRAINED, finished
from groundup.recipes import Recipe, load
from groundup.training import load_model, resolve_model

NAMES = [stage.name for stage in STAGES]
AFTER_TOKENIZER = NAMES[1:]


def test_every_stage_finishes_with_the_network_off(tiny_run: Path) -> None:
    """The run was made with every connection refused, and tried none; see ``tiny_run``."""
    assert finished(tiny_run) == NAMES


def test_stages_need_only_earlier_ones_and_the_code_is_there() -> None:
    for number, stage in enumerate(STAGES):
        assert set(stage.needs) <= set(NAMES[:number])
        assert Path(pipeline.__file__).parent.joinpath(*stage.code.split(".")[1:]).with_suffix(".py").is_file()


@pytest.mark.parametrize(
    ("stage", "artifacts"),
    [
        ("corpus", {"train.jsonl", "validation.jsonl", "dropped.jsonl", "funnel.json", "sources.json"}),
        ("tokenizer", {"tokenizer.json", "facts.json", "comparison.json"}),
        ("pretrain", {"metrics.jsonl", "events.jsonl", "samples.jsonl", "model.json", "tokens/train/index.json"}),
        ("sft", {"metrics.jsonl"}),
        ("dpo", {"metrics.jsonl", "pairs.jsonl"}),
        ("grpo", {"metrics.jsonl"}),
        ("evaluate", {"results.json", "answers.jsonl", "attention.json", "conversations.json"}),
        ("report", {"report.pdf", "numbers.json"}),
    ],
)
def test_what_a_stage_leaves(stage: str, artifacts: set[str], tiny_run: Path) -> None:
    manifest = read_manifest(tiny_run / stage)
    assert manifest is not None
    recorded = set(manifest["artifacts"])
    assert artifacts <= recorded
    there = {path.relative_to(tiny_run / stage).as_posix() for path in (tiny_run / stage).rglob("*") if path.is_file()}
    assert there == recorded | {"manifest.json"}
    assert manifest["metrics"]


@pytest.mark.parametrize(("stage", "steps"), [("pretrain", 6), ("sft", 4), ("dpo", 3), ("grpo", 3)])
def test_a_training_stage_logs_each_step_and_keeps_the_last_checkpoint(stage: str, steps: int, tiny_run: Path) -> None:
    rows = list(read_jsonl(tiny_run / stage / "metrics.jsonl"))
    assert [row["step"] for row in rows if row["step"] > 0] == list(range(1, steps + 1))
    assert all("loss" in row or row.get("skipped") for row in rows if row["step"] > 0)
    *_, newest = sorted(path.name for path in (tiny_run / stage / "checkpoints").iterdir())
    assert newest == f"step-{steps:06d}"


def test_each_stage_changes_the_weights(tiny_run: Path) -> None:
    weights = [load_model(resolve_model(tiny_run / stage))[0].embedding.weight for stage in TRAINED[:3]]
    assert not any(torch.equal(before, after) for before, after in itertools.pairwise(weights))


def test_the_tokens_on_disk_are_the_corpus(tiny_run: Path) -> None:
    from groundup.pretraining.tokens import read_split

    _, tokenizer = load_model(resolve_model(tiny_run))
    for split in ("train", "validation"):
        texts = [row["text"] for row in read_jsonl(tiny_run / "corpus" / f"{split}.jsonl")]
        documents = read_split(tiny_run / "pretrain" / "tokens" / split)
        assert [tokenizer.decode(document[1:].tolist()) for document in documents] == texts


@pytest.fixture
def would_run(copied_run: Path) -> Callable[[Recipe], list[str]]:
    """The stages that a recipe would run again in a copy of the tiny run, found by running stand-ins for them."""

    def run(recipe: Recipe) -> list[str]:
        ran: list[str] = []

        def stand_in(name: str) -> Callable[[Any, Path], dict[str, float]]:
            return lambda recipe, out: {"stages before": float(len(ran.append(name) or ran))}

        stages = [dataclasses.replace(stage, run=stand_in(stage.name)) for stage in STAGES]
        execute(stages, recipe, recipe.seed, copied_run)
        return ran

    return run


def changed(recipe: Recipe, key: str, value: object) -> Recipe:
    """The recipe with one dotted key replaced."""
    name, _, rest = key.partition(".")
    inner = changed(getattr(recipe, name), rest, value) if rest else value
    return dataclasses.replace(recipe, **{name: inner})


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("description", "another", []),
        ("report.title", "Another title", ["report"]),
        ("evaluate.sampling.temperature", 0.5, ["evaluate", "report"]),
        ("evaluate.sampling.seed", 9, ["evaluate", "report"]),
        ("evaluate.problems", 3, ["evaluate", "report"]),
        ("grpo.steps", 4, ["grpo", "evaluate", "report"]),
        ("dpo.beta", 0.3, ["dpo", "grpo", "evaluate", "report"]),
        ("sft.optimizer.rate", 1e-4, ["sft", "dpo", "grpo", "evaluate", "report"]),
        ("pretrain.steps", 7, ["pretrain", "sft", "dpo", "grpo", "evaluate", "report"]),
        ("model.layers", 2, ["pretrain", "sft", "dpo", "grpo", "evaluate", "report"]),
        ("tokenizer.vocab_size", 500, AFTER_TOKENIZER),
        ("corpus.min_characters", 101, NAMES),
        ("seed", 2, NAMES),
    ],
)
def test_a_change_runs_what_depends_on_it_and_nothing_else(
    key: str, value: object, expected: list[str], tiny_run: Path, would_run: Callable[[Recipe], list[str]]
) -> None:
    recipe = load(str(tiny_run / "recipe.toml"))
    assert would_run(changed(recipe, key, value)) == expected


def test_a_new_text_file_runs_everything(
    tiny_run: Path, tiny_corpus: Path, tmp_path: Path, would_run: Callable[[Recipe], list[str]]
) -> None:
    recipe = load(str(tiny_run / "recipe.toml"))
    folder = Path(shutil.copytree(tiny_corpus, tmp_path / "corpus"))
    (folder / "new.txt").write_text("A ninth document. " * 20, encoding="utf-8")
    assert would_run(changed(recipe, "corpus.path", folder)) == NAMES


def test_another_sampling_option_measures_and_reports_again(
    copied_run: Path, tiny_options: tuple[str, ...], command: Callable[..., Any]
) -> None:
    """The same with the real stages."""
    before = {name: (copied_run / name / "manifest.json").read_bytes() for name in NAMES}
    options = ("--evaluate.sampling.temperature", "0.5", "--evaluate.sampling.top-k", "3")
    outcome = command("run", *tiny_options, *options, "--out", copied_run)
    assert outcome.code == 0, outcome.err
    for name in NAMES:
        again = name in ("evaluate", "report")
        assert (f"✓ {name}: up to date" in outcome.err) != again
        assert ((copied_run / name / "manifest.json").read_bytes() == before[name]) != again
    assert "evaluate: runs again because sampling.temperature changed from 0.8 to 0.5" in outcome.err
    kept = sorted(path.name.split("-")[0] for path in (copied_run / "superseded").iterdir())
    assert kept == ["evaluate", "report"]
    # Only the conversations are sampled this way; the measures are as they were.
    [old] = (copied_run / "superseded").glob("evaluate-*")
    assert read_json(copied_run / "evaluate" / "results.json") == read_json(old / "results.json")


def test_one_stage_alone(copied_run: Path, tiny_options: tuple[str, ...], command: Callable[..., Any]) -> None:
    shutil.rmtree(copied_run / "evaluate")
    outcome = command("evaluate", *tiny_options, "--out", copied_run)
    assert outcome.code == 0
    assert outcome.out == ""
    assert (copied_run / "evaluate" / "results.json").exists()
    refused = command("report", *tiny_options, "--tokenizer.vocab-size", "500", "--out", copied_run)
    assert (
        "report needs tokenizer, which must run again because vocab_size changed from 512 to 500" in refused.complaint
    )
    shutil.rmtree(copied_run / "sft")
    assert (
        "dpo needs the results of sft; run `groundup run` first"
        in command("dpo", *tiny_options, "--out", copied_run).complaint
    )


def test_the_same_recipe_gives_the_same_bytes(
    tiny_run: Path, tiny_options: tuple[str, ...], tmp_path: Path, command: Callable[..., Any]
) -> None:
    """Every artifact of the stages up to SFT but the logs, which hold times."""
    out = tmp_path / "again"
    for name in NAMES[:4]:
        assert command(name, *tiny_options, "--out", out).code == 0
        artifacts = json.loads((tiny_run / name / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
        for artifact in artifacts:
            if artifact.endswith(
                (".npy", ".jsonl", "model.safetensors", "tokenizer.json", "samples.jsonl", "funnel.json")
            ):
                if artifact == "metrics.jsonl":
                    continue
                assert (out / name / artifact).read_bytes() == (tiny_run / name / artifact).read_bytes(), artifact
