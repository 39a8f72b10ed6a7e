"""Which documents of a cluster stay, with likenesses that are known: those of points on a line."""

import random
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from groundup.corpus.dedup import Workspace, near, run
from groundup.corpus.dedup.cross import Integers, Sketch, Words32
from groundup.corpus.dedup.near import NearStep
from groundup.corpus.document import Document, Dropped

#: Points that are no farther apart are alike.
NEAR = 10


class Line(NearStep):
    """Documents are points ("17 3": at 17, of size 3); ``pairs`` are those that its search finds."""

    name, reason, scale = "line", "near", "closeness"

    def __init__(self, pairs: list[tuple[int, int]], keep: near.Keep) -> None:
        super().__init__(1 - NEAR / 1000, keep)
        self.pairs = pairs
        self.compared = 0

    def sketch(self, document: Document) -> Sketch:
        nothing = np.empty(0, dtype=np.uint32)
        row = np.array(document.text.split(), dtype=np.uint32)
        return Sketch(np.empty(0, dtype=np.uint64), nothing, nothing, row)

    def find(self, workspace: Workspace, bucket: int) -> Integers:
        return np.array(self.pairs, dtype=np.int64).reshape(-1, 2)[:, ::-1].T

    def likeness(self, workspace: Workspace, rows: Words32, one: Integers, other: Integers) -> NDArray[np.float64]:
        self.compared += len(one)
        points = rows[:, 0].astype(np.int64)
        closeness: NDArray[np.float64] = 1 - np.abs(points[one] - points[other]) / 1000
        return closeness


def points(seed: int, count: int, width: int) -> list[tuple[int, int]]:
    rng = random.Random(seed)
    return [(rng.randrange(width), rng.randrange(50, 150)) for _ in range(count)]


def judged(step: Line, chosen: list[tuple[int, int]], folder: Path) -> dict[int, int]:
    """Document that leaves -> the one that stays for it."""
    documents = [Document(str(number), "", "", f"{at} {size}") for number, (at, size) in enumerate(chosen)]
    results = run(step, [documents], folder)
    return {int(each.document.id): int(each.detail.split()[-1]) for each in results if isinstance(each, Dropped)}


def alike(chosen: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return [(a, b) for a, b in combinations(range(len(chosen)), 2) if abs(chosen[a][0] - chosen[b][0]) <= NEAR]


@pytest.mark.parametrize("seed", range(4))
def test_the_pairs_that_were_found_tell_the_same_where_they_are_all(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = points(seed, 200, 1000)
    exact = judged(Line(alike(chosen), "first"), chosen, tmp_path / "exact")
    for limit in (0, 1000):
        monkeypatch.setattr(near, "COMPARISONS", limit)
        assert judged(Line(alike(chosen), "first"), chosen, tmp_path / str(limit)) == exact
    assert len(exact) > 50


@pytest.mark.parametrize("keep", ["first", "longest"])
def test_a_chain_without_end_takes_no_square(keep: near.Keep, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every version of a page resembles the next, and no other."""
    chosen = [(8 * number, 50 + number % 7) for number in range(3000)]
    chain = list(pairwise(range(len(chosen))))
    monkeypatch.setattr(near, "COMPARISONS", 10_000)
    step = Line(chain, keep)
    left = judged(step, chosen, tmp_path)
    assert step.compared < 10_000 + len(chain) + len(chosen)
    assert all(abs(chosen[gone][0] - chosen[kept][0]) <= NEAR and kept not in left for gone, kept in left.items())
    assert not any(a not in left and b not in left for a, b in chain)
