"""The statistics that findings rest on: laws, and small cases by hand."""

import math
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.seeding import torch_rng
from groundup.diagnosis.data import neighbour_information, overlap, run_hashes, words
from groundup.diagnosis.generation import repeated, spelt
from groundup.diagnosis.learning import running_median, unigram_entropy
from groundup.diagnosis.probes import document_places, gradients_by_block, look_ahead, losses
from groundup.diagnosis.records import open_stages
from groundup.model import ModelConfig, Transformer
from groundup.model.config import AttentionConfig, ExpertConfig, PositionConfig

symbols = st.lists(st.integers(0, 3), min_size=1, max_size=40)


@given(symbols, st.integers(1, 6))
def test_equal_runs_and_only_they_have_equal_hashes(found: list[int], length: int) -> None:
    hashes = run_hashes(np.array(found, np.uint64), length).tolist()
    runs = [tuple(found[place : place + length]) for place in range(len(found) - length + 1)]
    assert len(hashes) == len(runs)
    assert len(set(hashes)) == len(set(runs))
    assert len(set(zip(hashes, runs, strict=True))) == len(set(runs))


@given(symbols)
def test_a_running_median_lies_within_what_it_was_taken_of(found: list[int]) -> None:
    values = np.array(found, np.float64)
    smooth = running_median(values, 5)
    assert smooth[0] == values[0]
    assert all(
        values[max(0, n - 4) : n + 1].min() <= smooth[n] <= values[max(0, n - 4) : n + 1].max()
        for n in range(len(values))
    )


def test_entropy_and_information_of_known_sequences() -> None:
    assert unigram_entropy(np.arange(64)) == pytest.approx(math.log(64))
    assert neighbour_information(np.tile(np.arange(8), 500)) == pytest.approx(math.log(8), abs=1e-2)
    free = np.random.default_rng(0).integers(8, size=20_000)
    assert neighbour_information(free) < 0.01


def test_overlap_counts_runs_of_thirteen_words() -> None:
    alphabet = [f"{letter}word" for letter in string.ascii_lowercase]
    held_out = [("leaked", " ".join(alphabet[:20])), ("fresh", " ".join(reversed(alphabet)))]
    found = overlap(held_out, ["Before, " + ", ".join(alphabet[:20]).upper() + "!"])
    assert found is not None
    assert (found.runs, found.documents) == (8 + 14, ("leaked",))
    assert found.share == pytest.approx(8 / 22)
    assert overlap([("short", "a b c")], ["a b c"]) is None


def test_words_of_scripts_without_spaces_are_characters() -> None:
    assert words("Don't panic: 我们 1st") == ["don", "t", "panic", "我", "们", "1st"]


def test_repetition_is_told_from_text() -> None:
    assert repeated("the cat saw a dog and the dog saw a cat, so they went home together at once") < 0.1
    assert repeated("the end of the " * 12) > 0.8
    assert repeated("doooooooooooooooooooooooooooooooooo") > 0.5
    assert repeated("") == 0


def test_what_is_spelt_with_known_words() -> None:
    assert spelt("the cat, xq", {"the", "cat"}) == pytest.approx(6 / 9)
    assert spelt("", {"the"}) == 0


def strong(config: ModelConfig, vocab_size: int = 40) -> Transformer:
    """Random weights large enough that everything has an effect."""
    model = Transformer(config, vocab_size).initialise(torch_rng(0, "weights")).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3, generator=torch_rng(0, parameter.shape))
    return model


SMALL = ModelConfig(layers=2, width=16, heads=2, kv_heads=1, hidden=24, context=16)


@pytest.mark.parametrize(
    "shape",
    [
        SMALL,
        replace(SMALL, key_smear=True, value_embeddings=True),
        replace(SMALL, attention=AttentionConfig(window=4)),
        replace(SMALL, positions=PositionConfig("alibi")),
        replace(SMALL, experts=ExpertConfig(count=4)),
    ],
    ids=["plain", "smeared", "windowed", "alibi", "experts"],
)
def test_no_model_of_ours_looks_ahead(shape: ModelConfig) -> None:
    ids = torch.randint(40, (4, 16), generator=torch_rng(0, "ids"))
    leak = look_ahead(strong(shape), ids)
    assert not leak.found
    assert leak.positions == 0


def test_a_model_of_one_layer_that_sees_everything_looks_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Transformer, "_mask", lambda model, places, end, *_: torch.ones(1, 1, places.shape[-1], end, dtype=torch.bool)
    )
    leak = look_ahead(strong(SMALL), torch.randint(40, (4, 16), generator=torch_rng(0, "ids")))
    assert leak.found
    assert leak.positions == leak.changed == 12


def test_losses_are_those_of_the_definition() -> None:
    model, ids = strong(SMALL), torch.randint(40, (5, 17), generator=torch_rng(0, "ids"))
    probabilities = model(ids[:, :-1]).log_softmax(dim=-1)
    for ahead in (0, 1):
        expected = -probabilities.gather(2, ids[:, ahead : ahead + 16, None]).mean(dim=(1, 2))
        assert losses(model, ids, ahead) == pytest.approx(expected.detach().numpy(), rel=1e-5)


def test_documents_that_do_not_see_each_other_cost_what_they_cost_alone() -> None:
    model, ids = strong(SMALL), torch.randint(1, 40, (1, 17), generator=torch_rng(0, "ids"))
    ids[0, [0, 9]] = 0
    places = document_places(ids[:, :-1], mark=0)
    assert places["segments"].tolist() == [[1] * 9 + [2] * 7]
    assert places["positions"].tolist() == [[*range(9), *range(7)]]
    alone = (9 * losses(model, ids[:, :10])[0] + 7 * losses(model, ids[:, 9:])[0]) / 16
    assert losses(model, ids, mark=0)[0] == pytest.approx(alone, rel=1e-5)


def test_gradients_by_block_are_those_of_autograd_and_leave_nothing_behind() -> None:
    model, ids = strong(SMALL), torch.randint(40, (2, 17), generator=torch_rng(0, "ids"))
    norms = gradients_by_block(model, ids)
    loss = torch.nn.functional.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    gradients = torch.autograd.grad(loss, list(model.blocks[1].parameters()))
    assert norms[1] == pytest.approx(float(torch.nn.utils.get_total_norm(gradients)), rel=1e-4)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_healthy_run_is_known_as_such_by_its_own_loss(healthy: Path, plan: Any, texts: Callable[..., Any]) -> None:
    (stage,) = open_stages(healthy)
    assert stage.model is not None
    ids = [
        id
        for text in texts(50, 20)
        for id in (plan.tokenizer.special_tokens["<|document|>"], *plan.tokenizer.encode(text))
    ]
    rows = torch.tensor(ids[: 33 * 12]).view(12, 33)
    assert losses(stage.model, rows).mean() == pytest.approx(stage.series("loss")[1][-5:].mean(), rel=0.15)
