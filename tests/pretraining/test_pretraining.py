"""The pretraining stage in a run directory: what it leaves, and that it repeats itself exactly."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

import groundup.pretraining.build as pretraining
from groundup.core.errors import UsageError
from groundup.core.files import write_jsonl
from groundup.dataloader import open_tokens
from groundup.model import ModelConfig
from groundup.optim import OptimizerConfig
from groundup.pretraining.build import PretrainConfig, build
from groundup.pretraining.tokens import read_split
from groundup.tokenizer import BytePairTokenizer
from groundup.training import load_model, resolve_model
from groundup.training.config import MemoryConfig

TEXTS = {
    "train": ["the cat sat on the mat and the dog sat on the log. " * 6, "a bird in the hand. " * 9],
    "validation": ["the bird sat on the dog. " * 4, "a cat in the log. " * 3],
}
MODEL = ModelConfig(1, 16, 2, 1, 24, 16)
CONFIG = PretrainConfig(
    steps=6, rows=2, save_every=2, validate_every=3, samples=2, sample_tokens=5, precision="float32", device="cpu"
)


def new_run(folder: Path) -> Path:
    for split, texts in TEXTS.items():
        rows = [{"id": f"{split}-{n}", "title": "", "source": "test", "text": text} for n, text in enumerate(texts)]
        write_jsonl(folder / "corpus" / f"{split}.jsonl", rows)
    (folder / "tokenizer").mkdir(parents=True)
    BytePairTokenizer.train(TEXTS["train"], 280).save(folder / "tokenizer")
    return folder


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights(run: Path) -> bytes:
    return (resolve_model(run / "pretrain") / "model.safetensors").read_bytes()


def test_the_stage_leaves_shards_a_model_and_its_story(tmp_path: Path) -> None:
    run = new_run(tmp_path)
    metrics = build(MODEL, CONFIG, run, seed=1)
    model, tokenizer = load_model(resolve_model(run / "pretrain"))
    assert model.config == MODEL.resolved()
    tokens = open_tokens(run / "pretrain" / "tokens" / "train")
    assert metrics["train_tokens"] == len(tokens)
    assert metrics["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert metrics["tokens"] == 6 * 2 * 16
    assert metrics["epochs"] == pytest.approx(6 * 2 * 16 / len(tokens), abs=1e-3)
    measured = [row["step"] for row in rows_of(run / "pretrain" / "metrics.jsonl") if "validation_bits_per_byte" in row]
    assert measured == [0, 3, 6]
    assert [row["step"] for row in rows_of(run / "pretrain" / "samples.jsonl")] == [0, 0, 3, 3, 6, 6]
    for split, texts in TEXTS.items():
        documents = read_split(run / "pretrain" / "tokens" / split)
        assert [tokenizer.decode(ids.tolist()) for ids in documents] == texts


def test_interrupted_anywhere_it_ends_in_the_same_weights_and_samples(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, again = new_run(tmp_path / "whole"), new_run(tmp_path / "again")
    build(MODEL, CONFIG, whole, seed=1)

    original = pretraining.sample_texts
    calls = iter(range(100))

    def sometimes(*arguments: Any) -> list[str]:
        if next(calls) in (0, 2, 4):
            raise KeyboardInterrupt
        return original(*arguments)

    monkeypatch.setattr(pretraining, "sample_texts", sometimes)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            build(MODEL, CONFIG, again, seed=1)
    build(MODEL, CONFIG, again, seed=1)
    assert weights(again) == weights(whole)
    for name in ("samples.jsonl", "metrics.jsonl"):
        first, second = (rows_of(run / "pretrain" / name) for run in (whole, again))
        assert [row["step"] for row in first] == [row["step"] for row in second]
    assert (again / "pretrain" / "samples.jsonl").read_bytes() == (whole / "pretrain" / "samples.jsonl").read_bytes()


def test_another_seed_gives_another_model(tmp_path: Path) -> None:
    first, second = new_run(tmp_path / "first"), new_run(tmp_path / "second")
    build(MODEL, CONFIG, first, seed=1)
    build(MODEL, CONFIG, second, seed=2)
    assert weights(first) != weights(second)


def test_training_goes_on_from_another_model(tmp_path: Path) -> None:
    run, again, other, last = (new_run(tmp_path / name) for name in ("first", "again", "other", "last"))
    build(MODEL, CONFIG, run, seed=1)
    start = resolve_model(run / "pretrain")
    build(MODEL, replace(CONFIG, start=start, steps=1, optimizer=OptimizerConfig(0.0, 0.0)), again, seed=2)
    assert weights(again) == weights(run)
    with pytest.raises(UsageError, match="another shape"):
        build(replace(MODEL, width=32), replace(CONFIG, start=start), other, seed=1)
    BytePairTokenizer.from_merges([(97, 98)]).save(last / "tokenizer")
    with pytest.raises(UsageError, match=r"another vocabulary.*tokenizer\.start"):
        build(MODEL, replace(CONFIG, start=start), last, seed=1)


def test_what_does_not_fit_the_memory_is_computed_in_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    roomy, tight = new_run(tmp_path / "roomy"), new_run(tmp_path / "tight")
    build(MODEL, CONFIG, roomy, seed=1)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1000))
    build(MODEL, replace(CONFIG, memory=MemoryConfig(fit=True)), tight, seed=1)
    assert "2 rows do not fit the memory; they are computed in 2 parts" in capsys.readouterr().err
    first, second = (rows_of(run / "pretrain" / "metrics.jsonl") for run in (roomy, tight))
    for one, other in zip(first, second, strict=True):
        assert one.get("loss", 0.0) == pytest.approx(other.get("loss", 0.0), rel=1e-5)
    assert weights(tight) != weights(roomy)  # the sums are in another order, so it was really split


@pytest.mark.parametrize("name", ["rows", "validate_every", "validation_windows", "steps"])
def test_impossible_settings_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=name):
        PretrainConfig(**{name: 0})  # type: ignore[arg-type]
