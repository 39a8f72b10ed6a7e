"""Which answers make a pair, and what the frozen reference thinks of them."""

import json
from collections.abc import Callable
from itertools import islice

import pytest
import torch

from groundup.core.errors import UsageError
from groundup.dataloader import IGNORED
from groundup.model import Transformer
from groundup.posttraining.common import Answer
from groundup.posttraining.dpo import (
    DPOConfig,
    Pair,
    PairSource,
    choose_pairs,
    preference_batch,
    quality,
    score_reference,
)
from groundup.tasks import Problem, TaskMixture
from groundup.tokenizer import ChatTemplate

Say = Callable[..., Answer]


@pytest.fixture(scope="module")
def problem(task: TaskMixture) -> Problem:
    return task.problem(0)


@pytest.fixture(scope="module")
def by_quality(problem: Problem, say: Say) -> list[Answer]:
    """From endless to right."""
    return [
        say(problem, problem.answer, stopped=False),
        say(problem, "no idea"),
        say(problem, f"it may be {problem.answer} or not"),
        say(problem, problem.answer),
    ]


def test_quality_orders_answers(by_quality: list[Answer]) -> None:
    assert [quality(given) for given in by_quality] == [0, 1, 2, 3]
    assert [given.reward for given in by_quality] == [0.0, 0.0, 0.0, 1.0]


def test_the_best_is_chosen_over_every_worse_one(by_quality: list[Answer], template: ChatTemplate) -> None:
    endless, wrong, rambling, right = by_quality
    pairs = choose_pairs([wrong, right, endless, right, rambling, wrong], 10, template, seed=0)
    assert {tuple(pair.chosen) for pair in pairs} == {right.completion.picked}
    worse = {given.completion.picked for given in (endless, wrong, rambling)}
    assert {tuple(pair.rejected) for pair in pairs} == worse
    assert len(pairs) == 3  # equal pairs count once
    for pair in pairs:
        assert pair.prompt == template.prompt(right.problem.conversation.prompt)
        assert pair.family == right.problem.family


def test_without_a_right_answer_the_least_bad_is_chosen(by_quality: list[Answer], template: ChatTemplate) -> None:
    endless, wrong, rambling, _ = by_quality
    [pair] = choose_pairs([endless, wrong], 10, template, seed=0)
    assert (tuple(pair.chosen), tuple(pair.rejected)) == (wrong.completion.picked, endless.completion.picked)
    pairs = choose_pairs([endless, wrong, rambling], 10, template, seed=0)
    assert {tuple(pair.chosen) for pair in pairs} == {rambling.completion.picked}


def test_the_end_is_part_of_what_is_preferred(by_quality: list[Answer], template: ChatTemplate) -> None:
    end = template.tokenizer.special_tokens["<|end|>"]
    endless, *_, right = by_quality
    [pair] = choose_pairs([right, endless], 1, template, seed=0)
    assert pair.chosen == [*pair.rejected, end]


@pytest.mark.parametrize("which", [0, 1, 2, 3])
def test_equally_good_answers_make_no_pair(by_quality: list[Answer], template: ChatTemplate, which: int) -> None:
    assert choose_pairs([by_quality[which]] * 4, 10, template, seed=0) == []


def test_pairs_are_limited_distinct_and_drawn_by_the_seed(problem: Problem, say: Say, template: ChatTemplate) -> None:
    answers = [say(problem, problem.answer), *(say(problem, f"wrong {number}") for number in range(20))]
    drawn = [choose_pairs(answers, 3, template, seed) for seed in (0, 0, 1)]
    assert [len(pairs) for pairs in drawn] == [3, 3, 3]
    assert len({tuple(pair.rejected) for pair in drawn[0]}) == 3
    assert drawn[0] == drawn[1] != drawn[2]
    assert choose_pairs(answers[::-1], 3, template, 0) == drawn[0]


def some_pairs(count: int) -> list[Pair]:
    return [
        Pair([261 - n, 2, 3][: 1 + n % 3], [4 + n, 5], [6, 7 + n, 8], "test", -1.0 - n, -20.0 - n) for n in range(count)
    ]


def test_a_batch_holds_the_chosen_answers_first() -> None:
    pairs = some_pairs(3)
    batch = preference_batch(pairs, padding=0)
    assert batch.weight == 3
    assert batch.tensors["reference"].tolist() == [-1.0, -2.0, -3.0, -20.0, -21.0, -22.0]
    learnt = [[t for t in row if t != IGNORED] for row in batch.tensors["targets"].tolist()]
    assert learnt == [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    starts = [row[: len(pair.prompt)] for row, pair in zip(batch.tensors["inputs"].tolist(), pairs * 2, strict=True)]
    assert starts == [pair.prompt for pair in pairs] * 2


def test_an_epoch_shows_each_pair_once_and_the_order_changes() -> None:
    source = PairSource(some_pairs(7), 2, 0, seed=0)
    seen = [b.tensors["reference"][:2].tolist() for b in islice(source, 6)]
    for epoch in (seen[:3], seen[3:]):
        assert len({value for values in epoch for value in values}) == 6
    assert seen[:3] != seen[3:]


@pytest.mark.parametrize("before", [0, 2, 3, 7])
def test_pairs_resume_exactly(before: int) -> None:
    source = PairSource(some_pairs(7), 2, 0, seed=0)
    batches = iter(source)
    for _ in range(before):
        next(batches)
    resumed = PairSource(some_pairs(7), 2, 0, seed=0)
    resumed.load_state_dict(json.loads(json.dumps(source.state_dict())))
    for expected, batch in zip(islice(batches, 5), resumed, strict=False):
        assert all(tensor.equal(expected.tensors[name]) for name, tensor in batch.tensors.items())


def test_fewer_pairs_than_a_batch_still_make_one() -> None:
    assert next(iter(PairSource(some_pairs(2), 8, 0, seed=0))).weight == 2


@torch.no_grad()
def test_reference_scores_equal_single_passes(model: Transformer) -> None:
    pairs = some_pairs(5)
    scored = score_reference(model, pairs, padding=0, dtype=torch.float32, rows=2)
    for pair, before in zip(scored, pairs, strict=True):
        assert (pair.prompt, pair.chosen, pair.rejected) == (before.prompt, before.chosen, before.rejected)
        for answer, score in ((pair.chosen, pair.reference_chosen), (pair.rejected, pair.reference_rejected)):
            ids = torch.tensor([pair.prompt + answer])
            by_token = model(ids)[0, :-1].log_softmax(dim=-1).gather(1, ids[0, 1:, None])
            assert score == pytest.approx(float(by_token[-len(answer) :].sum()), abs=1e-4)


@pytest.mark.parametrize("options", [{"answers": 1}, {"beta": 0.0}, {"pairs": 0}, {"problems": 0}])
def test_impossible_settings_are_refused_by_name(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=f"dpo.{next(iter(options))}"):
        DPOConfig(**options)  # type: ignore[arg-type]
