"""Rollouts: rewards to advantages, groups that teach nothing, and reuse across an interruption."""

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

import groundup.posttraining.grpo as grpo
from groundup.core.errors import UsageError
from groundup.dataloader import IGNORED, Batch
from groundup.model import Transformer
from groundup.objectives import PolicyGradient, token_log_probabilities
from groundup.posttraining.common import Answer
from groundup.posttraining.grpo import GRPOConfig, RolloutSource
from groundup.tasks import Problem, TaskMixture
from groundup.tokenizer import BytePairTokenizer
from groundup.training import train

Say = Callable[..., Answer]
Source = Callable[..., RolloutSource]


@pytest.fixture
def rollouts(model: Transformer, byte_tokenizer: BytePairTokenizer, task: TaskMixture) -> Source:
    """``rollouts(**settings)``: a source over a random model that ends some of its answers."""

    def make(**options: Any) -> RolloutSource:
        settings = {"prompts": 2, "group": 4, "max_tokens": 24, "stop_reward": 0.1, "precision": "float32"} | options
        return RolloutSource(model, byte_tokenizer, task, GRPOConfig(**settings), seed=0)

    return make


@pytest.fixture
def answered(monkeypatch: pytest.MonkeyPatch, say: Say) -> Callable[[Callable[[int, Problem], Answer]], None]:
    """``answered(reply)``: the engine's answers come from ``reply(number, problem)``."""

    def install(reply: Callable[[int, Problem], Answer]) -> None:
        def answer(engine: Any, tokenizer: Any, problems: list[Problem], *rest: Any) -> list[Answer]:
            return [reply(number, problem) for number, problem in enumerate(problems)]

        monkeypatch.setattr(grpo, "answer", answer)

    return install


def same(first: Batch, second: Batch) -> bool:
    return first.weight == second.weight and all(
        torch.equal(tensor, second.tensors[name]) for name, tensor in first.tensors.items()
    )


@pytest.mark.parametrize("group", [2, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("right", [True, False])
def test_groups_that_earn_the_same_teach_nothing(
    rollouts: Source, answered: Any, say: Say, group: int, right: bool
) -> None:
    """Also where the mean of equal rewards (1.1, 0.1) is rounded to another number."""
    answered(lambda number, problem: say(problem, problem.answer if right else "no idea"))
    batch = next(iter(rollouts(group=group)))
    assert batch.weight == 0
    assert batch.metrics["reward"] == pytest.approx(1.1 if right else 0.1)
    assert batch.metrics["useful_answers"] == 0


def test_only_groups_that_differ_are_learnt_from(rollouts: Source, answered: Any, say: Say) -> None:
    """Of three groups the first is all wrong, the second has one right answer in four, the third is all right."""

    def reply(number: int, problem: Problem) -> Answer:
        return say(problem, problem.answer if number >= 8 or number == 5 else "no")

    answered(reply)
    batch = next(iter(rollouts(prompts=3, stop_reward=0.0, normalise=False)))
    assert batch.tensors["advantages"].tolist() == [-0.25, 0.75, -0.25, -0.25]
    learnt = (batch.tensors["targets"] != IGNORED).sum(dim=1).tolist()
    assert learnt[0] == learnt[2] == learnt[3] == len("no") + 1  # the answer and its end, not the prompt
    assert batch.weight == sum(learnt)
    assert batch.metrics["useful_answers"] == pytest.approx(4 / 12)
    assert batch.metrics["stopped"] == 1.0


def test_an_endless_answer_earns_nothing(rollouts: Source, answered: Any, say: Say) -> None:
    answered(lambda number, problem: say(problem, problem.answer, stopped=number % 4 == 0))
    batch = next(iter(rollouts(prompts=1, normalise=False)))
    assert batch.tensors["advantages"].tolist() == pytest.approx([0.825, -0.275, -0.275, -0.275])


def test_a_source_is_a_function_of_seed_and_position(rollouts: Source) -> None:
    first = list(islice(rollouts(), 3))
    assert any(batch.weight for batch in first)
    assert all(same(one, other) for one, other in zip(first, islice(rollouts(), 3), strict=True))
    later = rollouts()
    later.load_state_dict({"position": 2})
    assert same(next(iter(later)), first[2])


def test_rollouts_are_reused_and_remember_who_wrote_them(rollouts: Source, model: Transformer) -> None:
    batches = list(islice(rollouts(updates=3), 4))
    assert batches[0] is batches[1] is batches[2] is not batches[3]
    by_token = token_log_probabilities(model, batches[0]).detach()
    torch.testing.assert_close(batches[0].tensors["old"], by_token, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("before", [1, 2, 3, 4])
def test_reused_rollouts_survive_an_interruption(rollouts: Source, model: Transformer, before: int) -> None:
    """What is left of the reuse comes from the state, even though the weights have moved on."""
    source = rollouts(updates=3)
    batches: Iterator[Batch] = iter(source)
    last = [next(batches) for _ in range(before)][-1]
    state = json.loads(json.dumps(source.state_dict()))
    assert ("rollouts" in state) == (before % 3 != 0)
    resumed = rollouts(updates=3)
    resumed.load_state_dict(state)
    with torch.no_grad():
        model.embedding.weight.mul_(-1)
    following = next(iter(resumed))
    assert same(following, last) == (before % 3 != 0)


def test_training_on_reused_rollouts_resumes_bit_for_bit(
    tmp_path: Path, rollouts: Source, model: Transformer, byte_tokenizer: BytePairTokenizer
) -> None:
    config = GRPOConfig(steps=5, save_every=1, updates=3, precision="float32", device="cpu")
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def fit(folder: Path, stop_at: int | None = None) -> None:
        model.load_state_dict(start)
        source = rollouts(updates=3)

        def objective(model: Any, batch: Batch) -> torch.Tensor:
            if source.position == stop_at:
                raise KeyboardInterrupt
            return PolicyGradient(0.2)(model, batch)

        train(model, objective, source, config, byte_tokenizer, folder, "grpo")

    fit(tmp_path / "whole")
    for stop_at in (2, 3, 5):
        with pytest.raises(KeyboardInterrupt):
            fit(tmp_path / "again", stop_at)
    fit(tmp_path / "again")
    whole, again = (
        (tmp_path / name / "checkpoints" / "step-000005" / "model.safetensors").read_bytes()
        for name in ("whole", "again")
    )
    assert whole == again
    assert any(not torch.equal(tensor, start[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize(
    "options", [{"group": 1}, {"temperature": 0.0}, {"prompts": 0}, {"updates": 2, "accumulation": 2}]
)
def test_impossible_settings_are_refused_by_name(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"grpo.{next(iter(options))}"):
        GRPOConfig(**options)
