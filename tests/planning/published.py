"""Published measurements of training on many devices, beside what the simulation says of them.

``python -m tests.planning.published`` prints the table of ``docs/planning.md``. Two constants were calibrated, the
share of the peak that large products reach on H100 and on A100, each on the one row that says so; all other rows are
predictions.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from groundup.model import ModelConfig
from groundup.model.config import AttentionConfig, PositionConfig
from groundup.model.presets import preset
from groundup.planning.machines import INTERCONNECTS, MACHINES, Machine
from groundup.planning.mesh import Mesh
from groundup.planning.parallel import ATTENTION, EFFICIENCY, Assumptions, Cluster, Job, Plan, Simulator
from groundup.planning.plan import Training

GIB = 2**30
LLAMA_VOCABULARY, MEGATRON_VOCABULARY = 128_256, 51_200
#: Bytes of a logit in torchtitan's loss of that time, which has all at once: bfloat16, float32, gradient.
TITAN_LOGIT = 10


@dataclass(frozen=True)
class Row:
    """One measurement."""

    source: str
    what: str
    simulator: Simulator
    plan: Plan
    seconds: float
    """Of a step, as measured."""
    memory: float = 0.0
    """Bytes, as measured; 0: not told."""
    calibrated: bool = False
    logits: int = 0
    """Bytes of the logits that the measured program had in memory and this one has not."""

    @property
    def predicted(self) -> float:
        """Seconds of a step."""
        return self.simulator.step(self.plan).total

    @property
    def predicted_memory(self) -> float:
        """Bytes of the device that needs most."""
        return sum(self.simulator.memory(self.plan).values()) + self.logits

    @property
    def error(self) -> float:
        """Of the speed: (predicted - measured) / measured."""
        return self.seconds / self.predicted - 1

    @property
    def memory_error(self) -> float:
        """The same of the memory; 0 where it was not told."""
        return self.predicted_memory / self.memory - 1 if self.memory else 0.0

    def speed(self, seconds: float) -> float:
        """Tokens per second and device of a step that takes so long."""
        return self.plan.batch * self.simulator.model.context / seconds / self.plan.mesh.devices


def titan() -> Iterator[Row]:
    """torchtitan, benchmarks/llama3_h100_202412_torchtitan.md: H100 with 96 GB at 2.4 TB/s, limited to 500 W.

    Float8 is counted as twice the speed in the blocks' products. Micro-batches of the pipelines are not told there;
    eight, one per rank, was the default.
    """
    selective: Literal["selective"] = "selective"
    shard8, shard128 = Mesh(shard=8), Mesh(shard=128)
    yield _titan("8b", Plan(shard8, 2, selective), 8192, 6667, 77.0, calibrated=True)
    yield _titan("8b", Plan(shard8, 2, selective), 8192, 8532, 76.8, float8=True)
    yield _titan("8b", Plan(shard128, 2, selective), 8192, 6514, 62.0)
    yield _titan("8b", Plan(shard128, 2, selective), 8192, 8380, 61.8, float8=True)
    for context, speed, memory in ((1, 3890, 83.9), (2, 2540, 84.2), (4, 1071, 84.0), (8, 548, 84.5)):
        mesh = Mesh(shard=8 // context, context=context)
        yield _titan("8b", Plan(mesh, 1, "block"), 32_768 * context, speed, memory, float8=True)
    yield _titan("70b", Plan(Mesh(shard=32, tensor=8), 16, "block"), 8192, 829, 71.9, float8=True)
    whole = Mesh(shard=8, tensor=8, pipeline=8, micro_batches=8, reshard=False)
    interleaved = replace(whole, schedule="interleaved", chunks=2)
    yield _titan("405b", Plan(whole, 4, "block"), 8192, 100, 82.5, float8=True)
    yield _titan("405b", Plan(interleaved, 4, "block"), 8192, 128, 72.7, float8=True)
    for context, speed, memory in ((1, 76, 75.3), (2, 47, 75.9), (4, 31, 77.1), (8, 16, 84.9)):
        mesh = replace(whole, shard=8 // context, context=context)
        yield _titan("405b", Plan(mesh, 1, "block"), 32_768 * context, speed, memory, float8=True)


def _titan(
    size: str, plan: Plan, context: int, speed: float, gib: float, *, float8: bool = False, calibrated: bool = False
) -> Row:
    config = replace(preset(f"llama-3.1-{size}").config, context=context)
    machine = replace(MACHINES["h100"], memory=96e9, bandwidth=2.4e12)
    known = Assumptions(EFFICIENCY["h100"], ATTENTION["h100"], selective_repeats=0.5, products=2.0 if float8 else 1.0)
    simulator = _simulator("h100", machine, config, LLAMA_VOCABULARY, plan, known)
    seconds = plan.batch * context / plan.mesh.devices / speed
    tokens = plan.rows * context // plan.mesh.context
    logits = TITAN_LOGIT * tokens * LLAMA_VOCABULARY // plan.mesh.tensor
    what = f"Llama 3.1 {size.upper()}, {context:,} tokens{', float8' if float8 else ''}"
    return Row("torchtitan", what, simulator, plan, seconds, gib * GIB, calibrated, logits)


def _simulator(
    name: str, machine: Machine, config: ModelConfig, vocab_size: int, plan: Plan, known: Assumptions
) -> Simulator:
    links = INTERCONNECTS[name]
    cluster = Cluster(machine, plan.mesh.devices, links.per_node, links.inside, links.between, known)
    plan.mesh.check(config, cluster.devices, cluster.per_node)
    return Simulator(Job(config, vocab_size, Training(plan.rows, muon=False, element=2)), cluster)


#: Narayanan et al. 2021, table 1: heads, width, layers, tensor, pipeline, devices, sequences, teraFLOP/s per device.
NARAYANAN = (
    (24, 2304, 24, 1, 1, 32, 512, 137),
    (32, 3072, 30, 2, 1, 64, 512, 138),
    (32, 4096, 36, 4, 1, 128, 512, 142),
    (48, 6144, 40, 8, 1, 256, 1024, 135),
    (64, 8192, 48, 8, 2, 512, 1536, 138),
    (80, 10240, 60, 8, 4, 1024, 1792, 140),
    (96, 12288, 80, 8, 8, 1536, 2304, 148),
    (128, 16384, 96, 8, 16, 1920, 2160, 155),
    (128, 20480, 105, 8, 35, 2520, 2520, 163),
    (160, 25600, 128, 8, 64, 3072, 3072, 163),
)
#: Korthikanti et al. 2022, tables 3 and 5: heads, width, layers, pipeline, chunks, sequences, rows of a micro-batch,
#: seconds of a step with full recomputation, seconds with sequence parallelism and selective recomputation, MFU of
#: those.
KORTHIKANTI = (
    (64, 6144, 48, 1, 1, 4, 4, 1.42, 1.10, 0.415),
    (96, 12288, 96, 8, 3, 64, 1, 18.13, 13.75, 0.514),
    (128, 20480, 105, 35, 3, 280, 1, 49.05, 37.83, 0.560),
    (160, 25600, 128, 64, 1, 512, 1, 94.42, 71.49, 0.563),
)


def gpt(heads: int, width: int, layers: int) -> ModelConfig:
    """Megatron's GPT: scores are written out, as with sinks, and sequences have 2,048 tokens."""
    return ModelConfig(
        layers=layers, width=width, heads=heads, context=2048, hidden=4 * width, feed_forward="gelu", norm="layer",
        bias="all", qk_norm="none", positions=PositionConfig("learned"), attention=AttentionConfig(sinks=True),
    )  # fmt: skip


