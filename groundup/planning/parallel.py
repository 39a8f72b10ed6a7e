"""What a training on many devices would take: memory of each, and where the seconds of a step go.

Enters: a model, a :class:`Plan` and a :class:`Cluster`. Leaves: bytes part by part and a :class:`StepTime`, all by
closed formulas whose sources stand beside them; nothing is run. What the formulas assume is in :class:`Assumptions`;
how far they are from published measurements is in ``docs/planning.md``.
"""

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Literal, NamedTuple

from groundup.model.config import ModelConfig
from groundup.planning.activations import FLOAT, MicroBatch, block, loss, positions, products_of, stream_norm
from groundup.planning.count import block_norms, last_norm, layer_matrices, operations, seen_pairs
from groundup.planning.machines import Machine
from groundup.planning.mesh import Mesh
from groundup.planning.network import Network
from groundup.planning.plan import Training

Recompute = Literal["none", "selective", "block"]

#: Logits that the loss has in memory at once, and the fewest tokens (``objectives/cross_entropy.py``).
LOGITS, LEAST_TOKENS = 2**21, 512
#: Share of the peak that large matrix products reach. Of H100 and A100 each is set so that one published training
#: (Llama 3.1 8B on 8 H100 limited to 500 W, torchtitan; GPT 175B on 64 A100, Korthikanti et al. 2022) comes out; of all
#: others it is an assumption.
EFFICIENCY: Mapping[str, float] = {"h100": 0.469, "h200": 0.469, "a100": 0.661, "a100-40": 0.661}
ASSUMED_EFFICIENCY = 0.5
#: The same of fused attention: FlashAttention-2 reaches 35 % on H100 (Shah et al. 2024), 50 to 73 % on A100 (Dao 2023).
ATTENTION: Mapping[str, float] = {"h100": 0.35, "h200": 0.35, "a100": 0.6, "a100-40": 0.6}
ASSUMED_ATTENTION = 0.35
#: Bytes that bringing a number to float8 moves: read in bfloat16 for the largest of its tensor, read again, written.
CAST = 5
#: Layers whose gathered weights are in memory at once: the one at work, and the next, which is on its way.
GATHERED = 2


@dataclass(frozen=True)
class Plan:
    """How a training is divided."""

    mesh: Mesh
    rows: int
    """Sequences of a micro-batch on each data-parallel rank."""
    recompute: Recompute = "none"
    """`memory.recompute` of the training."""

    @property
    def batch(self) -> int:
        """Sequences of a step, over all devices."""
        return self.mesh.batch_ranks * self.mesh.micro_batches * self.rows


@dataclass(frozen=True)
class Job:
    """What is trained; ``training.rows`` says nothing here."""

    config: ModelConfig
    vocab_size: int
    training: Training
    fused: bool = True
    """Activations as accelerators keep them; False: as a CPU does."""

    @cached_property
    def model(self) -> ModelConfig:
        """The shape, complete."""
        return self.config.resolved()


@dataclass(frozen=True)
class Assumptions:
    """What the formulas take for granted."""

    efficiency: float = ASSUMED_EFFICIENCY
    """Share of the peak that large matrix products reach."""
    attention: float = ASSUMED_ATTENTION
    """Share of the peak that attention reaches."""
    link_share: float = 0.8
    """Share of a link's bandwidth that collective operations reach; what NCCL's tests show for large messages."""
    overlap: float = 1.0
    """Share of the computing behind which FSDP's and the ring's messages can hide; 0: they wait for each other."""
    passes: float = 4.0
    """Times that an activation which is kept crosses the memory: written, read, and so its gradient."""
    products: float = 1.0
    """How much faster the blocks' products are than the peak says; 2 in float8."""
    selective_repeats: float = 0.0
    """Share of the products that selective recomputation computes again. Here none, in torchtitan every second."""
    inside_latency: float = 5e-6
    """Seconds of a message in a node: NVLink or PCIe, the orders of magnitude of NCCL's tuning table."""
    between_latency: float = 15e-6
    """The same between nodes."""
    overhead_bytes: float = 3e9
    """Of several devices, on each: the driver's context, the buffers of NCCL, holes of the allocator."""


