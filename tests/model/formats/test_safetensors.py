"""Folders of safetensors: whole ones come back as they were, damaged ones end in one line."""

import json
import struct
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from groundup.core.errors import ArtifactError
from groundup.model.formats.safetensors import INDEX, SINGLE, open_tensors, write_tensors

TENSORS = {"a.weight": torch.arange(12.0).view(3, 4), "b.weight": torch.arange(6, dtype=torch.bfloat16)}


def fetched(folder: Path) -> dict[str, Tensor]:
    return {name: fetch() for name, fetch in open_tensors(folder).items()}


def refused(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        fetched(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def raw(path: Path, header: Any, data: bytes = b"", size: int | None = None) -> None:
    """A file with any header; ``size`` is what it says the header's size is."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text) if size is None else size) + text + data)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Three tensors in two shards."""
    save_file({"a": torch.ones(2), "b": torch.zeros(3)}, tmp_path / "one.safetensors")
    save_file({"c": torch.ones(4)}, tmp_path / "two.safetensors")
    listed = {"a": "one.safetensors", "b": "one.safetensors", "c": "two.safetensors"}
    (tmp_path / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": listed}))
    return tmp_path


def relisted(folder: Path, **changes: Any) -> None:
    """Change the index; None takes an entry away."""
    content = json.loads((folder / INDEX).read_text())
    content["weight_map"] |= changes
    content["weight_map"] = {name: shard for name, shard in content["weight_map"].items() if shard is not None}
    (folder / INDEX).write_text(json.dumps(content))


@settings(max_examples=25)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 200))
def test_what_is_written_is_read(sizes: list[int], most: int) -> None:
    tensors = {f"t{number}": torch.randn(size, 2) for number, size in enumerate(sizes)}
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_tensors(folder, tensors.items(), most)
        found = fetched(folder)
        assert found.keys() == tensors.keys()
        assert all(torch.equal(found[key], tensor) for key, tensor in tensors.items())
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        if (folder / INDEX).exists():
            content = json.loads((folder / INDEX).read_text())
            assert content["metadata"]["total_size"] == sum(tensor.nbytes for tensor in tensors.values())
            assert sorted(set(content["weight_map"].values())) == files
            assert files[-1] == f"model-{len(files):05d}-of-{len(files):05d}.safetensors"
            for shard in files:
                held = [key for key, where in content["weight_map"].items() if where == shard]
                assert len(held) == 1 or sum(tensors[key].nbytes for key in held) <= most
        else:
            assert files == [SINGLE]


def test_tensors_are_mapped_and_not_copied(tmp_path: Path) -> None:
    write_tensors(tmp_path, TENSORS.items())
    before = (tmp_path / SINGLE).read_bytes()
    fetch = open_tensors(tmp_path)["a.weight"]
    tensor = fetch()
    assert fetch().data_ptr() == tensor.data_ptr()
    tensor.fill_(7)  # of this process only
    assert (tmp_path / SINGLE).read_bytes() == before


def test_views_are_written_as_they_look(tmp_path: Path) -> None:
    whole = torch.arange(24.0).view(4, 6)
    write_tensors(tmp_path, [("turned", whole.T), ("part", whole[1:3, 2:4])])
    found = fetched(tmp_path)
    assert torch.equal(found["turned"], whole.T)
    assert torch.equal(found["part"], whole[1:3, 2:4])


def test_shards_are_read(sharded: Path) -> None:
    assert {name: len(tensor) for name, tensor in fetched(sharded).items()} == {"a": 2, "b": 3, "c": 4}


@settings(max_examples=60)
@given(st.data())
def test_damage_ends_in_one_line_or_does_no_harm(data: st.DataObject) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        write_tensors(folder, TENSORS.items())
        content = bytearray((folder / SINGLE).read_bytes())
        if data.draw(st.booleans()):
            content = content[: data.draw(st.integers(0, len(content) - 1))]
        else:
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (folder / SINGLE).write_bytes(content)
        try:
            fetched(folder)
        except ArtifactError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(
    "offsets", [[(0, 8), (4, 12)], [(0, 8), (12, 20)], [(0, 8), (8, 1 << 62)], [(0, 8), (8, 4)], [(0, 8), (-8, 0)]]
)
def test_offsets_that_overlap_or_lead_out_of_the_file(tmp_path: Path, offsets: list[tuple[int, int]]) -> None:
    header = {f"t{i}": {"dtype": "F32", "shape": [2], "data_offsets": pair} for i, pair in enumerate(offsets)}
    raw(tmp_path / SINGLE, header, bytes(20))
    assert "is damaged" in refused(tmp_path)


@pytest.mark.parametrize("size", [0, 3, 1 << 31, (1 << 64) - 1])
def test_a_header_of_an_absurd_size(tmp_path: Path, size: int) -> None:
    raw(tmp_path / SINGLE, {}, bytes(64), size)
    assert "is damaged" in refused(tmp_path)


@pytest.mark.parametrize("shape", [[3], [1 << 40, 1 << 40], [-2]])
def test_a_shape_that_is_not_of_the_data(tmp_path: Path, shape: list[int]) -> None:
    raw(tmp_path / SINGLE, {"t": {"dtype": "F32", "shape": shape, "data_offsets": [0, 8]}}, bytes(8))
    assert "is damaged" in refused(tmp_path)


def test_an_unknown_type(tmp_path: Path) -> None:
    raw(tmp_path / SINGLE, {"t": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4))
    assert "F99" in refused(tmp_path)


def test_a_type_that_weights_do_not_have(tmp_path: Path) -> None:
    save_file({"t": torch.arange(3)}, tmp_path / SINGLE)
    assert "t as I64; weights of F64, F32, F16, BF16" in refused(tmp_path)


@pytest.mark.parametrize(
    "shard", ["../out.safetensors", "/out.safetensors", r"..\out.safetensors", "sub/a.safetensors"]
)
def test_a_shard_outside_the_folder(sharded: Path, shard: str) -> None:
    save_file({"c": torch.ones(4)}, sharded.parent / "out.safetensors")
    relisted(sharded, c=shard)
    assert "which is no .safetensors file beside it" in refused(sharded)


@pytest.mark.parametrize("shard", ["model.bin", 7, None, ["one.safetensors"], ""])
def test_a_shard_that_is_none(sharded: Path, shard: Any) -> None:
    content = {"weight_map": {"c": shard}}
    (sharded / INDEX).write_text(json.dumps(content))
    assert "which is no .safetensors file beside it" in refused(sharded)


def test_a_missing_shard(sharded: Path) -> None:
    (sharded / "two.safetensors").unlink()
    assert "names 'two.safetensors', which is missing" in refused(sharded)


def test_a_tensor_in_two_shards(sharded: Path) -> None:
    save_file({"c": torch.ones(4), "a": torch.ones(2)}, sharded / "two.safetensors")
    assert "two.safetensors holds a, which" in refused(sharded)


def test_a_tensor_that_the_index_does_not_have(sharded: Path) -> None:
    relisted(sharded, b=None)
    assert "holds b, which model.safetensors.index.json has nowhere" in refused(sharded)


def test_a_tensor_that_no_shard_has(sharded: Path) -> None:
    relisted(sharded, d="two.safetensors")
    assert "two.safetensors lacks d" in refused(sharded)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"weight_map": 3}', '{"weight_map": {}}', "[" * 100_000, "\xff"])
def test_a_damaged_index(sharded: Path, text: str) -> None:
    (sharded / INDEX).write_bytes(text.encode("latin-1"))
    refused(sharded)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "pytorch_model-00001-of-00002.bin", "consolidated.00.pth"])
def test_a_pickle_is_never_opened(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"cos\nsystem\n(S'touch pwned'\ntR.")
    message = refused(tmp_path)
    assert name in message
    assert "convert it to safetensors" in message


def test_an_empty_folder(tmp_path: Path) -> None:
    assert "has neither model.safetensors nor" in refused(tmp_path)


def test_one_shard_at_a_time_is_held(tmp_path: Path) -> None:
    """Each tensor is asked for only when the shard before it is on the disk."""
    written: list[int] = []

    def tensors() -> Any:
        for number in range(4):
            written.append(len(list(tmp_path.glob("shard-*"))))
            yield f"t{number}", torch.zeros(10)

    write_tensors(tmp_path, tensors(), 40)
    assert written == [0, 0, 1, 2]
