"""How many bytes of optimizer state each process has, with and without its division: run in each, prints JSON."""

import json
import sys
from dataclasses import replace

from groundup.core import world as worlds
from groundup.core.seeding import torch_rng
from groundup.core.world import ParallelConfig, joined
from groundup.distributed.sharding import local
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare
from tests.distributed.matrix import MODELS, VOCABULARY, batches


def main() -> None:
    found = {}
    with joined(ParallelConfig()) as here:
        for zero in (False, True):
            worlds._present = replace(here, parallel=ParallelConfig(zero=zero))
            model = Transformer(MODELS["dense"], VOCABULARY).initialise(torch_rng(1, "weights"))
            config = TrainingConfig(precision="float32", device="cpu")
            stepper, optimizers = prepare(model, next_token, config, seed=3)
            measured = stepper.gradients(batches(0, 1), 0)
            assert measured is not None
            stepper.update(optimizers, measured.gradient_norm, 1.0)
            states = (state for optimizer in optimizers for state in optimizer.state.values())
            held = sum(local(tensor).nbytes for state in states for tensor in state.values())
            found["divided" if zero else "whole"] = here.gathered(held)
        worlds._present = here
    if here.leads:
        json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
