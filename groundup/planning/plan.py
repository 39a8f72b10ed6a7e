"""What building a model takes, before it is built: figures and the table that shows them.

Enters: a :class:`ModelConfig`, a vocabulary size and how it will be trained. Leaves: parameters, operations and bytes,
all computed from the shape. Time and price are added by :mod:`groundup.scaling.plan`, which knows machines.
"""

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from groundup.core.errors import UsageError
from groundup.core.progress import duration
from groundup.model.config import ModelConfig
from groundup.model.presets import names, preset
from groundup.planning.activations import FLOAT, MicroBatch, activation_bytes
from groundup.planning.count import Parameters, cache_bytes, operations, parameters

#: Names of the dtypes of matrix products, by the bytes of a number.
PRECISIONS = {4: "float32", 2: "bfloat16"}


@dataclass(frozen=True)
class Training:
    """How the model will be trained."""

    rows: int
    """Windows of the whole context in a micro-batch."""
    tokens: int = 0
    """Tokens of all training; 0: not known."""
    muon: bool = True
    """Hidden matrices are trained by Muon, which keeps one number per weight; AdamW keeps two."""
    element: int = FLOAT
    """Bytes of a number in matrix products: 4 in float32, 2 in bfloat16. Weights stay float32."""
    averaged: bool = False
    """A running mean of the weights is kept beside them."""
    weights: int = 0
    """Bytes of a number of the weights that products read; 0: ``element``. Autocast reads float32 and makes copies."""

    def __post_init__(self) -> None:
        if self.tokens < 0:
            raise UsageError(f"tokens is {self.tokens}; it cannot be negative")

    @property
    def read(self) -> int:
        """Bytes of a number of the weights that products read."""
        return self.weights or self.element


def figures(config: ModelConfig, vocab_size: int, training: Training) -> dict[str, dict[str, Any]]:
    """Every number of the plan, in sections; operations are single ones, memory is in bytes, time in seconds."""
    config = config.resolved()
    sizes = parameters(config, vocab_size)
    sequence = operations(config, vocab_size, config.context)
    batch = MicroBatch(training.rows, config.context, training.element)
    activations = activation_bytes(config, vocab_size, batch)
    cached = cache_bytes(config, config.context, FLOAT)
    kept = {**standing_bytes(sizes, training), "activations": sum(activations.values())}
    found: dict[str, dict[str, Any]] = {
        "model": {
            "layers": config.layers,
            "width": config.width,
            "heads": config.heads,
            "kv_heads": config.kv_heads,
            "context": config.context,
            "vocabulary": vocab_size,
        },
        "parameters": {**sizes.parts, "total": sizes.total},
        "operations_per_token": {
            "forward": sequence.forward // config.context,
            "forward_and_backward": sequence.training // config.context,
            "of_which_useful": sequence.useful_training // config.context,
        },
        "micro_batch": {"rows": training.rows, "tokens": batch.tokens, "precision": PRECISIONS[training.element]},
        "training_bytes": {**kept, "total": sum(kept.values())},
        "generation_bytes": {
            "weights": FLOAT * sizes.total,
            "cache_per_token": cached // config.context,
            "cache_of_the_context": cached,
        },
    }
    if sizes.active != sizes.total:
        found["parameters"]["active_per_token"] = sizes.active
    if training.tokens:
        executed = sequence.training * training.tokens // config.context
        found["training"] = {"tokens": training.tokens, "operations": executed}
    return found


def standing_bytes(sizes: Parameters, training: Training) -> dict[str, int]:
    """What lies in memory however small the batch: weights, gradients, optimizer, mean of the weights."""
    weights = FLOAT * sizes.total
    standing = {
        "weights": weights,
        "gradients": weights,
        "optimizer": optimizer_bytes(sizes, muon=training.muon),
        "mean_of_weights": weights * training.averaged,
    }
    return {part: size for part, size in standing.items() if size}