@dataclass(frozen=True)
class Cluster:
    """The devices."""

    machine: Machine
    devices: int
    per_node: int
    inside: float
    """Bytes per second of a device to others in its node, in one direction, by the maker."""
    between: float
    """The same to other nodes."""
    assumptions: Assumptions = field(default_factory=Assumptions)

    @property
    def network(self) -> Network:
        """Its links as collective operations find them."""
        known = self.assumptions
        share = known.link_share
        return Network(
            self.per_node, self.inside * share, self.between * share, known.inside_latency, known.between_latency
        )


class Numbers(NamedTuple):
    """Weights on a device before they are sharded."""

    dense: float
    """Those of all parts but the experts."""
    routed: float
    """Those of its experts."""
    dense_hidden: float
    """Of the former, in matrices that Muon trains."""

    @property
    def total(self) -> float:
        """All."""
        return self.dense + self.routed


class BlockTime(NamedTuple):
    """Seconds of one block and one micro-batch on one device."""

    forward: float
    inputs: float
    """Backward: the gradients of what enters products, of attention and of all else but the weights."""
    weights: float
    """Backward: the gradients of the weights."""
    tensor: float
    """Messages of the tensor group."""
    experts: float
    """Messages of the expert group."""
    ring: float
    """Messages of the context group that computing does not hide."""
    sharded: float
    """Messages of FSDP that computing does not hide."""


@dataclass(frozen=True)
class StepTime:
    """Where the seconds of a step go, on the pipeline rank that takes longest."""

    compute: float
    """Products, attention, everything else on the device's own memory."""
    tensor: float
    """Waiting for the tensor group: all-gather and reduce-scatter."""
    experts: float
    """Waiting for the expert group: all-to-all."""
    context: float
    """Waiting for the ring of keys and values."""
    sharding: float
    """Waiting for FSDP: all-gather of weights, reduce-scatter of gradients; what computing hides is not here."""
    replicas: float
    """Waiting for the sum of the gradients over replicas."""
    pipeline: float
    """Sending activations and their gradients between stages."""
    bubble: float
    """Waiting for other stages."""
    optimizer: float
    """Updating the weights; with Muon also bringing each matrix together."""

    @property
    def total(self) -> float:
        """The step."""
        return math.fsum(getattr(self, item.name) for item in fields(self))

    @property
    def communication(self) -> float:
        """Seconds in which a device waits for messages."""
        return self.tensor + self.experts + self.context + self.sharding + self.replicas + self.pipeline

    def parts(self) -> dict[str, float]:
        """By name, those that are not 0."""
        return {item.name: value for item in fields(self) if (value := getattr(self, item.name))}


