"""Shards on disk, and the order in which pretraining reads them."""

import json
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, DataError
from groundup.dataloader import Batch, TokenSource, read_shard, write_shard


def places(length: int) -> np.ndarray:
    """Tokens that say where they stand."""
    return np.arange(length, dtype=np.uint32)


def first_tokens(batches: list[Batch]) -> list[int]:
    return [start for batch in batches for start in batch.tensors["inputs"][:, 0].tolist()]


@settings(max_examples=50, deadline=None)
@given(time=st.integers(1, 9), extra=st.integers(0, 60), rows=st.integers(1, 5), seed=st.integers(0, 50))
def test_every_epoch_covers_each_window_once(time: int, extra: int, rows: int, seed: int) -> None:
    tokens = places(2 * time + 1 + extra)
    source = TokenSource(tokens, rows, time, seed)
    windows = source.windows
    starts = first_tokens(list(islice(source, -(-3 * windows // rows))))
    for epoch in range(3):
        cuts = sorted(starts[epoch * windows : (epoch + 1) * windows])
        assert cuts == [cuts[0] + time * number for number in range(windows)]
        assert 0 <= cuts[0] < time
        assert cuts[-1] + time < len(tokens)
    # What no epoch of this phase can hold is less than two windows.
    assert len(tokens) - windows * time < 2 * time + 1


def test_epochs_differ_in_order_and_phase() -> None:
    source = TokenSource(places(2000), 1, 16, seed=3)
    starts = first_tokens(list(islice(source, 4 * source.windows)))
    epochs = [starts[number * source.windows :][: source.windows] for number in range(4)]
    assert len({epoch[0] % 16 for epoch in epochs}) > 1
    assert all(epoch != sorted(epoch) for epoch in epochs)
    assert first_tokens(list(islice(TokenSource(places(2000), 1, 16, seed=4), 20))) != starts[:20]


def test_targets_are_the_next_tokens() -> None:
    for batch in islice(TokenSource(places(100), 3, 7, seed=0), 10):
        assert batch.weight == 21
        assert batch.tensors["targets"].equal(batch.tensors["inputs"] + 1)


@settings(max_examples=40, deadline=None)
@given(before=st.integers(0, 30), rows=st.integers(1, 5), seed=st.integers(0, 20))
def test_a_source_resumes_exactly(before: int, rows: int, seed: int) -> None:
    tokens = places(83)
    source = TokenSource(tokens, rows, 5, seed)
    batches = iter(source)
    for _ in range(before):
        next(batches)
    state = json.loads(json.dumps(source.state_dict()))
    resumed = TokenSource(tokens, rows, 5, seed)
    resumed.load_state_dict(state)
    assert first_tokens(list(islice(resumed, 25))) == first_tokens(list(islice(batches, 25)))


def test_too_little_text_is_refused() -> None:
    TokenSource(places(17), 1, 8, seed=0)
    with pytest.raises(DataError, match="16 tokens"):
        TokenSource(places(16), 1, 8, seed=0)


@pytest.mark.parametrize(("vocab_size", "dtype"), [(300, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_shards_round_trip(tmp_path: Path, vocab_size: int, dtype: type) -> None:
    documents = [[vocab_size - 1, 0, 5], [vocab_size - 1], [7, 8]]
    assert write_shard(tmp_path / "train.npy", documents, vocab_size) == 6
    shard = read_shard(tmp_path / "train.npy")
    assert shard.dtype == dtype
    assert shard.tolist() == [vocab_size - 1, 0, 5, vocab_size - 1, 7, 8]


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.5, 0.99])
def test_a_truncated_shard_is_named(tmp_path: Path, kept: float) -> None:
    path = tmp_path / "train.npy"
    write_shard(path, [list(range(200))], 300)
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ArtifactError, match=r"train\.npy is damaged") as caught:
        read_shard(path)
    assert "\n" not in str(caught.value)


def test_what_is_no_shard_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        read_shard(tmp_path / "missing.npy")
    for name, content in (("floats", np.zeros(3)), ("matrix", np.zeros((2, 2), np.uint16)), ("text", "no array")):
        path = tmp_path / f"{name}.npy"
        if isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        else:
            np.save(path, content)
        with pytest.raises(ArtifactError, match=f"{name}.npy"):
            read_shard(path)
