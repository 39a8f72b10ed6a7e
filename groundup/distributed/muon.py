"""Muon for divided matrices.

A matrix is orthogonalised as a whole, by one of the processes that have a part of it: the others send it theirs, and
get theirs of the result (all-to-all), so that each number travels once there and once back, and the work is divided
(Liu et al. 2025, "Muon is scalable for LLM training", section 2.3; Ahn et al. 2025, "Dion"). Copies of the weights have
equal parts: only the owner's copy sends, and all get the result. Matrices of experts that lie whole where they are stay
there.
"""

import itertools
import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from groundup.distributed.sharding import is_part, local
from groundup.optim.muon import Muon

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

#: Most bytes of whole matrices that a process has at once, but for one matrix.
AT_ONCE = 2**28
#: Rows and columns of a part: (first, last), (first, last).
Part = tuple[slice, slice]


class ShardedMuon(Muon):
    """The same updates as :class:`~groundup.optim.muon.Muon`'s, of parameters that may be divided among processes."""

    apart: tuple[str, ...] = ()
    """Dimensions of the grid along which processes update other parameters, and so share no work."""

    def apply(self, parameters: Sequence[Tensor], directions: Sequence[Tensor], rate: float) -> None:
        """Move the parameters against their orthogonalised directions."""
        alike: dict[Any, list[int]] = defaultdict(list)
        for number, parameter in enumerate(parameters):
            alike[_along(parameter, self.apart)].append(number)
        for key, members in alike.items():
            own = [local(parameters[number]) for number in members], [local(directions[number]) for number in members]
            if key is None:
                super().apply(*own, rate)
            else:
                shapes = [(parameters[number].shape[-2], parameters[number].shape[-1]) for number in members]
                self._together(_Holders.of(*key), shapes, *own, rate)

    def _together(
        self,
        holders: "_Holders",
        shapes: Sequence[tuple[int, int]],
        parameters: Sequence[Tensor],
        directions: Sequence[Tensor],
        rate: float,
    ) -> None:
        """Of matrices, and stacks of them, with these whole shapes, of which each of the holders has its part."""
        matrices, weights, sent = list[tuple[int, int]](), list[Tensor](), list[Tensor]()
        for shape, parameter, direction in zip(shapes, parameters, directions, strict=True):
            stack = parameter.view(-1, *parameter.shape[-2:])
            matrices += [shape] * len(stack)
            weights += stack
            sent += direction.reshape(stack.shape).to(self.dtype)
        # The largest first, dealt in turn: everybody gets about the same work.
        order = sorted(range(len(matrices)), key=lambda number: -math.prod(matrices[number]))
        waiting: _Exchange | None = None
        for numbers in _groups(order, matrices, AT_ONCE * holders.size // self.dtype.itemsize):
            exchange = _Exchange(holders, [matrices[n] for n in numbers], [sent[n] for n in numbers])
            if waiting is not None:  # its numbers travelled while those before were computed, and so will the next
                self._finish(waiting, rate)
            exchange.weights = [weights[n] for n in numbers]
            waiting = exchange
        if waiting is not None:
            self._finish(waiting, rate)

    def _finish(self, exchange: "_Exchange", rate: float) -> None:
        whole = exchange.whole()
        for members, updates, scale in self.updates(whole):
            for member, update in zip(members, updates, strict=True):
                whole[member].copy_(update).mul_(scale)
        for weight, update in zip(exchange.weights, exchange.back(whole), strict=True):
            weight.add_(update.to(weight.dtype), alpha=-rate)


def _groups(order: Sequence[int], shapes: Sequence[tuple[int, int]], most: int) -> Iterator[list[int]]:
    """Runs of matrices with at most so many numbers, but for runs of one."""
    group, total = list[int](), 0
    for number in order:
        size = math.prod(shapes[number])
        if group and total + size > most:
            yield group
            group, total = [], 0
        group.append(number)
        total += size
    yield group


def _along(parameter: Tensor, apart: tuple[str, ...]) -> "tuple[DeviceMesh, tuple[int, ...], tuple[Any, ...]] | None":
    """The grid of a parameter, the dimensions along which its matrices are divided or copied, and how along each.

    None, if that is none: what is only divided into whole matrices needs nobody.
    """
    if not is_part(parameter):
        return None
    mesh, stacked = parameter.device_mesh, parameter.ndim - 2
    names = mesh.mesh_dim_names or ()
    found = [
        (dimension, getattr(placement, "dim", None))
        for dimension, placement in enumerate(parameter.placements)
        if mesh.size(dimension) > 1 and names[dimension] not in apart and getattr(placement, "dim", stacked) >= stacked
    ]
    axes = tuple(None if axis is None else axis - stacked for _, axis in found)
    return (mesh, tuple(dimension for dimension, _ in found), axes) if found else None


@dataclass(frozen=True)
class _Holders:
    """The processes that have parts of the same matrices."""

    group: Any
    rank: int
    places: tuple[tuple[int, ...], ...]
    """Of each, along each dimension."""
    sizes: tuple[int, ...]
    axes: tuple[int | None, ...]
    """Which axis of a matrix each dimension divides, the last dimension first; None: there are copies."""

    @classmethod
    @cache
    def of(cls, mesh: "DeviceMesh", dimensions: tuple[int, ...], axes: tuple[int | None, ...]) -> "_Holders":
        names = mesh.mesh_dim_names
        assert names is not None
        line = mesh[tuple(names[dimension] for dimension in dimensions)]
        sizes = tuple(line.shape)
        flat = (
            line._flatten("muon-" + "-".join(names[dimension] for dimension in dimensions)) if line.ndim > 1 else line
        )
        places = tuple(itertools.product(*(range(size) for size in sizes)))
        return cls(flat.get_group(), flat.get_local_rank(), places, sizes, axes)

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.places)

    def part(self, which: int, shape: tuple[int, int]) -> Part:
        """What one of them has of a matrix: as ``Tensor.chunk`` divides, by the last dimension first."""
        runs = [(0, size) for size in shape]
        for place, size, axis in reversed(list(zip(self.places[which], self.sizes, self.axes, strict=True))):
            if axis is not None:
                start, stop = runs[axis]
                each = -(-(stop - start) // size)
                runs[axis] = min(stop, start + place * each), min(stop, start + (place + 1) * each)
        return slice(*runs[0]), slice(*runs[1])

    def copy(self, which: int) -> tuple[int, ...]:
        """Which of the copies one of them belongs to."""
        return tuple(place for place, axis in zip(self.places[which], self.axes, strict=True) if axis is None)


class _Exchange:
    """Parts of matrices on their way to who owns these, and back.

    Args:
        holders: who have parts.
        shapes: of the whole matrices; those at ``rank``, ``rank + size`` … are the process's own.
        parts: what this process has of each.
    """

    weights: Sequence[Tensor]

    def __init__(self, holders: _Holders, shapes: Sequence[tuple[int, int]], parts: Sequence[Tensor]) -> None:
        self.holders, self.shapes = holders, shapes
        self.like = parts[0]
        rank, copy = holders.rank, holders.copy(holders.rank)
        self.copies = [which for which in range(holders.size) if holders.copy(which) == copy]
        sent = [list(parts[which :: holders.size]) if which in self.copies else [] for which in range(holders.size)]
        expected = [self._count(which, rank) if which in self.copies else 0 for which in range(holders.size)]
        self.work, self.arrived = self._send(sent, expected)

    def whole(self) -> list[Tensor]:
        """The process's own matrices."""
        self.work.wait()
        found = [self.like.new_empty(shape) for shape in self._own(self.holders.rank)]
        rest = self.arrived
        for which in self.copies:
            for matrix in found:
                part = matrix[self.holders.part(which, (matrix.shape[0], matrix.shape[1]))]
                part.copy_(rest[: part.numel()].view(part.shape))
                rest = rest[part.numel() :]
        return found

    def back(self, whole: Sequence[Tensor]) -> list[Tensor]:
        """What becomes of this process's parts, when ``whole`` has become of its own matrices."""
        size, rank = self.holders.size, self.holders.rank
        sent = [
            [matrix[self.holders.part(which, (matrix.shape[0], matrix.shape[1]))] for matrix in whole]
            for which in range(size)
        ]
        expected = [self._count(rank, owner) for owner in range(size)]
        work, arrived = self._send(sent, expected)
        work.wait()
        parts: list[Tensor] = [self.like] * len(self.shapes)
        for owner, theirs in enumerate(arrived.split(expected)):
            for number in range(owner, len(self.shapes), size):
                rows, columns = self.holders.part(rank, self.shapes[number])
                shape = rows.stop - rows.start, columns.stop - columns.start
                parts[number], theirs = theirs[: math.prod(shape)].view(shape), theirs[math.prod(shape) :]
        return parts

    def _own(self, which: int) -> Sequence[tuple[int, int]]:
        """The shapes of the matrices of one of the processes."""
        return self.shapes[which :: self.holders.size]

    def _count(self, which: int, owner: int) -> int:
        """How many numbers one of the processes has of an owner's matrices."""
        parts = (self.holders.part(which, shape) for shape in self._own(owner))
        return sum((rows.stop - rows.start) * (columns.stop - columns.start) for rows, columns in parts)

    def _send(self, sent: Sequence[Sequence[Tensor]], expected: list[int]) -> tuple[Any, Tensor]:
        """Tensors to each process, and so many numbers from each."""
        leaving = torch.cat([self.like.new_empty(0), *(part.reshape(-1) for parts in sent for part in parts)])
        arriving = leaving.new_empty(sum(expected))
        counts = [sum(part.numel() for part in parts) for parts in sent]
        work = distributed.all_to_all_single(
            arriving, leaving, expected, counts, group=self.holders.group, async_op=True
        )
        return work, arriving
