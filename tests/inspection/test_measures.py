import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from groundup.inspection import measures
from groundup.inspection.measures import (
    head_statistics,
    induction_scores,
    load,
    neighbours,
    settled,
    standing,
    stream,
)


def causal(weights: Tensor) -> Tensor:
    """Weights of nothing but the past, summing to 1."""
    weights = weights.tril()
    return weights / weights.sum(-1, keepdim=True)


def told(weights: Tensor) -> dict[str, float]:
    return {name: float(value) for name, value in head_statistics(weights[None]).items()}


def test_each_habit_is_recognised() -> None:
    time = 6
    itself = told(torch.eye(time))
    assert itself == pytest.approx(
        {"itself": 1, "previous": 0, "first": 0, "entropy": 0, "distance": 0, "nothing": 0}, abs=1e-9
    )
    previous = told(torch.eye(time).roll(-1, dims=1).tril() + torch.eye(time)[0, :, None] * torch.eye(time)[0])
    assert previous["previous"] == 1
    assert previous["distance"] == 1
    assert previous["first"] == pytest.approx(1 / 5)  # the second token's predecessor is the first
    first = told(torch.eye(time)[0].expand(time, time))
    assert first["first"] == 1
    assert first["distance"] == 3  # the mean of 1 … 5
    assert first["entropy"] == 0


def test_spread_is_counted_in_bits() -> None:
    even = told(causal(torch.ones(8, 8)))
    assert even["entropy"] == pytest.approx(sum(math.log2(n) for n in range(2, 9)) / 7)
    assert even["distance"] == pytest.approx(sum(n / 2 for n in range(1, 8)) / 7)


def test_what_a_sink_takes_is_told_and_changes_nothing_else() -> None:
    weights = causal(torch.rand(5, 5, generator=torch.Generator().manual_seed(0)))
    without, with_sink = told(weights), told(0.25 * weights)
    assert with_sink["nothing"] == pytest.approx(0.75)
    assert with_sink["first"] == pytest.approx(0.25 * without["first"])
    assert with_sink["entropy"] == pytest.approx(without["entropy"], abs=1e-6)
    assert with_sink["distance"] == pytest.approx(without["distance"], abs=1e-6)


def test_a_single_token_looks_at_itself() -> None:
    assert told(torch.ones(1, 1)) == {
        "entropy": 0, "first": 1, "previous": 0, "itself": 1, "distance": 0, "nothing": 0
    }  # fmt: skip


@given(st.integers(1, 9), st.integers(0, 1000))
def test_statistics_stay_within_their_bounds(time: int, seed: int) -> None:
    weights = causal(torch.rand(3, time, time, generator=torch.Generator().manual_seed(seed)) ** 4 + 1e-6)
    statistics = head_statistics(weights)
    assert all(values.shape == (3,) for values in statistics.values())
    for name in ("first", "previous", "itself", "nothing"):
        assert ((statistics[name] >= 0) & (statistics[name] <= 1 + 1e-6)).all()
    assert (statistics["entropy"] <= math.log2(time) + 1e-5).all()
    assert (statistics["distance"] <= time - 1).all()


def test_an_induction_head_looks_at_the_successor_of_the_first_occurrence() -> None:
    length = 4
    perfect = torch.zeros(2 * length, 2 * length)
    perfect[:length, 0] = 1
    for place in range(length, 2 * length):
        perfect[place, place - length + 1] = 1
    copying = perfect.roll(-1, dims=1)  # looks at the first occurrence itself
    scores = induction_scores(torch.stack((perfect, copying))[None], length)
    assert scores.tolist() == [1, 0]


def test_rank_and_probability_of_a_token() -> None:
    log_probabilities = torch.tensor([[0.5, 0.2, 0.3], [0.25, 0.25, 0.5]]).log()
    probability, rank = standing(log_probabilities, torch.tensor([2, 1]))
    assert probability.tolist() == pytest.approx([0.3, 0.25])
    assert rank.tolist() == [2, 2]  # of two that are alike neither is behind


def test_a_prediction_is_settled_when_it_no_longer_changes() -> None:
    rank = torch.tensor([[1, 1, 9], [7, 1, 8], [1, 1, 5], [1, 1, 1]])
    assert settled(rank).tolist() == [2, 0, 3]


def test_the_stream_is_measured_from_state_to_state() -> None:
    states = torch.tensor([[[3.0, 4.0]], [[3.0, 0.0]], [[0.0, 0.0]], [[6.0, 0.0]]])
    found = stream(states)
    assert found.norm[:, 0].tolist() == [5, 3, 0, 6]
    assert found.added[:2, 0].tolist() == pytest.approx([0.8, 1.0])
    assert found.added.isfinite().all()
    assert found.cosine[:, 0].tolist() == pytest.approx([0.6, 1, 0, 1])


def test_neighbours_are_those_of_the_whole_vocabulary(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measures, "ROWS_AT_A_TIME", 3)
    embedding = torch.randn(11, 5, generator=torch.Generator().manual_seed(1))
    embedding[7] = 0  # a row that nobody trained
    ids = torch.tensor([4, 10, 0])
    cosines, found = neighbours(embedding, ids, 4)
    expected = torch.cosine_similarity(embedding[ids][:, None], embedding[None], dim=-1)
    for row, own in enumerate(ids.tolist()):
        others = sorted((other for other in range(11) if other != own), key=lambda o: -float(expected[row, o]))
        assert found[row].tolist() == others[:4]
        assert cosines[row].tolist() == pytest.approx(expected[row, others[:4]].tolist(), abs=1e-6)
    assert neighbours(embedding[:2], torch.tensor([1]), 4)[1].tolist() == [[0]]
    assert neighbours(embedding, torch.tensor([7]), 10)[0].isfinite().all()


def test_the_load_counts_choices_and_weights() -> None:
    found = load(torch.tensor([[0, 2], [2, 3]]), torch.tensor([[0.75, 0.25], [0.5, 0.5]]), 5)
    assert found.tokens.tolist() == [0.5, 0, 1, 0.5, 0]
    assert found.weight.tolist() == [0.375, 0, 0.375, 0.25, 0]
    assert float(found.tokens.sum()) == 2
