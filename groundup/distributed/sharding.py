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
from functools import cache, partial
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, distributed, nn

from groundup.core.device import Numerics
from groundup.core.world import DIMENSIONS, World
from groundup.dataloader import IGNORED, Batch
from groundup.distributed.shards import dealt, held, pieces, sizes
from groundup.model import Transformer
from groundup.model.experts import Experts
from groundup.planning.mesh import Mesh

if TYPE_CHECKING:  # they take long to import, and one process needs none of them
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor


def share(batch: Batch, world: World) -> Batch:
    """The rows of a batch that are this process's, and of context groups this process's tokens of them.

    Where there are fewer rows than parts, the last ones are one row that counts for nothing: all processes take part in
    gathering weights and summing gradients.
    """
    batch = _rows(batch, *world.share)
    if (count := world.parallel.context) == 1:
        return batch
    from groundup.distributed.context import slice_of

    return slice_of(batch, world.places["context"], count)


def _rows(batch: Batch, number: int, count: int) -> Batch:
    if count == 1:
        return batch
    parts = batch.split(count)
    return parts[number] if number < len(parts) else standing_in(batch)


def standing_in(batch: Batch) -> Batch:
    """One row of a batch, or pair of rows, that counts for nothing."""
    rows = [0, len(batch.tensors["inputs"]) // 2] if batch.paired else [0]
    tensors = {name: tensor[rows] for name, tensor in batch.tensors.items()}
    tensors["targets"] = torch.full_like(tensors["targets"], IGNORED)
    return Batch(tensors, 0, dict(batch.metrics), batch.paired, idle=True)


@dataclass(frozen=True)
class Sharding:
    """How a model's parameters lie among the processes; without a mesh they are whole, or DeepSpeed's to divide."""

    world: World
    mesh: "DeviceMesh | None" = None
    """The grid of all processes."""
    stage: Any = None
    """The group of those that have the same layers; None: all."""

    @classmethod
    def of(cls, model: Transformer, world: World, device: torch.device, numerics: Numerics) -> "Sharding":
        """Divide ``model`` in place: its products, its experts, its sequences, and then what is left of its parameters,
        blocks one by one, and the rest together.

        Raises:
            UsageError: the model cannot be divided so.
        """
        if world.size == 1 or world.parallel.engine == "deepspeed":
            return cls(world)
        from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

        parallel = Mesh.of(world.parallel, world.size)
        parallel.check(model.config)
        everyone = distributed.group.WORLD
        mesh = _grid(device.type, tuple(parallel.sizes.values()), everyone)
        over = partial(_over, mesh, everyone, parallel.data > 1)
        if parallel.pipeline > 1:
            from groundup.distributed.pipeline import divide_layers

            divide_layers(model, mesh, parallel, device, numerics)
        if parallel.tensor > 1:
            from groundup.distributed.tensor import divide_products

            divide_products(model, mesh["tensor"], parallel.sequence)
        if parallel.context > 1:
            from groundup.distributed.context import divide_sequences

            divide_sequences(model, mesh["context"])
        policy: dict[str, Any] = {
            "mp_policy": MixedPrecisionPolicy(
                param_dtype=None if numerics.weights is torch.float32 else numerics.weights,
                reduce_dtype=torch.float32,
                cast_forward_inputs=False,
            ),
        }
        if parallel.expert > 1:
            from groundup.distributed.experts import divide_experts, placement

            divide_experts(model, mesh)
            policy["shard_placement_fn"] = placement(model, over("shard", "context"))
        dense = over("shard", "expert", "context")
        # Zero-bubble computes the gradients of weights apart from the rest, when nothing gathers them again.
        reshard = parallel.reshard and parallel.schedule != "zero-bubble"
        for block in model.blocks:
            fully_shard(block, mesh=dense, reshard_after_forward=reshard, **policy)
        # The head is multiplied by the objective, behind the forward pass: the root keeps its weights until then.
        if parallel.pipeline > 1:
            from groundup.distributed.pipeline import stages_of

            for root in stages_of(model):
                fully_shard(root, mesh=dense, reshard_after_forward=False, **policy)
                if root.stream_scales is not None:
                    model.stream_scales = root.stream_scales
        else:
            fully_shard(model, mesh=dense, reshard_after_forward=False, **policy)
        for part in _sharded(model):
            part.set_gradient_divide_factor(1.0)  # the loss is divided by the terms of all
            part.set_force_sum_reduction_for_comms(True)  # Gloo cannot divide
        stage = mesh[DIMENSIONS[1:]]._flatten("stage").get_group() if parallel.pipeline > 1 else None
        return cls(world, mesh, stage)

    def last(self, model: Transformer, is_last: bool) -> None:
        """Whether the backward pass to come ends the step: copies of the weights sum their gradients only then."""
        for part in _sharded(model):
            part.set_requires_all_reduce(is_last, recurse=False)
            part.set_is_last_backward(is_last)

    def forget(self, model: Transformer) -> None:
        """Forget the weights of others: after an evaluation the parameters are the process's own parts again."""
        for part in _sharded(model):
            part.reshard()

    def counted(self, model: Transformer) -> list[nn.Parameter]:
        """The parameters of this process, but for those that a pipeline's other process counts as its own."""
        return list(getattr(model, "counted", model.parameters)())

    def norm(self, tensors: Iterable[Tensor]) -> Tensor:
        """The 2-norm of all numbers of ``tensors``, whole or divided among some or all of the processes."""
        tensors = list(tensors)
        if self.mesh is None:
            return nn.utils.get_total_norm(tensors)
        copies = defaultdict(list)  # by how many processes of a pipeline's stage have the same part
        for tensor in tensors:
            copies[self._stage // _parts(tensor)].append(local(tensor))
        norms = [nn.utils.get_total_norm(parts).double().square() / count for count, parts in copies.items()]
        square = sum(norms, torch.zeros((), dtype=torch.float64, device=self.mesh.device_type))
        distributed.all_reduce(square)
        return square.sqrt().float()

    def sum_loads(self, model: Transformer) -> None:
        """Add up what the experts of all processes with the same layers had to do, by which routers are balanced."""
        if self.world.size > 1:
            for module in model.modules():
                if isinstance(module, Experts):
                    distributed.all_reduce(module.load, group=self.stage)

    @property
    def _stage(self) -> int:
        """Processes that share a pipeline's stage."""
        return self.world.size // self.world.parallel.pipeline

    def whole(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The whole tensors, in the memory of the CPU of the first process; {} in the others. All processes call this,
        each with what it has."""
        if self.world.size == 1:
            return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}
        own = {(name, box): part for name, tensor in tensors.items() for box, part in pieces(tensor)}
        found = {}
        for name, each in dealt(self.world.gathered(held(tensors))).items():
            if self.world.leads:
                found[name] = torch.empty(each.shape, dtype=each.dtype)
            for box, owner in each.boxes:
                if self.world.leads:
                    part = found[name][tuple(slice(*along) for along in box)]
                    part.copy_(own[name, box] if owner == 0 else self._received(sizes(box), each.dtype, owner))
                elif owner == self.world.rank:
                    raw = own[name, box].cpu().contiguous().reshape(-1).view(torch.uint8)
                    distributed.send(raw, 0, group=self.world.control)
        return found

    def _received(self, shape: Sequence[int], dtype: torch.dtype, source: int) -> Tensor:
        """A tensor that another process sends."""
        raw = torch.empty(math.prod(shape) * dtype.itemsize, dtype=torch.uint8)
        distributed.recv(raw, source, group=self.world.control)
        return raw.view(dtype).view(tuple(shape))


@cache
def _grid(device: str, sizes: tuple[int, ...], group: Any) -> "DeviceMesh":
    """The grid of all processes of ``group``; made once, as each has groups, with threads, of its own."""
    from torch.distributed.device_mesh import init_device_mesh

    return init_device_mesh(device, sizes, mesh_dim_names=DIMENSIONS)


@cache
def _over(mesh: "DeviceMesh", group: Any, copied: bool, *names: str) -> "DeviceMesh":
    """The part of a grid that copies of something, if there are any, and what it is divided among make up."""
    from torch.distributed.device_mesh import DeviceMesh

    inner = mesh[names]._flatten("-".join(names)) if len(names) > 1 else mesh[names[0]]
    return DeviceMesh._concatenate([mesh["data"], inner]) if copied else inner


def without_gradients(model: nn.Module) -> AbstractContextManager[None]:
    """A context in which nothing is kept for a backward pass.

    The fastest way forbids to change tensors later, which a divided model does with the weights that it gathers.
    """
    divided = _is_divided(model) or "stages" in model.__dict__ or "engine" in model.__dict__
    return torch.no_grad() if divided else torch.inference_mode()


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


def _is_divided(module: nn.Module) -> "TypeGuard[FSDPModule]":
    return hasattr(module, "unshard")


def _sharded(model: nn.Module) -> "Sequence[FSDPModule]":
    roots: Sequence[nn.Module] = model.__dict__.get("stages", [model])  # of a pipeline
    return [module for root in roots for module in root.modules() if _is_divided(module)]
