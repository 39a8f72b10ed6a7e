"""The engine's greedy answers against ``transformers`` with the same weights."""

from collections.abc import Callable
from typing import Any

import torch

from groundup.inference import Engine, Sampling
from groundup.model import ModelConfig, Transformer


def test_greedy_answers_equal_transformers(
    twins: Callable[[ModelConfig, int], tuple[Transformer, Any]],
) -> None:
    config = ModelConfig(2, 32, 4, 2, 48, 64, qk_norm="none", tied=False)
    ours, theirs = twins(config, 71)
    prompts = [[3, 9, 27], [1, 2, 3, 4, 5, 6, 7, 8], [70], [10, 20] * 10]
    answers = Engine(ours, frozenset()).generate(prompts, Sampling(temperature=0, max_tokens=24))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        expected = theirs.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, pad_token_id=0
        )
        assert list(answer.ids) == expected[0, len(prompt) :].tolist()
