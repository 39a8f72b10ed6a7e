"""``groundup profile``: some steps of a recipe's pretraining enter; where their time goes leaves, and what to do next.

The steps are those of the training loop, on a model of its own: nothing is kept, and nothing is written into a run.
Started by ``groundup launch`` every process profiles itself; the first one puts together what all found. The parts of a
step are seconds of the clock that exclude each other, and add up to the step.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean, median_low
from time import perf_counter
from typing import Any

import numpy as np
import psutil
import torch
from torch.profiler import ProfilerActivity, profile

from groundup.core.config import HELP_FLAGS, parse
from groundup.core.errors import UsageError
from groundup.core.files import write_json
from groundup.core.progress import say
from groundup.core.seeding import numpy_rng, torch_rng
from groundup.core.world import World, joined, world
from groundup.dataloader import Source, TokenSource, open_tokens
from groundup.dataloader.prefetch import Prefetch
from groundup.dataloader.shards import INDEX
from groundup.distributed.waiting import waits
from groundup.model import Transformer
from groundup.objectives import Objective, next_token
from groundup.planning.mesh import Mesh
from groundup.planning.plan import scaled
from groundup.pretraining.build import PretrainConfig
from groundup.pretraining.tokens import make_source
from groundup.recipes import Recipe
from groundup.scaling.devices import settled
from groundup.scaling.words import run_directory, split
from groundup.tokenizer import load as load_tokenizer
from groundup.training.pace import SLOW
from groundup.training.prepare import prepare
from groundup.training.throughput import Throughput, memory_bytes

HELP = """\
groundup profile [RECIPE] [--steps N] [--to DIR] [--json] [--key value …]
groundup launch --nproc N profile [RECIPE] …

Takes ten steps of the recipe's pretraining on every process, with PyTorch's profiler, and tells where their time
goes: loading data, computing, the optimizer, messages, waiting for slower processes; memory, the dearest operators,
tokens a second and MFU; and what to do next. The model is a new one that is thrown away; the tokens are those of the
recipe's run if there is one, otherwise drawn at random.

  --steps N      steps that are measured (default 10), after two that are not
  --to DIR       where profile.json and, of every process, rank-N.json go, which chrome://tracing and Perfetto show
                 (default profile-RECIPE)
  --json         print what profile.json holds
  --key value    any key of a recipe; `groundup run --help` explains them"""

#: Steps before the ones that are measured: memory is allocated, kernels are chosen.
WARM_UP = 2
#: What the learning rates are multiplied by, so that random tokens spoil no number.
SLOWLY = 0.01
#: Operators that are told.
OPERATORS = 8
#: The parts of a step, and what they are called.
PARTS = {
    "loading": "loading data",
    "computing": "computing",
    "optimizer": "optimizer",
    "messages": "messages",
    "waiting": "waiting for slower processes",
}
#: Shares of a step from which on something is said about loading, the optimizer, messages, waiting; and of the memory.
MUCH_LOADING, MUCH_OPTIMIZER, MUCH_MESSAGES, MUCH_WAITING, LITTLE_MEMORY = 0.05, 0.25, 0.2, 0.1, 0.4
#: Model FLOPs utilisation below which the device has too little to do at once.
LOW_MFU = 0.25


@dataclass(frozen=True)
class ProfileOptions:
    """What `groundup profile` is told beside the keys of the recipe."""

    steps: int = 10
    """Steps that are measured."""
    to: Path | None = None
    """The folder."""
    json: bool = False
    """For programs."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"steps is {self.steps}; it must be at least 1")


@dataclass(frozen=True)
class Step:
    """Where a step's seconds went in one process."""

    loading: float
    computing: float
    optimizer: float
    messages: float
    """Waiting for messages, which came as soon as they could."""
    waiting: float = 0.0
    """Waiting for processes that had more to do."""

    @property
    def own(self) -> float:
        """What the process did itself."""
        return self.loading + self.computing + self.optimizer

    @property
    def total(self) -> float:
        """The step."""
        return self.own + self.messages + self.waiting

    def behind(self, slowest: float) -> "Step":
        """The same, where the slowest process had ``slowest`` seconds of work: so long none could be answered."""
        waiting = min(self.messages, max(0.0, slowest - self.own))
        return replace(self, messages=self.messages - waiting, waiting=waiting)


