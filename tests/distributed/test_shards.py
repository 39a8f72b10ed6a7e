"""However a tensor is divided, and however it is to be divided: what was written is what is read, bit for bit."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import distributed
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.placement_types import _StridedShard
from torch.testing._internal.distributed.fake_pg import FakeStore

from groundup.core.errors import ArtifactError
from groundup.distributed.shards import (
    Box,
    Entry,
    Stored,
    dealt,
    held,
    index_of,
    key_of,
    overlap,
    pieces,
    sizes,
    whole_box,
    without,
    write_file,
)

DTYPES = (torch.float32, torch.bfloat16, torch.int64, torch.bool)


@contextmanager
def process(rank: int, size: int) -> Iterator[None]:
    """This process as one of many, of which the others do not exist: nothing is sent."""
    distributed.init_process_group("fake", rank=rank, world_size=size, store=FakeStore())
    try:
        yield
    finally:
        distributed.destroy_process_group()


@st.composite
def plans(draw: st.DrawFn, axes: int) -> tuple[tuple[int, ...], tuple[Any, ...]]:
    """A grid of processes, and how a tensor lies on it."""
    grid = draw(st.lists(st.integers(1, 4), min_size=1, max_size=2).map(tuple))
    placements: list[Any] = [st.just(Replicate())]
    if axes:
        placements.append(st.builds(Shard, st.integers(0, axes - 1)))
        placements.append(st.builds(_StridedShard, st.integers(0, axes - 1), split_factor=st.integers(1, 3)))
    return grid, tuple(draw(st.one_of(placements)) for _ in grid)


def divided(whole: torch.Tensor, plan: tuple[tuple[int, ...], tuple[Any, ...]]) -> DTensor:
    grid, placements = plan
    return distribute_tensor(whole, init_device_mesh("cpu", grid), placements, src_data_rank=None)


@st.composite
def cases(draw: st.DrawFn) -> tuple[torch.Tensor, Any, Any]:
    shape = draw(st.lists(st.integers(0, 7), max_size=3).map(tuple))
    dtype = draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    whole = torch.randint(-100, 100, shape, generator=generator).to(dtype)
    return whole, draw(plans(len(shape))), draw(plans(len(shape)))


@given(cases())
@settings(max_examples=30)
def test_what_some_processes_write_any_others_read(case: tuple[torch.Tensor, Any, Any]) -> None:
    whole, before, after = case
    with TemporaryDirectory() as name:
        folder, size = Path(name), prod(before[0])
        files = [f"{rank}.safetensors" for rank in range(size)]
        theirs, parts = [], []
        for rank in range(size):
            with process(rank, size):
                tensors = {"model/tensor": divided(whole, before)}
                theirs.append(held(tensors))
                parts.append({box: part.clone() for box, part in pieces(tensors["model/tensor"])})
        plan = dealt(theirs)
        for rank, file in enumerate(files):
            mine = [box for box, owner in plan["model/tensor"].boxes if owner == rank]
            write_file(folder / file, [Entry.of(key_of("model/tensor", box), parts[rank][box]) for box in mine])
        (folder / "index.json").write_text(json.dumps(index_of(plan, files)), encoding="utf-8")

        stored = Stored.in_pieces(folder / "index.json", "model")
        assert torch.equal(stored.read("tensor"), whole)
        assert stored.dtypes["tensor"] == whole.dtype
        for rank in range(prod(after[0])):
            with process(rank, prod(after[0])):
                expected = divided(whole, after)
                found = stored.part("tensor", expected)
                assert isinstance(found, DTensor)
                assert torch.equal(found.to_local(), expected.to_local())


boxes = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 4)).map(lambda pair: (pair[0], sum(pair))), min_size=2)


def points(box: Box) -> set[tuple[int, ...]]:
    return set(product(*(range(*along) for along in box)))


@given(
    st.integers(0, 3).flatmap(
        lambda axes: st.tuples(*[st.lists(boxes.map(lambda b: b[0]), min_size=axes, max_size=axes).map(tuple)] * 2)
    )
)
def test_boxes_are_sets_of_points(pair: tuple[Box, Box]) -> None:
    one, other = pair
    common = overlap(one, other)
    assert (points(common) if common is not None else set()) == points(one) & points(other)
    rest = without(one, other)
    assert set().union(*map(points, rest)) == points(one) - points(other)
    assert sum(prod(sizes(part)) for part in rest) == len(points(one) - points(other))


def test_the_work_is_spread_over_those_that_have_the_same() -> None:
    theirs = held({f"{number}": torch.zeros(4, 4) for number in range(8)})
    owners = [owner for each in dealt([theirs] * 4).values() for _, owner in each.boxes]
    assert sorted(owners) == sorted([0, 1, 2, 3] * 2)


def test_numbers_that_nobody_has_are_noticed() -> None:
    with pytest.raises(AssertionError, match="no process has a at"):
        dealt([{"a": ("F32", [4, 2], [[[0, 2], [0, 2]]])}])


def test_a_file_is_one_that_the_library_reads(tmp_path: Path) -> None:
    tensors = {
        "odd": torch.arange(3).to(torch.uint8),
        "number": torch.tensor(2.5),
        "none": torch.empty(0, 3),
        "half": torch.randn(3, 5).bfloat16(),
        "turned": torch.randn(4, 6).T,
    }
    write_file(tmp_path / "own", [Entry.of(name, tensor) for name, tensor in tensors.items()])
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, tmp_path / "library")
    for name, tensor in load_file(tmp_path / "own").items():
        assert torch.equal(tensor, tensors[name])
    stored = Stored.in_file(tmp_path / "library")
    assert stored.shapes.keys() == tensors.keys()
    assert torch.equal(stored.read("turned", ((1, 4), (2, 3))), tensors["turned"][1:4, 2:3])


def test_pieces_that_do_not_make_up_a_tensor_are_named(tmp_path: Path) -> None:
    box = whole_box((2, 3))
    write_file(tmp_path / "a", [Entry.of(key_of("model/w", box), torch.ones(2, 3))])
    index = {"model/w": {"dtype": "F32", "shape": [4, 3], "pieces": [["a", box]]}}
    (tmp_path / "index.json").write_text(json.dumps(index), encoding="utf-8")
    stored = Stored.in_pieces(tmp_path / "index.json", "model")
    with pytest.raises(ArtifactError, match=r"lacks w at \(\(2, 4\), \(0, 3\)\)"):
        stored.read("w")


@pytest.mark.parametrize(
    "text", ["", "[]", '{"model/w": {}}', '{"model/w": {"dtype": "F9", "shape": [], "pieces": []}}']
)
def test_a_damaged_index_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "index.json").write_text(text, encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"index\.json is damaged"):
        Stored.in_pieces(tmp_path / "index.json", "model")
