"""Random orders that are functions."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.seeding import numpy_rng
from groundup.dataloader import permutation
from groundup.dataloader.permutation import ROUNDS, Permutation, feistel

KEYS = st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=ROUNDS).map(lambda keys: np.array(keys, np.uint64))


@given(size=st.integers(1, 3000), keys=KEYS)
def test_every_key_gives_a_permutation(size: int, keys: np.ndarray) -> None:
    assert np.array_equal(np.sort(feistel(np.arange(size), size, keys)), np.arange(size))


@given(size=st.integers(1, 10**12), keys=KEYS, start=st.floats(0, 1))
def test_different_places_of_a_long_order_have_different_items_inside(
    size: int, keys: np.ndarray, start: float
) -> None:
    places = np.unique(np.minimum(int(start * size) + np.arange(500), size - 1))
    items = feistel(places, size, keys)
    assert len(np.unique(items)) == len(places)
    assert items.min() >= 0
    assert items.max() < size


@pytest.mark.parametrize("size", [25, 26])
def test_over_many_keys_every_item_is_everywhere_and_beside_every_other(size: int) -> None:
    trials = 1000
    at, beside = np.zeros((size, size)), np.zeros((size, size))
    for trial in range(trials):
        items = feistel(np.arange(size), size, numpy_rng(trial, "keys").integers(0, 2**64, ROUNDS, np.uint64))
        at[np.arange(size), items] += 1
        np.add.at(beside, (items[:-1], items[1:]), 1)
    for counts, expected, freedom in (
        (at.ravel(), trials / size, (size - 1) ** 2),
        (beside[~np.eye(size, dtype=bool)], trials / size, size * (size - 1) - 1),
    ):
        surplus = ((counts - expected) ** 2 / expected).sum()
        assert abs(surplus - freedom) < 4.5 * (2 * freedom) ** 0.5  # the chi-square statistic's own deviation


def test_both_kinds_are_permutations_that_depend_on_seed_and_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for drawn in (0, 1000):
        monkeypatch.setattr(permutation, "DRAWN", drawn)
        orders = [Permutation(700, *key)(np.arange(700)) for key in ((1, "order", 0), (1, "order", 1), (2, "order", 0))]
        for number, order in enumerate(orders):
            assert sorted(order.tolist()) == list(range(700))
            assert all((order != other).mean() > 0.9 for other in orders[:number])
        assert np.array_equal(Permutation(700, 1, "order", 0)(np.arange(700)), orders[0])


def test_a_billion_items_take_no_memory() -> None:
    tracemalloc.start()
    order = Permutation(10**9, 1)
    items = [order(np.arange(start, start + 1000)) for start in range(0, 10**9, 10**8)]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20
    assert len(np.unique(np.concatenate(items))) == 10_000
