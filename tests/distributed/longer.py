"""What a long sequence takes of one process: run in each of them, prints JSON.

    python -m tests.distributed.longer plain|windowed TIME [WIDTH LAYERS]     with the variables that torchrun sets

The bytes that the forward pass of one row keeps for the backward pass, the most memory of the process, and the seconds
that its processor worked in a step; of several processes, the largest.
"""

import json
import os
import resource
import sys
import time
from typing import Any

import torch
from torch import Tensor

from groundup.core.seeding import torch_rng
from groundup.core.world import ParallelConfig, joined
from groundup.dataloader import Batch
from groundup.distributed import share
from groundup.model import ModelConfig, Transformer
from groundup.model.config import AttentionConfig
from groundup.objectives import next_token
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare

VOCABULARY, STEPS = 64, 2


def main(kind: str, length: int, width: int, layers: int) -> None:
    torch.set_num_threads(1)
    shape: dict[str, Any] = {
        "layers": layers,
        "width": width,
        "heads": width // 16,
        "kv_heads": width // 32,
        "context": length,
    }
    config = ModelConfig(**shape, attention=AttentionConfig(window=length // 4 if kind == "windowed" else 0))
    ids = torch.randint(VOCABULARY, (1, length + 1), generator=torch_rng(1, "ids"))
    batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, length)
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with joined(ParallelConfig(context=int(os.environ["WORLD_SIZE"]))) as here:
        model = Transformer(config, VOCABULARY).initialise(torch_rng(1, "weights"))
        stepper, _ = prepare(model, next_token, TrainingConfig(precision="float32", device="cpu"), seed=1)
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            next_token(stepper.working.callable, share(batch, here)).backward()
        stepper.working.clear()
        started = time.process_time()
        for step in range(STEPS):
            stepper.gradients([batch], step)
            stepper.working.clear()
        seconds = (time.process_time() - started) / STEPS
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found = [max(column) for column in zip(*here.gathered([sum(kept.values()), peak, seconds]), strict=True)]
    if here.leads:
        json.dump(dict(zip(("kept", "peak_kilobytes", "seconds"), found, strict=True)), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1], *(int(word) for word in [*sys.argv[2:], "64", "2"][:3]))
