"""Pipeline parallelism: the layers divided among processes, which compute one after the other on many micro-batches.

A *stage* is a run of layers. The stream goes from stage to stage, its gradient back; while one process computes one
micro-batch, the next computes the one before. In which order is a *schedule*: GPipe (Huang et al. 2019), 1F1B and
interleaved 1F1B (Narayanan et al. 2021), zero-bubble (Qi et al. 2023, ZB-H1). PyTorch's ``distributed.pipelining``
has the schedules and moves the tensors.

Enters: a model that every process has whole. Leaves: the same model with the layers of this process's stages, under
their own names; the first has the embedding, too, the last the norm and the head. Called outside of training by all
processes alike, it gives all of them what the whole model does.

All processes of a pipeline draw the same batches, so that nothing but the stream is sent, and what belongs to it: the
first state of the stream and its scales, and what the routers of the layers so far add to the loss, where the model has
these. So all gradients find their way back by themselves. Only a matrix that embedding and head share is in two
places: its gradients are added up after the backward pass, and both make the same update.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, distributed, nn

from groundup.core.device import Numerics
from groundup.core.errors import UsageError
from groundup.dataloader import Batch
from groundup.distributed.sharding import local, standing_in
from groundup.model import KVCache, Record, Transformer
from groundup.model.experts import Routing, balance_loss, counting
from groundup.planning.mesh import Mesh

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

#: What happens around the computing of a stage's micro-batch: (stage, micro-batch).
Around = Callable[[int, int], AbstractContextManager[object]]


@dataclass(frozen=True)
class Line:
    """The processes of one pipeline."""

    group: Any
    ends: Any
    """The first and the last of them, where they share a matrix; None in the others."""
    rank: int
    plan: Mesh
    device: torch.device
    dtype: torch.dtype
    """Of the stream."""
    layers: tuple[range, ...]
    """Of this process's stages."""
    elsewhere: frozenset[str]
    """Names of the weights that only others have."""

    def owner(self, stage: int) -> int:
        """The process that has a stage."""
        return stage % self.plan.pipeline

    @property
    def stages(self) -> range:
        """Those of this process."""
        return range(self.rank, self.plan.stages, self.plan.pipeline)


@dataclass(frozen=True)
class Given:
    """What a stage is told of a micro-batch, the arguments of the model's forward pass."""

    ids: Tensor
    positions: Tensor | None = None
    segments: Tensor | None = None
    places: Tensor | None = None
    cache: KVCache | None = None
    record: Record | None = None
    rows: int = 0
    """Those that count, the first ones; the others fill up."""
    counted: int = 0
    """Tokens that count as what experts have to do, the first ones."""

    @classmethod
    def of(cls, part: Batch, rows: int) -> "Given":
        """What is told of a part of a batch, filled up to so many rows."""

        def filled(name: str) -> Tensor | None:
            tensor = part.tensors.get(name)
            return None if tensor is None else torch.cat((tensor, tensor[:1].expand(rows - len(tensor), -1)))

        ids = filled("inputs")
        assert ids is not None
        own = len(part.tensors["inputs"])
        time = part.tensors.get("places", ids).shape[1]
        counted = 0 if part.idle else own * time
        return cls(ids, filled("positions"), filled("segments"), filled("places"), rows=own, counted=counted)


def parts_of(batch: Batch, count: int) -> list[Batch]:
    """A batch as so many parts; where it has too few rows, the last ones are one row that counts for nothing."""
    parts = batch.split(count)
    return parts + [standing_in(batch) for _ in range(count - len(parts))]


