"""State divided by DeepSpeed: its own five steps of AdamW, as its gradients are never anybody else's."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from groundup.core.world import ParallelConfig
from groundup.dataloader import Batch
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig
from groundup.training.config import MemoryConfig
from tests.distributed.matrix import MODELS, Cell, batches

ADAMW = OptimizerConfig(matrices="adamw", matrix_rate=1e-2, rate=1e-2)
PLANS: dict[str, dict[str, Any]] = {
    "ZeRO-1": {"zero": True},
    "ZeRO-2": {"reshard": False},
    "ZeRO-3": {},
}
WAYS: dict[str, dict[str, Any]] = {
    "": {},
    "accumulated": {"accumulation": 3},
    "recomputed": {"memory": MemoryConfig(recompute="block")},
    "offloaded": {"memory": MemoryConfig(offload=True)},
    "bfloat16": {"precision": "bfloat16"},
    "frozen": {"freeze": ("embedding.weight", "blocks.0.*")},
}


#: The step that is not to be taken.
BAD = 1


def marked(step: int, count: int) -> list[Batch]:
    """The same batches; those of one step are told to be bad."""
    return [replace(batch, metrics={"bad": float(step == BAD)}) for batch in batches(step, count)]


def bad_loss(model: Transformer, batch: Batch) -> Tensor:
    """No number, of bad batches."""
    loss = next_token(model, batch)
    return loss * torch.nan if batch.metrics["bad"] else loss


def bad_gradient(model: Transformer, batch: Batch) -> Tensor:
    """As good as ever, but of bad batches the gradient is no number."""
    loss = next_token(model, batch)
    return loss + (loss - loss.detach()).sqrt() if batch.metrics["bad"] else loss


def cells(processes: int) -> Iterator[Cell]:
    """Every stage of ZeRO in every way with every model, a tied head in the plain way; and steps that are refused."""
    for plan, sizes in PLANS.items():
        shape = sizes if "zero" in sizes else {**sizes, "shard": processes}
        parallel = ParallelConfig(engine="deepspeed", **shape)
        for objective in (bad_loss, bad_gradient):
            name = f"{plan}, {objective.__name__.replace('_', ' ')}"
            yield Cell(name, MODELS["dense"], parallel, {"optimizer": ADAMW}, objective=objective, drawn=marked)
        for kind, model in MODELS.items():
            for way, options in WAYS.items() if kind != "tied" else [("", WAYS[""])]:
                asked = model
                if kind == "experts" and way == "bfloat16":  # rounding would send some tokens to other experts
                    asked = replace(model, experts=replace(model.experts, active=model.experts.count))
                name = ", ".join(filter(None, (plan, kind, way)))
                yield Cell(name, asked, parallel, {"optimizer": ADAMW, **options})
