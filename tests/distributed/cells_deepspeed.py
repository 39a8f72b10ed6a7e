"""State divided by DeepSpeed: its own five steps of AdamW, as its gradients are never anybody else's."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from groundup.core.world import ParallelConfig
from groundup.optim import OptimizerConfig
from groundup.training.config import MemoryConfig
from tests.distributed.matrix import MODELS, Cell

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


def cells(processes: int) -> Iterator[Cell]:
    """Every stage of ZeRO in every way with every model; a tied head in the plain way."""
    for plan, sizes in PLANS.items():
        shape = sizes if "zero" in sizes else {**sizes, "shard": processes}
        for kind, model in MODELS.items():
            for way, options in WAYS.items() if kind != "tied" else [("", WAYS[""])]:
                asked = model
                if kind == "experts" and way == "bfloat16":  # rounding would send some tokens to other experts
                    asked = replace(model, experts=replace(model.experts, active=model.experts.count))
                name = ", ".join(filter(None, (plan, kind, way)))
                parallel = ParallelConfig(engine="deepspeed", **shape)
                yield Cell(name, asked, parallel, {"optimizer": ADAMW, **options})
