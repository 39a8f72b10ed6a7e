"""Expert parallelism: every process of a group keeps some of the experts, and the tokens travel to them.

Enters: a model whose experts are whole, and the group of processes. Leaves: the same model, in which each layer's
stacks of experts are divided along their first axis, and the rows that a router sends to an expert go to the process
that has it, are multiplied there, and come back (Lepikhin et al. 2020, "GShard"). No row is dropped, however unevenly
they fall. Routers and shared experts stay with everybody, who routes its own rows.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn

from groundup.distributed.sharding import is_part, local
from groundup.model import Transformer
from groundup.model.experts import Experts

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

#: The stacks [experts, out, in] of a layer; one without gates lacks the first.
STACKS = ("gate", "up", "down")


def divide_experts(model: Transformer, mesh: "DeviceMesh") -> None:
    """Give each process along the dimension ``expert`` of ``mesh`` its part of every layer's experts, in place.

    Stacks that are divided already, along the dimension ``tensor``, are so twice. The number of experts is a multiple
    of the number of processes.
    """
    from torch.distributed.tensor import DTensor, Shard

    own = mesh["expert"]
    for layer in _layers(model):
        for name in STACKS:
            if (stack := layer._parameters[name]) is None:
                continue
            grid, placements = (
                (mesh["expert", "tensor"], [Shard(0), *stack.placements]) if is_part(stack) else (own, [Shard(0)])
            )
            part = local(stack.detach()).chunk(own.size())[own.get_local_rank()].clone()
            divided = DTensor.from_local(part.to(mesh.device_type), grid, placements, run_check=False)
            layer._parameters[name] = nn.Parameter(divided, stack.requires_grad)
        layer.computed = _exchanged(layer, own.get_group())  # type: ignore[assignment, method-assign]


def placement(model: Transformer, mesh: "DeviceMesh") -> Callable[[nn.Parameter], Any]:
    """For ``fully_shard``: experts are divided along ``mesh``, which lacks the dimension that they are divided along
    already, and all else as it is told."""
    from torch.distributed.fsdp._fully_shard._fsdp_common import FSDPMeshInfo, HSDPMeshInfo, ShardPlacementResult
    from torch.distributed.tensor import Shard

    info = FSDPMeshInfo(mesh, 0) if mesh.ndim == 1 else HSDPMeshInfo(mesh, shard_mesh_dim=1, replicate_mesh_dim=0)
    stacks = {id(layer._parameters[name]) for layer in _layers(model) for name in STACKS}
    return lambda parameter: ShardPlacementResult(Shard(0), info) if id(parameter) in stacks else None


def _layers(model: Transformer) -> Sequence[Experts]:
    return [module for module in model.modules() if isinstance(module, Experts)]


def _exchanged(layer: Experts, group: distributed.ProcessGroup) -> Callable[[Tensor, Tensor], Tensor]:
    """What takes the place of ``layer.computed``."""
    from torch.distributed._functional_collectives import all_to_all_single_autograd as exchange

    size = group.size()

    def computed(rows: Tensor, load: Tensor) -> Tensor:
        device = rows.device.type
        if torch.is_autocast_enabled(device):  # the products would: half as much travels
            rows = rows.to(torch.get_autocast_dtype(device))
        even = [len(load) // size] * size
        loads = torch.stack([load, exchange(load, even, even, group)]).view(2, size, -1)
        away, here = loads.sum(dim=2).tolist()  # rows that go to each process, and that come from it
        arrived = exchange(rows, here, away, group)
        # They are sorted by sender and then by expert; the products want them by expert.
        loads = loads[1]
        expert = torch.arange(loads.shape[1], device=rows.device).repeat(size).repeat_interleave(loads.flatten())
        order = expert.argsort(stable=True)
        ends = loads.sum(dim=0).cumsum(0, dtype=torch.int32)
        stacks = [None if stack is None else local(stack) for stack in (layer.gate, layer.up, layer.down)]
        outputs = layer.products(arrived[order], ends, *stacks)  # type: ignore[arg-type]
        return exchange(outputs[order.argsort()], away, here, group)

    # How many rows travel changes with every batch, and is known to the processor only: nothing to be compiled.
    undone: Callable[[Tensor, Tensor], Tensor] = torch.compiler.disable(computed)
    return undone
