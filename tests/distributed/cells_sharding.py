"""Copies of the weights, and weights divided among processes."""

from collections.abc import Iterator
from dataclasses import replace

from groundup.core.world import ParallelConfig
from groundup.optim import OptimizerConfig
from tests.distributed.cells_tensor import WAYS
from tests.distributed.matrix import MODELS, Cell

#: Those of the ordinary tests, beside every plan with every model.
ORDINARY = (
    "data, dense, bfloat16",
    "shard, dense, compiled",
    "shard, dense, recomputed",
    "shard, dense, selective",
    "shard, dense, bfloat16-weights",
    "shard, dense, accumulated",
    "shard, dense, lion",
    "shard, dense, frozen",
    "shard, no reshard, dense, bfloat16",
    "data x shard, dense, bfloat16",
)


def cells(processes: int) -> Iterator[Cell]:
    """Every plan with every model, in every way."""
    if processes == 4:
        plans = {"data x shard": ParallelConfig(data=2, shard=2)}
    else:
        plans = {
            "data": ParallelConfig(),
            "shard": ParallelConfig(shard=processes),
            "shard, no reshard": ParallelConfig(shard=processes, reshard=False),
        }
    for plan, parallel in plans.items():
        for name, model in MODELS.items():
            yield Cell(f"{plan}, {name}", model, parallel)
        yield Cell(f"{plan}, tied, muon", MODELS["tied"], parallel, {"optimizer": OptimizerConfig()})
        yield from in_every_way(plan, parallel)


def in_every_way(plan: str, parallel: ParallelConfig) -> Iterator[Cell]:
    """A plan with a dense model and one of experts."""
    for kind in ("dense", "experts"):
        for way, options in WAYS.items():
            model, cell = MODELS[kind], f"{plan}, {kind}, {way}"
            if kind == "experts" and "bfloat16" in way:  # rounding would send some tokens to other experts
                model = replace(model, experts=replace(model.experts, active=model.experts.count))
            yield Cell(cell, model, parallel, options, slow=cell not in ORDINARY)