class Simulator:
    """Predicts plans of one job on one cluster; what plans have in common is computed once."""

    def __init__(self, job: Job, cluster: Cluster) -> None:
        self.job, self.cluster = job, cluster
        self._kinds = [
            (self.model.windowed(n), self.model.routed(n), self.model.has_value_embedding(n))
            for n in range(self.model.layers)
        ]
        self._layer = {kind: self._kinds.index(kind) for kind in set(self._kinds)}
        self._found: dict[tuple[object, ...], object] = {}
        self._local: dict[int, ModelConfig] = {}
        self._of_rank: dict[tuple[int, int, tuple[int, ...]], list[Counter[int]]] = {}

    @property
    def model(self) -> ModelConfig:
        """Its shape, complete."""
        return self.job.model

    def local(self, mesh: Mesh) -> ModelConfig:
        """The shape of what one device of a tensor group computes."""
        if mesh.tensor not in self._local:
            self._local[mesh.tensor] = mesh.local(self.model)
        return self._local[mesh.tensor]

    # Weights

    def ranks(self, mesh: Mesh) -> list[Counter[int]]:
        """The layers of each pipeline rank, of every kind the first, counted."""
        key = (mesh.pipeline, mesh.chunks, mesh.split)
        if key not in self._of_rank:
            self._of_rank[key] = [
                Counter(self._layer[self._kinds[n]] for part in mesh.layers_of(rank, self.model.layers) for n in part)
                for rank in range(mesh.pipeline)
            ]
        return self._of_rank[key]

    def block_numbers(self, mesh: Mesh, layer: int) -> Numbers:
        """Weights of a block on one device of the tensor and the expert group."""
        key = ("numbers", mesh.tensor, mesh.expert, layer)
        if key not in self._found:
            local = self.local(mesh)
            dense, routed, hidden = block_norms(local) + local.heads * local.attention.sinks, 0.0, 0.0
            dense += local.kv_heads * local.key_smear + 2 * local.residual_scalars
            if local.has_value_embedding(layer):
                dense += local.kv_heads * (self.job.vocab_size * local.head_size + 1)
            for matrix in layer_matrices(local, layer):
                if matrix.part == "routed_experts":
                    routed += matrix.parameters / mesh.expert
                else:
                    dense += matrix.parameters
                    hidden += matrix.outputs * matrix.inputs * (matrix.part != "router")
            self._found[key] = Numbers(dense, routed, hidden)
        found = self._found[key]
        assert isinstance(found, Numbers)
        return found

    def tables(self, mesh: Mesh, rank: int) -> tuple[float, float]:
        """Weights before and after the blocks on a pipeline rank: embeddings, and the output head with its norm.

        A shared matrix is on both ends of a pipeline, as stages cannot share it.
        """
        model, rows = self.model, -(-self.job.vocab_size // mesh.tensor)
        first, last = rank == 0, rank == mesh.pipeline - 1
        before = rows * model.width * first
        before += max(0, model.ngrams - 1) * model.ngram_rows * model.width * first
        before += model.context * model.width * (first and model.positions.kind == "learned")
        shared = model.tied and first
        return before, (last_norm(model) + (0 if shared else rows * model.width)) * last

    def numbers(self, mesh: Mesh, rank: int) -> Numbers:
        """All weights of a device on a pipeline rank, before they are sharded."""
        dense, routed, hidden = float(sum(self.tables(mesh, rank))), 0.0, 0.0
        for layer, count in self.ranks(mesh)[rank].items():
            block_dense, block_routed, block_hidden = self.block_numbers(mesh, layer)
            dense, routed = dense + count * block_dense, routed + count * block_routed
            hidden += count * block_hidden
        return Numbers(dense, routed, hidden)

    # Memory

    def memory(self, plan: Plan) -> dict[str, int]:
        """Bytes on the device that needs most, by part.

        Weights, gradients and optimizer state are float32 and divided over the sharded dimensions (ZeRO-3, Rajbhandari
        et al. 2020); experts, which the expert dimension divides already, over the others. On one device it is what
        :func:`groundup.planning.plan.figures` tells.
        """
        return max(
            (self._memory(plan, rank) for rank in self._extremes(plan.mesh)), key=lambda found: sum(found.values())
        )

    def _extremes(self, mesh: Mesh) -> list[int]:
        """Ranks of which one needs most and one takes longest: both ends, and the first of each other set of layers."""
        inner = [tuple(sorted(layers.items())) for layers in self.ranks(mesh)][1:-1]
        return sorted({0, mesh.pipeline - 1, *(1 + inner.index(kind) for kind in set(inner))})

    def _memory(self, plan: Plan, rank: int) -> dict[str, int]:
        """At the moment when it needs most: at the loss, where nothing has been given back yet, or in the backward
        pass, where gradients come up as activations go."""
        mesh, training = plan.mesh, self.job.training
        numbers = self.numbers(mesh, rank)
        inner = mesh.shard * mesh.context
        held = numbers.dense / mesh.sharded + numbers.routed / inner
        hidden = numbers.dense_hidden / mesh.sharded + numbers.routed / inner
        kept, again = self._activations(plan, rank)
        several = plan.mesh.micro_batches > 1
        standing = {
            "weights": FLOAT * held,
            "optimizer": FLOAT * (2 * held - training.muon * hidden) / (mesh.data if mesh.zero else 1),
            "mean_of_weights": FLOAT * held * training.averaged,
        }
        if mesh.devices > 1:
            standing["overhead"] = self.cluster.assumptions.overhead_bytes
        elif training.element < FLOAT and self.job.fused:
            standing["weights_in_bfloat16"] = training.element * numbers.total
        weights, at_loss, gradients = self._gathered(plan, rank) if mesh.devices > 1 else (0.0, 0.0, 0.0)
        backward = {
            "gradients": FLOAT * held,
            "activations": kept + again,
            "gathered_weights": weights,
            "gathered_gradients": gradients,
        }
        loss = {
            "gradients": FLOAT * held * several,
            "activations": kept,
            "gathered_weights": at_loss,
            "gathered_gradients": gradients * (several and mesh.pipeline > 1),
            "logits": self._logits(plan) * (rank == mesh.pipeline - 1),
        }
        found = standing | max(backward, loss, key=lambda each: sum(each.values()))
        return {part: math.ceil(size) for part, size in found.items() if size}

    def _logits(self, plan: Plan) -> float:
        """Those that the loss makes at once, and what it makes of them."""
        tokens = min(self.micro_batch(plan).tokens, max(LEAST_TOKENS, LOGITS // self.job.vocab_size))
        return 2 * FLOAT * tokens * self.job.vocab_size / plan.mesh.tensor

    def _gathered(self, plan: Plan, rank: int) -> tuple[float, float, float]:
        """What FSDP brings together: weights at most, weights at the loss, and gradients in float32 before they are
        scattered.

        Embedding and head stay from the forward to the backward pass; of blocks, with ZeRO-3, the one at work does and
        in the backward pass the next. A pipeline keeps the sum of the gradients whole until its last micro-batch.
        """
        blocks = [self.block_numbers(plan.mesh, layer).total for layer in self.ranks(plan.mesh)[rank].elements()]
        ends, everything = sum(self.tables(plan.mesh, rank)), self.numbers(plan.mesh, rank).total
        element = self.job.training.read
        kept_whole = plan.mesh.pipeline > 1 and plan.mesh.micro_batches > 1
        weights = min(everything, ends + GATHERED * max(blocks)) if plan.mesh.reshard else everything
        gradients = FLOAT * (everything if kept_whole else max(ends, *blocks))
        return element * weights, element * (ends if plan.mesh.reshard else everything), gradients

    def micro_batch(self, plan: Plan) -> MicroBatch:
        """What one device of a context group works on."""
        training = self.job.training
        time, element = self.model.context // plan.mesh.context, training.element
        copied = not self.job.fused and (plan.mesh.sharded == 1 or training.read > element)
        return MicroBatch(plan.rows, time, element, copied, self.job.fused, self.model.context)

    def _stream(self, plan: Plan) -> MicroBatch:
        """The part of it between products, which sequence parallelism divides."""
        batch, mesh = self.micro_batch(plan), plan.mesh
        time = batch.time // mesh.tensor if mesh.sequence else batch.time
        return MicroBatch(batch.rows, time, batch.element, batch.copied, batch.fused, batch.whole)

    def _kept(self, plan: Plan, layer: int) -> tuple[float, float]:
        """Bytes that a block keeps for the backward pass: under ``plan.recompute``, and without it."""
        mesh = plan.mesh
        key = ("kept", mesh.tensor, mesh.sequence, mesh.context, mesh.sharded > 1, plan.rows, plan.recompute, layer)
        if key not in self._found:
            local, batch, stream = self.local(mesh), self.micro_batch(plan), self._stream(plan)
            everything = kept = sum(block(local, layer, batch, stream).values())
            if plan.recompute != "none":
                kept = stream.stream * stream.tokens * local.width
            if plan.recompute == "selective":
                share = 1 - self.cluster.assumptions.selective_repeats
                kept += int(products_of(local, layer, batch) * share)
            self._found[key] = (min(kept, everything), everything)
        found = self._found[key]
        assert isinstance(found, tuple)
        return found

    def _activations(self, plan: Plan, rank: int) -> tuple[float, float]:
        """Those of all micro-batches in flight (:meth:`Mesh.in_flight`); and of the block that is computed again."""
        mesh, local, batch = plan.mesh, self.local(plan.mesh), self.micro_batch(plan)
        kept = again = 0.0
        for layer, count in self.ranks(mesh)[rank].items():
            one, everything = self._kept(plan, layer)
            kept, again = kept + count * one, max(again, everything - one)
        ends = 0.0
        if rank == 0:
            ends += 8 * batch.tokens * max(0, local.ngrams - 1)
        if rank == mesh.pipeline - 1:
            ends += 0 if local.norm_place == "post" else stream_norm(local, self._stream(plan))
            ends += loss(local, -(-self.job.vocab_size // mesh.tensor), batch)
        flights = mesh.in_flight(rank) / mesh.chunks
        key = ("positions", mesh.tensor, mesh.context, plan.rows)
        if key not in self._found:
            self._found[key] = positions(local, batch)
        shared = self._found[key]
        assert isinstance(shared, int)
        return flights * kept + max(1.0, flights) * ends + shared, again

    # Time

    def step(self, plan: Plan) -> StepTime:
        """Where the seconds of a step go."""
        return max((self._step(plan, rank) for rank in self._extremes(plan.mesh)), key=lambda found: found.total)

    def utilisation(self, plan: Plan, seconds: float) -> float:
        """Model FLOPs utilisation of a step that takes so long (Chowdhery et al. 2022, appendix B)."""
        useful = operations(self.model, self.job.vocab_size, self.model.context).useful_training * plan.batch
        return useful / (seconds * plan.mesh.devices * self.cluster.machine.peak)

    def block_time(self, plan: Plan, layer: int) -> BlockTime:
        """Seconds of one block and one micro-batch."""
        mesh = plan.mesh
        key = ("time", mesh.tensor, mesh.context, mesh.expert, mesh.shard, mesh.sequence, plan.rows, plan.recompute,
               plan.mesh.reshard, layer)  # fmt: skip
        if key not in self._found:
            self._found[key] = self._block_time(plan, layer)
        found = self._found[key]
        assert isinstance(found, BlockTime)
        return found

    def _block_time(self, plan: Plan, layer: int) -> BlockTime:
        mesh, machine, known = plan.mesh, self.cluster.machine, self.cluster.assumptions
        local, batch = self.local(mesh), self.micro_batch(plan)
        products = sum(
            self._product(batch.tokens * matrix.active, matrix.inputs, matrix.outputs,
                          matrix.copies / (mesh.expert if matrix.copies > 1 else 1), known.products)
            for matrix in layer_matrices(local, layer)
        )  # fmt: skip
        scores = self._scores(plan, local, layer) / (machine.peak * known.attention)
        # A fused kernel computes the scores again in the backward pass (Dao et al. 2022): five products instead of
        # four.
        scores_backward = scores * (2.5 if self._leaves_out(local) else 2.0)
        moved = self._kept(plan, layer)[1] * known.passes / 2 / machine.bandwidth
        forward, inputs = products + scores + moved, products + scores_backward + moved
        again = {"none": 0.0, "selective": moved + known.selective_repeats * products, "block": forward}[plan.recompute]
        tensor, experts = self._tensor_time(plan), self._expert_time(plan, layer)
        repeats = plan.recompute == "block"
        ring = self._ring_time(plan, scores, scores_backward)
        compute = forward + inputs + products + again
        return BlockTime(
            forward,
            inputs + again,
            products,
            tensor * (3 if repeats else 2),
            experts * (3 if repeats else 2),
            ring + (self._ring_time(plan, scores, 0.0, backward=False) if repeats else 0.0),
            self._sharding_time(plan, layer, forward + tensor, compute - forward + tensor) if mesh.reshard else 0.0,
        )

    def _product(self, tokens: float, inputs: int, outputs: int, copies: float = 1.0, faster: float = 1.0) -> float:
        """Seconds of a product of ``tokens`` vectors with a matrix: by operations or by bytes, whichever is slower (the
        roofline model, Williams et al. 2009). In float8, of the three products of a training step each brings two of
        the three, vectors, matrix and gradients, to that dtype; here is the mean."""
        machine, element = self.cluster.machine, self.job.training.element
        computed = 2 * tokens * inputs * outputs / (machine.peak * faster * self.cluster.assumptions.efficiency)
        numbers = tokens * (inputs + outputs) + copies * inputs * outputs
        cast = CAST * numbers * 2 / 3 / machine.bandwidth if faster > 1 else 0.0
        return max(computed, element * numbers / machine.bandwidth) + cast

    def _scores(self, plan: Plan, local: ModelConfig, layer: int) -> float:
        """Operations of queries with keys and weights with values; fused kernels leave masked pairs out. The ring is
        balanced: a device has a part of the beginning of a sequence and one of its end."""
        time = self.model.context
        latent = local.latent
        size = local.head_size + latent.rotary_size
        values = latent.value_size if latent.key_rank else local.head_size
        seen = seen_pairs(time, local.attention.window if local.windowed(layer) else time)
        pairs = seen if self._leaves_out(local) else time**2
        return 2.0 * local.heads * (size + values) * pairs * plan.rows / plan.mesh.context

    def _leaves_out(self, config: ModelConfig) -> bool:
        """Whether a fused kernel computes attention, which writes no scores and leaves masked ones out."""
        return self.job.fused and not (config.attention.softcap or config.attention.sinks)

    def _tensor_time(self, plan: Plan) -> float:
        """Of one pass over a block: an all-gather before attention and one before feed-forward, a reduce-scatter after
        each (Korthikanti et al. 2022, figure 5). Without sequence parallelism two all-reduces, which are as much
        (Shoeybi et al. 2019)."""
        batch = self.micro_batch(plan)
        size = batch.element * batch.tokens * self.model.width
        return 4 * self.cluster.network.gather(size, self.cluster.network.group(plan.mesh, "tensor"))

    def _expert_time(self, plan: Plan, layer: int) -> float:
        """Of one pass: tokens go to the devices of their experts, and come back (Lepikhin et al. 2021)."""
        if not self.model.routed(layer):
            return 0.0
        batch, network = self.micro_batch(plan), self.cluster.network
        size = batch.element * batch.tokens * self.model.experts.active * self.model.width
        return 2 * network.exchange(size, network.group(plan.mesh, "expert"))

    def _ring_time(self, plan: Plan, scores: float, scores_backward: float, *, backward: bool = True) -> float:
        """What attention does not hide: every device's keys and values visit every other, and in the backward pass once
        more with their gradients (Liu et al. 2023)."""
        mesh, network = plan.mesh, self.cluster.network
        if mesh.context == 1:
            return 0.0
        local, batch = self.local(mesh), self.micro_batch(plan)
        numbers = 2 * local.kv_heads * local.head_size
        if local.latent.key_rank:
            numbers = local.latent.key_rank + local.latent.rotary_size
        once = (mesh.context - 1) * network.send(batch.kept(numbers), network.group(mesh, "context"))
        hidden = self.cluster.assumptions.overlap
        waits = max(0.0, once - hidden * scores)
        return waits + max(0.0, 2 * once - hidden * scores_backward) if backward else waits

    def _sharding_time(self, plan: Plan, layer: int, forward: float, backward: float) -> float:
        """What a layer's computing does not hide of ZeRO-3: weights gathered twice, gradients scattered once
        (Rajbhandari et al. 2020, 7.2; Zhao et al. 2023)."""
        gather, scatter = self._fsdp(plan.mesh, self.block_numbers(plan.mesh, layer))
        hidden = self.cluster.assumptions.overlap
        return max(0.0, gather - hidden * forward) + max(0.0, gather + scatter - hidden * backward)

    def _fsdp(self, mesh: Mesh, numbers: Numbers) -> tuple[float, float]:
        """Seconds of gathering weights and of scattering their gradients."""
        network, element = self.cluster.network, self.job.training.read
        whole = network.group(mesh, "context", "expert", "shard")
        # Experts are shared by the devices of the group that have the same ones.
        part = network.group(mesh, "context", "shard") if mesh.expert > 1 else whole
        gather = network.gather(element * numbers.dense, whole)
        scatter = network.gather(FLOAT * numbers.dense, whole)
        if numbers.routed:
            gather += network.gather(element * numbers.routed, part)
            scatter += network.gather(FLOAT * numbers.routed, part)
        return gather, scatter

    def _step(self, plan: Plan, rank: int) -> StepTime:
        mesh, known, network = plan.mesh, self.cluster.assumptions, self.cluster.network
        one = BlockTime(*[0.0] * 7)
        for layer, count in self.ranks(mesh)[rank].items():
            block_time = self.block_time(plan, layer)
            one = BlockTime(*(total + count * part for total, part in zip(one, block_time, strict=True)))
        ends = self._ends(plan, rank)
        one = BlockTime(*(total + part for total, part in zip(one, ends, strict=True)))
        batch = self.micro_batch(plan)
        # Each device of a tensor group sends its part (scatter and gather, Narayanan et al. 2021, 4.1).
        size = batch.element * batch.tokens * self.model.width / mesh.tensor
        sending = 2 * mesh.chunks * network.send(size, network.group(mesh, "pipeline"))
        waiting = one.tensor + one.experts + one.ring + one.sharded + sending
        forward, inputs = one.forward + waiting / 3, one.inputs + waiting * 2 / 3
        numbers = self.numbers(mesh, rank)
        micro = mesh.micro_batches
        sharding = micro * one.sharded
        if mesh.sharded > 1 and not mesh.reshard:  # behind the first forward and the last backward pass
            gather, scatter = self._fsdp(mesh, numbers)
            times = 1 if mesh.pipeline > 1 else micro
            sharding += times * max(0.0, gather - known.overlap * one.forward)
            sharding += times * max(0.0, scatter - known.overlap * (one.inputs + one.weights))
        inner = mesh.shard * mesh.context
        held = numbers.dense / mesh.sharded + numbers.routed / inner
        copies = network.group(mesh, "data")
        summed = network.reduce(FLOAT * held, copies)
        spread = network.gather(FLOAT * held, copies) if mesh.zero else 0.0
        return StepTime(
            compute=micro * (one.forward + one.inputs + one.weights),
            tensor=micro * one.tensor,
            experts=micro * one.experts,
            context=micro * one.ring,
            sharding=sharding,
            replicas=max(0.0, summed - known.overlap * (one.inputs + one.weights)) + spread,
            pipeline=micro * sending,
            bubble=mesh.bubble(forward, inputs, one.weights),
            optimizer=self._optimizer(mesh, numbers, held),
        )

    def _ends(self, plan: Plan, rank: int) -> BlockTime:
        """Of the embedding on the first pipeline rank, and of output head and loss on the last; of both with FSDP's
        units."""
        mesh, network, batch = plan.mesh, self.cluster.network, self.micro_batch(plan)
        before, after = self.tables(mesh, rank)
        forward = inputs = weights = tensor = 0.0
        group = network.group(mesh, "tensor")
        stream = batch.element * batch.tokens * self.model.width
        rows = -(-self.job.vocab_size // mesh.tensor)
        if rank == 0:  # rows looked up, and their gradients added
            forward = inputs = 2 * stream / self.cluster.machine.bandwidth
            tensor += 2 * network.gather(stream, group)
        if rank == mesh.pipeline - 1:
            product = self._product(batch.tokens, self.model.width, rows)
            logits = FLOAT * batch.tokens * rows * 2 / self.cluster.machine.bandwidth  # written and read, twice
            forward, inputs, weights = forward + product + logits, inputs + product + logits, product
            tensor += 2 * network.gather(stream, group)
        sharded = 0.0
        if mesh.reshard and mesh.sharded > 1:
            if before:  # nothing to hide behind: its weights are the first, its gradients the last to go
                sharded += sum(self._fsdp(mesh, Numbers(before, 0.0, 0.0)))
            if after:
                hidden = self.cluster.assumptions.overlap * (forward + inputs + weights)
                sharded += max(0.0, sum(self._fsdp(mesh, Numbers(after, 0.0, 0.0))) - hidden)
        return BlockTime(forward, inputs, weights, tensor, 0.0, 0.0, sharded)

    def _optimizer(self, mesh: Mesh, numbers: Numbers, held: float) -> float:
        """AdamW reads weight, gradient and two means and writes all but the gradient: 28 bytes for each weight. Muon
        brings each matrix together on one device of the group and its update back (Liu et al. 2025, distributed Muon);
        an update is five times X Xᵀ, its square and a product with X, shared out over the group."""
        machine, known = self.cluster.machine, self.cluster.assumptions
        seconds = 7 * FLOAT * held / machine.bandwidth
        if not self.job.training.muon:
            return seconds
        network = self.cluster.network
        hidden = numbers.dense_hidden / mesh.sharded + numbers.routed / (mesh.shard * mesh.context)
        group = network.group(mesh, "context", "expert", "shard")
        seconds += 2 * network.exchange(FLOAT * hidden, group)
        seconds += 2 * network.gather(FLOAT * hidden * mesh.tensor, network.group(mesh, "tensor"))
        # Of a matrix of a rows and b ≥ a columns it is 5 · (4a²b + 2a³) operations, 30a for each number at most.
        narrow = min(self.model.width, self.model.hidden)
        computed = 30 * narrow * hidden / (machine.peak * known.efficiency)
        return seconds + computed


def communicated(simulator: Simulator, plan: Plan) -> Mapping[str, float]:
    """Bytes that each device of the first pipeline rank receives in a step, by dimension: the closed forms of the
    sources above, (n - 1)/n of a tensor for each all-gather or reduce-scatter and twice that for an all-reduce."""
    mesh, model = plan.mesh, simulator.model
    batch, micro = simulator.micro_batch(plan), plan.mesh.micro_batches
    layers = sum(simulator.ranks(mesh)[0].values())
    stream = batch.element * batch.tokens * model.width
    passes = 3 if plan.recompute == "block" else 2
    numbers = simulator.numbers(mesh, 0)
    inner = mesh.shard * mesh.context

    def part(size: float, members: int) -> float:
        return size * (members - 1) / members

    weights = part(numbers.dense, mesh.sharded) + part(numbers.routed, inner)
    once = 1 if mesh.pipeline > 1 else micro
    gathers, scatters = (2 * micro, micro) if mesh.reshard else (once, once)
    local = simulator.local(mesh)
    keys = 2 * local.kv_heads * local.head_size
    if model.latent.key_rank:
        keys = model.latent.key_rank + model.latent.rotary_size
    routed = sum(count * model.routed(layer) for layer, count in simulator.ranks(mesh)[0].items())
    ends = 2 * ((mesh.pipeline == 1) + 1)  # embedding, and the head where it is on the same rank
    held = numbers.dense / mesh.sharded + numbers.routed / inner
    found = {
        "tensor": micro * part(stream, mesh.tensor) * (4 * passes * layers + ends),
        "context": micro * layers * (mesh.context - 1) * batch.kept(keys) * (passes + 1),
        "expert": micro * routed * passes * 2 * part(stream * model.experts.active, mesh.expert),
        "shard": weights * (gathers * simulator.job.training.read + scatters * FLOAT),
        "data": (3 if mesh.zero else 2) * part(FLOAT * held, mesh.data),
        # One direction only: the first rank sends activations and receives their gradients.
        "pipeline": (mesh.pipeline > 1) * micro * (2 * mesh.chunks - 1) * stream / mesh.tensor,
    }
    return {name: size for name, size in found.items() if size}
