"""The order in which windows are taken."""

import json
import sys
import tracemalloc
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.lib.format import write_array_header_1_0

from groundup.core.errors import DataError
from groundup.core.seeding import derive_seed, numpy_rng
from groundup.dataloader import Batch, Tokens, TokenSource, Windows, open_tokens, permutation, windows
from groundup.dataloader.shards import Shard


def places(length: int) -> np.ndarray:
    """Tokens that say where they stand."""
    return np.arange(length, dtype=np.uint32)


def first_tokens(batches: list[Batch]) -> list[int]:
    return [start for batch in batches for start in batch.tensors["inputs"][:, 0].tolist()]


@pytest.fixture(params=["drawn", "computed"])
def order(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Once with orders that are drawn as a whole, once with those for many windows, looked up a few at a time."""
    if request.param == "computed":
        monkeypatch.setattr(permutation, "DRAWN", 0)
        monkeypatch.setattr(windows, "BLOCK", 5)
    return str(request.param)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize(
    ("time", "extra", "rows", "seed"), [(1, 0, 1, 0), (1, 60, 4, 1), (5, 7, 3, 2), (9, 51, 5, 3), (8, 1, 2, 4)]
)
def test_every_epoch_covers_each_window_once(time: int, extra: int, rows: int, seed: int) -> None:
    tokens = places(2 * time + 1 + extra)
    source = TokenSource(tokens, rows, time, seed)
    count = Windows(tokens, time, seed).windows
    starts = first_tokens(list(islice(source, -(-3 * count // rows))))
    for epoch in range(3):
        cuts = sorted(starts[epoch * count : (epoch + 1) * count])
        assert cuts == [cuts[0] + time * number for number in range(count)]
        assert 0 <= cuts[0] < time
        assert cuts[-1] + time < len(tokens)
    # What no epoch of this phase can hold is less than two windows.
    assert len(tokens) - count * time < 2 * time + 1


@pytest.mark.usefixtures("order")
def test_epochs_differ_in_order_and_phase() -> None:
    source = TokenSource(places(2000), 1, 16, seed=3)
    count = Windows(places(2000), 16, 3).windows
    starts = first_tokens(list(islice(source, 4 * count)))
    epochs = [starts[number * count :][:count] for number in range(4)]
    assert len({epoch[0] % 16 for epoch in epochs}) > 1
    assert all(epoch != sorted(epoch) for epoch in epochs)
    assert first_tokens(list(islice(TokenSource(places(2000), 1, 16, seed=4), 20))) != starts[:20]


def test_the_order_of_short_texts_is_a_plain_permutation() -> None:
    epoch, source = 2, Windows(places(3000), 7, seed=5)
    source.load_state_dict({"position": epoch * source.windows})
    starts = [span.start for (span,) in source.take(source.windows)]
    phase = derive_seed(5, "phase", epoch) % 7
    assert starts == (numpy_rng(5, "order", epoch).permutation(source.windows) * 7 + phase).tolist()


def test_targets_are_the_next_tokens() -> None:
    for batch in islice(TokenSource(places(100), 3, 7, seed=0), 10):
        assert batch.weight == 21
        assert batch.tensors["targets"].equal(batch.tensors["inputs"] + 1)
        assert set(batch.tensors) == {"inputs", "targets"}


@given(cuts=st.lists(st.integers(1, 99), max_size=12), seed=st.integers(0, 9))
def test_shards_make_no_difference(cuts: list[int], seed: int) -> None:
    whole = places(100)
    parts = Tokens([Shard(part) for part in np.split(whole, sorted(cuts))])
    for ours, theirs in zip(islice(TokenSource(parts, 2, 9, seed), 12), TokenSource(whole, 2, 9, seed), strict=False):
        assert ours.tensors["inputs"].equal(theirs.tensors["inputs"])
        assert ours.tensors["targets"].equal(theirs.tensors["targets"])


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


def test_epochs_are_counted() -> None:
    source = TokenSource(places(101), 2, 10, seed=0)  # nine windows
    counted = [batch.metrics["epochs/train"] for batch in islice(source, 9)]
    assert counted == pytest.approx([2 * number / 9 for number in range(1, 10)], abs=1e-4)


def test_too_little_text_is_refused() -> None:
    TokenSource(places(17), 1, 8, seed=0)
    with pytest.raises(DataError, match="train has 16 tokens"):
        TokenSource(places(16), 1, 8, seed=0)


@pytest.mark.skipif(sys.platform == "win32", reason="files have no holes there")
def test_windows_of_many_gigabytes_take_no_memory(tmp_path: Path) -> None:
    length = 6 * 10**9  # twelve gigabytes, nearly all of them a hole
    path, far = tmp_path / "large.npy", 5_999_999_000
    with path.open("wb") as handle:
        write_array_header_1_0(handle, {"descr": "<u2", "fortran_order": False, "shape": (length,)})
        begin = handle.tell()
        handle.truncate(begin + 2 * length)
        handle.seek(begin + 2 * far)
        handle.write(np.arange(900, dtype=np.uint16).tobytes())
    tracemalloc.start()
    source = TokenSource(open_tokens(path), 16, 8, seed=1)
    starts = [span.start for _ in range(50) for (span,) in source.plan().rows]
    batch = next(iter(source))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22  # an order of 750 million windows would be 6 GB
    assert max(starts) > 2**32
    assert len(set(starts)) == 800
    assert batch.tensors["inputs"].shape == (16, 8)
    assert open_tokens(path).read(far + 100, far + 103).tolist() == [100, 101, 102]
