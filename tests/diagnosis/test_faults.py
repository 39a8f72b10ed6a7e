"""Every fault is planted into a real training and is the first thing that the doctor names; healthy runs have none."""

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.core.errors import TrainingError
from groundup.core.files import read_jsonl, write_json, write_jsonl
from groundup.dataloader import Batch
from groundup.diagnosis import Finding, diagnose
from groundup.diagnosis.host import memory_limit
from groundup.model import Transformer
from groundup.model.config import PositionConfig
from groundup.model.transformer import Block
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig, ScheduleConfig
from groundup.pretraining.tokens import DataConfig
from groundup.training.config import MemoryConfig

Make = Callable[[Path, Any], Path]
Wrong = Callable[[Path], list[Finding]]


def names(findings: list[Finding]) -> list[str]:
    return [finding.name for finding in findings]


def unmasked(model: Transformer, places: torch.Tensor, end: int, *rest: Any) -> torch.Tensor:
    """A mask that hides nothing."""
    return torch.ones(1, 1, places.shape[-1], end, dtype=torch.bool)


@pytest.fixture
def first(make_run: Make, wrong: Wrong, tmp_path: Path) -> Callable[[Any], Finding]:
    """``first(plan)`` trains and returns the first finding."""
    return lambda plan: wrong(make_run(tmp_path / "run", plan))[0]


# --- healthy -----------------------------------------------------------------------------------------------------


def test_a_healthy_run_has_no_finding(healthy: Path, wrong: Wrong) -> None:
    assert wrong(healthy) == []


@pytest.mark.parametrize("seed", [2, 3])
def test_nor_have_other_seeds(seed: int, plan: Any, make_run: Make, wrong: Wrong, tmp_path: Path) -> None:
    assert wrong(make_run(tmp_path / "run", plan.but(seed=seed))) == []


OLD = {
    "norm": "layer",
    "positions": PositionConfig("learned"),
    "feed_forward": "gelu",
    "bias": "all",
    "qk_norm": "none",
}
SHAPES: dict[str, dict[str, Any]] = {
    "GPT-2's way": {**OLD, "kv_heads": 2, "init": "depth-scaled"},
    "deep": {"layers": 5, "width": 16},
    "smeared keys": {"key_smear": True, "layers": 1},
}


@pytest.mark.parametrize("name", SHAPES)
def test_nor_have_other_shapes(name: str, plan: Any, make_run: Make, wrong: Wrong, tmp_path: Path) -> None:
    assert wrong(make_run(tmp_path / "run", plan.but(shape=replace(plan.shape, **SHAPES[name])))) == []


def test_nor_have_other_ways_to_train(plan: Any, make_run: Make, wrong: Wrong, tmp_path: Path) -> None:
    other = plan.but(
        optimizer=OptimizerConfig(matrix_rate=0.0, rate=0.01),
        schedule=ScheduleConfig(kind="cosine", warmup=0.1),
        data=DataConfig(packing="documents"),
    )
    assert wrong(make_run(tmp_path / "run", other)) == []


def test_nor_has_a_run_of_several_epochs(
    plan: Any, texts: Callable[..., Any], make_run: Make, wrong: Wrong, tmp_path: Path
) -> None:
    assert wrong(make_run(tmp_path / "run", plan.but(train=texts(1, 50), steps=84, validate_every=84))) == []


def test_nor_has_one_that_has_only_begun(plan: Any, make_run: Make, wrong: Wrong, tmp_path: Path) -> None:
    assert wrong(make_run(tmp_path / "run", plan.but(steps=8))) == []


# --- what is computed --------------------------------------------------------------------------------------------


def test_a_mask_that_is_not_causal(plan: Any, make_run: Make, wrong: Wrong, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Transformer, "_mask", unmasked)
        run = make_run(tmp_path / "run", plan)
        now = wrong(run)[0]
    then = wrong(run)[0]  # repaired since: the weights still tell
    assert (now.name, then.name) == ("mask-not-causal", "mask-not-causal")
    assert "moves the logits of" in now.evidence
    assert "when it may see the tokens to come" in then.evidence