def divide_layers(model: Transformer, mesh: "DeviceMesh", plan: Mesh, device: torch.device, numerics: Numerics) -> None:
    """Leave ``model`` the layers of this process's stages, and what comes before the first or behind the last.

    Args:
        model: whole, and the same in all processes.
        mesh: all of them.
        plan: the sizes of its dimensions, and the schedule; it fits the model.
        device: where the model will compute.
        numerics: in which precision.

    Raises:
        UsageError: the schedule needs another number of micro-batches.
    """
    check_schedule(plan)
    rank = mesh.get_local_rank("pipeline")
    first, last, tied = rank == 0, rank == plan.pipeline - 1, model.config.tied
    layers = tuple(plan.layers_of(rank, model.config.layers))
    names = model.state_dict().keys()
    kept = {layer for run in layers for layer in run}
    for layer in set(range(model.config.layers)) - kept:
        delattr(model.blocks, str(layer))  # the others keep their numbers, and so their names
    if not first:
        if not (last and tied):
            _leave(model, "embedding", device, numerics.weights)
        model.position_embedding, model.ngram_embedding, model.stream_scales = None, nn.ModuleList(), None
    if not last:
        _leave(model, "head", device, numerics.weights)
        model.norm = nn.Identity()
    group, ends = mesh.get_group("pipeline"), None
    if tied:
        lines = mesh.mesh.flatten(1).T.tolist()
        found = [group if plan.pipeline == 2 else distributed.new_group([line[0], line[-1]]) for line in lines]
        place = next(number for number, line in enumerate(lines) if distributed.get_rank() in line)
        ends = found[place] if first or last else None
    elsewhere = frozenset(names - model.state_dict().keys())
    model.__dict__["line"] = Line(group, ends, rank, plan, device, numerics.weights, layers, elsewhere)


def check_schedule(plan: Mesh) -> None:
    """Refuse numbers of micro-batches that a schedule cannot order.

    Raises:
        UsageError: in one line.
    """
    count, size = plan.micro_batches, plan.pipeline
    if plan.schedule == "1f1b" and count < size:
        raise UsageError(
            f"parallel.micro-batches is {count}; 1f1b needs at least one for each of the {size} pipeline processes"
        )
    if plan.schedule == "zero-bubble" and count % size:
        raise UsageError(f"parallel.micro-batches is {count}; zero-bubble needs a multiple of parallel.pipeline {size}")


class Elsewhere(nn.Module):
    """In the place of a module that another process has: says where and in which dtype this one computes."""

    weight: Tensor

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        super().__init__()
        self.register_buffer("weight", torch.empty(0, dtype=dtype, device=device), persistent=False)


def _leave(model: nn.Module, name: str, device: torch.device, dtype: torch.dtype) -> None:
    setattr(model, name, Elsewhere(device, dtype))


def stages_of(model: Transformer) -> "list[Stage]":
    """The stages of a model whose layers were divided: what is sharded, compiled and scheduled is each of these."""
    line: Line = model.__dict__["line"]
    model.__class__ = type("Staged", (Staged, type(model)), {})
    staged = cast(Staged, model)
    stages = [Stage(staged, layers, number) for layers, number in zip(line.layers, line.stages, strict=True)]
    model.__dict__["stages"] = stages  # no modules of the model: its parameters keep their names
    return stages


