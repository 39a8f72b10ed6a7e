"""Experts divided among processes: each kind of router, and the other dimensions beside them."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import Any

from groundup.core.world import ParallelConfig
from groundup.dataloader import Batch
from groundup.model import ModelConfig
from groundup.model.config import ExpertConfig
from groundup.optim import OptimizerConfig
from groundup.training.config import MemoryConfig
from tests.distributed.matrix import MODELS, SHAPE, Cell, batches

ROUTERS = {
    "sigmoid": ExpertConfig(count=4, router="sigmoid", bias_rate=0.01),
    "softmax": ExpertConfig(count=4, normalise=False, scale=2.0),
    "groups": ExpertConfig(count=8, active=2, groups=4, active_groups=2, shared=1),
    "sigmoid groups": ExpertConfig(count=8, active=3, router="sigmoid", groups=2, hidden=24, bias_rate=0.01),
    "one of four": ExpertConfig(count=4, active=1, dense_layers=1),
}
MODEL = MODELS["experts"]
PLANS = {
    2: {"expert": ParallelConfig(expert=2)},
    4: {
        "expert": ParallelConfig(expert=4),
        "expert x shard": ParallelConfig(expert=2, shard=2),
        "expert x data": ParallelConfig(expert=2, data=2),
        "expert x tensor": ParallelConfig(expert=2, tensor=2),
        "expert x context": ParallelConfig(expert=2, context=2),
        "expert x pipeline": ParallelConfig(expert=2, pipeline=2),
    },
}
#: With four processes, those of the ordinary tests.
ORDINARY = (
    "expert, muon",
    "expert x shard, sigmoid",
    "expert x tensor, sigmoid",
    "expert x context, sigmoid",
    "expert x pipeline, sigmoid",
)
MEMORY = (MemoryConfig(), MemoryConfig(recompute="block"))
#: Each of its steps raises small singular values fourfold, and with them what rounding leaves of none.
MUON = OptimizerConfig(iteration_steps=2)


def one_row(step: int, count: int) -> list[Batch]:
    """Fewer rows than processes: the others compute one that counts for nothing, for no router either."""
    return [batch.split(6)[3] for batch in batches(step, count)]


def cells(processes: int) -> Iterator[Cell]:
    """Every router and rule, and every plan, in every combination."""
    for plan, parallel in PLANS[processes].items():
        balanced = parallel.context == parallel.pipeline == 1  # what these compute at once is no part of a batch's rows
        for router, experts in ROUTERS.items():
            if not balanced:  # and one expert whose weight is always 1 would leave its router without a gradient
                experts = replace(experts, balance=0.0, normalise=experts.normalise and experts.active > 1)
            model = ModelConfig(**SHAPE, init="normal", experts=experts)
            cell = f"{plan}, {router}"
            yield Cell(cell, model, parallel, slow=processes == 4 and cell not in ORDINARY)
        model, slow = MODEL if balanced else replace(MODEL, experts=replace(MODEL.experts, balance=0.0)), processes == 4
        yield Cell(f"{plan}, muon", model, parallel, {"optimizer": MUON}, slow=f"{plan}, muon" not in ORDINARY)
        yield Cell(f"{plan}, one row", model, parallel, slow=slow, drawn=one_row)
        yield Cell(f"{plan}, accumulated", model, parallel, {"accumulation": 2}, slow=slow)
        for compiled, precision, memory in product(("off", "on"), ("float32", "bfloat16"), MEMORY):
            options: dict[str, Any] = {"compile": compiled, "precision": precision, "memory": memory}
            name = f"{plan}, compile {compiled}, {precision}, recompute {memory.recompute}"
            if compiled == "on" and parallel.tensor > 1:
                continue  # refused
            # Where rounding decides who is chosen, it decides everything: in bfloat16 all are.
            active = 4 if precision == "bfloat16" else 2
            each = replace(model, experts=replace(model.experts, active=active))
            if (compiled, precision, memory.recompute) != ("off", "float32", "none"):
                yield Cell(name, each, parallel, options, slow=compiled == "on" or slow)
