"""``groundup plan``: a recipe enters; what it takes leaves on stdout, before its first step.

Parameters, operations, memory and disk are computed from the shape. Time and price need a speed: measured on this
machine (``--probe``), assumed for a named one (``--device``), or given. With ``--devices`` every sensible way to divide
the training over many is predicted and ranked (:mod:`groundup.planning.search`).
"""

import json
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.core.config import HELP_FLAGS, parse
from groundup.core.device import choose_device, choose_dtype
from groundup.core.errors import UsageError
from groundup.core.run import environment
from groundup.corpus.reading.files import File, list_files
from groundup.corpus.reading.formats import FORMATS
from groundup.model import ModelConfig
from groundup.model.presets import preset
from groundup.planning.activations import FLOAT
from groundup.planning.count import operations, parameters
from groundup.planning.machines import FLOAT8, INTERCONNECTS, MACHINES, machine
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
from groundup.planning.plan import Training, checkpoint_bytes, figures, presets, presets_table, rows_that_fit, table
from groundup.planning.search import Prediction, Ranking, as_json, explained, rank, ranked_table, step_lines
from groundup.posttraining.sft import SFTConfig
from groundup.pretraining.build import PretrainConfig
from groundup.pretraining.probe import Probe, probe
from groundup.recipes import Recipe
from groundup.scaling.words import Asked, split
from groundup.tokenizer.build import TokenizerConfig
from groundup.training import TrainingConfig

HELP = f"""\
groundup plan [RECIPE] [--probe | --device NAME | --flops-per-second N] [--price N] [--tokens N] [--key value …]
groundup plan [RECIPE] --devices N --device NAME [--nodes N] [--batch N] [--key value …]

What a recipe takes before its first step: parameters, floating-point operations, memory, disk, and, where a speed is
known, seconds and money for pretraining and supervised fine-tuning. Not included: corpus, tokenizer, DPO, GRPO,
evaluation and report, whose time depends on the text and on what the model says.

  --probe                train for half a minute on this machine and tell the time from the median step
  --probe-seconds N      another length of the probe (default 30)
  --device NAME          tell the time on {", ".join(MACHINES)}:
                         peak by its maker, share of it (MFU) as published; both are printed with their sources
  --mfu N                another share of the peak, above 0 and at most 1
  --flops-per-second N   tell the time on a machine that executes so many operations
  --price N              price of an hour, to tell what the time costs
  --tokens N             tokens to pretrain on, such as 2e9, instead of the recipe's steps
  --model.preset NAME    a published shape instead; needs no recipe
  --presets              list the published shapes and their sizes
  --json                 the figures for programs: memory in bytes, time in seconds
  --key value            any key of a recipe; `groundup run --help` explains them

Many devices: every sensible mesh (replicas, FSDP, tensor, pipeline, context, expert) and its memory, step time,
waiting, bubble, MFU, the fastest first. Schedule, rows of a micro-batch, recomputation and ZeRO-2 or 3 are chosen.
  --devices N            how many, all of the kind --device names
  --nodes N              in so many nodes (default: nodes as they are usually built)
  --batch N              sequences of a step, over all devices (default: the recipe's rows · accumulation; of a
                         published shape 4 million tokens)
  --bandwidth N          GB/s of each device to other nodes, in one direction (default: the maker's)
  --node-bandwidth N     GB/s of each device to others in its node, in one direction (default: the maker's)
  --efficiency N         share of the peak that large matrix products reach
  --plans N              how many plans to show (default 10)
  --price N              is here the price of an hour of one device

Activations are what PyTorch keeps for the backward pass on a CPU, where operations run one by one; the fused ones of
accelerators keep less."""

#: Tokens of a step of a published shape: the first batch of Llama 3 405B (Grattafiori et al. 2024, 3.4.1).
BATCH_TOKENS = 2**22
#: Formats that hold text as it is.
PLAIN = ("text", "html", "lines", "json", "csv")


