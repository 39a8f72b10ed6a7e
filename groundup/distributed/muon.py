"""Muon for sharded matrices.

A matrix is orthogonalised as a whole. Every process gathers the momentum of all matrices, orthogonalises every
``size``-th, sends that to the others and keeps its own part of each: so the work is divided, at the price of sending
each matrix twice (Liu et al. 2025, "Muon is scalable for LLM training", section 2.3).
"""

from collections.abc import Sequence

from torch import Tensor, distributed

from groundup.distributed.sharding import is_part, local, part_of
from groundup.optim.muon import Muon


class ShardedMuon(Muon):
    """The same updates as :class:`~groundup.optim.muon.Muon`'s, of parameters that may be divided among processes."""

    def apply(self, parameters: Sequence[Tensor], directions: Sequence[Tensor], rate: float) -> None:
        """Move the parameters against their orthogonalised directions."""
        whole = [each.full_tensor() if is_part(each) else each for each in directions]
        size, rank = distributed.get_world_size(), distributed.get_rank()
        # The largest first, dealt in turn: everybody gets about the same work.
        order = sorted(range(len(whole)), key=lambda number: -whole[number].numel())
        mine = order[rank::size]
        for members, updates, scale in self.updates([whole[number] for number in mine]):
            for place, update in zip(members, updates, strict=True):
                whole[mine[place]].copy_(update).mul_(scale)
        for place, number in enumerate(order):
            distributed.broadcast(whole[number], src=place % size)
        for parameter, update in zip(parameters, whole, strict=True):
            local(parameter).add_(local(part_of(update, parameter)), alpha=-rate)
