"""The smallest training there is: one layer, bytes as tokens, batches that are a function of their number."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.core.seeding import torch_rng
from groundup.dataloader import IGNORED, Batch, Source
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig
from groundup.tokenizer import BytePairTokenizer
from groundup.training import TrainingConfig, TrainingResult, train


class Numbered:
    """Batch ``n`` is drawn from ``n`` and has a number of targets that depends on it; 0 where ``empty`` says so."""

    def __init__(self, empty: frozenset[int] = frozenset(), interrupt_at: int | None = None) -> None:
        self.empty = empty
        self.interrupt_at = interrupt_at
        self.position = 0

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])

    def __iter__(self) -> Iterator[Batch]:
        while True:
            if self.position == self.interrupt_at:
                raise KeyboardInterrupt
            number = self.position
            ids = torch.randint(256, (2, 9), generator=torch.Generator().manual_seed(number))
            targets = ids[:, 1:].clone()
            targets.view(-1)[0 if number in self.empty else 4 + 5 * (number % 3) :] = IGNORED
            weight = int((targets != IGNORED).sum())
            self.position += 1
            yield Batch({"inputs": ids[:, :-1], "targets": targets}, weight, {"number": number})


@pytest.fixture(scope="session")
def numbered() -> type[Numbered]:
    return Numbered


@pytest.fixture(scope="session")
def byte_tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.from_merges([])


@pytest.fixture
def new_model() -> Callable[..., Transformer]:
    """``new_model()``: always the same initial weights."""

    def make(seed: int = 0, **shape: Any) -> Transformer:
        sizes = {"layers": 1, "width": 16, "heads": 2, "kv_heads": 1, "hidden": 24, "context": 16}
        return Transformer(ModelConfig(**{**sizes, **shape}), 262).initialise(torch_rng(seed, "weights"))

    return make


@pytest.fixture
def fit(new_model: Callable[..., Transformer], byte_tokenizer: BytePairTokenizer) -> Callable[..., TrainingResult]:
    """``fit(folder, source, …)``: the loop with small settings, each of which can be replaced."""

    def run(folder: Path, source: Source, **options: Any) -> TrainingResult:
        parts = {name: options.pop(name) for name in ("model", "objective", "tokenizer", "hooks") if name in options}
        settings: dict[str, Any] = {"steps": 12, "save_every": 5, "precision": "float32", "device": "cpu"}
        settings |= {"optimizer": OptimizerConfig(matrix_rate=0.02, rate=0.01), **options}
        return train(
            parts.get("model") or new_model(),
            parts.get("objective", next_token),
            source,
            TrainingConfig(**settings),
            parts.get("tokenizer", byte_tokenizer),
            folder,
            "test",
            parts.get("hooks", ()),
        )

    return run