class Stage(nn.Module):
    """The layers between what comes in and what goes out."""

    stream_scales: nn.Parameter | None

    def __init__(self, model: "Staged", layers: range, number: int) -> None:
        super().__init__()
        self.__dict__["model"] = model  # not a part of this
        self.number = number
        self.first, self.last = number == 0, number == model.line.plan.stages - 1
        self.layers = layers
        self.blocks = nn.ModuleList(getattr(model.blocks, str(layer)) for layer in layers)
        self.given: Sequence[Given] = ()
        self.around: Around = _nothing
        self.compute: Callable[..., tuple[Tensor, ...]] = self._compute
        scales = model._parameters.get("stream_scales") if self.first else None
        self.register_parameter("stream_scales", scales)
        if self.first:
            self.embedding, self.position_embedding = model.embedding, model.position_embedding
            self.ngram_embedding = model.ngram_embedding
        if self.last:
            self.norm, self.head = model.norm, model.head
            if model.config.tied:
                self.embedding = model.embedding

    def forward(self, *carried: Tensor, number: Tensor) -> tuple[Tensor, ...]:
        """What the stage before sent of micro-batch ``number`` [1] of those ``given`` → what to send on.

        The first stage is sent nothing. The last one gives the normalised stream, and what routers add to the loss.
        """
        given = self.given[int(number)]
        if self.first:
            carried = self._scales()
        with self.around(self.number, int(number)), counting(self, given.counted):
            # Validation and sampling are never compiled: their shapes vary.
            found = (self.compute if torch.is_grad_enabled() else self._compute)(carried, given)
        if not torch.is_grad_enabled():
            return found
        # Frozen layers give what needs no gradient; the next stage, which does not know that, sends one.
        return tuple(tensor if tensor.requires_grad else tensor.detach().requires_grad_() for tensor in found)

    def _scales(self) -> tuple[Tensor, ...]:
        """The scales of the stream, gathered where they are divided: read as the model reads them."""
        if self._parameters["stream_scales"] is None:
            return ()
        own = self._model._parameters
        divided, own["stream_scales"] = own["stream_scales"], self._parameters["stream_scales"]
        scales = self._model.stream_scales
        own["stream_scales"] = divided
        assert scales is not None
        return (scales,)

    @property
    def _model(self) -> "Staged":
        return cast("Staged", self.__dict__["model"])

    def _compute(self, carried: tuple[Tensor, ...], given: Given) -> tuple[Tensor, ...]:
        model = self._model
        balances = model.balances
        record = Record(wants_attention=False, wants_residuals=False) if balances else given.record
        shared, positions = model._shared(given.ids, given.positions, given.segments, given.cache, record, given.places)
        kept = record.residuals if record is not None and record.wants_residuals else None
        if self.first:
            x = model._embedded(given.ids, positions, given.segments, given.cache, given.places)
            uneven, rest = x.new_zeros(1, dtype=torch.float32), [x, *carried]
            if kept is not None:
                kept.append(x)
        else:
            x, *rest = carried
            uneven = rest.pop() if balances else x
        for layer, block in zip(self.layers, self.blocks, strict=True):
            if model.config.residual_scalars:
                first, scales = rest
                x = scales[layer, 0] * x + scales[layer, 1] * first
            x = block(x, shared)
            if kept is not None:
                kept.append(x)
        found = [model.norm(x) if self.last else x]
        if model.config.residual_scalars and not self.last:
            found += [each.clone() for each in rest]  # schedules detach what goes out, and these are still needed
        if balances and record is not None:
            for each in record.routing:
                count = len(each.logits) * given.rows // len(given.ids)
                real = Routing(each.logits[:count], each.weights[:count], each.chosen[:count])
                uneven = uneven + balance_loss(real).float()
            found.append(uneven)
        return tuple(found)


def _nothing(stage: int, number: int) -> AbstractContextManager[object]:
    return nullcontext()


