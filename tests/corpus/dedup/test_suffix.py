from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.corpus.dedup.hashing import mix, run_hashes
from groundup.corpus.dedup.suffix import Repeat, common_prefixes, first_occurrences, longest_repeats, suffix_array

Prose = Callable[..., str]
TOKENS = st.lists(st.integers(-3, 2), max_size=60) | st.lists(st.just(7), max_size=40)


@pytest.fixture(params=[False, True], ids=["compiled", "plain"], scope="module")
def either_way(request: pytest.FixtureRequest) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if request.param:
            patch.setattr(compiled, "available", lambda: False)
        yield


def shared(one: list[int], other: list[int]) -> int:
    return next((n for n, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


@given(TOKENS)
def test_suffix_array_equals_sorting(either_way: None, tokens: list[int]) -> None:
    expected = sorted(range(len(tokens)), key=lambda place: tokens[place:])
    array = np.array(tokens, dtype=np.int64)
    order = suffix_array(array)
    assert order.tolist() == expected
    neighbours = [0, *(shared(tokens[a:], tokens[b:]) for a, b in pairwise(expected))]
    assert common_prefixes(array, order).tolist() == neighbours[: len(tokens)]


@given(TOKENS, st.integers(1, 6))
def test_first_occurrences_equal_brute_force(either_way: None, tokens: list[int], length: int) -> None:
    seen: dict[tuple[int, ...], int] = {}
    expected = [
        seen.setdefault(tuple(tokens[place : place + length]), place) if place + length <= len(tokens) else -1
        for place in range(len(tokens))
    ]
    assert first_occurrences(np.array(tokens, dtype=np.int64), length).tolist() == expected


def test_a_larger_array_is_sorted() -> None:
    tokens = np.random.default_rng(1).integers(0, 3, size=20_000)
    order = suffix_array(tokens)
    assert sorted(order.tolist()) == list(range(20_000))
    data = tokens.astype(np.uint8).tobytes()
    assert all(data[a:] < data[b:] for a, b in pairwise(order.tolist()))


@given(st.lists(st.integers(0, 2**64 - 1), max_size=30), st.integers(1, 12))
def test_hashes_of_runs_equal_horner(values: list[int], length: int) -> None:
    expected = []
    for start in range(len(values) - length + 1):
        key = 0
        for value in values[start : start + length]:
            key = (key * 0x9E3779B97F4A7C15 + value) % 2**64
        expected.append(key)
    found = run_hashes(np.array(values, dtype=np.uint64), length)
    assert found.tolist() == mix(np.array(expected, dtype=np.uint64)).tolist()


def test_longest_repeats_are_told_once(prose: Prose) -> None:
    long, short = prose(1, 90), prose(2, 60)
    texts = [prose(3) + long, f"{short} {prose(4)}", long + prose(5) + short, prose(6), f"... {short}"]
    found = longest_repeats(texts, least=50)
    assert [(repeat.words, repeat.count) for repeat in found] == [(90, 2), (60, 3)]
    assert found[0] == Repeat(long.rstrip("."), 90, 2)
    assert longest_repeats(texts, least=50, most=1) == found[:1]
    assert longest_repeats([prose(1), prose(2)]) == []
