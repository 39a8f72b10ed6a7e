"""Cross-entropy of the next token: the objective of pretraining and of SFT."""

import torch
from torch import Tensor
from torch.nn import functional as F

from groundup.dataloader import IGNORED, Batch
from groundup.model import Record, Transformer
from groundup.model.experts import balance_loss
from groundup.objectives.cross_entropy import head_cross_entropy, is_divided, token_cross_entropy


def next_token(model: Transformer, batch: Batch) -> Tensor:
    """-Σ log p(target) over the targets that are not ignored, in nats.

    A model with experts adds the load-balancing loss, as often as there are targets.
    """
    tensors, config = batch.tensors, model.config
    balance = config.experts.balance if config.experts.count and model.training else 0.0
    record = Record(wants_attention=False, wants_residuals=False) if balance else None
    hidden = model(
        tensors["inputs"],
        positions=tensors.get("positions"),
        segments=tensors.get("segments"),
        record=record,
        head=False,
        places=tensors.get("places"),
    )
    targets = tensors["targets"].flatten()
    loss = head_cross_entropy(
        hidden.flatten(0, 1), model.head.weight, targets, config.logits_scale, config.logits_softcap
    )
    if record is None:
        return loss
    uneven = torch.stack([*record.uneven, *(balance_loss(routing) for routing in record.routing)]).mean()
    batch.metrics["imbalance"] = float(uneven.detach())
    return loss + balance * uneven * batch.weight


def token_log_probabilities(model: Transformer, batch: Batch) -> Tensor:
    """log p(target) [rows, time], 0 where the target is ignored."""
    tensors, config = batch.tensors, model.config
    given = {name: tensors.get(name) for name in ("positions", "segments", "places")}
    targets = tensors["targets"]
    if is_divided(model.head.weight):
        hidden = model(tensors["inputs"], **given, head=False).flatten(0, 1)
        factors = config.logits_scale, config.logits_softcap
        return -token_cross_entropy(hidden, model.head.weight, targets.flatten(), *factors).view_as(targets)
    logits = model(tensors["inputs"], **given)
    losses = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return -losses.view_as(targets)


def over_rows(model: Transformer, batch: Batch, sums: Tensor) -> Tensor:
    """Sums over the targets of each row [rows] → over all of the row's, where the batch has only some of them."""
    return sums if model.others is None or "places" not in batch.tensors else model.others.summed(sums)
