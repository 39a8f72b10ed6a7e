"""Tiny trainings of an invented language, into which faults are planted."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.core.config import to_toml
from groundup.core.files import write_jsonl, write_text
from groundup.core.seeding import torch_rng
from groundup.dataloader import Batch, Source, TokenWriter, open_tokens
from groundup.diagnosis import Finding, diagnose
from groundup.inference import Engine, Sampling
from groundup.model import ModelConfig, Transformer
from groundup.objectives import Objective, next_token
from groundup.optim import OptimizerConfig
from groundup.pretraining.build import PretrainConfig
from groundup.pretraining.tokens import make_source
from groundup.pretraining.validation import document_bits
from groundup.tokenizer import BytePairTokenizer
from groundup.training import Hook, train
from groundup.training.config import SafetyConfig

ARTICLES = ["the", "a", "this", "that", "every", "some", "no", "another"]
QUALITIES = ["small", "red", "quiet", "old", "lazy", "bright", "cold", "gentle", "wild", "heavy", "clever", "silent"]
THINGS = ["cat", "dog", "river", "stone", "bird", "house", "tree", "child", "wolf", "lamp", "ship", "garden", "letter"]
DEEDS = ["sees", "finds", "likes", "follows", "carries", "watches", "hears", "meets", "paints", "remembers", "avoids"]
MANNERS = ["slowly", "again", "today", "quickly", "never", "often", "twice", "alone", "gladly"]

SHAPE = ModelConfig(layers=2, width=32, heads=2, kv_heads=1, hidden=64, context=32)
CONFIG = PretrainConfig(
    steps=64,
    rows=8,
    save_every=32,
    validate_every=16,
    prefetch=0,
    safety=SafetyConfig(),
    precision="float32",
    device="cpu",
    optimizer=OptimizerConfig(matrix_rate=0.02, rate=0.01),
)


def sentence(rng: random.Random) -> str:
    """Subject, deed, object, and sometimes how."""
    words = []
    for part in (*"ps", "deed", *"po"):
        if part == "p":
            words += [rng.choice(ARTICLES), *([rng.choice(QUALITIES)] if rng.random() < 0.6 else [])]
        else:
            words.append(rng.choice(DEEDS if part == "deed" else THINGS))
    return " ".join([*words, *([rng.choice(MANNERS)] if rng.random() < 0.5 else [])]).capitalize() + ".\n"


@lru_cache
def documents(seed: int, count: int) -> tuple[str, ...]:
    """Texts of three to six sentences."""
    rng = random.Random(seed)
    return tuple("".join(sentence(rng) for _ in range(rng.randint(3, 6))) for _ in range(count))


OWN_TOKENIZER = BytePairTokenizer.train(documents(0, 60), 330)


class Changed:
    """A source whose batches are changed on their way, by their number."""

    def __init__(self, source: Source, change: Callable[[Batch, int], Batch]) -> None:
        self.source = source
        self.change = change

    def state_dict(self) -> dict[str, Any]:
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.source.load_state_dict(state)

    def __iter__(self) -> Iterator[Batch]:
        for number, batch in enumerate(self.source):
            yield self.change(batch, number)


@dataclass(frozen=True)
class Plan:
    """A run, healthy unless something is replaced."""

    train: Sequence[str] = documents(1, 700)
    validation: Sequence[str] = documents(2, 24)
    tokenizer: BytePairTokenizer = OWN_TOKENIZER
    shape: ModelConfig = SHAPE
    config: PretrainConfig = CONFIG
    seed: int = 1
    objective: Objective = next_token
    change: Callable[[Batch, int], Batch] = lambda batch, number: batch
    encoded: Callable[[str, list[int]], list[int]] = lambda split, ids: ids
    """What is written for a document of a split instead of its ids."""
    temperature: float = 0.8

    def but(self, **parts: Any) -> "Plan":
        """With some parts replaced; those of the configuration by their own names."""
        own = {name: parts.pop(name) for name in tuple(parts) if name in PretrainConfig.__dataclass_fields__}
        return replace(self, config=replace(self.config, **own), **parts)

    def times(self, factor: float) -> "Plan":
        """With multiples of the learning rates."""
        rates = self.config.optimizer
        return self.but(optimizer=replace(rates, matrix_rate=rates.matrix_rate * factor, rate=rates.rate * factor))


@dataclass(frozen=True)
class Recipe:
    """The sections of a recipe that the doctor reads."""

    seed: int
    model: ModelConfig
    pretrain: PretrainConfig


def carried_out(run: Path, plan: Plan) -> Path:
    """Train for real; the run directory is what the stages would have left."""
    folder, tokenizer = run / "pretrain", plan.tokenizer
    mark = tokenizer.special_tokens["<|document|>"]
    for split, texts in (("train", plan.train), ("validation", plan.validation)):
        rows = [{"id": f"{split}-{n}", "title": "", "source": "", "text": text} for n, text in enumerate(texts)]
        write_jsonl(run / "corpus" / f"{split}.jsonl", rows)
        with TokenWriter(folder / "tokens" / split, tokenizer.vocab_size, {}) as writer:
            ids = [plan.encoded(split, [mark, *tokenizer.encode(text)]) for text in texts]
            writer.write([np.array(document, np.uint32) for document in ids])
    (run / "tokenizer").mkdir()
    tokenizer.save(run / "tokenizer")
    write_text(run / "recipe.toml", to_toml(Recipe(plan.seed, plan.shape, plan.config)))
    tokens = {"train": open_tokens(folder / "tokens" / "train")}
    source = make_source(tokens, plan.config.data, plan.config.rows, plan.shape.context, tokenizer, plan.seed)
    model = Transformer(plan.shape, tokenizer.vocab_size).initialise(torch_rng(plan.seed, "weights"))
    held_out = [np.array([mark, *tokenizer.encode(text)]) for text in plan.validation]

    def validate(step: int, model: Transformer) -> dict[str, float]:
        bits = document_bits(model, held_out, tokenizer, stride=plan.shape.context, limit=48)
        return {"validation_bits_per_byte": bits.per_byte}

    def sample(step: int, model: Transformer) -> dict[str, float]:
        if step == 0:
            return {}
        prompts = [[mark, *tokenizer.encode(text)] for text in ("The cat", "Every")]
        sampling = Sampling(temperature=plan.temperature, max_tokens=40)
        completions = Engine(model, frozenset({mark})).generate(prompts, sampling)
        texts = [tokenizer.decode(completion.ids) for completion in completions]
        write_jsonl(folder / "samples.jsonl", [{"step": step, "prompt": "", "text": text} for text in texts])
        return {}

    hooks = [Hook(plan.config.validate_every, validate), Hook(plan.config.steps, sample)]
    train(model, plan.objective, Changed(source, plan.change), plan.config, tokenizer, folder, "pretrain", hooks)
    return run


@pytest.fixture(scope="session")
def plan() -> Plan:
    """A healthy one."""
    return Plan()


@pytest.fixture(scope="session")
def texts() -> Callable[[int, int], tuple[str, ...]]:
    """``texts(seed, count)``: documents of the invented language."""
    return documents


@pytest.fixture(scope="session")
def other_tokenizer() -> BytePairTokenizer:
    """As many ids as the runs' own, with other meanings."""
    return BytePairTokenizer.train(["zq xv kj wq " * 50, *documents(9, 50)], 330)


@pytest.fixture(scope="session")
def make_run() -> Callable[[Path, Plan], Path]:
    """``make_run(folder, plan)``: train for real."""
    return carried_out


@pytest.fixture(scope="session")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A healthy run; read only."""
    return carried_out(tmp_path_factory.mktemp("healthy") / "run", Plan())


@pytest.fixture(scope="session")
def wrong() -> Callable[[Path], list[Finding]]:
    """``wrong(path)``: what is wrong with a run, the worst first.

    That other work competes for this machine's processor is true of many test runs, and no fault of theirs.
    """

    def found(path: Path) -> list[Finding]:
        return [finding for finding in diagnose(path) if finding.severity != "ok" and finding.name != "contended"]

    return found
