"""Forward and backward of the model, beside transformers and a plain GPT-2, at equal shape, weights and dtype.

``python -m benchmarks.model``. Every cell (family, shape, eager or compiled) is measured by itself, each side in a
process of its own, so that the memory of one is not that of another.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks._common import OURS, Case, Prepared, Rounds, compare, main, require_positive
from benchmarks._plain_gpt import PlainGPT
from benchmarks._twin import twin
from groundup.core.device import Precision, autocast, choose_device, choose_dtype
from groundup.core.errors import UsageError
from groundup.core.progress import say
from groundup.core.seeding import numpy_rng, torch_rng
from groundup.dataloader import Batch
from groundup.model import ModelConfig, Transformer
from groundup.model.config import PositionConfig
from groundup.objectives import next_token
from groundup.planning.count import operations

#: Name → layers, heads, width, tokens of a sequence, sequences, vocabulary.
SHAPES: dict[str, tuple[int, int, int, int, int, int]] = {
    "1M": (4, 4, 128, 64, 12, 65),
    "12M": (6, 6, 384, 256, 16, 4096),
    "124M": (12, 12, 768, 256, 2, 50304),
    "124M-1024": (12, 12, 768, 1024, 16, 50304),
    "124M-4096": (12, 12, 768, 4096, 4, 50304),
    "350M-1024": (24, 16, 1024, 1024, 8, 50304),
    "350M-4096": (24, 16, 1024, 4096, 2, 50304),
}
FAMILIES = ("gpt2", "llama")


@dataclass(frozen=True)
class Model(Rounds):
    """Which cells."""

    shapes: tuple[str, ...] = ("1M", "12M", "124M")
    """Of 1M, 12M, 124M, and for GPUs 124M-1024, 124M-4096, 350M-1024, 350M-4096."""
    families: tuple[str, ...] = FAMILIES
    """gpt2 (beside transformers and the plain one) and llama (beside transformers)."""
    compiled: bool = False
    """Measure with torch.compile as well."""
    steps: int = 3
    """Passes in one measurement."""
    precision: Precision = "float32"
    """Dtype of matrix products."""
    device: str = "auto"
    """Where to compute."""
    peak_flops: float = 0.0
    """What the device could do at best, in floating-point operations per second; gives the utilisation (MFU)."""

    def __post_init__(self) -> None:
        require_positive(self, "rounds", "steps")
        for name, chosen, known in (("shapes", self.shapes, SHAPES), ("families", self.families, FAMILIES)):
            if unknown := [one for one in chosen if one not in known]:
                raise UsageError(f"{name} has {unknown[0]!r}; choose of {', '.join(known)}")


@dataclass(frozen=True)
class Cell:
    """What all sides of one comparison have in common."""

    family: str
    shape: str
    compiled: bool
    settings: Model

    @property
    def config(self) -> ModelConfig:
        """The model's."""
        layers, heads, width, context, _, _ = SHAPES[self.shape]
        config = ModelConfig(layers, width, heads, context=context, qk_norm="none", init="depth-scaled")
        if self.family == "llama":
            return config.resolved()
        learned = PositionConfig("learned")
        return replace(
            config, norm="layer", bias="all", feed_forward="gelu-tanh", positions=learned, hidden=4 * width
        ).resolved()

    def model(self) -> Transformer:
        """The initial weights."""
        device = choose_device(self.settings.device)
        return Transformer(self.config, SHAPES[self.shape][-1]).initialise(torch_rng(1, "weights")).to(device)

    def prepared(self, model: nn.Module, loss: Callable[[Tensor, Tensor], Tensor]) -> Prepared:
        """The side whose ``loss`` takes ids and targets [rows, time]."""
        _, _, _, time, rows, vocabulary = SHAPES[self.shape]
        device = choose_device(self.settings.device)
        dtype = choose_dtype(self.settings.precision, device)
        windows = torch.from_numpy(numpy_rng(1, "benchmark").integers(0, vocabulary, (rows, time + 1))).to(device)
        ids, targets = windows[:, :-1].contiguous(), windows[:, 1:].contiguous()

        def once() -> Tensor:
            for parameter in model.parameters():
                parameter.grad = None
            with autocast(device, dtype):
                value = loss(ids, targets)
            value.backward()
            return value.detach()

        def steps() -> None:
            for _ in range(self.settings.steps):
                once()

        case = Case(self.settings.steps * rows * time, lambda: steps)
        value = float(once())
        norm = torch.stack([parameter.grad.norm() for parameter in model.parameters() if parameter.grad is not None])
        return Prepared([value, float(norm.norm())], {str(self): case}, {"dtype": str(dtype)})

    def wrapped(self, function: Any) -> Any:
        """Compiled, if this cell is."""
        return torch.compile(function) if self.compiled else function

    def __str__(self) -> str:
        return f"{self.family} {self.shape} {'compiled' if self.compiled else 'eager'}"


def ours(cell: Cell) -> Prepared:
    """The model and the objective of pretraining."""
    model = cell.model().train()
    if cell.compiled:
        model.compile()

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        return next_token(model, Batch({"inputs": ids, "targets": targets}, targets.numel())) / targets.numel()

    return cell.prepared(model, loss)


def transformers(cell: Cell) -> Prepared:
    """The same model of transformers, with PyTorch's fused attention."""
    model = twin(cell.model()).train()
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    forward = cell.wrapped(model)

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        logits = forward(input_ids=ids, use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten())

    return cell.prepared(model, loss)


def plain(cell: Cell) -> Prepared:
    """The plain GPT-2."""
    model = PlainGPT(cell.model()).to(choose_device(cell.settings.device))
    return cell.prepared(model, cell.wrapped(model))


def run(settings: Model) -> dict[str, Any]:
    """All cells, one after the other."""
    cells = []
    for family in settings.families:
        for shape in settings.shapes:
            for compiled in (False, True) if settings.compiled else (False,):
                cell = Cell(family, shape, compiled, settings)
                say(f"\n{cell}")
                sides = {OURS: partial(ours, cell), "transformers": partial(transformers, cell)}
                if family == "gpt2":
                    sides["plain"] = partial(plain, cell)
                record = compare(sides, "token", settings.rounds, ("torch", "transformers"))
                time = SHAPES[shape][3]
                flops = operations(cell.config, SHAPES[shape][-1], time).useful_training / time
                record |= {"cell": str(cell), "useful_flops_per_token": flops}
                if settings.peak_flops:
                    rates = record["rates"][str(cell)]
                    record["utilisation"] = {
                        side: sorted(values)[len(values) // 2] * flops / settings.peak_flops
                        for side, values in rates.items()
                    }
                    shares = ", ".join(f"{side} {share:.1%}" for side, share in record["utilisation"].items())
                    say(f"model FLOPs utilisation: {shares}")
                cells.append(record)
    return {"cells": cells}


if __name__ == "__main__":
    sys.exit(main(Model, "model", run))