def rows_that_fit(config: ModelConfig, vocab_size: int, training: Training, memory: float) -> int:
    """The most rows of a micro-batch with which training needs no more than ``memory`` bytes; 0: not even one fits."""
    config = config.resolved()
    standing = sum(standing_bytes(parameters(config, vocab_size), training).values())
    one, two = (
        sum(activation_bytes(config, vocab_size, MicroBatch(rows, config.context, training.element)).values())
        for rows in (1, 2)
    )
    return max(0, int((memory - standing - one) // (two - one)) + 1)


def optimizer_bytes(sizes: Parameters, *, muon: bool) -> int:
    """What AdamW, and Muon for hidden matrices, remember between steps, in float32."""
    return FLOAT * (2 * sizes.total - (sizes.hidden_matrices if muon else 0))


def checkpoint_bytes(sizes: Parameters, *, muon: bool, averaged: bool = False) -> int:
    """A checkpoint on the disk, in float32: weights, what the optimizer remembers, and their running mean."""
    return FLOAT * sizes.total * (1 + averaged) + optimizer_bytes(sizes, muon=muon)


def table(found: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures as text, a line each."""
    context, at_a_time = found["model"]["context"], ""
    if batch := found.get("micro_batch"):
        at_a_time = f", {batch['rows']} × {context:,} tokens at a time, in {batch['precision']}"
    titles = {
        "model": "model",
        "parameters": "parameters",
        "operations_per_token": f"floating-point operations per token, in sequences of {context:,}",
        "training": "pretraining",
        "sft": "supervised fine-tuning",
        "together": "both together",
        "training_bytes": f"memory of training{at_a_time}",
        "device_bytes": "memory of the device that needs most",
        "disk_bytes": "disk",
        "generation_bytes": "memory of generating",
        "machine": "machine",
        "cluster": "devices",
        "received_bytes": "what a device of the first stage receives in a step",
    }
    lines = []
    for section, title in titles.items():
        if section in found:
            lines += ["", title]
            rows = _shown(section, found[section])
            lines += [f"  {name.replace('_', ' '):24}{shown:>20}" if shown else f"  {name}" for name, shown in rows]
    return "\n".join(lines[1:])


def presets_table(found: list[dict[str, Any]]) -> str:
    """The presets as text, a line each, under a line of column names."""
    cells = [[key.replace("_", " ") for key in found[0]]]
    cells += [[f"{value:,}" if isinstance(value, int) else value for value in row.values()] for row in found]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    lines = []
    for row in cells:
        name, family, *numbers = (
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join((name, family, *numbers)))
    return "\n".join(lines)


def presets() -> list[dict[str, Any]]:
    """Name, family and sizes of every preset."""
    listed = []
    for name in names():
        known = preset(name)
        sizes, config = parameters(known.config, known.vocab_size), known.config.resolved()
        listed.append(
            {
                "name": name,
                "family": known.family,
                "parameters": sizes.total,
                "active": sizes.active,
                "layers": config.layers,
                "width": config.width,
                "heads": config.heads,
                "kv_heads": config.kv_heads,
                "context": config.context,
                "vocabulary": known.vocab_size,
            }
        )
    return listed


def _shown(section: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        if name.startswith("seconds"):
            yield name.replace("seconds", "time", 1), duration(value)
        elif section.endswith("bytes") or name.endswith("bytes"):
            yield name.removesuffix("_bytes"), scaled(value, "B")
        elif name in ("bandwidth", "inside", "between"):
            yield name, scaled(value, "B/s")
        elif name in ("peak", "speed"):
            yield name, scaled(value, "FLOP/s")
        elif section == "operations_per_token" or name == "operations":
            yield name, scaled(value, "FLOP")
        elif name in ("utilisation", "efficiency", "attention_efficiency"):
            yield name, f"{100 * value:.1f} %"
        elif name == "price":
            yield name, f"{value:,.2f}"
        elif isinstance(value, str):
            yield from ((line, "") for line in textwrap.wrap(f"{name.replace('_', ' ')}: {value}", 78))
        else:
            yield name, f"{value:,}"


def scaled(value: float, unit: str) -> str:
    """``1234567`` bytes → ``1.23 MB``."""
    for prefix in ("", "k", "M", "G", "T", "P", "E"):
        if value < 999.5:
            return f"{value:.3g} {prefix}{unit}"
        value /= 1000
    return f"{value:,.3g} Z{unit}"
