"""Two processes that share products evaluate and write as one does."""

from collections.abc import Callable
from typing import Any

import pytest


@pytest.fixture(scope="module")
def found(together: Callable[..., Any]) -> dict[str, Any]:
    results: dict[str, Any] = together(2, "tests.distributed.products")
    return results


@pytest.mark.parametrize("model", ["grouped", "alibi", "latent"])
def test_evaluation_and_generation_are_those_of_one_process(found: dict[str, Any], model: str) -> None:
    assert max(found[f"logits, {model}"].values()) < 2e-6
    together, alone = found[f"text, {model}"]
    assert together == alone
    assert found["alike"]  # and the same in both processes


@pytest.mark.parametrize("model", ["grouped", "alibi", "latent"])
def test_dividing_a_whole_tensor_undoes_gathering_it(found: dict[str, Any], model: str) -> None:
    assert found[f"kept, {model}"]


def test_the_stream_is_divided_where_it_can_be(found: dict[str, Any]) -> None:
    assert found["streams, True"] == {"12": [6, 12], "7": [7, 7]}  # whole where it is to be looked at
    assert found["streams, False"] == {"12": [12, 12], "7": [7, 7]}


@pytest.mark.parametrize("sequence", [True, False])
def test_dropout_is_the_same_where_processes_have_the_same(found: dict[str, Any], sequence: bool) -> None:
    assert found[f"noise, {sequence}"]


def test_what_cannot_be_divided_is_refused_in_one_line(found: dict[str, Any]) -> None:
    heads, shared, hidden = found["refused"]
    assert "3 heads cannot be divided over a tensor dimension of 2" in heads
    assert "1 key/value heads cannot be divided over a tensor dimension of 2" in shared
    assert "41 feed-forward units (model.hidden) cannot be divided over a tensor dimension of 2" in hidden
