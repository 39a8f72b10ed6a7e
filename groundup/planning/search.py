"""Which plan to take: every sensible way to divide a training, ranked by what it would take.

Enters: a :class:`Simulator` and the sequences of a step. Leaves: a :class:`Ranking`, for each mesh its fastest variant
that fits the memory; and why the first is the first, in words.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from groundup.core.errors import UsageError
from groundup.core.progress import duration
from groundup.core.world import Schedule
from groundup.planning.mesh import Mesh
from groundup.planning.parallel import Plan, Recompute, Simulator, StepTime, communicated
from groundup.planning.plan import scaled

#: Share of the memory that a plan may take: published figures are mostly above those that are predicted.
USABLE = 0.85
#: Tokens below which a sequence is not divided over a context dimension, as attention then hides no message.
LEAST_CONTEXT = 16_384
#: Rows of a micro-batch that are tried.
ROWS = (1, 2, 4, 8, 16, 32)
#: From the fastest, which needs most memory.
RECOMPUTATIONS: tuple[Recompute, ...] = ("none", "selective", "block")
SCHEDULES: tuple[tuple[Schedule, int], ...] = (("1f1b", 1), ("zero-bubble", 1), ("interleaved", 2), ("interleaved", 4))
#: The dimensions' names in tables.
SHORT = {"pipeline": "PP", "data": "DP", "shard": "FSDP", "expert": "EP", "context": "CP", "tensor": "TP"}
#: What the parts of a step are called in sentences.
WAITS = {
    "tensor": "the tensor group",
    "experts": "the experts' all-to-all",
    "context": "the ring of keys and values",
    "sharding": "FSDP's weights and gradients",
    "replicas": "the sum over replicas",
    "pipeline": "sending between stages",
}


@dataclass(frozen=True)
class Prediction:
    """What a plan would take."""

    plan: Plan
    memory: dict[str, int]
    """Bytes on the device that needs most, by part."""
    step: StepTime
    utilisation: float
    """Model FLOPs utilisation."""

    @property
    def bytes(self) -> int:
        """All of them."""
        return sum(self.memory.values())


@dataclass(frozen=True)
class Ranking:
    """Predictions, the fastest first, one for each mesh."""

    fitting: list[Prediction]
    """Those that fit."""
    too_large: list[Prediction]
    """The others, each in its variant that needs least, the one that needs least first."""


def meshes(simulator: Simulator, batch: int) -> Iterator[Mesh]:
    """Every grid of the cluster's devices that this model, and a step of ``batch`` sequences, can be divided over."""
    cluster, model = simulator.cluster, simulator.model
    for tensor in _divisors(cluster.devices, cluster.per_node):
        for pipeline in _divisors(cluster.devices // tensor, model.layers):
            left = cluster.devices // tensor // pipeline
            for context in _divisors(left, max(1, model.context // LEAST_CONTEXT)):
                for expert in _divisors(left // context, model.experts.count or 1):
                    ranks = left // context // expert
                    inside = cluster.per_node // (tensor * context * expert)
                    for shard in sorted(
                        {1, ranks} | ({inside} if 1 < inside < ranks and not ranks % inside else set())
                    ):
                        mesh = Mesh(
                            data=ranks // shard,
                            shard=shard,
                            tensor=tensor,
                            pipeline=pipeline,
                            context=context,
                            expert=expert,
                        )
                        if batch % mesh.batch_ranks == 0 and _possible(mesh, simulator):
                            yield mesh


def variants(mesh: Mesh, layers: int, batch: int) -> Iterator[Plan]:
    """A mesh with every schedule, size of micro-batch and way of sharding that goes with it; without recomputation."""
    share = batch // mesh.batch_ranks
    for rows in (rows for rows in ROWS if share % rows == 0):
        if share // rows >= mesh.pipeline:
            for whole in _scheduled(mesh, layers, share // rows):
                yield Plan(whole, rows)


def rank(simulator: Simulator, batch: int) -> Ranking:
    """Predict every plan for steps of ``batch`` sequences; of each mesh, its best variant.

    Raises:
        UsageError: no mesh of these devices can train this model with such steps.
    """
    most = USABLE * simulator.cluster.machine.memory
    layers = simulator.model.layers
    found = _ranked(
        simulator,
        [
            [_within(simulator, plan, most) for plan in variants(mesh, layers, batch)]
            for mesh in meshes(simulator, batch)
        ],
    )
    if not found.fitting and not found.too_large:
        devices = simulator.cluster.devices
        raise UsageError(
            f"steps of {batch:,} sequences cannot be divided over {devices:,} devices in any way; "
            f"give --batch a multiple of {devices:,}, or fewer devices"
        )
    return found


def rank_of_batch(simulator: Simulator, rows: int, accumulation: int, recompute: Recompute) -> Ranking:
    """The same for a training whose micro-batches and recomputation are as they are: ``rows`` sequences over all
    devices, ``accumulation`` times in a step.

    Raises:
        UsageError: no mesh of these devices can train this model with such micro-batches.
    """
    found = _ranked(
        simulator,
        [
            [
                (sum(simulator.memory(plan).values()), plan)
                for plan in _kept(simulator, mesh, rows, accumulation, recompute)
            ]
            for mesh in meshes(simulator, rows)
        ],
    )
    if not found.fitting and not found.too_large:
        raise UsageError(
            f"micro-batches of {rows:,} rows cannot be divided over {simulator.cluster.devices:,} devices in any way; "
            "give rows a multiple of that, or start fewer processes"
        )
    return found


def _kept(simulator: Simulator, mesh: Mesh, rows: int, accumulation: int, recompute: Recompute) -> Iterator[Plan]:
    """Every schedule, number of parts and way of sharding of micro-batches that are what they are."""
    share = rows // mesh.batch_ranks
    for parts in _divisors(share, share) if mesh.pipeline > 1 else [1]:
        for whole in _scheduled(mesh, simulator.model.layers, parts) if parts >= mesh.pipeline else ():
            if recompute not in _recomputations(whole):
                continue
            yield Plan(replace(whole, micro_batches=parts * accumulation), share // parts, recompute)


def _scheduled(mesh: Mesh, layers: int, micro: int) -> Iterator[Mesh]:
    """A mesh with every schedule that can be of so many micro-batches, and every way of sharding."""
    for schedule, chunks in SCHEDULES if mesh.pipeline > 1 else SCHEDULES[:1]:
        if mesh.pipeline * chunks > layers or (schedule != "1f1b" and micro % mesh.pipeline):
            continue
        whole = replace(mesh, schedule=schedule, chunks=chunks, micro_batches=micro)
        for reshard in (True, False) if mesh.sharded > 1 and schedule != "zero-bubble" else (mesh.sharded == 1,):
            for zero in (False, True) if mesh.data > 1 else (False,):
                yield replace(whole, reshard=reshard, zero=zero)


def _ranked(simulator: Simulator, tried: Iterable[Sequence[tuple[int, Plan]]]) -> Ranking:
    """Of each mesh, whose plans come with their bytes, the fastest that fits, or the one that needs least."""
    most = USABLE * simulator.cluster.machine.memory
    fitting, too_large = [], []
    for sized in tried:
        if timed := [(simulator.step(plan).total, size, plan) for size, plan in sized if size <= most]:
            fitting.append(predict(simulator, min(timed, key=lambda each: each[:2])[2]))
        elif sized:
            too_large.append(predict(simulator, min(sized, key=lambda each: each[0])[1]))
    fitting.sort(key=lambda each: (each.step.total, len(str(each.plan.mesh)), each.bytes))
    too_large.sort(key=lambda each: each.bytes)
    return Ranking(fitting, too_large)


def _within(simulator: Simulator, plan: Plan, most: float) -> tuple[int, Plan]:
    """Bytes of the plan with as little recomputation as fits ``most``, as that is the fastest; or with all."""
    for recompute in _recomputations(plan.mesh):
        plan = replace(plan, recompute=recompute)
        if (size := sum(simulator.memory(plan).values())) <= most:
            break
    return size, plan


def _recomputations(mesh: Mesh) -> Iterator[Recompute]:
    """Those that go with a mesh's schedule: what selective recomputation saved PyTorch keeps for one backward pass, and
    zero-bubble takes two."""
    return (each for each in RECOMPUTATIONS if (each, mesh.schedule) != ("selective", "zero-bubble"))


def predict(simulator: Simulator, plan: Plan) -> Prediction:
    """What ``plan`` would take."""
    step = simulator.step(plan)
    return Prediction(plan, simulator.memory(plan), step, simulator.utilisation(plan, step.total))


def _divisors(number: int, most: int) -> list[int]:
    return [size for size in range(1, min(number, most) + 1) if number % size == 0]


def _possible(mesh: Mesh, simulator: Simulator) -> bool:
    try:
        mesh.check(simulator.model, simulator.cluster.devices, simulator.cluster.per_node)
    except UsageError:
        return False
    return True


# Words


def described(plan: Plan) -> str:
    """How a mesh is used, in a line: schedule, micro-batches, recomputation, sharding."""
    mesh = plan.mesh
    words = []
    if mesh.pipeline > 1:
        words.append(mesh.schedule + (f" × {mesh.chunks}" if mesh.chunks > 1 else ""))
    words.append(_counted(mesh.micro_batches, "micro-batch", "micro-batches") + f" of {_counted(plan.rows, 'row')}")
    words.append({"none": "no recomputation"}.get(plan.recompute, f"recompute {plan.recompute}"))
    if mesh.sharded > 1:
        words.append("ZeRO-3" if mesh.reshard else "ZeRO-2")
    if mesh.zero:
        words.append("ZeRO-1 over the copies")
    return ", ".join(words)


def _counted(count: int, one: str, several: str = "") -> str:
    return f"{count:,} {one if count == 1 else several or one + 's'}"


def explained(ranking: Ranking, simulator: Simulator) -> str:
    """Why the first plan is the first, in a few sentences; or that none fits."""
    memory = simulator.cluster.machine.memory
    if not ranking.fitting:
        least = ranking.too_large[0]
        return (
            f"No plan fits: {least.plan.mesh} ({described(least.plan)}) needs least, {scaled(least.bytes, 'B')} of "
            f"{scaled(USABLE * memory, 'B')} that a device of {scaled(memory, 'B')} has to give. Take more devices, "
            "or ones with more memory."
        )
    first = ranking.fitting[0]
    step, states = first.step, ("weights", "optimizer", "mean_of_weights")
    whole = replace(first.plan, mesh=Mesh())
    alone = sum(simulator.memory(whole).get(part, 0) for part in states)
    held = sum(first.memory.get(part, 0) for part in states)
    sentences = [
        f"{str(first.plan.mesh).capitalize()} is the fastest: weights and optimizer state are "
        f"{scaled(alone, 'B')} in all and {scaled(held, 'B')} on a device, which with activations and the rest needs "
        f"{scaled(first.bytes, 'B')} of {scaled(memory, 'B')}.",
        f"Of a step of {_seconds(step.total)} it computes {_percent(step.compute / step.total)}"
        + _waits(step)
        + (f", {_percent(step.bubble / step.total)} is the pipeline's bubble" if step.bubble else "")
        + ".",
    ]
    if len(ranking.fitting) > 1:
        sentences.append(_compared(first, ranking.fitting[1]))
    elif ranking.too_large:
        sentences.append("No other mesh fits the memory.")
    return " ".join(sentences)


def _waits(step: StepTime) -> str:
    most = max(WAITS, key=lambda name: getattr(step, name))
    if not step.communication:
        return " and waits for no message"
    return f", waits for messages {_percent(step.communication / step.total)}, longest for {WAITS[most]}"


def _compared(first: Prediction, second: Prediction) -> str:
    longer = second.step.total / first.step.total - 1
    gains = {name: getattr(second.step, name) - getattr(first.step, name) for name in vars(first.step)}
    worst = max(gains, key=lambda name: gains[name])
    where = {"compute": "computing", "bubble": "the bubble", "optimizer": "the optimizer"} | WAITS
    if longer < 0.005:
        return f"The next, {second.plan.mesh}, takes as long."
    return (
        f"The next, {second.plan.mesh} ({described(second.plan)}), takes {_percent(longer)} longer, most of it for "
        f"{where[worst]}."
    )


def ranked_table(ranking: Ranking, most: int) -> str:
    """The first plans as text, two lines each."""
    lines = [f"   {'mesh':30}{'memory':>10}{'step':>10}{'messages':>10}{'bubble':>8}{'MFU':>8}"]
    for number, each in enumerate(ranking.fitting[:most], 1):
        step, mesh = each.step, each.plan.mesh
        sizes = [f"{short}{size}" for name, short in SHORT.items() if (size := getattr(mesh, name)) > 1]
        lines.append(
            f"{number:2} {' '.join(sizes) or 'one device':30}{scaled(each.bytes, 'B'):>10}{_seconds(step.total):>10}"
            f"{_percent(step.communication / step.total):>10}{_percent(step.bubble / step.total):>8}"
            f"{_percent(each.utilisation):>8}"
        )
        lines.append(f"   {described(each.plan)}")
    if len(ranking.fitting) > most:
        lines.append(f"and {_counted(len(ranking.fitting) - most, 'mesh', 'meshes')} more")
    if ranking.too_large:
        lines.append(f"{_counted(len(ranking.too_large), 'mesh does', 'meshes do')} not fit the memory")
    lines.append(", ".join(f"{short} {name}" for name, short in SHORT.items()))
    return "\n".join(lines)


def _seconds(value: float) -> str:
    if value < 1:
        return f"{1000 * value:.3g} ms"
    return f"{value:.3g} s" if value < 100 else duration(value)


def _percent(share: float) -> str:
    return f"{100 * share:.{1 if 0 < share < 0.0995 else 0}f} %"


def step_lines(step: StepTime) -> list[str]:
    """Where its seconds go, a line each."""
    names = {"compute": "computing", "sharding": "waiting for FSDP", "pipeline": "sending between stages"}
    names |= {name: f"waiting for {name}" for name in ("tensor", "experts", "context", "replicas")}
    lines = [
        f"  {names.get(name, name):26}{_seconds(value):>18}{_percent(value / step.total):>10}"
        for name, value in step.parts().items()
    ]
    return [*lines, f"  {'total':26}{_seconds(step.total):>18}"]


def as_json(each: Prediction, simulator: Simulator) -> dict[str, Any]:
    """Every figure of a prediction: bytes, seconds, shares."""
    plan, mesh, step = each.plan, each.plan.mesh, each.step
    return {
        "mesh": mesh.sizes,
        "sequence_parallel": mesh.sequence,
        "schedule": mesh.schedule if mesh.pipeline > 1 else None,
        "chunks": mesh.chunks,
        "micro_batches": mesh.micro_batches,
        "rows": plan.rows,
        "recompute": plan.recompute,
        "reshard": mesh.reshard,
        "zero": mesh.zero,
        "device_bytes": {**each.memory, "total": each.bytes},
        "step_seconds": {**step.parts(), "total": step.total},
        "received_bytes": {name: round(size) for name, size in communicated(simulator, plan).items()},
        "communication": step.communication / step.total,
        "bubble": step.bubble / step.total,
        "utilisation": each.utilisation,
        "tokens_per_second": plan.batch * simulator.model.context / step.total,
    }