NO_TOKENS = "a published shape has no training of its own; say on how many --tokens"
#: Options that say something of many devices only.
OF_DEVICES = ("nodes", "batch", "bandwidth", "node_bandwidth", "efficiency")


@dataclass(frozen=True)
class PlanOptions:
    """What `groundup plan` is told beside the keys of the recipe."""

    tokens: float = 0.0
    """Tokens to train on; 0: as many as the recipe's pretraining."""
    probe: bool = False
    """Measure the speed of this machine."""
    probe_seconds: float = 30.0
    """How long."""
    device: str = ""
    """Assume the speed of this one."""
    mfu: float = 0.0
    """Share of its peak; 0: as published."""
    flops_per_second: float = 0.0
    """Speed at which the machine executes; 0: not known."""
    price: float = 0.0
    """Price of an hour; 0: not told."""
    devices: int = 0
    """Predict plans for so many; 0: one device, as it is."""
    nodes: int = 0
    """They are in so many nodes; 0: as usually built."""
    batch: int = 0
    """Sequences of a step over all of them; 0: the recipe's."""
    bandwidth: float = 0.0
    """GB/s of each device to other nodes; 0: the maker's."""
    node_bandwidth: float = 0.0
    """GB/s of each device to others in its node; 0: the maker's."""
    efficiency: float = 0.0
    """Share of the peak that large products reach; 0: as published or assumed."""
    plans: int = 10
    """How many to show."""
    presets: bool = False
    """List the published shapes."""
    json: bool = False
    """For programs."""

    def __post_init__(self) -> None:
        for name in ("tokens", "flops_per_second", "price", "devices", *OF_DEVICES):
            if getattr(self, name) < 0:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name):g}; it cannot be negative")
        self._check_devices()
        if not self.probe_seconds > 0:
            raise UsageError(f"probe-seconds is {self.probe_seconds:g}; it must be above 0")
        if not 0 <= self.mfu <= 1:
            raise UsageError(f"mfu is {self.mfu:g}; it is a share: above 0 and at most 1")
        if self.mfu and not self.device:
            raise UsageError("mfu is the share of a device's peak; name it with --device")
        if self.probe + bool(self.device) + bool(self.flops_per_second) > 1:
            raise UsageError("--probe, --device and --flops-per-second each tell a speed; give one of them")
        if self.price and not (self.probe or self.device or self.flops_per_second):
            raise UsageError("--price needs a speed: --probe, --device NAME or --flops-per-second N")

    def _check_devices(self) -> None:
        if not self.devices:
            for name in OF_DEVICES:
                if getattr(self, name):
                    raise UsageError(f"--{name.replace('_', '-')} is for many devices; say how many with --devices")
            return
        if not self.device:
            raise UsageError(f"--devices needs the kind: --device {', '.join(INTERCONNECTS)}")
        if self.mfu:
            raise UsageError("with --devices the MFU is predicted; --efficiency sets what matrix products reach")
        if self.nodes and self.devices % self.nodes:
            raise UsageError(f"{self.devices} devices cannot be divided over {self.nodes} nodes")
        if self.efficiency > 1:
            raise UsageError(f"efficiency is {self.efficiency:g}; it is a share: above 0 and at most 1")
        if self.plans < 1:
            raise UsageError(f"plans is {self.plans}; it must be at least 1")


def run(words: list[str]) -> int:
    """Print the plan; returns the exit code.

    Raises:
        UsageError: an option or a key is wrong.
    """
    if any(word in HELP_FLAGS for word in words):
        print(HELP)
        return 0
    own, asked = split(words, PlanOptions)
    options = parse(PlanOptions, PlanOptions(), own, "groundup plan", "command line")
    if options.presets:
        if asked != Asked(None, None, ()):
            raise UsageError(f"unexpected {asked.name or (asked.options or (asked.preset,))[0]!r} beside --presets")
        print(json.dumps(presets()) if options.json else presets_table(presets()))
        return 0
    if options.devices:
        divided = plan_devices(asked, options)
        print(json.dumps(divided.figures()) if options.json else divided.text())
        return 0
    planned = plan(asked, options)
    print(json.dumps(planned) if options.json else table(planned))
    return 0


