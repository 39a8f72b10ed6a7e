"""Batches made ready in the background: the same ones in the same order, with the position of those taken."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.dataloader import Batch, PackedDocuments, Prefetch, RowBatches, Source, TokenSource
from groundup.dataloader.prefetch import PlannedSource
from groundup.dataloader.rows import Plan

TOKENS = np.arange(400, dtype=np.uint16) % 37


class Counting:
    """Batches that say their number; a plain source, without plans."""

    def __init__(self, end: int = 10**9, fails_at: int = -1) -> None:
        self.position = 0
        self.end = end
        self.fails_at = fails_at

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = state["position"]

    def __iter__(self) -> Iterator[Batch]:
        while self.position < self.end:
            if self.position == self.fails_at:
                raise OSError("the drive is gone")
            self.position += 1
            yield Batch({"inputs": torch.tensor([[self.position - 1]])}, 1)


class Slow(TokenSource):
    """Reads its first batches last."""

    def assemble(self, plan: Plan) -> Batch:
        time.sleep(0.02 if plan.rows[0][0].start % 3 else 0.0)
        return super().assemble(plan)


def numbers(batches: Any, count: int) -> list[int]:
    return [int(batch.tensors["inputs"][0, 0]) for batch in islice(batches, count)]


def running() -> int:
    return threading.active_count()


SOURCES = {
    "plain": Counting,
    "windows": lambda: TokenSource(TOKENS, 2, 9, seed=1),
    "documents": lambda: RowBatches(PackedDocuments(TOKENS, 9, seed=1, block=7), 2, 9, padding=99),
}


@settings(max_examples=25)
@given(
    kind=st.sampled_from(sorted(SOURCES)),
    depth=st.integers(1, 5),
    workers=st.integers(1, 4),
    moves=st.lists(st.integers(0, 6), max_size=4),
)
def test_order_and_positions_are_those_without_it(kind: str, depth: int, workers: int, moves: list[int]) -> None:
    plain: Source = SOURCES[kind]()
    expected = iter(plain)
    with Prefetch(SOURCES[kind](), depth, workers) as prefetch:
        assert prefetch.state_dict() == plain.state_dict()
        for count in moves:
            for _ in range(count):
                ours, theirs = next(prefetch), next(expected)
                assert all(ours.tensors[name].equal(theirs.tensors[name]) for name in theirs.tensors)
                assert ours.metrics == theirs.metrics
                assert prefetch.state_dict() == plain.state_dict()
            state = json.loads(json.dumps(prefetch.state_dict()))
            resumed: Source = SOURCES[kind]()
            resumed.load_state_dict(state)
            with Prefetch(resumed, depth, workers) as again:
                assert numbers(again, 3) == numbers(islice(resumed_plain(kind, state), 3), 3)
    assert prefetch.source.state_dict() == plain.state_dict()


def resumed_plain(kind: str, state: dict[str, Any]) -> Iterator[Batch]:
    source: Source = SOURCES[kind]()
    source.load_state_dict(state)
    return iter(source)


def test_only_planned_sources_are_read_side_by_side() -> None:
    assert isinstance(TokenSource(TOKENS, 2, 9, seed=1), PlannedSource)
    assert not isinstance(Counting(), PlannedSource)


def test_batches_that_take_unequal_time_come_in_order() -> None:
    expected = numbers(TokenSource(TOKENS, 1, 9, seed=1), 30)
    with Prefetch(Slow(TOKENS, 1, 9, seed=1), depth=6, workers=4) as prefetch:
        assert numbers(prefetch, 30) == expected


def test_no_more_than_depth_are_drawn_ahead() -> None:
    source = Counting()
    with Prefetch(source, depth=3, workers=2) as prefetch:
        assert numbers(prefetch, 5) == [0, 1, 2, 3, 4]
        deadline = time.monotonic() + 30
        while source.position < 8 and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(0.02)
        assert source.position == 8
        assert prefetch.state_dict() == {"position": 5}
    assert source.position == 5


def test_work_goes_on_while_nobody_waits() -> None:
    made = threading.Event()

    def prepare(batch: Batch) -> Batch:
        if int(batch.tensors["inputs"][0, 0]) == 2:
            made.set()
        return Batch({"inputs": -batch.tensors["inputs"]}, batch.weight)

    with Prefetch(Counting(), depth=2, prepare=prepare) as prefetch:
        assert numbers(prefetch, 1) == [0]
        assert made.wait(30)
        assert numbers(prefetch, 2) == [-1, -2]


@pytest.mark.parametrize("workers", [1, 3])
def test_an_error_comes_where_its_batch_would(workers: int) -> None:
    with Prefetch(Counting(fails_at=4), depth=3, workers=workers) as prefetch:
        assert numbers(prefetch, 4) == [0, 1, 2, 3]
        for _ in range(2):
            with pytest.raises(OSError, match="the drive is gone"):
                next(prefetch)
        assert prefetch.state_dict() == {"position": 4}


def test_an_error_of_a_worker_comes_where_its_batch_would() -> None:
    class Failing(TokenSource):
        def assemble(self, plan: Plan) -> Batch:
            if plan.metrics["epochs/train"] > 0.5:
                raise MemoryError("no room")
            return super().assemble(plan)

    with Prefetch(Failing(TOKENS, 1, 9, seed=1), depth=4, workers=3) as prefetch:
        assert len(numbers(prefetch, 21)) == 21  # of 43
        with pytest.raises(MemoryError, match="no room"):
            next(prefetch)
        assert prefetch.state_dict() == {"position": 21}


def test_a_source_may_end() -> None:
    with Prefetch(Counting(end=5), depth=2, workers=2) as prefetch:
        assert numbers(prefetch, 100) == [0, 1, 2, 3, 4]
        assert list(prefetch) == []


def test_it_goes_back_and_on() -> None:
    before = running()
    with Prefetch(Counting(), depth=3, workers=2) as prefetch:
        numbers(prefetch, 4)
        prefetch.load_state_dict({"position": 1})
        assert prefetch.state_dict() == {"position": 1}
        assert numbers(prefetch, 3) == [1, 2, 3]
        prefetch.close()
        assert running() == before
        assert prefetch.source.state_dict() == {"position": 4}
        assert numbers(prefetch, 2) == [4, 5]
    assert running() == before


def test_no_thread_starts_before_the_first_batch() -> None:
    before = running()
    prefetch = Prefetch(Counting())
    assert running() == before
    prefetch.close()


def test_a_process_that_forgets_to_close_ends() -> None:
    program = """
import numpy as np
from groundup.dataloader import Prefetch, TokenSource
next(Prefetch(TokenSource(np.zeros(99, np.uint16), 1, 4, 1), depth=2, workers=2))
print("done")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "done\n", "")


def test_ctrl_c_ends_the_wait_for_a_batch_that_never_comes() -> None:
    program = """
import _thread, threading
from groundup.dataloader import Prefetch

never = threading.Event()

class Stuck:
    def state_dict(self): return {}
    def load_state_dict(self, state): pass
    def __iter__(self):
        threading.Timer(0.3, lambda: (_thread.interrupt_main(), threading.Timer(0.3, never.set).start())).start()
        never.wait()
        yield None

try:
    with Prefetch(Stuck()) as prefetch:
        next(prefetch)
except KeyboardInterrupt:
    print("interrupted")
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "interrupted\n", "")
