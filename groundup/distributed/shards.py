"""Tensors in pieces: which part of a tensor a process has, and the files that hold such parts.

A piece is a box of its tensor: from where to where along each axis. Enters: tensors, whole or divided among processes
in any way. Leaves: files of pieces (safetensors), each number in at least one of them, and from these any other pieces:
so what many processes wrote, any other number of them reads, each only what it needs. Nothing is ever unpickled.

PyTorch's distributed checkpoints (DCP) do as much, but their index is a pickle; with their safetensors storage a
process cannot write two pieces of one tensor, and nothing tells a shard of another checkpoint.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from groundup.core.errors import ArtifactError

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import Placement

#: (start, stop) for each axis.
Box = tuple[tuple[int, int], ...]
#: What a process has: for each tensor its dtype, its shape, and the boxes; as JSON has them.
Held = dict[str, tuple[str, list[int], list[Any]]]

_CODES = {
    torch.float64: "F64",
    torch.float32: "F32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_DTYPES = {code: dtype for dtype, code in _CODES.items()}


def whole_box(shape: Iterable[int]) -> Box:
    """All of a tensor."""
    return tuple((0, size) for size in shape)


def sizes(box: Box) -> tuple[int, ...]:
    """The shape of what is in a box."""
    return tuple(stop - start for start, stop in box)


def overlap(one: Box, other: Box) -> Box | None:
    """What two boxes share; None if that is nothing."""
    common = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in zip(one, other, strict=True))
    return common if all(start < stop for start, stop in common) else None


def without(box: Box, taken: Box) -> list[Box]:
    """``box`` less ``taken``, as boxes that do not overlap."""
    common = overlap(box, taken)
    if common is None:
        return [box]
    rest: list[Box] = []
    for axis, ((start, stop), (first, last)) in enumerate(zip(box, common, strict=True)):
        rest += [
            (*common[:axis], side, *box[axis + 1 :]) for side in ((start, first), (last, stop)) if side[0] < side[1]
        ]
    return rest


def pieces(tensor: Tensor, part: Tensor | None = None) -> Iterator[tuple[Box, Tensor]]:
    """What this process has of a tensor: boxes, and views of their numbers in its own ``part`` of it."""
    part = _own(tensor) if part is None else part
    along = [_runs(tensor, axis) for axis in range(tensor.ndim)]
    runs = [list(zip(_local(each), each, strict=True)) for each in along]
    for chosen in itertools.product(*runs):
        box = tuple(where for _, where in chosen)
        if math.prod(sizes(box)):
            yield box, part[tuple(slice(*here) for here, _ in chosen)]


def _own(tensor: Any) -> Tensor:
    own: Tensor = tensor.to_local() if hasattr(tensor, "to_local") else tensor
    return own.detach()


def _local(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Where the numbers of these runs lie in the process's own part, in which they follow each other."""
    ends = list(itertools.accumulate(stop - start for start, stop in runs))
    return [(end - (stop - start), end) for end, (start, stop) in zip(ends, runs, strict=True)]


def _runs(tensor: Any, axis: int) -> tuple[tuple[int, int], ...]:
    """Which indices along an axis this process has, as (start, stop) in the order in which it has them."""
    if not hasattr(tensor, "placements"):
        return ((0, tensor.shape[axis]),)
    assert not any(placement.is_partial() for placement in tensor.placements), "a sum that is not yet made"
    mesh: DeviceMesh = tensor.device_mesh
    place = mesh.get_coordinate()
    assert place is not None, "the tensor is another process's"
    return _divided(tensor.shape[axis], axis, mesh, tuple(tensor.placements), tuple(place))


