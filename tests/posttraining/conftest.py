"""A run's tokenizer, problems and a small random model, without a run."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from groundup.inference import Completion
from groundup.model import ModelConfig, Transformer
from groundup.posttraining.common import Answer
from groundup.tasks import Material, Problem, TaskMixture
from groundup.tokenizer import BytePairTokenizer, ChatTemplate


@pytest.fixture(scope="session")
def byte_tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.from_merges([])


@pytest.fixture(scope="session")
def template(byte_tokenizer: BytePairTokenizer) -> ChatTemplate:
    return ChatTemplate(byte_tokenizer)


@pytest.fixture(scope="session")
def material() -> Material:
    return Material.from_documents([], [])


@pytest.fixture(scope="session")
def task(material: Material) -> TaskMixture:
    return TaskMixture("train", 0, material)


@pytest.fixture
def model() -> Transformer:
    model = Transformer(ModelConfig(1, 16, 2, 1, 24, 512), 262)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0 if parameter.ndim > 1 else 1, 0.3, generator=generator)
    return model.eval()


@pytest.fixture(scope="session")
def say(byte_tokenizer: BytePairTokenizer) -> Callable[..., Answer]:
    """``say(problem, text)``: an answer, as if the model had sampled it; endless with ``stopped=False``."""

    def make(problem: Problem, text: str, stopped: bool = True) -> Answer:
        ids = byte_tokenizer.encode(text)
        picked = [*ids, byte_tokenizer.special_tokens["<|end|>"]] if stopped else ids
        parts: dict[str, Any] = {"finish_reason": "stop" if stopped else "length"}
        completion = Completion(tuple(ids), picked=tuple(picked), log_probabilities=(0.0,) * len(picked), **parts)
        return Answer(problem, completion, text)

    return make
