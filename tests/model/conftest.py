"""Models with weights large enough that every part of them shows in the logits."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from groundup.model import ModelConfig, Transformer

VOCABULARY = 41


@pytest.fixture(scope="session")
def make_model() -> Callable[..., Transformer]:
    """``make_model(seed=0, **shape)``: a small random model in evaluation mode."""

    def make(seed: int = 0, **shape: Any) -> Transformer:
        sizes = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 48, "context": 32}
        model = Transformer(ModelConfig(**{**sizes, **shape}), VOCABULARY)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0 if parameter.ndim > 1 else 1, 0.3, generator=generator)
        return model.eval()

    return make
