"""Which way the processes share the work: as asked, or as the planner finds best on the devices that are there.

Enters: a recipe, in every process. Leaves: the sizes that all go on with, checked against the model. For ``--parallel
auto`` each process measures its device and its links to the others; the first one predicts every plan that keeps the
recipe's batch and memory options, says which it takes and why, and the others take the same.
"""

import os
import textwrap
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass, fields
from typing import Any

import psutil
import torch
from torch import distributed

from groundup.core.device import choose_device, choose_numerics
from groundup.core.errors import UsageError
from groundup.core.progress import say
from groundup.core.world import ParallelConfig, World, settle, world
from groundup.planning.machines import MACHINES, Machine
from groundup.planning.mesh import Mesh
from groundup.planning.parallel import (
    ASSUMED_ATTENTION,
    ASSUMED_EFFICIENCY,
    ATTENTION,
    EFFICIENCY,
    Assumptions,
    Cluster,
    Job,
    Simulator,
)
from groundup.planning.plan import Training
from groundup.planning.search import explained, rank_of_batch
from groundup.posttraining.sft import SFTConfig
from groundup.pretraining.build import PretrainConfig
from groundup.recipes import Recipe
from groundup.training.throughput import known_device, peak_operations

#: Numbers of the messages that links are measured with, large and small; how often, of which the fastest counts.
MESSAGE, SHORT_MESSAGE, TIMES = 2**22, 2**4, 4
#: Side of the matrices, and numbers of the copies, that an unknown accelerator is measured with.
SIDE, COPIED = 4096, 2**24
#: Letters of a line.
WIDTH = 100


@dataclass(frozen=True)
class Found:
    """What a process found; of several the least is what a plan can count on."""

    memory: float
    """Bytes."""
    peak: float
    """Operations per second."""
    bandwidth: float
    """Bytes per second of the device's memory."""
    inside: float
    """Bytes per second to the others in its node."""
    between: float
    """To other nodes."""
    inside_messages: float
    """Short messages per second."""
    between_messages: float


def settled(recipe: Recipe, stage: str | None) -> None:
    """Agree on how the processes share the work, and check that the model can be divided so.

    Args:
        recipe: the same in all processes.
        stage: the only one that is to run, if it is one.

    Raises:
        UsageError: the model cannot be divided so, or in no way at all.
    """
    here = world()
    if recipe.parallel.engine != "torch" and here.size == 1:
        raise UsageError(
            f"parallel.engine {recipe.parallel.engine} divides what several processes have; start them with "
            "`groundup launch`, or leave it out"
        )
    if recipe.parallel.auto and here.size > 1:
        parallel, why = choose(recipe, recipe.sft if stage == "sft" else recipe.pretrain, here)
        settle(parallel)
        say(why)
    Mesh.of(world().parallel, here.size).check(recipe.model)


def choose(recipe: Recipe, config: PretrainConfig | SFTConfig, here: World) -> tuple[ParallelConfig, str]:
    """The plan of least predicted seconds for a step of ``config`` that fits the memory; and why, in lines.

    Raises:
        UsageError: no plan fits, or none can be.
    """
    vocab_size = recipe.tokenizer.vocab_size
    if vocab_size == "auto":
        raise UsageError("parallel.auto must know the vocabulary; give --tokenizer.vocab-size a number")
    device = choose_device(config.device)
    numerics = choose_numerics(config.precision, device)
    near = int(os.environ.get("LOCAL_WORLD_SIZE", here.size))
    all_found = here.gathered(astuple(_measured(device, numerics.dtype, here, near)))
    least = Found(*(min(column) for column in zip(*all_found, strict=True)))
    training = Training(
        config.rows,
        muon=config.optimizer.rule != "adamw",
        element=numerics.dtype.itemsize,
        averaged=config.average > 0,
        weights=numerics.weights.itemsize,
    )
    job = Job(recipe.model, vocab_size, training, fused=device.type != "cpu")
    simulator = Simulator(job, _cluster(least, device, here.size, near))

    def chosen() -> tuple[dict[str, Any], str]:
        try:
            ranking = rank_of_batch(simulator, config.rows, config.accumulation, config.memory.recompute)
        except UsageError as error:
            return {}, str(error)
        words = explained(ranking, simulator)
        if not ranking.fitting:
            return {}, f"{words} Or set memory.recompute to block, or take fewer rows and more accumulation."
        mesh = ranking.fitting[0].plan.mesh
        sizes = {item.name: getattr(mesh, item.name) for item in fields(ParallelConfig)}
        sizes["micro_batches"] = mesh.micro_batches // config.accumulation  # the planner counts those of a step
        return sizes, textwrap.fill(f"parallel: {words}", WIDTH, break_on_hyphens=False)

    sizes, words = here.first(chosen)
    if not sizes:
        raise UsageError(words)
    return ParallelConfig(**sizes), words