def model_operations(row: tuple[int, int, int], sequences: int, passes: int) -> float:
    """Of a step as Megatron's papers count them: 24 · passes · B · s · l · h² (1 + s/6h + V/(4 · passes · l · h))."""
    _, width, layers = row
    factor = 1 + 2048 / (6 * width) + MEGATRON_VOCABULARY / (4 * passes * layers * width)
    return 24 * passes * sequences * 2048 * layers * width**2 * factor


def megatron() -> Iterator[Row]:
    """Megatron-LM on A100 80 GB with HDR InfiniBand; micro-batches of table 1 are not told: four sequences without a
    pipeline, one with it. Its pipelines are interleaved there where the layers allow two chunks."""
    for heads, width, layers, tensor, pipeline, devices, sequences, teraflops in NARAYANAN:
        replicas, rows = devices // (tensor * pipeline), 1 if pipeline > 1 else 4
        micro = sequences // replicas // rows
        mesh = Mesh(data=replicas, tensor=tensor, pipeline=pipeline, sequence=False, micro_batches=micro)
        if pipeline > 1 and layers % (2 * pipeline) == 0 and micro % pipeline == 0:
            mesh = replace(mesh, schedule="interleaved", chunks=2)
        seconds = model_operations((heads, width, layers), sequences, 4) / (devices * teraflops * 1e12)
        yield _megatron("Narayanan et al. 2021", heads, width, layers, Plan(mesh, rows, "block"), seconds)
    for heads, width, layers, pipeline, chunks, sequences, rows, full, selective, _ in KORTHIKANTI:
        mesh = Mesh(tensor=8, pipeline=pipeline, micro_batches=sequences // rows, chunks=chunks,
                    schedule="interleaved" if chunks > 1 else "1f1b")  # fmt: skip
        name = "Korthikanti et al. 2022"
        yield _megatron(name, heads, width, layers, Plan(replace(mesh, sequence=False), rows, "block"), full)
        yield _megatron(name, heads, width, layers, Plan(mesh, rows), selective, calibrated=pipeline == 8)


def _megatron(
    source: str, heads: int, width: int, layers: int, plan: Plan, seconds: float, *, calibrated: bool = False
) -> Row:
    config = gpt(heads, width, layers)
    simulator = _simulator(
        "a100", MACHINES["a100"], config, MEGATRON_VOCABULARY, plan, Assumptions(EFFICIENCY["a100"], ATTENTION["a100"])
    )
    return Row(source, f"GPT, {layers} × {width:,}", simulator, plan, seconds, calibrated=calibrated)


def rows() -> list[Row]:
    """All of them."""
    return [*titan(), *megatron()]


def table() -> str:
    """In Markdown."""
    lines = [
        "| source | trained | devices, mesh, recomputation | tokens/s per device: measured | predicted | error "
        "| memory in GiB: measured | predicted | error |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows():
        memory = f"{row.memory / GIB:.1f} | {row.predicted_memory / GIB:.1f} | {100 * row.memory_error:+.0f} %"
        mesh, kind = row.plan.mesh, row.plan.mesh.schedule if row.plan.mesh.pipeline > 1 else ""
        plan = ", ".join(filter(None, (f"{mesh.devices}: {mesh}", kind, row.plan.recompute)))
        cells = [row.source, row.what, plan, f"{row.speed(row.seconds):,.0f}", f"{row.speed(row.predicted):,.0f}"]
        cells.append("calibrated" if row.calibrated else f"{100 * row.error:+.0f} %")
        lines.append(f"| {' | '.join(cells)} | {memory if row.memory else '– | – | –'} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