def run(words: list[str]) -> int:
    """Profile, tell; returns the exit code.

    Raises:
        UsageError: an option or a key is wrong, or the device cannot compute so.
    """
    if any(word in HELP_FLAGS for word in words):
        print(HELP)
        return 0
    own, asked = split(words, ProfileOptions)
    options = parse(ProfileOptions, ProfileOptions(), own, "groundup profile", "command line")
    recipe = asked.over(asked.base(), "groundup profile")
    name = run_directory(None, asked)
    folder = options.to or Path(f"profile-{name.name}")
    with joined(recipe.parallel) as here:
        settled(recipe, "pretrain")
        vocab_size, source, tokens = _source(recipe, name)
        model = Transformer(recipe.model, vocab_size).initialise(torch_rng(recipe.seed, "weights"))
        found = profile_steps(model, next_token, source, recipe.pretrain, options.steps, folder, recipe.seed)
        if here.leads:
            found = {"tokens": tokens, **found}
            write_json(folder / "profile.json", found)
            print(json.dumps(found) if options.json else text(found))
            say(f"\nEvery figure is in {folder / 'profile.json'}, each process's trace in {folder / 'rank-N.json'}")
    return 0


def _source(recipe: Recipe, out: Path) -> tuple[int, Source, str]:
    """Size of the vocabulary, batches, and what their tokens are."""
    pretrain, context = recipe.pretrain, recipe.model.context
    shards = out / "pretrain" / "tokens" / "train"
    if (shards / INDEX).exists():
        tokenizer = load_tokenizer(out / "tokenizer")
        tokens = {"train": open_tokens(shards)}
        data = replace(pretrain.data, mixture=())
        source: Source = make_source(tokens, data, pretrain.rows, context, tokenizer, recipe.seed)
        return tokenizer.vocab_size, source, str(shards)
    vocab_size = recipe.tokenizer.vocab_size
    if vocab_size == "auto":
        raise UsageError("there is no run to take the vocabulary from; give --tokenizer.vocab-size a number")
    # Long enough that no token is still in a fast memory from the step before.
    count = 64 * pretrain.rows * pretrain.accumulation * context + 1
    drawn = numpy_rng(recipe.seed, "profile").integers(0, vocab_size, count).astype(np.uint32)
    return vocab_size, TokenSource(drawn, pretrain.rows, context, recipe.seed), "random"


def profile_steps(
    model: Transformer,
    objective: Objective,
    source: Source,
    config: PretrainConfig,
    steps: int,
    folder: Path,
    seed: int = 0,
) -> dict[str, Any]:
    """Train ``model`` in place for a few steps under PyTorch's profiler; every process writes its trace to ``folder``.

    Returns:
        What all found: of every process the mean seconds of a step by part, memory, operators; of all together tokens a
        second, MFU, who is slow, and what to do next.

    Raises:
        UsageError: the device cannot compute as the configuration says.
    """
    here = world()
    stepper, optimizers = prepare(model, objective, config, seed)
    device, on_cpu = stepper.device, stepper.device.type == "cpu"
    taken: list[Step] = []
    tokens = 0
    activities = [ProfilerActivity.CPU] + ([] if on_cpu else [ProfilerActivity.CUDA])
    with ExitStack() as stack:
        if config.prefetch:
            source = stack.enter_context(Prefetch(source, config.prefetch * config.accumulation, config.workers))
        waited = stack.enter_context(waits(stepper.working.callable is not stepper.working.model))
        batches = iter(source)
        profiler = profile(activities=activities)
        for number in range(WARM_UP + steps):
            if number == WARM_UP:
                here.first(lambda: None)  # all begin together
                profiler.start()
            times, waitings = [perf_counter()], [waited.seconds]

            def mark() -> None:
                if not on_cpu:
                    torch.accelerator.synchronize()
                times.append(perf_counter())  # noqa: B023
                waitings.append(waited.seconds)  # noqa: B023

            micro = [next(batches) for _ in range(config.accumulation)]
            mark()
            measured = stepper.gradients(micro, number)
            mark()
            if measured is not None and measured.finite:
                stepper.update(optimizers, measured.gradient_norm, SLOWLY)
            stepper.working.clear()
            mark()
            if number >= WARM_UP:
                (loading, computing, optimizer), (_, *messages) = np.diff(times), np.diff(waitings)
                taken.append(Step(loading, computing - messages[0], optimizer - messages[1], sum(messages)))
                tokens = sum(int(batch.tensors["inputs"].numel()) for batch in micro)
        profiler.stop()
    events = profiler.events() or []
    if not on_cpu:
        taken = _from_device(taken, exposed(events) / steps)
    folder.mkdir(parents=True, exist_ok=True)
    profiler.export_chrome_trace(str(folder / f"rank-{here.rank}.json"))
    # All processes' steps, each behind the slowest of them.
    every = [[Step(**each) for each in theirs] for theirs in here.gathered([asdict(step) for step in taken])]
    slowest = [max(step.own for step in column) for column in zip(*every, strict=True)]
    mine = [step.behind(most) for step, most in zip(taken, slowest, strict=True)]
    own: dict[str, Any] = {
        **{part: fmean(getattr(step, part) for step in mine) for part in PARTS},
        "step": fmean(step.total for step in mine),
        "overlapped": max(0.0, talking(events, on_cpu) / steps - fmean(step.messages + step.waiting for step in mine)),
        "memory_bytes": memory_bytes(device),
        "operators": _operators(profiler, on_cpu, steps),
    }
    throughput = Throughput(model.config, model.vocab_size, device, stepper.numerics.dtype, here.size)
    ranks = here.gathered(own)
    time, seconds = micro[0].tensors["inputs"].shape[1], fmean(rank["step"] for rank in ranks)
    found: dict[str, Any] = {
        "processes": here.size,
        "plan": str(Mesh.of(here.parallel, here.size)),
        "steps": steps,
        "step_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "tokens_per_second_per_device": tokens / seconds / here.size,
        "mfu": throughput.numbers(tokens / time, time, seconds).get("mfu"),
        "ranks": ranks,
    }
    found["slow"] = slow_ones([rank["loading"] + rank["computing"] + rank["optimizer"] for rank in ranks])
    memory = (
        psutil.virtual_memory().total / here.size if on_cpu else torch.cuda.get_device_properties(device).total_memory
    )
    return {**found, "advice": advice(found, config, here, memory)}


