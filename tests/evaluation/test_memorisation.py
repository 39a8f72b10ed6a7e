"""Runs are exact: those that looking for every substring finds."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.core.seeding import numpy_rng
from groundup.evaluation.memorisation import (
    SEPARATOR,
    RunIndex,
    RunLengths,
    draw_excerpts,
    measure_memorisation,
    suffix_array,
)

symbols = st.one_of(
    st.lists(st.integers(0, 2), max_size=80),
    st.lists(st.integers(0, 70_000), max_size=30),
    st.integers(1, 80).map(lambda n: [5] * n),
)
texts = st.text("ab\n", max_size=40) | st.text(st.characters(codec="utf-8"), max_size=10)


@given(symbols)
def test_suffix_array_equals_sorting(values: list[int]) -> None:
    expected = sorted(range(len(values)), key=lambda start: values[start:])
    assert suffix_array(np.array(values, dtype=np.int64)).tolist() == expected


def plain_longest_run(train: list[str], text: str) -> int:
    substrings = [text[i:j] for i in range(len(text)) for j in range(i + 1, len(text) + 1)]
    return max((len(run) for run in substrings if any(run in document for document in train)), default=0)


@given(st.lists(texts, min_size=1, max_size=4).filter(any), texts)
def test_longest_run_equals_trying_every_substring(train: list[str], text: str) -> None:
    run = RunIndex(train).longest_run(text)
    assert run.length == plain_longest_run(train, text)
    copied = text[run.start : run.start + run.length]
    assert train[run.document][run.offset : run.offset + run.length] == copied


@given(st.lists(st.lists(st.integers(0, 3), max_size=30), min_size=1, max_size=3).filter(any), st.integers(0, 60_000))
def test_tokens_give_what_characters_give(train: list[list[int]], shift: int) -> None:
    def as_text(ids: list[int]) -> str:
        return "".join("abcd"[token] for token in ids)

    sample = [token for document in reversed(train) for token in document]
    in_tokens = RunIndex([np.array(ids, dtype=np.int64) + shift for ids in train]).longest_run(
        [token + shift for token in sample]
    )
    assert in_tokens == RunIndex([as_text(ids) for ids in train]).longest_run(as_text(sample))


def test_token_ids_that_are_no_characters() -> None:
    # 0xD83D 0xDE00 is a surrogate pair: as UTF-16 it would be one character, as tokens it is two.
    index = RunIndex([[7, 0xD83D, 0xDE00, 9], [0x1F600]])
    assert index.longest_run([0xD83D, 0xDE00]).length == 2
    assert index.longest_run([0xDE00, 0xD83D]).length == 1
    assert index.longest_run([8]).length == 0


def test_no_run_crosses_documents() -> None:
    index = RunIndex(["to be", "or not"])
    assert index.longest_run("to beor not").length == len("or not")
    assert index.longest_run(f"to be{SEPARATOR}or not").length == len("or not")


def test_finds_where_a_run_comes_from() -> None:
    run = RunIndex(["a rose", "by any other name", "would smell"]).longest_run("<<any other>>")
    assert (run.start, run.length, run.document, run.offset) == (2, 9, 1, 3)


def test_a_copy_stands_out_from_the_baseline() -> None:
    def text(size: int, *names: object) -> str:
        return bytes(numpy_rng(0, *names).integers(97, 117, size).tolist()).decode()

    train = [text(5_000, "train", number) for number in range(4)]
    validation = [text(3_000, "validation")]
    samples = [text(200, "sample", number) for number in range(9)]
    samples[6] = samples[6][:50] + train[2][1_000:1_090] + samples[6][140:]
    found = measure_memorisation(train, validation, samples, seed=1)
    assert found.longest_sample == 6 and found.longest_run.length >= 90
    assert train[2][1_000:1_090] in found.longest_copied
    assert found.samples.lengths[6] == found.samples.longest == found.longest_run.length
    assert found.baseline.longest < 10 and found.samples.median < 10
    assert len(found.baseline.lengths) == 9
    assert json.loads(json.dumps(found.to_json()))["longest_run"]["document"] == 2
    assert found == measure_memorisation(train, validation, samples, seed=1)

    in_tokens = measure_memorisation(
        *([np.frombuffer(item.encode(), np.uint8) for item in items] for items in (train, validation, samples)), seed=1
    )
    assert in_tokens.samples == found.samples and in_tokens.baseline == found.baseline
    assert bytes(in_tokens.longest_copied).decode() == found.longest_copied  # type: ignore[arg-type]
    json.dumps(in_tokens.to_json())


def test_distribution() -> None:
    lengths = RunLengths.of([1, 2, 3, 4, 100])
    assert (lengths.mean, lengths.median, lengths.longest) == (22, 3, 100)
    assert lengths.percentile_90 == pytest.approx(61.6)


def test_excerpts_have_the_lengths_asked_for() -> None:
    documents = ["0123456789", "abcdefghijklmnopqrstuvwxyz", ""]
    excerpts = draw_excerpts(documents, [3, 0, 26, 400] + [20] * 50, seed=2)
    assert [len(excerpt) for excerpt in excerpts] == [3, 0, 26, 26] + [20] * 50
    assert all(any(excerpt in document for document in documents) for excerpt in excerpts)
    assert len(set(excerpts[4:])) == 7  # every place where 20 characters fit


def test_excerpts_are_drawn_from_all_places_alike() -> None:
    drawn = draw_excerpts(["ab", "cdefgh"], [2] * 6_000, seed=3)
    counts = {pair: drawn.count(pair) for pair in ("ab", "cd", "de", "ef", "fg", "gh")}
    assert sum(counts.values()) == 6_000 and all(880 < count < 1_120 for count in counts.values())


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="train split is empty"):
        RunIndex(["", ""])
    with pytest.raises(DataError, match="validation split is empty"):
        measure_memorisation(["a"], [""], ["a"], seed=0)
    with pytest.raises(DataError, match="no sampled text"):
        measure_memorisation(["a"], ["a"], [], seed=0)
