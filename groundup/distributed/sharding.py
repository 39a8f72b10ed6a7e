"""Data parallel training with sharded weights, on PyTorch's FSDP2.

The processes form a mesh of ``data`` x ``shard``. Each row of processes holds one copy of the weights, divided along
their first axis; before a block computes, its weights are gathered, and after its backward pass the gradients are
summed over all processes and divided again (Rajbhandari et al. 2020, "ZeRO"; Zhao et al. 2023, "PyTorch FSDP"). With
``shard`` 1 every process has all weights, and only gradients are summed.

All processes draw the same batches, and each computes its rows of them. The loss is a sum over terms divided by the
number of terms of the whole step, so the sum of all gradients is that of one process, whatever rows fall to whom.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, distributed, nn

from groundup.core.device import Numerics
from groundup.core.world import DIMENSIONS, World
from groundup.dataloader import IGNORED, Batch
from groundup.model import Transformer
from groundup.model.experts import Experts

if TYPE_CHECKING:  # they take long to import, and one process needs none of them
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def share(batch: Batch, world: World) -> Batch:
    """The rows of a batch that are this process's.

    Where there are fewer rows than parts, the last ones are one row that counts for nothing: all processes take part in
    gathering weights and summing gradients.
    """
    number, count = world.share
    if count == 1:
        return batch
    parts = batch.split(count)
    if number < len(parts):
        return parts[number]
    rows = [0, len(batch.tensors["inputs"]) // 2] if batch.paired else [0]
    tensors = {name: tensor[rows] for name, tensor in batch.tensors.items()}
    tensors["targets"] = torch.full_like(tensors["targets"], IGNORED)
    return Batch(tensors, 0, dict(batch.metrics), batch.paired)


@dataclass(frozen=True)
class Sharding:
    """How a model's parameters lie among the processes; without a mesh they are whole, in the only process."""

    world: World
    mesh: "DeviceMesh | None" = None
    """The grid of all processes."""

    @classmethod
    def of(cls, model: Transformer, world: World, device: torch.device, numerics: Numerics) -> "Sharding":
        """Divide ``model`` in place: its products, its experts, its sequences, and then what is left of its parameters,
        blocks one by one, and the rest together.

        Raises:
            UsageError: the model cannot be divided so.
        """
        if world.size == 1:
            return cls(world)
        from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        parallel = world.parallel.resolved(world.size)
        mesh = init_device_mesh(device.type, tuple(parallel.sizes.values()), mesh_dim_names=DIMENSIONS)

        def over(*names: str) -> DeviceMesh:
            """The grid of copies and of what they are divided among."""
            inner = mesh[names]._flatten("-".join(names)) if len(names) > 1 else mesh[names[0]]
            return inner if parallel.data == 1 else DeviceMesh._concatenate([mesh["data"], inner])

        policy: dict[str, Any] = {
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=None if numerics.weights is torch.float32 else numerics.weights,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,
            ),
        }
        dense = over("shard", "expert", "context")
        for block in model.blocks:
            fully_shard(block, mesh=dense, reshard_after_forward=parallel.reshard, **policy)
        # The head is multiplied by the objective, behind the forward pass: the root keeps its weights until then.
        fully_shard(model, mesh=dense, reshard_after_forward=False, **policy)
        for part in _sharded(model):
            part.set_gradient_divide_factor(1.0)  # the loss is divided by the terms of all
            part.set_force_sum_reduction_for_comms(True)  # Gloo cannot divide
        return cls(world, mesh)

    def last(self, model: Transformer, is_last: bool) -> None:
        """Whether the backward pass to come ends the step: copies of the weights sum their gradients only then."""
        for part in _sharded(model):
            part.set_requires_all_reduce(is_last, recurse=False)
            part.set_is_last_backward(is_last)

    def forget(self, model: Transformer) -> None:
        """Forget the weights of others: after an evaluation the parameters are the process's own parts again."""
        for part in _sharded(model):
            part.reshard()

    def norm(self, tensors: Iterable[Tensor]) -> Tensor:
        """The 2-norm of all numbers of ``tensors``, whole or divided among some or all of the processes."""
        tensors = list(tensors)
        if self.mesh is None:
            return nn.utils.get_total_norm(tensors)
        copies = defaultdict(list)  # by how many processes of a pipeline's stage have the same part
        for tensor in tensors:
            copies[self._stage // _parts(tensor)].append(local(tensor))
        norms = [nn.utils.get_total_norm(parts).double().square() / count for count, parts in copies.items()]
        square = torch.stack(norms).sum()
        distributed.all_reduce(square)
        return square.sqrt().float()

    def sum_loads(self, model: Transformer) -> None:
        """Add up what the experts of all processes had to do, which the routers are balanced by."""
        if self.mesh is not None:
            for module in model.modules():
                if isinstance(module, Experts):
                    distributed.all_reduce(module.load)

    @property
    def _stage(self) -> int:
        """Processes that share a pipeline's stage."""
        return self.world.size // self.world.parallel.pipeline

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole tensors, one by one into the memory of the CPU of the first process; {} in the others."""
        found = {}
        for name, tensor in tensors.items():
            if is_part(tensor):
                tensor = tensor.full_tensor()
            if self.world.leads:
                found[name] = tensor.detach().to("cpu", copy=True)
        return found


def without_gradients(model: nn.Module) -> AbstractContextManager[None]:
    """A context in which nothing is kept for a backward pass.

    The fastest way forbids to change tensors later, which a divided model does with the weights that it gathers.
    """
    return torch.no_grad() if _is_divided(model) else torch.inference_mode()


def is_part(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Whether a tensor is divided among processes."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """What this process has of a tensor."""
    return tensor.to_local() if is_part(tensor) else tensor


def _parts(tensor: Tensor) -> int:
    """In how many different parts a tensor lies among the processes of its grid."""
    if not is_part(tensor):
        return 1
    placements = zip(tensor.device_mesh.shape, tensor.placements, strict=True)
    return math.prod(size for size, placement in placements if not placement.is_replicate())


def part_of(whole: Tensor, like: Tensor) -> Tensor:
    """``whole``, which every process has, divided as ``like`` is."""
    if not is_part(like) or whole.shape != like.shape:
        return whole
    from torch.distributed.tensor import distribute_tensor

    place = whole.to(local(like).device)
    return distribute_tensor(place, like.device_mesh, like.placements, src_data_rank=None)


def parts_of(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Each of ``tensors`` divided as the one of the same name is."""
    return {name: part_of(tensor, like[name]) if name in like else tensor for name, tensor in tensors.items()}


def _is_divided(module: nn.Module) -> "TypeGuard[FSDPModule]":
    return hasattr(module, "unshard")


def _sharded(model: nn.Module) -> "Sequence[FSDPModule]":
    return [module for module in model.modules() if _is_divided(module)]