def _cluster(found: Found, device: torch.device, processes: int, near: int) -> Cluster:
    """The devices as they were measured: what links reach is no share of anything."""
    known, on_cpu = known_device(device), device.type == "cpu"
    assumed = Assumptions(
        efficiency=1.0 if known is None else EFFICIENCY.get(known, ASSUMED_EFFICIENCY),
        attention=ATTENTION.get(known or "", ASSUMED_ATTENTION),
        link_share=1.0,
        overlap=0.0 if on_cpu else 1.0,  # Gloo's messages are waited for
        inside_latency=1 / found.inside_messages,
        between_latency=1 / found.between_messages,
        **({"overhead_bytes": 0.0} if on_cpu else {}),
    )
    machine = Machine(str(device), found.peak, found.memory, found.bandwidth, 1.0, "measured", "measured")
    return Cluster(machine, processes, near, found.inside, found.between, assumed)


def _measured(device: torch.device, dtype: torch.dtype, here: World, near: int) -> Found:
    """What this process has, while all measure at once."""
    known = known_device(device)
    if known is not None:
        peak, bandwidth = MACHINES[known].peak, MACHINES[known].bandwidth
    else:
        left = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
        published = peak_operations(device, dtype)
        peak = published or 2 * SIDE**3 / _seconds(device, lambda: left @ left)
        numbers = torch.ones(COPIED, device=device)
        copy = torch.empty_like(numbers)
        bandwidth = 2 * numbers.nbytes / _seconds(device, lambda: copy.copy_(numbers))
    inside, between = _links(device, here.size, near)
    if device.type == "cuda":
        memory = torch.cuda.mem_get_info(device)[0]
    else:
        memory = psutil.virtual_memory().available // near
    return Found(memory, peak, bandwidth, inside[0], between[0], inside[1], between[1])


def _links(device: torch.device, processes: int, near: int) -> tuple[tuple[float, float], tuple[float, float]]:
    """Bytes and short messages per second inside a node and between nodes, by gathering; where there is only one node,
    both are the same."""
    from torch.distributed.device_mesh import init_device_mesh

    groups = init_device_mesh(device.type, (processes // near, near), mesh_dim_names=("between", "inside"))
    found = []
    for name in ("inside", "between"):
        group, size = groups.get_group(name), groups[name].size()
        if size == 1:
            continue

        def gather(numbers: int, group: Any = group, size: int = size) -> float:
            part = torch.ones(numbers // size, device=device)
            parts = [torch.empty_like(part) for _ in range(size)]
            return _seconds(device, lambda: distributed.all_gather(parts, part, group=group))

        found.append((4 * MESSAGE * (size - 1) / size / gather(MESSAGE), (size - 1) / gather(SHORT_MESSAGE * size)))
    return found[0], found[-1]


def _seconds(device: torch.device, work: Callable[[], object]) -> float:
    """Of the fastest time."""
    times = []
    for _ in range(TIMES):
        begun = time.perf_counter()
        work()
        if device.type != "cpu":
            torch.accelerator.synchronize()
        times.append(time.perf_counter() - begun)
    return min(times)
