"""Copies of the weights, and weights divided among processes."""

from collections.abc import Iterator

from groundup.core.world import ParallelConfig
from groundup.optim import OptimizerConfig
from groundup.training.config import MemoryConfig
from tests.distributed.matrix import MODELS, Cell


def cells(processes: int) -> Iterator[Cell]:
    """Every plan with every model, and the plans' other dimensions with one of them."""
    if processes == 4:
        plans = {"data x shard": ParallelConfig(data=2, shard=2)}
    else:
        plans = {
            "data": ParallelConfig(),
            "shard": ParallelConfig(shard=processes),
            "shard, no reshard": ParallelConfig(shard=processes, reshard=False),
        }
    dense = MODELS["dense"]
    for plan, parallel in plans.items():
        for name, model in MODELS.items():
            yield Cell(f"{plan}, {name}", model, parallel)
        yield Cell(f"{plan}, recomputed", dense, parallel, {"memory": MemoryConfig(recompute="block")})
        yield Cell(f"{plan}, bfloat16", dense, parallel, {"precision": "bfloat16"})
        yield Cell(f"{plan}, accumulated", dense, parallel, {"accumulation": 2})
        yield Cell(f"{plan}, muon", MODELS["tied"], parallel, {"optimizer": OptimizerConfig()})
    shard = ParallelConfig(shard=processes)
    lion = OptimizerConfig(matrices="lion", matrix_rate=0.001)
    yield Cell("shard, lion", dense, shard, {"optimizer": lion})
    yield Cell("shard, frozen", dense, shard, {"freeze": ("embedding.*", "blocks.0.attention.*")})
    if processes == 2:
        yield Cell("shard, compiled", dense, shard, {"compile": "on"})
    yield Cell("shard, bfloat16-weights", dense, shard, {"precision": "bfloat16-weights"})
    yield Cell("shard, selective", dense, shard, {"memory": MemoryConfig(recompute="selective")})