def test_labels_that_were_not_shifted(plan: Any, first: Callable[[Any], Finding]) -> None:
    def copy(batch: Batch, number: int) -> Batch:
        return Batch({**batch.tensors, "targets": batch.tensors["inputs"]}, batch.weight)

    found = first(plan.but(change=copy))
    assert found.name == "labels-not-shifted"
    assert found.numbers["copying"] < 0.2 < 5 < found.numbers["measured"]


def test_targets_that_do_not_follow_from_the_inputs(plan: Any, first: Callable[[Any], Finding]) -> None:
    def mix(batch: Batch, number: int) -> Batch:
        targets = batch.tensors["targets"]
        order = torch.randperm(targets.numel(), generator=torch.Generator().manual_seed(number))
        return Batch({**batch.tensors, "targets": targets.flatten()[order].view_as(targets)}, batch.weight)

    assert first(plan.but(change=mix)).name == "targets-unlearnable"


# --- how it learns -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "name"), [(100, "too-high"), (0.001, "too-low")])
def test_a_wrong_learning_rate(factor: float, name: str, plan: Any, first: Callable[[Any], Finding]) -> None:
    found = first(plan.times(factor))
    assert found.name == f"learning-rate-{name}"
    assert "--pretrain.optimizer.matrix-rate 0.02 --pretrain.optimizer.rate 0.01" in found.remedy  # those of the plan


def test_a_loss_that_is_no_number(plan: Any, make_run: Make, wrong: Wrong, tmp_path: Path) -> None:
    calls = iter(range(1000))

    def broken(model: Transformer, batch: Batch) -> torch.Tensor:
        return next_token(model, batch) * (float("nan") if next(calls) > 30 else 1.0)

    with pytest.raises(TrainingError):
        make_run(tmp_path / "run", plan.but(objective=broken))
    found = wrong(tmp_path / "run")[0]
    assert (found.name, found.severity) == ("not-finite", "failure")
    assert "step 32" in found.where or "steps 32 to" in found.where


def test_two_steps_that_were_no_numbers_are_a_warning(plan: Any, first: Callable[[Any], Finding]) -> None:
    calls = iter(range(1000))

    def shaky(model: Transformer, batch: Batch) -> torch.Tensor:
        return next_token(model, batch) * (float("inf") if next(calls) in (30, 31) else 1.0)

    found = first(plan.but(objective=shaky))
    assert (found.name, found.severity) == ("not-finite", "warning")
    assert found.where == "pretrain, steps 31 to 32"


def test_steps_of_grpo_in_which_all_answers_are_alike_are_usual(wrong: Wrong, tmp_path: Path) -> None:
    def judged(empty: range) -> list[str]:
        rows = [{"step": n, **({"skipped": 1} if n in empty else {"loss": 0.1, "stopped": 1.0})} for n in range(1, 21)]
        write_jsonl(tmp_path / "grpo" / "metrics.jsonl", rows)
        return names(wrong(tmp_path / "grpo"))

    assert judged(range(3, 9)) == []
    assert judged(range(3, 19)) == ["empty-steps"]


def test_gradients_that_explode_over_time(plan: Any, first: Callable[[Any], Finding]) -> None:
    calls = iter(range(1000))
    found = first(plan.but(objective=lambda model, batch: next_token(model, batch) * 1.2 ** next(calls)))
    assert found.name == "gradient-exploding"


@pytest.mark.parametrize(("factor", "name"), [(0.1, "vanishing"), (10.0, "exploding")])
def test_gradients_that_change_over_depth(factor: float, name: str, plan: Any, first: Callable[[Any], Finding]) -> None:
    def scaled(block: Block, x: torch.Tensor, added: torch.Tensor, norm: torch.nn.Module) -> torch.Tensor:
        stream = x + norm(added)
        return factor * stream + (1 - factor) * stream.detach()  # the same forward, but each layer scales its gradient

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Block, "_joined", scaled)
        found = first(plan.but(shape=replace(plan.shape, layers=4, width=16), steps=24))
    assert found.name == f"gradient-{name}"


