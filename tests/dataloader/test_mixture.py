"""Rows of several sources in exact proportions."""

import json
from collections import Counter
from fractions import Fraction
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, UsageError
from groundup.dataloader import Mixture, PackedDocuments, RowBatches, Windows
from groundup.dataloader.mixture import Quota

WEIGHTS = st.lists(st.fractions(Fraction(1, 1000), 50, max_denominator=1000), min_size=1, max_size=6)


def mixture(weights: dict[str, Fraction], length: int = 200) -> Mixture:
    """A part's tokens lie between 1,000 times its number and the next."""
    return Mixture(
        {
            name: (Windows(np.arange(length, dtype=np.uint32) + 1000 * number, 8, number, name), weight)
            for number, (name, weight) in enumerate(weights.items())
        }
    )


THREE = {"code": Fraction("0.7"), "prose": Fraction("0.2"), "law": Fraction("0.1")}


@settings(max_examples=50)
@given(weights=WEIGHTS, turns=st.integers(1, 150))
def test_after_every_turn_each_has_its_share_but_for_less_than_one(weights: list[Fraction], turns: int) -> None:
    quota, whole = Quota(weights), sum(weights)
    for number in range(1, turns + 1):
        before = list(quota.taken)
        taker = quota.turn()
        before[taker] += 1
        assert quota.taken == before
        for taken, weight in zip(quota.taken, weights, strict=True):
            assert abs(taken - number * weight / whole) < 1


def test_only_proportions_count() -> None:
    one, other = Quota(list(THREE.values())), Quota([Fraction(70), Fraction(20), Fraction(10)])
    assert [one.turn() for _ in range(50)] == [other.turn() for _ in range(50)]


def test_rows_are_those_of_the_sources_in_their_order() -> None:
    mixed = mixture(THREE)
    rows = mixed.take(3) + mixed.take(1) + mixed.take(96)
    owners = [row[0].tokens.read(0, 1)[0] // 1000 for row in rows]
    assert Counter(owners) == {0: 70, 1: 20, 2: 10}
    for number, alone in enumerate(mixture(THREE).sources.values()):
        ours = [row[0].start for row, owner in zip(rows, owners, strict=True) if owner == number]
        assert ours == [span.start for (span,) in alone.take(len(ours))]


def test_epochs_are_counted_for_each_source() -> None:
    mixed = mixture(THREE, 17 * 8 + 1)  # sixteen windows each
    batches = list(islice(RowBatches(mixed, 20, 8), 16))
    assert batches[-1].metrics == {"epochs/code": 14.0, "epochs/prose": 4.0, "epochs/law": 2.0}
    assert batches[0].metrics == {"epochs/code": 14 / 16, "epochs/prose": 4 / 16, "epochs/law": 0.125}


@settings(max_examples=25)
@given(weights=WEIGHTS, before=st.integers(0, 40), rows=st.integers(1, 7))
def test_a_mixture_resumes_exactly(weights: list[Fraction], before: int, rows: int) -> None:
    parts = {f"part {number}": weight for number, weight in enumerate(weights)}
    mixed = RowBatches(mixture(parts, 60), rows, 8)
    stream = iter(mixed)
    for _ in range(before):
        next(stream)
    resumed = RowBatches(mixture(parts, 60), rows, 8)
    resumed.load_state_dict(json.loads(json.dumps(mixed.state_dict())))
    for ours, theirs in zip(islice(resumed, 10), stream, strict=False):
        assert ours.tensors["inputs"].equal(theirs.tensors["inputs"])
        assert ours.metrics == theirs.metrics


def test_packed_documents_mix_with_windows() -> None:
    ids = np.array([0, 1, 2, 0, 3, 0, 4, 5, 6, 7] * 4, np.uint16)
    mixed = Mixture(
        {"whole": (PackedDocuments(ids, 8, 1, "whole"), Fraction(1)), "cut": (Windows(ids, 8, 1, "cut"), Fraction(1))}
    )
    batch = next(iter(RowBatches(mixed, 4, 8, padding=9)))
    assert batch.tensors["segments"][1::2].unique().tolist() == [0]
    assert batch.tensors["segments"][::2].max() > 0
    assert set(batch.metrics) == {"epochs/whole", "epochs/cut", "padding"}


def test_the_position_of_another_mixture_is_refused() -> None:
    state = mixture(THREE).state_dict()
    with pytest.raises(ArtifactError, match="is that of the mixture"):
        mixture({**THREE, "law": Fraction(2, 10)}).load_state_dict(state)
    with pytest.raises(ArtifactError):
        mixture({"code": Fraction(1)}).load_state_dict(state)
    with pytest.raises(ArtifactError):
        mixture(THREE).load_state_dict({"position": 3})


@pytest.mark.parametrize("weights", [{}, {"a": Fraction(0)}, {"a": Fraction(1), "b": Fraction(-1)}])
def test_weights_are_positive(weights: dict[str, Fraction]) -> None:
    with pytest.raises(UsageError, match="above 0"):
        mixture(weights)
