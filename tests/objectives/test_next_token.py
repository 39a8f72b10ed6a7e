"""Cross-entropy by hand, and what a token counts in a step of several micro-batches."""

import torch
from torch import Tensor, nn

from groundup.dataloader import IGNORED, Batch, pack
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token, token_log_probabilities


def tiny() -> Transformer:
    model = Transformer(ModelConfig(1, 16, 2, 1, 24, 32), 29)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0 if parameter.ndim > 1 else 1, 0.3, generator=generator)
    return model


def some_batch(targets: int, rows: int = 2, time: int = 8, seed: int = 0) -> Batch:
    """A batch of which only the first ``targets`` positions are learnt."""
    ids = torch.randint(29, (rows, time + 1), generator=torch.Generator().manual_seed(seed))
    learn = torch.arange(rows * time).view(rows, time) < targets
    return Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:].masked_fill(~learn, IGNORED)}, targets)


def gradient(model: nn.Module, loss: Tensor) -> Tensor:
    return torch.cat([part.flatten() for part in torch.autograd.grad(loss, list(model.parameters()))])


def test_next_token_is_the_sum_of_negative_log_probabilities() -> None:
    model, batch = tiny(), some_batch(11)
    probabilities = model(batch.tensors["inputs"]).softmax(dim=-1)
    expected = torch.zeros(())
    for row, column in (batch.tensors["targets"] != IGNORED).nonzero().tolist():
        expected = expected - probabilities[row, column, batch.tensors["targets"][row, column]].log()
    torch.testing.assert_close(next_token(model, batch), expected)


def test_token_log_probabilities_are_zero_where_nothing_is_learnt() -> None:
    model, batch = tiny(), some_batch(5)
    by_token = token_log_probabilities(model, batch)
    assert ((by_token != 0) == (batch.tensors["targets"] != IGNORED)).all()
    torch.testing.assert_close(-by_token.sum(), next_token(model, batch))


def test_a_batch_without_targets_costs_nothing() -> None:
    model, batch = tiny(), some_batch(0)
    loss = next_token(model, batch)
    assert loss.item() == 0.0
    assert not gradient(model, loss).any()


def test_accumulated_micro_batches_weigh_every_token_alike() -> None:
    """One division by all targets equals one big batch; the mean of the micro-batches' means does not."""
    model = tiny()
    micro = [some_batch(3, seed=1), some_batch(16, seed=2)]
    names = ("inputs", "targets")
    big = Batch({name: torch.cat([batch.tensors[name] for batch in micro]) for name in names}, 19)
    whole = gradient(model, next_token(model, big) / big.weight)
    accumulated = sum(gradient(model, next_token(model, batch) / 19) for batch in micro)
    torch.testing.assert_close(accumulated, whole, atol=1e-6, rtol=1e-4)
    mean_of_means = sum(gradient(model, next_token(model, batch) / batch.weight / 2) for batch in micro)
    assert (mean_of_means - whole).norm() > 0.1 * whole.norm()


def test_packing_changes_no_gradient() -> None:
    model = tiny()
    sequences = [([1, 2, 3, 4], [False, True, False, True]), ([5, 6, 7], [False, True, True])]
    packed = pack([sequences], 8, 0)
    alone = [pack([[sequence]], 3, 0) for sequence in sequences]
    together = gradient(model, next_token(model, Batch(packed, 4)))
    apart = sum(gradient(model, next_token(model, Batch(tensors, 2))) for tensors in alone)
    torch.testing.assert_close(together, apart, atol=1e-5, rtol=1e-4)
