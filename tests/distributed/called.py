"""A divided model, called outside of training, against the whole one: run in each process, prints JSON.

python -m tests.distributed.called [experts]      with the variables that torchrun sets; stages or experts divided
"""

import json
import sys
from dataclasses import replace
from typing import Any

import torch

from groundup.core import world as worlds
from groundup.core.seeding import torch_rng
from groundup.core.world import ParallelConfig, World, joined
from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.model import ModelConfig, Record, Transformer
from groundup.model.config import ExpertConfig
from groundup.objectives import next_token
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare
from tests.distributed.matrix import MODELS, VOCABULARY, difference

PROMPTS = ([1, 2, 3, 4], [5, 6], [7, 8, 9])


def models() -> dict[str, ModelConfig]:
    """Everything that goes along with the stream, or that a stage must know."""
    experts = ExpertConfig(count=4, router="softmax", balance=0.1)
    rest: dict[str, Any] = {
        "layers": 4,
        "value_embeddings": True,
        "residual_scalars": True,
        "ngrams": 2,
        "ngram_rows": 31,
    }
    return {
        "tied": replace(MODELS["tied"], layers=4),
        "rest": replace(MODELS["experts"], experts=experts, **rest),
    }


def compared(config: ModelConfig, here: World) -> dict[str, float]:
    """How far the divided model's results are from the whole one's, and whether they write the same."""
    whole = Transformer(config, VOCABULARY).initialise(torch_rng(1, "weights")).eval()
    divided = Transformer(config, VOCABULARY).initialise(torch_rng(1, "weights"))
    worlds._present = here
    stepper, _ = prepare(divided, next_token, TrainingConfig(precision="float32", device="cpu"), seed=1)
    divided.eval()
    ids = torch.randint(VOCABULARY, (3, 8), generator=torch_rng(2, "ids"))
    segments = (torch.arange(8) // 3).expand(3, -1)
    records = Record(), Record()
    with torch.no_grad():
        pairs = {
            "logits": (divided(ids), whole(ids)),
            "hidden": (divided(ids, head=False), whole(ids, head=False)),
            "packed": (
                divided(ids, segments=segments, record=records[0]),
                whole(ids, segments=segments, record=records[1]),
            ),
            "projected": (divided.project(divided(ids, head=False)), whole(ids)),
        }
    results = {name: difference([found], [expected]) for name, (found, expected) in pairs.items()}
    for name in ("attention", "residuals"):
        results[name] = difference(getattr(records[0], name), getattr(records[1], name))
    results["routing"] = difference(*([each.logits for each in record.routing] or [ids] for record in records))
    drawn = Sampling(temperature=0.7, max_tokens=6)
    written = [Engine(model, frozenset()).generate(PROMPTS, drawn) for model in (divided, whole)]
    results["written"] = float([each.ids for each in written[0]] != [each.ids for each in written[1]])
    gathered = stepper.working.sharding.whole(divided.state_dict())
    expected = dict(whole.state_dict())
    if here.leads:
        assert gathered.keys() == expected.keys()
        results["gathered"] = difference(gathered.values(), [expected[name] for name in gathered])
    return results


def main(divided: str = "stages") -> None:
    torch.set_num_threads(1)
    with joined(ParallelConfig()) as here:
        plans = {"one": ParallelConfig(pipeline=here.size)}
        if divided == "experts":
            plans = {"experts": ParallelConfig(expert=here.size)}
        else:
            plans["interleaved"] = ParallelConfig(pipeline=here.size, schedule="interleaved", chunks=2)
        results = {
            f"{plan}, {name}": compared(config, replace(here, parallel=parallel))
            for plan, parallel in plans.items()
            for name, config in models().items()
            if divided == "stages" or config.experts.count
        }
    if here.leads:
        json.dump(results, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
