"""Our model and Hugging Face's, with the same weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from groundup.model import ModelConfig, Transformer
from groundup.model.formats.huggingface import write_huggingface

Twins = Callable[[ModelConfig, int], tuple[Transformer, Any]]


@pytest.fixture
def twins(tmp_path: Path) -> Twins:
    """``twins(config, vocabulary)``: ours with random weights, and what ``from_pretrained`` makes of its export."""
    transformers = pytest.importorskip("transformers")

    def make(config: ModelConfig, vocabulary: int) -> tuple[Transformer, Any]:
        ours = Transformer(config, vocabulary).eval()
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.normal_(0 if parameter.ndim > 1 else 1, 0.2, generator=generator)
        write_huggingface(tmp_path / "twin", ours.config, vocabulary, ours.state_dict())
        return ours, transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "twin").eval()

    return make