def _from_device(taken: Sequence[Step], waited: float) -> list[Step]:
    """Of an accelerator, whose messages are waited for by itself: ``waited`` seconds of each step's computing."""
    return [replace(s, computing=s.computing - w, messages=w) for s in taken for w in [min(waited, s.computing)]]


Interval = tuple[float, float]


def united(intervals: Iterable[Interval]) -> list[Interval]:
    """The same points of time, in intervals that do not touch."""
    found: list[Interval] = []
    for start, end in sorted(intervals):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def length(intervals: Iterable[Interval]) -> float:
    """Of all of them together."""
    return sum(end - start for start, end in united(intervals))


def _intervals(events: Iterable[Any], wanted: Callable[[Any], bool]) -> list[Interval]:
    return [(event.time_range.start / 1e6, event.time_range.end / 1e6) for event in events if wanted(event)]


def _on_device(event: Any) -> bool:
    return bool(event.device_type != torch.autograd.DeviceType.CPU)


def exposed(events: Sequence[Any]) -> float:
    """Seconds in which an accelerator did nothing but exchange messages."""
    kernels = [event for event in events if _on_device(event)]
    computing = _intervals(kernels, lambda event: "nccl" not in event.name.lower())
    return length(_intervals(kernels, lambda event: True)) - length(computing)


def talking(events: Sequence[Any], on_cpu: bool) -> float:
    """Seconds in which messages were under way."""
    if on_cpu:
        return length(_intervals(events, lambda event: event.name.startswith("gloo:")))
    return length(_intervals(events, lambda event: _on_device(event) and "nccl" in event.name.lower()))


def _operators(profiler: profile, on_cpu: bool, steps: int) -> list[dict[str, Any]]:
    """The dearest ones by seconds of a step of their own, and how often they ran in it."""

    def seconds(event: Any) -> float:
        return float(event.self_cpu_time_total if on_cpu else event.self_device_time_total) / 1e6 / steps

    events = [event for event in profiler.key_averages() if not event.key.startswith(("groundup:", "gloo:", "c10d::"))]
    return [
        {"name": event.key, "seconds": seconds(event), "count": event.count / steps}
        for event in sorted(events, key=seconds, reverse=True)[:OPERATORS]
    ]


def slow_ones(own: Sequence[float]) -> list[int]:
    """The processes whose own work takes clearly longer than the median's."""
    return [rank for rank, seconds in enumerate(own) if seconds > SLOW * median_low(own)]


