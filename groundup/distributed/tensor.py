"""Tensor parallelism: the processes of a group share every matrix product (Shoeybi et al. 2019, "Megatron-LM").

Heads, feed-forward units and words of the vocabulary are divided: the matrices that make them along their rows, so that
each process has some of the results, and the matrices that read them along their columns, so that each process has a
part of a sum. The sums are added up behind attention, behind the feed-forward layer and behind the embedding, and in
the backward pass the gradients of what enters. With ``sequence`` the group also divides the stream between the products
along time: then the sums are scattered, and gathered before the next product (Korthikanti et al. 2022, "Reducing
activation recomputation"). What moves between processes is moved by PyTorch's DTensor.

Enters: a model whose parameters are whole, and a line of processes. Leaves: the same model, whose parameters are
DTensors on that line, and whose modules compute with this process's part of them. Its code knows nothing of it: where a
module must do something else, its class is replaced by one below; elsewhere its parameters are read as local tensors.
"""

import logging
import re
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Partial, Placement, Replicate, Shard, distribute_tensor
from torch.nn import functional as F

from groundup.core.errors import UsageError
from groundup.core.seeding import derive_seed
from groundup.model import KVCache, Record, Transformer
from groundup.model.attention import Attention, LatentAttention, Pass
from groundup.model.experts import Experts
from groundup.model.layers import FeedForward, RMSNorm
from groundup.planning.mesh import Mesh

#: Of a parameter that every process has whole: does each compute a part of its gradient? Where the stream is divided?
Gradient = Literal["whole", "part", "stream"]

#: How parameters are divided, by the ends of their names: along an axis, or not at all. The first that fits counts.
PLAN: tuple[tuple[str, int | Gradient], ...] = (
    (r"attention\.(query|key|value|query_up|key_up)\.(weight|bias)", 0),
    (r"attention\.(smear|sinks|value_share)", 0),
    (r"attention\.value_embedding\.weight", 1),
    (r"attention\.output\.weight", 1),
    (r"attention\.(query_down|key_down)\.weight", "part"),
    (r"attention\.(query_norm|key_norm)\.scale", "part"),
    (r"router\.weight", "whole"),
    (r"feed_forward\.(shared\.)?(gate|up)\.(weight|bias)", 0),
    (r"feed_forward\.(shared\.)?down\.weight", 1),
    (r"feed_forward\.(gate|up)", 1),  # stacks of experts [experts, out, in]
    (r"feed_forward\.down", 2),
    (r"(output|down)\.bias|\w*norm\.(scale|bias)|stream_scales", "stream"),
    (r"\w*embedding(\.\d+)?\.weight|head\.weight", 0),
)


