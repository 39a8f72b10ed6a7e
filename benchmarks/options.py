"""What the options of the model are worth: the same budget of text for each, and bits per byte of text never seen.

``python -m benchmarks.options``. Each option is trained alone, beside the default, on the corpus and with the
optimizer of the recipe ``quickstart``; a seed decides the order of the text and the first weights, the same for all.
"""

import math
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import mean, stdev
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks._common import Recorded, main, require_positive
from groundup.core.errors import UsageError
from groundup.core.progress import say
from groundup.core.run import environment
from groundup.core.seeding import torch_rng
from groundup.corpus.build import CorpusConfig
from groundup.corpus.build import build as build_corpus
from groundup.dataloader import Tokens, TokenSource, open_tokens
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig, PositionConfig
from groundup.objectives import next_token
from groundup.planning import count_parameters
from groundup.planning import parameters as count
from groundup.pretraining.tokens import encode_documents, read_split
from groundup.pretraining.validation import Document, document_bits
from groundup.recipes import load as load_recipe
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer import load as load_tokenizer
from groundup.tokenizer.build import TokenizerConfig
from groundup.tokenizer.build import build as build_tokenizer
from groundup.training import train

DEFAULT = "default"


@dataclass(frozen=True)
class Options(Recorded):
    """The budget, the same for all."""

    depth: int = 4
    """Layers."""
    aspect: int = 16
    """Width per layer."""
    head_size: int = 32
    """Size of one attention head."""
    context: int = 128
    """Tokens of a sequence."""
    vocab_size: int = 1024
    """Of a vocabulary learned from the same text."""
    steps: int = 120
    """Updates."""
    rows: int = 8
    """Sequences in a step."""
    rates: float = 1.0
    """Factor of the recipe's learning rates."""
    seeds: int = 2
    """Trainings of each option."""
    windows: int = 256
    """Sequences of the validation text that are measured, evenly spread over it."""
    only: tuple[str, ...] = ()
    """Options to train, beside the default; all when not given."""

    def __post_init__(self) -> None:
        require_positive(self, "depth", "aspect", "head_size", "context", "steps", "rows", "windows")
        if self.rates <= 0:
            raise UsageError(f"rates is {self.rates}; it must be above 0")
        if self.seeds < 2:
            raise UsageError(f"seeds is {self.seeds}; it must be at least 2, or nothing tells noise from worth")

    def shapes(self) -> dict[str, ModelConfig]:
        """Option → the model that differs from the default in it, and where it can be has as many active parameters."""
        base = ModelConfig(
            depth=self.depth, aspect=self.aspect, head_size=self.head_size, context=self.context
        ).resolved()
        experts = ExpertConfig(count=8, active=2, hidden=base.hidden // 2)
        shapes = {
            DEFAULT: base,
            "key_smear": replace(base, key_smear=True),
            "value_embeddings": replace(base, value_embeddings=True),
            "residual_scalars": replace(base, residual_scalars=True),
            "feed_forward relu2": replace(base, feed_forward="relu2", hidden=base.hidden * 3 // 2),
            "feed_forward geglu": replace(base, feed_forward="geglu"),
            "qk_norm none": replace(base, qk_norm="none"),
            "norm_place output": replace(base, norm_place="output"),
            "norm_place sandwich": replace(base, norm_place="sandwich"),
            "positions learned": replace(base, positions=PositionConfig("learned")),
            "positions alibi": replace(base, positions=PositionConfig("alibi")),
            "positions none": replace(base, positions=PositionConfig("none")),
            "logits_softcap 15": replace(base, logits_softcap=15.0),
            "tied false": replace(base, tied=False),
            "experts 2 of 8": replace(base, experts=experts),
            "init depth-scaled": replace(base, init="depth-scaled"),
        }
        if unknown := [name for name in self.only if name not in shapes]:
            raise UsageError(f"only has {unknown[0]!r}; choose of {', '.join(shapes)}")
        return {name: shape for name, shape in shapes.items() if not self.only or name in (DEFAULT, *self.only)}


@dataclass(frozen=True)
class Text:
    """What all are trained and measured on."""

    tokenizer: BytePairTokenizer
    tokens: Tokens
    validation: Sequence[Document]

    @classmethod
    def made(cls, settings: Options, folder: Path) -> "Text":
        """The recipe's corpus, with a vocabulary of the settings' size."""
        build_corpus(CorpusConfig(), folder, seed=1)
        build_tokenizer(TokenizerConfig(vocab_size=settings.vocab_size), folder, folder / "tokenizer", 1, None)
        tokenizer = load_tokenizer(folder / "tokenizer")
        for split in ("train", "validation"):
            encode_documents(folder / f"{split}.jsonl", tokenizer, folder / split)
        return cls(tokenizer, open_tokens(folder / "train"), read_split(folder / "validation"))


def trained(settings: Options, shape: ModelConfig, text: Text, seed: int) -> float:
    """Validation bits per byte after the budget is spent."""
    recipe = load_recipe("quickstart").pretrain
    rates = recipe.optimizer.for_width(shape.width)
    config = replace(
        recipe,
        optimizer=replace(rates, matrix_rate=settings.rates * rates.matrix_rate, rate=settings.rates * rates.rate),
        steps=settings.steps,
        rows=settings.rows,
        save_every=settings.steps,
    )
    model = Transformer(shape, text.tokenizer.vocab_size).initialise(torch_rng(seed, "weights"))
    source = TokenSource(text.tokens, settings.rows, settings.context, seed)
    with TemporaryDirectory() as folder:
        train(model, next_token, source, config, text.tokenizer, Path(folder), "train")
    model.eval()
    return document_bits(model, text.validation, text.tokenizer, settings.context, settings.windows).per_byte


def run(settings: Options) -> dict[str, Any]:
    """All options with the first seed, then all with the next."""
    shapes = settings.shapes()
    bits: dict[str, list[float]] = {name: [] for name in shapes}
    seconds: dict[str, list[float]] = {name: [] for name in shapes}
    with ExitStack() as stack:
        text = Text.made(settings, Path(stack.enter_context(TemporaryDirectory())))
        for seed in range(1, settings.seeds + 1):
            for name, shape in shapes.items():
                started = time.perf_counter()
                bits[name].append(round(trained(settings, shape, text, seed), 5))
                seconds[name].append(round(time.perf_counter() - started, 1))
                say(f"seed {seed}  {name}: {bits[name][-1]:.4f} bits per byte, {seconds[name][-1]:.0f} s")
        facts = {"train_tokens": len(text.tokens), "tokens_seen": settings.steps * settings.rows * settings.context}
    differences, noise = compared(bits)
    rows = [
        {
            "option": name,
            "parameters": count_parameters(Transformer(shape, settings.vocab_size)),
            "active_parameters": count(shape, settings.vocab_size).active,
            "bits_per_byte": bits[name],
            "mean": round(mean(bits[name]), 5),
            "difference": round(mean(differences[name]), 5),
            "seconds": seconds[name],
        }
        for name, shape in shapes.items()
    ]
    _show(rows, noise)
    base = asdict(shapes[DEFAULT])
    return {"environment": environment(), **facts, "default": base, "noise": round(noise, 5), "options": rows}


def compared(bits: Mapping[str, Sequence[float]]) -> tuple[dict[str, list[float]], float]:
    """Each option less the default, seed by seed, and the standard error of the mean of such differences.

    The error is pooled over all options, since the seeds of one alone are too few to tell.
    """
    differences = {
        name: [one - other for one, other in zip(values, bits[DEFAULT], strict=True)] for name, values in bits.items()
    }
    others = [values for name, values in differences.items() if name != DEFAULT]
    if not others:
        return differences, 0.0
    pooled = math.sqrt(mean(stdev(values) ** 2 for values in others))
    return differences, pooled / math.sqrt(len(bits[DEFAULT]))


def _show(rows: Sequence[Mapping[str, Any]], noise: float) -> None:
    for row in sorted(rows, key=lambda row: row["mean"]):
        say(f"{row['option']:<24} {row['mean']:.4f}  {row['difference']:+.4f}  {row['active_parameters']:>9,}")
    say(f"standard error of a difference: {noise:.4f}")


if __name__ == "__main__":
    sys.exit(main(Options, "options", run))