def advice(found: dict[str, Any], config: PretrainConfig, here: World, memory: float) -> str:
    """What to do next, in a paragraph, by what stands out."""
    ranks, plan = found["ranks"], here.parallel.resolved(here.size)
    share = {part: fmean(rank[part] for rank in ranks) / found["step_seconds"] for part in PARTS}
    said = []
    for rank in found["slow"]:
        own = {part: ranks[rank][part] for part in ("loading", "computing", "optimizer")}
        usual = {part: median_low([other[part] for other in ranks]) for part in own}
        where = max(own, key=lambda part: own[part] - usual[part])
        times = own[where] / max(usual[where], 1e-9)
        said.append(
            f"Process {rank} is slow: {PARTS[where]} takes it {own[where]:.3g} s of a step, the median "
            f"{usual[where]:.3g} s ({times:.1f} times less); look at its machine with "
            "`groundup doctor`, and at what else runs there."
        )
    if share["loading"] > MUCH_LOADING:
        said.append(
            f"Loading data takes {share['loading']:.0%} of a step: raise pretrain.prefetch (it is {config.prefetch}) "
            f"and pretrain.workers ({config.workers}), or put the run on a faster disk."
        )
    if share["messages"] > MUCH_MESSAGES:
        remedies = ["more accumulation or rows, so that there is more to compute for each message"]
        if plan.shard * plan.expert * plan.context > 1 and plan.reshard:
            remedies.append("--parallel.no-reshard, if the memory allows, which gathers weights once less")
        if plan.tensor > 1:
            remedies.append("a smaller --parallel.tensor, whose messages are the most frequent")
        said.append(f"Messages take {share['messages']:.0%} of a step: try {'; '.join(remedies)}.")
    if share["waiting"] > MUCH_WAITING and plan.pipeline > 1:
        said.append(
            f"Processes wait for each other {share['waiting']:.0%} of a step, a pipeline's bubble among it: more "
            "--parallel.micro-batches make it smaller, or --parallel.schedule zero-bubble."
        )
    if share["optimizer"] > MUCH_OPTIMIZER:
        said.append(
            f"The optimizer takes {share['optimizer']:.0%} of a step: more accumulation spreads it over more tokens"
            + ("; fewer optimizer.iteration-steps make Muon cheaper." if config.optimizer.rule == "muon" else ".")
        )
    used = max(rank["memory_bytes"] for rank in ranks) / memory
    if used < LITTLE_MEMORY and config.memory.recompute != "none":
        said.append(f"Only {used:.0%} of the memory is in use: set memory.recompute to none, which computes less.")
    elif used < LITTLE_MEMORY and (found["mfu"] or 1.0) < LOW_MFU and not said:
        said.append(
            f"The devices reach {found['mfu']:.0%} of their speed and {used:.0%} of the memory is in use: more rows "
            "and less accumulation give larger products; --pretrain.compile on fuses the small operations."
        )
    return " ".join(said) or f"Nothing stands out: {share['computing']:.0%} of a step is computing."


def text(found: dict[str, Any]) -> str:
    """For people."""
    ranks = found["ranks"]
    mfu = "" if found["mfu"] is None else f", MFU {found['mfu']:.1%}"
    lines = [
        f"steps {found['steps']}, processes {found['processes']} ({found['plan']}), tokens {found['tokens']}",
        f"a step {found['step_seconds']:.3g} s, {found['tokens_per_second']:,.0f} tokens/s, "
        f"{found['tokens_per_second_per_device']:,.0f} on each device{mfu}",
        "",
        f"{'seconds of a step by process':30}" + "".join(f"{rank:>10}" for rank in range(len(ranks))) + f"{'share':>8}",
    ]
    for part, title in PARTS.items():
        values = [rank[part] for rank in ranks]
        share = fmean(values) / found["step_seconds"]
        lines.append(f"{title:30}" + "".join(f"{value:10.4f}" for value in values) + f"{share:8.0%}")
    for key, title in (("step", "together"), ("overlapped", "messages behind computing")):
        lines.append(f"{title:30}" + "".join(f"{rank[key]:10.4f}" for rank in ranks))
    lines.append(f"{'memory':30}" + "".join(f"{scaled(rank['memory_bytes'], 'B'):>10}" for rank in ranks))
    lines += ["", f"{'operators of process 0':50}{'s of a step':>12}{'times':>10}"]
    lines += [f"{each['name'][:48]:50}{each['seconds']:12.4f}{each['count']:10.0f}" for each in ranks[0]["operators"]]
    return "\n".join([*lines, "", found["advice"]])
