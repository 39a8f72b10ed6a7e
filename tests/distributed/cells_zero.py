"""The optimizer's state divided among copies, for each rule."""

from collections.abc import Iterator

from groundup.core.world import ParallelConfig
from groundup.optim import OptimizerConfig
from tests.distributed.cells_sharding import in_every_way
from tests.distributed.matrix import MODELS, Cell

PLANS = {
    2: {"zero": ParallelConfig(zero=True)},
    4: {
        "zero x shard": ParallelConfig(zero=True, shard=2),
        "zero x expert": ParallelConfig(zero=True, expert=2),
        "zero x tensor": ParallelConfig(zero=True, tensor=2),
    },
}
RULES = {
    "muon": OptimizerConfig(momentum_warmup=3, iteration_steps=2),
    "lion": OptimizerConfig(matrices="lion", matrix_rate=0.001),
    "adamw": OptimizerConfig(matrices="adamw"),
}
#: With four processes, those of the ordinary tests.
ORDINARY = (("zero x shard", "adamw"), ("zero x tensor", "muon"))


def cells(processes: int) -> Iterator[Cell]:
    """Every rule with every plan, and one of them in every way."""
    for plan, parallel in PLANS[processes].items():
        model = MODELS["tied" if parallel.expert == parallel.tensor == 1 else "experts"]
        for rule, optimizer in RULES.items():
            slow = processes == 4 and (plan, rule) not in ORDINARY
            yield Cell(f"{plan}, {rule}", model, parallel, {"optimizer": optimizer}, slow=slow)
        if processes == 2:
            yield from in_every_way(plan, parallel)
