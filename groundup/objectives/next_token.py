"""Cross-entropy of the next token: the objective of pretraining and of SFT."""

from torch import Tensor, nn
from torch.nn import functional as F

from groundup.dataloader import IGNORED, Batch


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    tensors = batch.tensors
    return model(tensors["inputs"], positions=tensors.get("positions"), segments=tensors.get("segments"))


def next_token(model: nn.Module, batch: Batch) -> Tensor:
    """-Σ log p(target) over the targets that are not ignored, in nats."""
    logits = _logits(model, batch)
    targets = batch.tensors["targets"]
    return F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum")


def token_log_probabilities(model: nn.Module, batch: Batch) -> Tensor:
    """log p(target) [rows, time], 0 where the target is ignored."""
    logits = _logits(model, batch)
    targets = batch.tensors["targets"]
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return -losses.view_as(targets)