def test_overfitting(plan: Any, texts: Callable[..., Any], first: Callable[[Any], Finding]) -> None:
    found = first(plan.but(train=texts(1, 2), steps=80, validate_every=10))
    assert (found.name, found.severity) == ("overfitting", "failure")


# --- the data ----------------------------------------------------------------------------------------------------


def test_tokens_that_are_shuffled_within_documents(plan: Any, first: Callable[[Any], Finding]) -> None:
    def shuffled(split: str, ids: list[int]) -> list[int]:
        return [ids[0], *random.Random(len(ids)).sample(ids[1:], len(ids) - 1)]

    found = first(plan.but(encoded=shuffled, steps=30))
    assert found.name == "tokens-shuffled"


def test_shuffled_tokens_are_found_without_the_corpus(plan: Any, make_run: Make, wrong: Wrong, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", plan.but(steps=6, encoded=lambda _, ids: random.Random(5).sample(ids, len(ids))))
    shutil.rmtree(run / "corpus")
    found = wrong(run)[0]
    assert found.name == "tokens-shuffled"
    assert found.numbers["information"] < 1.3 * found.numbers["shuffled"]


def test_tokens_of_another_tokenizer(plan: Any, other_tokenizer: Any, first: Callable[[Any], Finding]) -> None:
    def foreign(split: str, ids: list[int]) -> list[int]:
        return [ids[0], *other_tokenizer.encode(plan.tokenizer.decode(ids[1:]))]

    assert first(plan.but(encoded=foreign, steps=30)).name == "wrong-tokenizer"


def test_a_run_whose_tokenizer_was_replaced(healthy: Path, other_tokenizer: Any, wrong: Wrong, tmp_path: Path) -> None:
    run = Path(shutil.copytree(healthy, tmp_path / "run"))
    other_tokenizer.save(run / "tokenizer")
    assert wrong(run)[0].name == "wrong-tokenizer"


def test_tokens_of_another_corpus(healthy: Path, texts: Callable[..., Any], wrong: Wrong, tmp_path: Path) -> None:
    run = Path(shutil.copytree(healthy, tmp_path / "run"))
    rows = [{"id": str(n), "title": "", "source": "", "text": text} for n, text in enumerate(texts(7, 700))]
    write_jsonl(run / "corpus" / "train.jsonl", rows)
    assert wrong(run)[0].name == "stale-tokens"


def test_text_that_stands_there_many_times(
    plan: Any, texts: Callable[..., Any], first: Callable[[Any], Finding]
) -> None:
    assert first(plan.but(train=texts(1, 70) * 10, steps=30)).name == "text-repeats"


def test_a_batch_that_comes_again_and_again(plan: Any, first: Callable[[Any], Finding]) -> None:
    kept: list[Batch] = []

    def again(batch: Batch, number: int) -> Batch:
        kept.append(batch)
        return Batch(kept[0].tensors, kept[0].weight)

    assert first(plan.but(change=again)).name == "batches-repeat"


def test_epochs_in_the_same_order(plan: Any, texts: Callable[..., Any], first: Callable[[Any], Finding]) -> None:
    train = texts(1, 50)
    tokens = sum(1 + len(plan.tokenizer.encode(text)) for text in train)
    epoch = tokens // (plan.config.rows * plan.shape.context)
    kept: list[Batch] = []

    def same(batch: Batch, number: int) -> Batch:
        kept.append(batch)
        return Batch(kept[number % epoch].tensors, batch.weight)

    assert first(plan.but(train=train, change=same, steps=84, validate_every=84)).name == "same-order"


def test_documents_without_an_end(plan: Any, first: Callable[[Any], Finding]) -> None:
    found = first(plan.but(encoded=lambda split, ids: ids[split == "train" :], steps=30))
    assert found.name == "end-never-learnt"
    assert found.numbers["marks"] == 0


def test_an_end_that_is_masked(plan: Any, first: Callable[[Any], Finding]) -> None:
    mark = plan.tokenizer.special_tokens["<|document|>"]

    def masked(batch: Batch, number: int) -> Batch:
        targets = batch.tensors["targets"].clone()
        targets[targets == mark] = -100
        return Batch({**batch.tensors, "targets": targets}, int((targets != -100).sum()))

    found = first(plan.but(change=masked))
    assert found.name == "end-never-learnt"
    assert found.numbers["probability"] < 0.1 * found.numbers["frequency"]


def test_validation_text_in_the_train_split(plan: Any, first: Callable[[Any], Finding]) -> None:
    found = first(plan.but(train=[*plan.train, *plan.validation[:16]], steps=30))
    assert (found.name, found.severity) == ("contaminated", "failure")
    assert "16 of 24 documents" in found.evidence


# --- samples -----------------------------------------------------------------------------------------------------


def test_samples_that_loop(plan: Any, first: Callable[[Any], Finding]) -> None:
    assert first(plan.but(temperature=0.0, steps=10)).name == "samples-repeat"


def test_samples_that_are_gibberish(plan: Any, first: Callable[[Any], Finding]) -> None:
    assert first(plan.but(temperature=8.0)).name == "samples-gibberish"


# --- speed and the end -------------------------------------------------------------------------------------------


def test_a_loader_that_is_slow(plan: Any, first: Callable[[Any], Finding]) -> None:
    last = [time.perf_counter()]

    def slow(batch: Batch, number: int) -> Batch:
        time.sleep(2 * (time.perf_counter() - last[0]))  # twice as long as the step before has computed
        last[0] = time.perf_counter()
        return batch

    found = first(plan.but(change=slow, steps=12))
    assert (found.name, found.severity) == ("loader-bound", "warning")


def test_work_that_competes(healthy: Path, tmp_path: Path) -> None:
    run = Path(shutil.copytree(healthy, tmp_path / "run"))
    log = run / "pretrain" / "metrics.jsonl"

    def verdict(slowness: Callable[[int], float]) -> list[str]:
        timed = [{**row, "tokens_per_second": 5000 / slowness(row["step"])} for row in read_jsonl(log) if "loss" in row]
        write_jsonl(log, timed)
        return names(diagnose(run))

    assert "contended" not in verdict(lambda step: 1.3 if step % 2 else 1.0)
    assert "contended" not in verdict(lambda step: 20.0 if step == 30 else 1.0)  # one hiccup
    assert verdict(lambda step: 2.5 if 30 < step < 55 else 1.0) == ["contended"]


def test_micro_batches_that_were_too_large(plan: Any, first: Callable[[Any], Finding]) -> None:
    def greedy(model: Transformer, batch: Batch) -> torch.Tensor:
        if len(batch.tensors["inputs"]) > 4:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return next_token(model, batch)

    found = first(plan.but(objective=greedy, steps=12, memory=MemoryConfig(fit=True)))
    assert (found.name, found.severity) == ("out-of-memory", "warning")
    assert "--pretrain.rows 4 --pretrain.accumulation 2" in found.remedy


def test_a_process_that_vanished_when_memory_was_full(healthy: Path, wrong: Wrong, tmp_path: Path) -> None:
    run = Path(shutil.copytree(healthy, tmp_path / "run"))
    write_json(run / "pretrain" / "started.json", {})
    assert names(wrong(run)) == ["interrupted"]
    log = run / "pretrain" / "metrics.jsonl"
    write_jsonl(log, [{**row, "memory_bytes": int(0.97 * memory_limit())} for row in read_jsonl(log)])
    assert names(wrong(run))[0] == "out-of-memory"