def divide_products(model: Transformer, mesh: DeviceMesh, sequence: bool) -> None:
    """Divide the products of ``model`` among the processes of ``mesh``, in place.

    Args:
        model: its parameters are whole, and the same in all processes; :class:`Mesh` checked that they can be divided.
        mesh: one-dimensional.
        sequence: divide the stream along time, too, in passes whose time the number of processes divides. Others, and
            those with a cache, keep it whole.

    Raises:
        UsageError: a process would have no row of a table.
    """
    config, size = model.config, mesh.size()
    tables = {"words": model.vocab_size, "rows of model.ngram-rows": config.ngram_rows, "positions": config.context}
    for name, rows in tables.items():
        if (size - 1) * -(-rows // size) >= rows:
            raise UsageError(f"{rows} {name} are too few for a tensor dimension of {size}; choose a smaller one")
    # Matrices divided twice along one axis are gathered in two steps, of which PyTorch would warn every time.
    logging.getLogger("torch.distributed.tensor._redistribute").setLevel(logging.ERROR)
    group = Group(mesh, sequence)
    local = Mesh(tensor=size, sequence=sequence).local(config)
    divided: dict[Tensor, nn.Parameter] = {}  # tied matrices stay one
    for prefix, module in list(model.named_modules()):
        kinds = {}
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            kinds[name] = kind = _kind(f"{prefix}.{name}".lstrip("."), config.qk_norm == "all")
            if parameter not in divided:
                placement = Shard(kind) if isinstance(kind, int) else Replicate()
                part = distribute_tensor(parameter.detach(), mesh, [placement], src_data_rank=None)
                divided[parameter] = nn.Parameter(part, parameter.requires_grad)
            module._parameters[name] = divided[parameter]
        if isinstance(module, Attention | LatentAttention):
            module.config = local
        if isinstance(module, Attention | LatentAttention) or (
            isinstance(module, FeedForward) and not prefix.endswith("shared")
        ):
            module.register_forward_pre_hook(group.enter)
        base: Any = _class_of(prefix, module, config.qk_norm == "all")
        if kinds or base is not type(module):
            module.group = group
            reading = () if base in (Table, Head) else tuple(kinds.items())
            module.__class__ = _reading(base, reading)
    model.norm.register_forward_hook(group.leave_stream)
    cast(Divided, model).local_config = local


def _kind(name: str, all_heads: bool) -> int | Gradient:
    """How a parameter is divided."""
    for pattern, kind in PLAN:
        if re.search(rf"(^|\.)({pattern})$", name):
            return 0 if all_heads and re.search(r"attention\.(query|key)_norm", name) else kind
    raise AssertionError(f"the plan does not name {name}")


def _class_of(prefix: str, module: nn.Module, all_heads: bool) -> type[nn.Module]:
    """What a module becomes."""
    name = prefix.rpartition(".")[2]
    if isinstance(module, Transformer):
        return Divided
    if isinstance(module, Experts):
        return DividedExperts
    if isinstance(module, nn.Embedding) and name != "value_embedding":
        return Table
    if isinstance(module, nn.Linear) and name == "head":
        return Head
    if isinstance(module, nn.Linear) and name in ("output", "down") and not prefix.endswith("shared.down"):
        return Sum
    if all_heads and name in ("query_norm", "key_norm"):
        return AllHeadsNorm
    return type(module)


@cache
def _reading(base: Any, kinds: tuple[tuple[str, int | Gradient], ...]) -> type[nn.Module]:
    """A class like ``base`` whose parameters are read as this process's parts of them; one for all alike modules."""
    return type(base.__name__, (base,), {name: _part(name, kind) for name, kind in kinds})


def _part(name: str, kind: int | Gradient) -> property:
    def read(module: nn.Module) -> Tensor:
        parameter = cast(DTensor, module._parameters[name])
        group = cast(Group, module.group)
        if parameter.device_mesh.ndim > 1:  # divided further, by FSDP: nobody computes with that
            return parameter
        summed = kind == "part" or (kind == "stream" and group.divided)
        return parameter.to_local(grad_placements=(Partial(),) if summed else None)

    return property(read)


@dataclass(eq=False)
class Group:
    """The processes that share products, and how tensors go from one to another."""

    mesh: DeviceMesh
    sequence: bool
    divided: bool = False
    """Whether the stream of the present pass is divided along time."""

    @property
    def stream(self) -> Placement:
        """How the stream lies among the processes."""
        return Shard(1) if self.divided else Replicate()

    def moved(self, x: Tensor, before: Placement, after: Placement, gradient: Placement, size: int = 0) -> Tensor:
        """``x``, which lies among the processes as ``before``, brought to lie as ``after``.

        ``gradient`` is how the gradient of the result will lie. ``size`` is that of the divided last axis, where it
        need not be the same in all processes.
        """
        shape = torch.Size((*x.shape[:-1], size)) if size else None
        stride = torch.empty(shape, device="meta").stride() if shape else None
        whole = DTensor.from_local(x, self.mesh, (before,), run_check=False, shape=shape, stride=stride)
        return whole.redistribute(placements=(after,)).to_local(grad_placements=(gradient,))

    def enter(self, _: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """Before products: the whole stream. Each process will have a part of the gradient's sum."""
        return self.moved(arguments[0], self.stream, Replicate(), Partial()), *arguments[1:]

    def leave_stream(self, _: nn.Module, __: tuple[Any, ...], normed: Tensor) -> Tensor:
        """What the head reads, whole."""
        return self.moved(normed, self.stream, Replicate(), Partial()).clone()  # FSDP warns of what is a view

    def summed(self, x: Tensor) -> Tensor:
        """Behind products: the sum of all processes' parts, as the stream lies."""
        return self.moved(x, Partial(), self.stream, self.stream)


class Sum(nn.Linear):
    """A product whose columns are divided: the bias is added to the sum, once."""

    group: Group

    def forward(self, x: Tensor) -> Tensor:
        """This process's columns of x [batch, time, in] → [batch, time, out]."""
        total = self.group.summed(F.linear(x, self.weight))
        return total if self.bias is None else total + self.bias.to(total.dtype)


class Table(nn.Embedding):
    """Vectors of which each process has some; ``weight`` is a DTensor."""

    group: Group

    def forward(self, ids: Tensor) -> Tensor:
        """ids [batch, time] → [batch, time, width], whole in every process."""
        weight = cast(DTensor, self.weight).to_local()
        own = ids - self.group.mesh.get_local_rank() * -(-self.num_embeddings // self.group.mesh.size())
        here = (own >= 0) & (own < len(weight))
        vectors = F.embedding(own.where(here, 0), weight) * here[..., None]
        return self.group.moved(vectors, Partial(), Replicate(), Replicate())


class Head(nn.Linear):
    """Scores of words of which each process has some; ``weight`` is a DTensor, which the objective reads."""

    group: Group

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] → [..., vocabulary], whole in every process."""
        logits = F.linear(x, cast(DTensor, self.weight).to_local())
        return self.group.moved(logits, Shard(logits.ndim - 1), Replicate(), Replicate(), self.out_features)


class AllHeadsNorm(RMSNorm):
    """A norm over the queries or keys of all heads, some of which each process has."""

    group: Group

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, time, its size] → the same, in x's dtype."""
        rows = x.float()
        total = self.group.moved(rows.square().sum(-1, keepdim=True), Partial(), Replicate(), Partial())
        scale = self.scale.float() + 1 if self.offset else self.scale.float()
        size = x.shape[-1] * self.group.mesh.size()
        return (rows * (total / size + self.epsilon).rsqrt() * scale).type_as(x)


class DividedExperts(Experts):
    """Experts of which each process has some units; all route all tokens, alike."""

    group: Group

    def forward(self, x: Tensor, record: Record | None = None) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        group = self.group
        whole = group.moved(x, group.stream, Replicate(), Replicate())
        routing = self.route(whole.flatten(0, -2))
        if record is not None and record.wants_routing:
            record.routing.append(routing)
        # The router is computed alike by all, and its gradient is whole; that of the products is a part of a sum.
        inner = group.moved(whole, Replicate(), Replicate(), Partial())
        weights = group.moved(routing.weights, Replicate(), Replicate(), Partial())
        added = self._mixed(inner.flatten(0, -2), replace(routing, weights=weights)).view_as(inner)
        return group.summed(added if self.shared is None else added + self.shared(inner))


class Divided(Transformer):
    """A model of which each process of a group has some heads, units and words."""

    group: Group
    local_config: Any

    def empty_cache(self, rows: int, capacity: int) -> KVCache:
        """An empty cache, of this process's heads."""
        return KVCache.empty(self.local_config, rows, capacity, self.embedding.weight)

    def _shared(
        self,
        ids: Tensor,
        positions: Tensor | None,
        segments: Tensor | None,
        cache: KVCache | None,
        record: Record | None,
        computed: Tensor | None = None,
    ) -> tuple[Pass, Tensor]:
        looked_at = record is not None and record.wants_residuals
        divisible = (ids if computed is None else computed).shape[1] % self.group.mesh.size() == 0
        self.group.divided = self.group.sequence and divisible and cache is None and not looked_at
        return super()._shared(ids, positions, segments, cache, record, computed)

    def _mask(self, *arguments: Any) -> Tensor | None:
        mask = super()._mask(*arguments)
        if mask is None or mask.shape[1] == 1:
            return mask
        return mask.chunk(self.group.mesh.size(), dim=1)[self.group.mesh.get_local_rank()]  # ALiBi's, of its heads

    def _embedded(self, *arguments: Any) -> Tensor:
        x = super()._embedded(*arguments)
        if not self.group.divided:
            return x
        if self.training and (self.config.dropout or self.config.attention.dropout):
            _draw_own_noise(self.group.mesh.get_local_rank())
        return self.group.moved(x, Replicate(), Shard(1), Shard(1))


@torch.compiler.disable
def _draw_own_noise(rank: int) -> None:
    """From here on all that is dropped is of this process only, and so is the noise."""
    torch.manual_seed(derive_seed(torch.initial_seed(), "tensor", rank))