class Staged(Transformer):
    """A model of which this process has the layers of some stages.

    Outside of training it is called like the whole model, by all processes alike, and without gradients.
    """

    line: Line
    stages: list[Stage]
    _ready: tuple[Any, Any] = (None, None)
    _loss: Callable[[Any, int], Tensor]

    @property
    def balances(self) -> bool:
        """Whether what routers add to the loss goes along with the stream."""
        experts = self.config.experts
        return bool(self.training and torch.is_grad_enabled() and experts.count and experts.balance)

    # Training

    def compute_gradients(
        self, parts: Sequence[Batch], loss: Callable[[Transformer, int], Tensor], around: Around
    ) -> list[Tensor]:
        """Forward and backward passes of micro-batches, as the schedule orders them.

        Args:
            parts: the micro-batches, of any number of rows.
            loss: (model, number of the micro-batch) → what to differentiate; called in the last stage, where the model
                knows already what it will be asked for.
            around: entered around a stage's forward pass.

        Returns:
            The losses, in the process of the last stage; nothing in the others.
        """
        rows = max(len(part.tensors["inputs"]) for part in parts)
        given = [Given.of(part, rows) for part in parts]
        for stage in self.stages:
            stage.given, stage.around = given, around
        self._loss = lambda found, number: loss(cast(Transformer, Finished(self, found, given[number].rows)), number)
        carried = self._carried(given[0])
        shape = (len(given), [(each.shape, each.dtype) for each in carried])
        if self._ready[0] != shape:  # what is received is as large as what the schedule was made for
            self._ready = shape, self._schedule(len(given), carried)
        numbers, losses = torch.arange(len(given)), list[Tensor]()
        try:
            with counting(self, 0):  # what is computed again in the backward pass was counted
                self._ready[1].step(number=numbers, target=numbers, losses=losses, return_outputs=False)
        except RuntimeError as error:
            raise error.__cause__ or error from None  # PyTorch tells all arguments in front of what went wrong
        finally:
            for stage in self.stages:
                stage.given, stage.around = (), _nothing
        return [loss.detach() for loss in losses]

    def _schedule(self, count: int, carried: tuple[Tensor, ...]) -> Any:
        from torch.distributed.pipelining import (
            PipelineStage,
            Schedule1F1B,
            ScheduleGPipe,
            ScheduleInterleaved1F1B,
            ScheduleInterleavedZeroBubble,
        )

        # What goes wrong is told once, by us.
        logging.getLogger("torch.distributed.pipelining").setLevel(logging.CRITICAL)
        line, plan = self.line, self.line.plan
        stages: list[Any] = [
            PipelineStage(
                stage, stage.number, plan.stages, line.device, () if stage.first else carried, carried, group=line.group
            )
            for stage in self.stages
        ]

        def loss(found: tuple[Tensor, ...], number: Tensor) -> Tensor:
            return self._loss(found, int(number))

        if plan.schedule == "interleaved":
            return ScheduleInterleaved1F1B(stages, count, loss, scale_grads=False)
        if plan.schedule == "zero-bubble":
            return ScheduleInterleavedZeroBubble(stages, count, loss, scale_grads=False)
        single = ScheduleGPipe if plan.schedule == "gpipe" else Schedule1F1B
        return single(stages[0], count, loss, scale_grads=False)

    def _carried(self, given: Given) -> tuple[Tensor, ...]:
        """Shapes and dtypes of what stages send each other."""
        self._shared(given.ids, given.positions, given.segments, given.cache, given.record, given.places)
        rows, time = (given.ids if given.places is None else given.places).shape
        group = getattr(self, "group", None)  # of processes that share products, and then perhaps the stream
        if group is not None and group.divided:
            time //= group.mesh.size()
        stream = torch.empty(rows, time, self.config.width, dtype=self.line.dtype, device="meta", requires_grad=True)
        found = [stream]
        if self.config.residual_scalars:
            found += [stream, stream.new_empty(self.config.layers, 2, requires_grad=True)]
        if self.balances:
            found.append(stream.new_empty(1, dtype=torch.float32, requires_grad=True))
        return tuple(found)

    def unite(self) -> None:
        """Add up the gradients of the matrix that the first and the last stage share."""
        if self.line.ends is not None:
            gradient = self.get_parameter("embedding.weight").grad
            if gradient is not None:
                distributed.all_reduce(local(gradient), group=self.line.ends)

    def counted(self) -> list[nn.Parameter]:
        """The parameters, but for those that count as an earlier stage's."""
        again = self.line.ends is not None and self.line.rank > 0
        return [each for name, each in self.named_parameters() if not (again and name == "embedding.weight")]

    # Outside of training

    @torch.no_grad()
    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KVCache | None = None,
        record: Record | None = None,
        head: bool = True,
        places: Tensor | None = None,
    ) -> Tensor:
        """What the whole model gives, in every process."""
        found = self._passed(Given(ids, positions, segments, places, cache, record, len(ids)))
        if record is not None:
            self._complete(record)
        if head:
            return self.project(found[0])
        shape = (*(ids if places is None else places).shape, self.config.width)
        return self._told(
            found[0] if self._ends else torch.empty(shape, dtype=self.line.dtype, device=self.line.device)
        )

    @torch.no_grad()
    def evaluate(self, objective: Callable[[Transformer, Batch], Tensor], batch: Batch) -> Tensor:
        """What an objective makes of a batch: the last stage computes it, which alone has the head."""
        found = self._passed(Given.of(batch, len(batch.tensors["inputs"])))
        loss = torch.zeros((), device=self.line.device)
        if self._ends:
            loss = objective(cast(Transformer, Finished(self, found, len(batch.tensors["inputs"]))), batch)
        return self._told(loss.float())

    def _passed(self, given: Given) -> tuple[Tensor, ...]:
        """One pass through all stages: what the last one of this process gave."""
        line, found = self.line, tuple[Tensor, ...]()
        for stage in self.stages:
            if not stage.first:
                found = tuple(torch.empty_like(each, device=line.device) for each in self._carried(given))
                for each in found:
                    distributed.recv(each, group=line.group, group_src=line.owner(stage.number - 1))
            stage.given = (given,)
            found = stage(*found, number=torch.zeros(1, dtype=torch.int64))
            if not stage.last:
                for each in found:
                    distributed.send(each.contiguous(), group=line.group, group_dst=line.owner(stage.number + 1))
            stage.given = ()
        return found

    @torch.no_grad()
    def project(self, hidden: Tensor) -> Tensor:
        """Logits [..., vocabulary] in every process; ``hidden`` is that of the last stage."""
        if self._ends:
            return self._told(super().project(hidden))
        shape = (*hidden.shape[:-1], self.vocab_size)
        return self._told(torch.empty(shape, dtype=torch.float32, device=self.line.device))

    @property
    def _ends(self) -> bool:
        return self.stages[-1].last

    def _told(self, tensor: Tensor, rank: int = -1) -> Tensor:
        """What process ``rank`` of the pipeline has, by default the last one."""
        tensor = tensor.contiguous()
        distributed.broadcast(tensor, group=self.line.group, group_src=rank % self.line.plan.pipeline)
        return tensor

    def _complete(self, record: Record) -> None:
        """What the other stages have recorded, too, in the order of the layers."""
        line, config = self.line, self.config
        attention, residuals = (iter(list(each)) for each in (record.attention, record.residuals))
        routing = iter(list(record.routing))
        for kept in (record.attention, record.residuals, record.routing):
            kept.clear()
        for stage in range(line.plan.stages):
            rank = line.owner(stage)
            layers = list(line.plan.layers_of(rank, config.layers))[stage // line.plan.pipeline]
            if record.wants_residuals and stage == 0:
                record.residuals.append(self._from(rank, residuals))
            for layer in layers:
                if record.wants_attention:
                    record.attention.append(self._from(rank, attention))
                if record.wants_residuals:
                    record.residuals.append(self._from(rank, residuals))
                if record.wants_routing and config.routed(layer):
                    decided = next(routing) if rank == line.rank else None
                    parts = iter((decided.logits, decided.weights, decided.chosen) if decided is not None else ())
                    record.routing.append(Routing(*(self._from(rank, parts) for _ in range(3))))

    def _from(self, rank: int, own: Iterator[Tensor]) -> Tensor:
        """The next of a process's own tensors, in all processes."""
        kinds = (torch.float32, torch.bfloat16, torch.float16, torch.int64)
        tensor = next(own) if rank == self.line.rank else torch.empty(0)
        shape = torch.tensor([tensor.ndim, kinds.index(tensor.dtype), *tensor.shape, *[0] * (4 - tensor.ndim)])
        axes, kind, *sizes = self._told(shape.to(self.line.device), rank).tolist()
        if rank != self.line.rank:
            tensor = torch.empty(sizes[:axes], dtype=kinds[kind], device=self.line.device)
        return self._told(tensor, rank)

    def empty_cache(self, rows: int, capacity: int) -> KVCache:
        """An empty cache, with room for the layers that this process has."""
        cache = super().empty_cache(rows, capacity)
        own = {layer for run in self.line.layers for layer in run}
        for tensors in (cache.keys, cache.values):
            for layer in set(range(len(tensors))) - own:
                tensors[layer] = tensors[layer][:, :0].clone()
        return cache


def loss_of(model: Transformer, objective: Callable[[Transformer, Batch], Tensor], batch: Batch) -> Tensor:
    """What an objective makes of a batch, without gradients; of a model in stages all processes get it."""
    if "engine" in model.__dict__:  # DeepSpeed's, which gathers the weights that the objective reads
        return cast(Tensor, model.__dict__["engine"].evaluate(objective, batch))
    return model.evaluate(objective, batch) if isinstance(model, Staged) else objective(model, batch)


class Finished:
    """The model as an objective sees it once the stages have computed: what it will be asked for is known."""

    def __init__(self, model: Staged, found: tuple[Tensor, ...], rows: int) -> None:
        self._model, self._found, self._rows = model, found, rows

    def __call__(self, ids: Tensor, *, record: Record | None = None, head: bool = True, **_: Any) -> Tensor:
        """Logits, or without ``head`` the normalised stream."""
        hidden, *uneven = self._found
        if record is not None and uneven:
            config = self._model.config
            record.uneven.append(uneven[0][0] / sum(config.routed(layer) for layer in range(config.layers)))
        return self.project(hidden[: self._rows]) if head else hidden[: self._rows]

    def project(self, hidden: Tensor) -> Tensor:
        """Logits of the normalised stream, with their gradients."""
        return super(Staged, self._model).project(hidden)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