def plan(asked: Asked, options: PlanOptions) -> dict[str, dict[str, Any]]:
    """Every figure, in sections: operations are single ones, memory is in bytes, time in seconds.

    Raises:
        UsageError: the recipe cannot be planned as it is.
    """
    recipe, vocab_size, alone = _recipe(asked)
    config, pretrain = recipe.model, recipe.pretrain
    per_step = pretrain.accumulation * pretrain.rows * config.context
    own_tokens = tokens_of(pretrain, config.context)
    training = _training(pretrain, options, 0 if alone else own_tokens)
    found = figures(config, vocab_size, training)
    tuned = [] if alone else [recipe.sft, recipe.dpo, recipe.grpo]
    found["disk_bytes"] = _disk(recipe, vocab_size, training, [pretrain, *tuned])
    if not (options.probe or options.device or options.flops_per_second):
        return found
    if not training.tokens:
        raise UsageError(NO_TOKENS)
    found["training"]["steps"] = -(-training.tokens * pretrain.steps // own_tokens)
    per_token = operations(config, vocab_size, config.context).training / config.context
    sft_tokens = 0 if alone else tokens_of(recipe.sft, config.context)
    if options.probe:
        measured = probe(config, pretrain, vocab_size, options.probe_seconds)
        speed = per_step * per_token / measured.quartiles()[1]
        found["training"] |= _probed(measured, training.tokens / per_step, found["training"]["steps"], pretrain)
        found["machine"] = _this_machine(pretrain, speed, measured)
    else:
        speed, found["machine"] = _assumed(config, vocab_size, training, options)
        found["training"]["seconds"] = training.tokens * per_token / speed
    if sft_tokens:
        found["sft"] = {"tokens": sft_tokens, "operations": round(sft_tokens * per_token)}
        found["sft"]["seconds"] = sft_tokens * per_token / speed
        found["together"] = {"seconds": found["training"]["seconds"] + found["sft"]["seconds"]}
    if options.price:
        for section in found.values():
            if "seconds" in section:
                section["price"] = section["seconds"] / 3600 * options.price
    return found


def _recipe(asked: Asked) -> tuple[Recipe, int, bool]:
    """What is planned, the size of its vocabulary, and whether it is a published shape without a recipe."""
    alone = preset(asked.preset) if asked.name is None and asked.preset else None
    base = (
        Recipe(tokenizer=TokenizerConfig(alone.vocab_size), pretrain=PretrainConfig(rows=1)) if alone else asked.base()
    )
    recipe = asked.over(base, "groundup plan")
    if recipe.tokenizer.vocab_size == "auto":
        raise UsageError(
            "tokenizer.vocab-size is auto, which depends on the corpus; give --tokenizer.vocab-size a number"
        )
    return recipe, recipe.tokenizer.vocab_size, alone is not None


def _training(pretrain: PretrainConfig, options: PlanOptions, own_tokens: int) -> Training:
    return Training(
        pretrain.rows,
        int(options.tokens) or own_tokens,
        pretrain.optimizer.rule != "adamw",
        _element(pretrain, options),
        pretrain.average > 0,
    )


@dataclass(frozen=True)
class Divided:
    """A training divided over many devices, in every sensible way."""

    found: dict[str, dict[str, Any]]
    """What all plans have in common, in sections."""
    simulator: Simulator
    ranking: Ranking
    steps: int
    price: float
    """Of an hour of one device; 0: not told."""
    most: int
    """Plans that are shown."""

    def figures(self) -> dict[str, Any]:
        """For programs; plans that do not fit follow where none fits."""
        shown = self.ranking.fitting or self.ranking.too_large
        return {
            **self.found,
            "plans": [
                {**as_json(each, self.simulator), **self._whole(each), "fits": bool(self.ranking.fitting)}
                for each in shown[: self.most]
            ],
            "meshes_that_fit": len(self.ranking.fitting),
            "meshes_that_do_not_fit": len(self.ranking.too_large),
            "explanation": explained(self.ranking, self.simulator),
        }

    def text(self) -> str:
        """For people, in lines of 80 letters at most."""
        words = explained(self.ranking, self.simulator).replace(" %", "\N{NO-BREAK SPACE}%")
        said = textwrap.fill(words, 80, break_on_hyphens=False).replace("\N{NO-BREAK SPACE}", " ")
        if not self.ranking.fitting:
            return f"{table(self.found)}\n\n{said}"
        first = self.ranking.fitting[0]
        best = {key: value for key, value in as_json(first, self.simulator).items() if key.endswith("_bytes")}
        training = {**self.found["training"], **self._whole(first)}
        sections = table({**self.found, **best, "training": training})
        step = "\n".join(["a step of the first plan", *step_lines(first.step)])
        return f"{sections}\n\n{step}\n\n{ranked_table(self.ranking, self.most)}\n\n{said}"

    def _whole(self, each: Prediction) -> dict[str, float]:
        """Of all steps."""
        seconds = self.steps * each.step.total
        if not self.price:
            return {"seconds": seconds}
        return {"seconds": seconds, "price": seconds / 3600 * self.price * each.plan.mesh.devices}


def plan_devices(asked: Asked, options: PlanOptions) -> Divided:
    """Predict and rank the plans of pretraining.

    Raises:
        UsageError: the recipe cannot be planned as it is, or cannot be divided over the devices.
    """
    recipe, vocab_size, alone = _recipe(asked)
    config, pretrain = recipe.model, recipe.pretrain
    training = _training(pretrain, options, 0 if alone else tokens_of(pretrain, config.context))
    if not training.tokens:
        raise UsageError(NO_TOKENS)
    own = pretrain.rows * pretrain.accumulation
    batch = options.batch or (own if own > 1 or not alone else max(options.devices, BATCH_TOKENS // config.context))
    cluster = _cluster(pretrain, options)
    simulator = Simulator(Job(config, vocab_size, training), cluster)
    ranking = rank(simulator, batch)
    steps = -(-training.tokens // (batch * config.context))
    known, assumed = cluster.machine, cluster.assumptions
    common = figures(config, vocab_size, training)
    found = {section: common[section] for section in ("model", "parameters", "operations_per_token", "training")}
    found["training"] |= {"sequences_of_a_step": batch, "steps": steps}
    found["cluster"] = {
        "name": known.title,
        "devices": cluster.devices,
        "in_each_node": cluster.per_node,
        "peak": known.peak,
        "efficiency": assumed.efficiency,
        "attention_efficiency": assumed.attention,
        "memory_bytes": known.memory,
        "bandwidth": known.bandwidth,
        "inside": cluster.inside,
        "between": cluster.between,
        "source": known.source,
        "source_of_links": INTERCONNECTS[options.device].source,
    }
    return Divided(found, simulator, ranking, steps, options.price, options.plans)


def _cluster(pretrain: PretrainConfig, options: PlanOptions) -> Cluster:
    """The devices as the options say, otherwise as their makers do."""
    known, links = machine(options.device), INTERCONNECTS[options.device]
    float8 = pretrain.precision == "float8"
    if float8 and options.device not in FLOAT8:
        raise UsageError(f"{known.title} has no float8; leave pretrain.precision auto")
    assumed = Assumptions(
        options.efficiency or EFFICIENCY.get(options.device, ASSUMED_EFFICIENCY),
        ATTENTION.get(options.device, ASSUMED_ATTENTION),
        products=2.0 if float8 else 1.0,
    )
    per_node = options.devices // options.nodes if options.nodes else min(links.per_node, options.devices)
    return Cluster(
        known,
        options.devices,
        per_node,
        1e9 * options.node_bandwidth or links.inside,
        1e9 * options.bandwidth or links.between,
        assumed,
    )


def tokens_of(stage: PretrainConfig | SFTConfig, context: int) -> int:
    """That a stage trains on, every row full."""
    micro_batches = sum(
        stage.schedule.accumulation_at(step, stage.steps, stage.accumulation) for step in range(stage.steps)
    )
    return micro_batches * stage.rows * context


def _element(pretrain: PretrainConfig, options: PlanOptions) -> int:
    """Bytes of a number in matrix products."""
    if not options.device:
        return choose_dtype(pretrain.precision, choose_device(pretrain.device)).itemsize
    if pretrain.precision in ("float32", "tf32"):
        raise UsageError(
            f"--device {options.device} is planned in bfloat16, but pretrain.precision is {pretrain.precision}; "
            "leave it auto"
        )
    return 2


def _disk(recipe: Recipe, vocab_size: int, training: Training, stages: Sequence[TrainingConfig]) -> dict[str, int]:
    """Shards hold each token once, at most as many as are trained on; every stage keeps checkpoints, and one more while
    it writes it."""
    sizes = parameters(recipe.model, vocab_size)
    files = list_files(recipe.corpus.texts) if recipe.corpus.texts else []
    tokens = training.tokens
    if files and all(map(_is_plain, files)):
        tokens = min(tokens, sum(file.bytes for file in files))
    found = {"tokens_at_most": tokens * (2 if vocab_size <= 2**16 else 4)}
    for name, stage in zip(("pretrain", "sft", "dpo", "grpo"), stages, strict=False):
        each = checkpoint_bytes(sizes, muon=stage.optimizer.rule != "adamw", averaged=stage.average > 0)
        rule = stage.checkpoints
        kept = rule.last + rule.best + (stage.steps // rule.every if rule.every else 0)
        found[f"checkpoints_{name}"] = each * (kept + 1)
    return {**found, "total": sum(found.values())}


def _is_plain(file: File) -> bool:
    """Whether it has no more tokens than bytes: it is neither packed nor of unknown size."""
    return file.bytes > 0 and FORMATS.get(Path(file.path).suffix.lower()) in PLAIN


def _probed(measured: Probe, whole_steps: float, steps: int, pretrain: PretrainConfig) -> dict[str, float]:
    """Seconds of pretraining: expected, and if every step took as long as the faster or the slower quartile.

    ``whole_steps`` counts a step of the batch's warm-up as the part of a step that it is.
    """
    validations = steps // pretrain.validate_every + 1 + (steps % pretrain.validate_every > 0)
    beside = validations * (measured.validation + measured.sampling)
    low, middle, high = (whole_steps * each + beside for each in measured.quartiles())
    return {
        "seconds": middle,
        "seconds_at_lower_quartile": low,
        "seconds_at_upper_quartile": high,
        "seconds_validating": beside,
    }


def _this_machine(pretrain: PretrainConfig, speed: float, measured: Probe) -> dict[str, Any]:
    device = choose_device(pretrain.device)
    return {
        "name": environment()["processor"] if device.type == "cpu" else str(device),
        "steps_measured": len(measured.steps),
        "speed": speed,
    }


def _assumed(
    config: ModelConfig, vocab_size: int, training: Training, options: PlanOptions
) -> tuple[float, dict[str, Any]]:
    """Operations per second, and where that number comes from."""
    if not options.device:
        return options.flops_per_second, {"name": "one of the given speed", "speed": options.flops_per_second}
    known = machine(options.device)
    share = options.mfu or known.utilisation
    sizes = parameters(config, vocab_size)
    rows = rows_that_fit(config, vocab_size, training, known.memory)
    return known.peak * share, {
        "name": known.title,
        "peak": known.peak,
        "utilisation": share,
        "speed": known.peak * share,
        "memory_bytes": known.memory,
        "rows_that_fit": rows,
        "bandwidth": known.bandwidth,
        # One stream of tokens: every weight that is used is read once for each.
        "tokens_generated_a_second_at_most": int(known.bandwidth / (FLOAT * sizes.active)),
        "source": known.source,
        "source_of_utilisation": "as given" if options.mfu else known.utilisation_source,
    }
