"""What the real model says: the same alone, in a batch, and in transformers."""

from collections.abc import Callable
from typing import Any

import pytest

from groundup.inference.opening import OpenModel
from tests.real.sides import LENGTH, greedy, greedy_of_transformers, leads, same_tokens

pytestmark = pytest.mark.real


def test_a_batch_says_what_each_says_alone(
    opened: OpenModel,
    prompts: list[list[int]],
    continuations: list[list[int]],
    record_property: Callable[[str, object], None],
) -> None:
    batched = greedy(opened, rows=len(prompts))(prompts)
    record_property("row", ("one prompt at a time", "ours, all in one batch", same_tokens(continuations, batched)))
    assert batched == continuations


def test_transformers_says_the_same(
    opened: OpenModel,
    reference: Any,
    prompts: list[list[int]],
    continuations: list[list[int]],
    record_property: Callable[[str, object], None],
) -> None:
    same = same_tokens(continuations, greedy_of_transformers(reference)(prompts))
    found = [leads(opened, prompt, said) for prompt, said in zip(prompts, continuations, strict=True)]
    record_property("row", ("the file", "transformers, the file", same))
    record_property("closest", min(min(each) for each in found))
    different = {row: (at, found[row][at]) for row, at in enumerate(same) if at < LENGTH}
    assert different == {}, "prompt: (first token that differs, by how much ours was the likeliest)"
