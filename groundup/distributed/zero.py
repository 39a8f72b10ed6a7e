"""The optimizer's state divided among the copies of the weights (ZeRO-1, Rajbhandari et al. 2020), and nothing else.

Each copy updates some of the parameters, and remembers what that takes; then it gives them to the others. The rules of
the optimizers and their results stay what they are.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed

from groundup.distributed.muon import ShardedMuon
from groundup.distributed.sharding import is_part, local

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh


def divide_by_grid(optimizers: Sequence[torch.optim.Optimizer]) -> None:
    """Make of each group of parameters as many as there are grids that they lie on: one operation on many of them works
    with those of one grid only, and experts lie on another than the rest."""
    for optimizer in optimizers:
        groups = optimizer.param_groups[:]
        optimizer.param_groups.clear()
        for group in groups:
            grids: dict[Any, list[Tensor]] = {}
            for parameter in group["params"]:
                grids.setdefault(parameter.device_mesh if is_part(parameter) else None, []).append(parameter)
            optimizer.param_groups.extend({**group, "params": parameters} for parameters in grids.values())


def divide_state(optimizers: Sequence[torch.optim.Optimizer], copies: "DeviceMesh") -> None:
    """Leave each optimizer the parameters that are this copy's to update; after its step all have them all.

    Args:
        optimizers: they have no state yet.
        copies: the processes that have the same parts of the weights, one of each copy.
    """
    size, rank, group = copies.size(), copies.get_local_rank(), copies.get_group()
    work = [0] * size
    for optimizer in optimizers:
        if isinstance(optimizer, ShardedMuon):
            optimizer.apart = copies.mesh_dim_names or ()
        every = [parameter for each in optimizer.param_groups for parameter in each["params"]]
        owners: dict[Tensor, int] = {}
        for parameter in sorted(every, key=lambda one: -one.numel()):  # the largest first, to who has the least
            owners[parameter] = owner = work.index(min(work))
            work[owner] += parameter.numel()
        for each in optimizer.param_groups:
            each["params"] = [parameter for parameter in each["params"] if owners[parameter] == rank]

        def spread(*_: Any, owners: dict[Tensor, int] = owners) -> None:
            parts = [(local(parameter.detach()), owner) for parameter, owner in owners.items()]
            sent = [
                distributed.broadcast(part, group=group, group_src=owner, async_op=True)
                for part, owner in parts
                if part.numel()
            ]
            for each in sent:
                each.wait()

        optimizer.register_step_post_hook(spread)