@cache
def _divided(
    size: int, axis: int, mesh: "DeviceMesh", placements: "tuple[Placement, ...]", place: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    """DTensor itself says: the indices 0, 1, 2 … are divided as the tensor is along the axis."""
    from torch.distributed.tensor import Replicate, distribute_tensor

    alike = [_along_first(each) if getattr(each, "dim", None) == axis else Replicate() for each in placements]
    own: Any = distribute_tensor(torch.arange(size, device=mesh.device_type), mesh, alike, src_data_rank=None)
    indices = own.to_local().cpu()
    if not len(indices):
        return ()
    breaks = (indices[1:] != indices[:-1] + 1).nonzero().flatten() + 1
    return tuple((int(run[0]), int(run[-1]) + 1) for run in indices.tensor_split(breaks.tolist()))


def _along_first(placement: Any) -> Any:
    """The same division, of the first axis."""
    from torch.distributed.tensor import Shard

    factor = getattr(placement, "split_factor", None)
    return Shard(0) if factor is None else type(placement)(0, split_factor=factor)


def held(tensors: Mapping[str, Tensor]) -> Held:
    """What this process has of ``tensors``."""
    return {
        name: (_CODES[tensor.dtype], list(tensor.shape), [[list(along) for along in box] for box, _ in pieces(tensor)])
        for name, tensor in tensors.items()
    }


@dataclass(frozen=True)
class Dealt:
    """A tensor of many processes: the boxes that make it up, and which process writes each."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    boxes: list[tuple[Box, int]]


def dealt(held_by_rank: Sequence[Held]) -> dict[str, Dealt]:
    """Who writes what. What several have, the one with the least work so far writes; all come to the same."""
    owners: dict[str, dict[Box, list[int]]] = {}
    kinds: dict[str, tuple[torch.dtype, tuple[int, ...]]] = {}
    for rank, theirs in enumerate(held_by_rank):
        for name, (code, shape, boxes) in theirs.items():
            kinds[name] = _DTYPES[code], tuple(shape)
            having = owners.setdefault(name, {})
            for box in boxes:
                having.setdefault(as_box(box), []).append(rank)
    work = [0] * len(held_by_rank)
    plan: dict[str, Dealt] = {}
    for name in sorted(owners):
        plan[name] = Dealt(*kinds[name], [])
        for box, ranks in sorted(owners[name].items()):
            owner = min(ranks, key=lambda rank: (work[rank], rank))
            work[owner] += math.prod(sizes(box))
            plan[name].boxes.append((box, owner))
        missing = [whole_box(plan[name].shape)] if math.prod(plan[name].shape) else []
        for box in owners[name]:
            missing = _less(missing, box)
        assert not missing, f"no process has {name} at {missing[0]}"
    return plan


def index_of(plan: Mapping[str, Dealt], files: Sequence[str]) -> dict[str, Any]:
    """What lies where, as JSON: of each tensor its dtype, its shape, and which box is in which of the processes'
    ``files``."""
    return {
        name: {
            "dtype": _CODES[each.dtype],
            "shape": each.shape,
            "pieces": [[files[owner], box] for box, owner in each.boxes],
        }
        for name, each in plan.items()
    }


def as_box(told: Any) -> Box:
    """A box that was JSON."""
    return tuple((int(start), int(stop)) for start, stop in told)


def _less(parts: Iterable[Box], taken: Box) -> list[Box]:
    return [rest for part in parts for rest in without(part, taken)]


def key_of(name: str, box: Box) -> str:
    """The name of a piece in a file of pieces: model/embedding.weight[0:27,0:24]."""
    return f"{name}[{','.join(f'{start}:{stop}' for start, stop in box)}]"


@dataclass(frozen=True)
class Entry:
    """A tensor that a file will hold; ``read`` brings its numbers when they are written."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]
    read: Callable[[], Tensor]

    @classmethod
    def of(cls, name: str, tensor: Tensor) -> "Entry":
        """Of a tensor that is there."""
        return cls(name, tensor.dtype, tuple(tensor.shape), lambda: tensor)

    @property
    def bytes(self) -> int:
        """In the file."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_file(path: Path, entries: Iterable[Entry]) -> str:
    """Write a safetensors file, one tensor after the other, and to the disk; returns its SHA-256.

    The library's own writer has all tensors in memory at once and its file to be read again for the hash.
    """
    ordered = sorted(entries, key=lambda entry: (-entry.dtype.itemsize, entry.name))  # so every tensor is aligned
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for entry in ordered:
        start, end = end, end + entry.bytes
        header[entry.name] = {
            "dtype": _CODES[entry.dtype],
            "shape": list(entry.shape),
            "data_offsets": [start, end],
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        parts: Iterable[Any] = itertools.chain((len(text).to_bytes(8, "little"), text), map(_bytes, ordered))
        for part in parts:
            file.write(part)
            digest.update(part)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _bytes(entry: Entry) -> Any:
    tensor = entry.read()
    assert (tensor.dtype, tuple(tensor.shape)) == (entry.dtype, entry.shape), entry.name
    return tensor.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy()


@dataclass(frozen=True)
class Stored:
    """The tensors that files hold, whole or in pieces: names, shapes, and any part of them."""

    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, torch.dtype]
    places: dict[str, list[tuple[Box, Path, str]]]
    """Of each tensor: a box, the file that it is in, and its name there."""
    _opened: dict[Path, Any] = field(default_factory=dict)

    @classmethod
    def in_file(cls, path: Path) -> "Stored":
        """Whole tensors under their own names.

        Raises:
            ArtifactError: the file is damaged.
        """
        stored = cls({}, {}, {})
        try:
            file = stored._file(path)
            for name in file.keys():  # noqa: SIM118
                part = file.get_slice(name)
                stored.shapes[name] = tuple(part.get_shape())
                stored.dtypes[name] = _DTYPES[part.get_dtype()]
                stored.places[name] = [(whole_box(stored.shapes[name]), path, name)]
        except (SafetensorError, OSError, KeyError) as error:
            raise _damaged(path, error) from error
        return stored

    @classmethod
    def in_memory(cls, tensors: Mapping[str, Tensor]) -> "Stored":
        """Whole tensors that are here already."""
        shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
        dtypes = {name: tensor.dtype for name, tensor in tensors.items()}
        here = Path()
        return cls(shapes, dtypes, {n: [(whole_box(s), here, n)] for n, s in shapes.items()}, {here: _Memory(tensors)})

    @classmethod
    def in_pieces(cls, path: Path, group: str) -> "Stored":
        """The tensors of an index (:func:`index_of`) whose names begin with ``group/``, in files beside it.

        Raises:
            ArtifactError: the index is damaged.
        """
        stored = cls({}, {}, {})
        try:
            for whole_name, told in json.loads(path.read_bytes()).items():
                of, _, name = whole_name.partition("/")
                if of == group:
                    stored.shapes[name] = tuple(map(int, told["shape"]))
                    stored.dtypes[name] = _DTYPES[told["dtype"]]
                    stored.places[name] = [
                        (as_box(box), path.parent / Path(file).name, key_of(whole_name, as_box(box)))
                        for file, box in told["pieces"]
                    ]
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise _damaged(path, error) from error
        return stored

    def read(self, name: str, box: Box | None = None) -> Tensor:
        """A part of a tensor, or all of it. What lies in one file just so stays there until it is used.

        Raises:
            ArtifactError: a file is missing or damaged, or the pieces do not make up the part.
        """
        box = whole_box(self.shapes[name]) if box is None else box
        for where, path, key in self.places[name]:
            if where == box:
                return self._read(path, key)
        result, missing = torch.empty(sizes(box), dtype=self.dtypes[name]), [box]
        for where, path, key in self.places[name]:
            common = overlap(box, where)
            if common is None or not any(overlap(part, common) for part in missing):
                continue
            result[_within(common, box)] = self._read(path, key, _within(common, where))
            missing = _less(missing, common)
        if missing and result.numel():
            file = self.places[name][0][1].parent if self.places[name] else name
            raise ArtifactError(f"{file} lacks {name} at {missing[0]}; restore it, or delete it to train again")
        return result

    def fill(self, name: str, target: Tensor) -> None:
        """Give this process's part of ``target`` its numbers."""
        for box, part in pieces(target):
            part.copy_(self.read(name, box))

    def part(self, name: str, like: Any) -> Tensor:
        """A tensor divided as ``like`` is, if it has its shape; else all of it."""
        if tuple(like.shape) != self.shapes[name]:
            return self.read(name).clone()
        made = torch.empty_like(_own(like), dtype=self.dtypes[name])
        for box, part in pieces(like, made):
            part.copy_(self.read(name, box))
        if not hasattr(like, "placements"):
            return made
        from torch.distributed.tensor import DTensor

        return DTensor.from_local(
            made, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
        )

    def _file(self, path: Path) -> Any:
        if path not in self._opened:
            self._opened[path] = safe_open(path, framework="pt")
        return self._opened[path]

    def _read(self, path: Path, key: str, part: tuple[slice, ...] | None = None) -> Tensor:
        try:
            file = self._file(path)
            found: Tensor = file.get_tensor(key) if part is None else file.get_slice(key)[part]
        except (SafetensorError, OSError, RuntimeError) as error:
            raise _damaged(path, error) from error
        return found


class _Memory(dict[str, Tensor]):
    """Tensors, as an opened file gives them."""

    get_tensor = get_slice = dict.__getitem__


def _within(part: Box, box: Box) -> tuple[slice, ...]:
    """Where a part of a box lies in it."""
    return tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(part, box, strict=True))


def _damaged(path: Path, error: Exception) -> ArtifactError:
    told = " ".join(str(error).split())[:200]
    return ArtifactError(f"{path} is damaged or missing ({told}); restore it, or delete {path.parent}")
