"""A profile with something planted: run in each of two processes, prints what they found.

python -m tests.scaling.profiled DIR
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from groundup.core.seeding import torch_rng
from groundup.core.world import ParallelConfig, joined
from groundup.dataloader import Batch, TokenSource
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token
from groundup.pretraining.build import PretrainConfig
from groundup.scaling.profiling import profile_steps

#: Seconds that every batch is late.
LATE = 0.2
#: Times of its forward pass that the slow process waits on top of it.
SLOWER = 20


class LateSource(TokenSource):
    def __iter__(self) -> Iterator[Batch]:
        for batch in super().__iter__():
            time.sleep(LATE)
            yield batch


def main(folder: str) -> None:
    torch.set_num_threads(1)
    config = PretrainConfig(rows=4, device="cpu", precision="float32", prefetch=0)
    with joined(ParallelConfig(shard=2)) as here:

        def slow(model: Any, batch: Batch) -> torch.Tensor:
            begun = time.perf_counter()
            loss = next_token(model, batch)
            if here.rank == 1:
                time.sleep(SLOWER * (time.perf_counter() - begun))
            return loss

        model = Transformer(ModelConfig(layers=1, width=32, heads=2, context=16), 64).initialise(
            torch_rng(0, "weights")
        )
        source = LateSource(np.arange(4096, dtype=np.uint32) % 64, config.rows, 16, seed=0)
        found = profile_steps(model, slow, source, config, 3, Path(folder))
    if here.leads:
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
