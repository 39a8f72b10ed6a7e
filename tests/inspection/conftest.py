"""Small random models that are inspected in milliseconds."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.inspection import Inspection, inspect
from groundup.model import ModelConfig, Transformer
from groundup.tokenizer import BytePairTokenizer
from groundup.training.checkpoint import save_checkpoint

SMALL = {"layers": 3, "width": 16, "heads": 2, "kv_heads": 1, "hidden": 24, "context": 64, "init": "normal"}


@pytest.fixture(scope="session")
def tokenizer() -> BytePairTokenizer:
    """Bytes and special tokens, no merges."""
    return BytePairTokenizer.from_merges([])


@pytest.fixture(scope="session")
def build(tokenizer: BytePairTokenizer) -> Callable[..., Transformer]:
    """``build(layers=2, …)`` or ``build(config)``: a random model with weights large enough to make a difference."""

    def make(config: ModelConfig | None = None, vocab_size: int = 0, **values: Any) -> Transformer:
        config = config or ModelConfig(**{**SMALL, **values})
        model = Transformer(config, vocab_size or tokenizer.vocab_size)
        generator = torch.Generator().manual_seed(3)
        with torch.no_grad():
            for parameter in model.initialise(generator).parameters():
                if parameter.ndim > 1:
                    parameter.normal_(0, 0.3, generator=generator)
        return model.eval()

    return make


@pytest.fixture(scope="session")
def inspected(build: Callable[..., Transformer], tokenizer: BytePairTokenizer) -> Inspection:
    """A small model that read a few words."""
    return inspect(build(), tokenizer, "it is, is it? 字", name="small")


@pytest.fixture(scope="session")
def checkpoint(
    build: Callable[..., Transformer], tokenizer: BytePairTokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a small model's checkpoint."""
    return save_checkpoint(tmp_path_factory.mktemp("model"), 1, build(layers=2), [], tokenizer, {})
