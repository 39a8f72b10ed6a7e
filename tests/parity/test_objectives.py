"""Our objectives against Hugging Face's loss, and against DPO's formula written out row by row."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.dataloader import IGNORED, Batch
from groundup.model import ModelConfig, Transformer
from groundup.objectives import Preference, next_token
from groundup.posttraining.dpo import Pair, preference_batch

Twins = Callable[[ModelConfig, int], tuple[Transformer, Any]]
CONFIG = ModelConfig(layers=2, width=32, heads=2, kv_heads=1, hidden=64, context=64, qk_norm="none")


def test_next_token_equals_transformers_loss(twins: Twins) -> None:
    ours, theirs = twins(CONFIG, 53)
    generator = torch.Generator().manual_seed(2)
    ids = torch.randint(53, (4, 20), generator=generator)
    labels = ids.masked_fill(torch.rand(ids.shape, generator=generator) < 0.4, IGNORED)
    count = int((labels[:, 1:] != IGNORED).sum())
    batch = Batch({"inputs": ids[:, :-1], "targets": labels[:, 1:]}, count)

    loss = next_token(ours, batch)
    expected = theirs(ids, labels=labels).loss * count
    torch.testing.assert_close(loss, expected, atol=1e-3, rtol=1e-5)

    loss.backward()
    expected.backward()
    gradient = theirs.model.embed_tokens.weight.grad
    torch.testing.assert_close(ours.embedding.weight.grad, gradient, atol=1e-3, rtol=1e-4)


def answer_log_probability(model: Any, prompt: list[int], answer: list[int]) -> Tensor:
    """Σ log p(answer token | what stands before it) by one forward pass over one sequence."""
    logits = model(torch.tensor([prompt + answer])).logits[0]
    total = torch.zeros(())
    for place, token in enumerate(answer, start=len(prompt)):
        total = total + logits[place - 1].log_softmax(dim=-1)[token]
    return total


@pytest.mark.parametrize("anchor", [0.0, 0.3])
def test_preference_equals_the_formula_row_by_row(twins: Twins, anchor: float) -> None:
    ours, theirs = twins(CONFIG, 53)
    pairs = [
        Pair([1, 2, 3], [4, 5], [6, 7, 8, 9], "a", -7.5, -11.0),
        Pair([9], [10, 11, 12], [13], "b", -9.0, -3.0),
        Pair([20, 21, 22, 23], [24], [25, 26], "c", -4.0, -6.5),
    ]
    beta = 0.25
    expected = torch.zeros(())
    for pair in pairs:
        chosen = answer_log_probability(theirs, pair.prompt, pair.chosen)
        rejected = answer_log_probability(theirs, pair.prompt, pair.rejected)
        policy, reference = chosen - rejected, pair.reference_chosen - pair.reference_rejected
        expected = expected - torch.log(torch.sigmoid(beta * (policy - reference)))
        expected = expected - anchor * chosen / len(pair.chosen)

    loss = Preference(beta, anchor)(ours, preference_batch(pairs, padding=0))
    torch.testing.assert_close(loss, expected, atol=1e-4, rtol=1e-5)
    loss.backward()
    expected.backward()
    gradient = theirs.model.embed_tokens.weight.grad
    torch.testing.assert_close(ours.embedding.weight.grad, gradient, atol=1e-4, rtol=1e-4)
