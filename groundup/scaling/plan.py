"""``groundup plan``: a recipe enters; what it takes leaves on stdout, before its first step.

Parameters, operations, memory and disk are computed from the shape. Time and price need a speed: measured on this
machine (``--probe``), assumed for a named one (``--device``), or given.
"""

import json
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
from groundup.planning.machines import MACHINES, machine
from groundup.planning.plan import Training, checkpoint_bytes, figures, presets, presets_table, rows_that_fit, table
from groundup.posttraining.sft import SFTConfig
from groundup.pretraining.build import PretrainConfig
from groundup.pretraining.probe import Probe, probe
from groundup.recipes import Recipe
from groundup.scaling.words import Asked, split
from groundup.tokenizer.build import TokenizerConfig
from groundup.training import TrainingConfig

HELP = f"""\
groundup plan [RECIPE] [--probe | --device NAME | --flops-per-second N] [--price N] [--tokens N] [--key value …]

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

Activations are what PyTorch keeps for the backward pass on a CPU, where operations run one by one; the fused ones of
accelerators keep less."""

#: Formats that hold text as it is.
PLAIN = ("text", "html", "lines", "json", "csv")


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
    presets: bool = False
    """List the published shapes."""
    json: bool = False
    """For programs."""

    def __post_init__(self) -> None:
        for name in ("tokens", "flops_per_second", "price"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name.replace('_', '-')} is {getattr(self, name):g}; it cannot be negative")
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
    planned = plan(asked, options)
    print(json.dumps(planned) if options.json else table(planned))
    return 0


def plan(asked: Asked, options: PlanOptions) -> dict[str, dict[str, Any]]:
    """Every figure, in sections: operations are single ones, memory is in bytes, time in seconds.

    Raises:
        UsageError: the recipe cannot be planned as it is.
    """
    alone = preset(asked.preset) if asked.name is None and asked.preset else None
    base = (
        Recipe(tokenizer=TokenizerConfig(alone.vocab_size), pretrain=PretrainConfig(rows=1)) if alone else asked.base()
    )
    recipe = asked.over(base, "groundup plan")
    vocab_size, config, pretrain = recipe.tokenizer.vocab_size, recipe.model, recipe.pretrain
    if vocab_size == "auto":
        raise UsageError(
            "tokenizer.vocab-size is auto, which depends on the corpus; give --tokenizer.vocab-size a number"
        )
    per_step = pretrain.accumulation * pretrain.rows * config.context
    own_tokens = tokens_of(pretrain, config.context)
    training = Training(
        pretrain.rows,
        int(options.tokens) or (0 if alone else own_tokens),
        pretrain.optimizer.rule != "adamw",
        _element(pretrain, options),
        pretrain.average > 0,
    )
    found = figures(config, vocab_size, training)
    tuned = [] if alone else [recipe.sft, recipe.dpo, recipe.grpo]
    found["disk_bytes"] = _disk(recipe, vocab_size, training, [pretrain, *tuned])
    if not (options.probe or options.device or options.flops_per_second):
        return found
    if not training.tokens:
        raise UsageError("a published shape has no training of its own; say on how many --tokens")
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
