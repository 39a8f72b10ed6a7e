"""What DPO leaves in a batch to be logged."""

import pytest
import torch

from groundup.dataloader import Batch
from groundup.model import ModelConfig, Transformer
from groundup.objectives import Preference, token_log_probabilities


def test_accuracy_and_margin_are_those_of_the_batch() -> None:
    model = Transformer(ModelConfig(layers=1, width=16, heads=2, kv_heads=2, hidden=16, context=8), 20)
    model.initialise(torch.Generator().manual_seed(0))
    ids = torch.randint(0, 20, (4, 6), generator=torch.Generator().manual_seed(1))
    tensors = {"inputs": ids[:, :-1], "targets": ids[:, 1:]}
    now = token_log_probabilities(model, Batch(tensors, 2)).sum(dim=1).detach()
    # The first pair is ranked rightly by 3 nats, the second wrongly by 1.
    batch = Batch({**tensors, "reference": now - torch.tensor([3.0, 0.0, 0.0, 1.0])}, weight=2)
    Preference(beta=0.5)(model, batch)
    assert batch.metrics["accuracy"] == 0.5
    assert batch.metrics["margin"] == pytest.approx(0.5 * (3.0 - 1.0) / 2, abs=1e-4)
