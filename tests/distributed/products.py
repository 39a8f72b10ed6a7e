"""A model whose products two processes share, outside of a step's gradients: run in each of them, prints JSON."""

import json
import sys
from dataclasses import replace

import torch

from groundup.core import world as worlds
from groundup.core.errors import UsageError
from groundup.core.seeding import torch_rng
from groundup.core.world import ParallelConfig, joined
from groundup.distributed.sharding import local, part_of, without_gradients
from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.model import ModelConfig, Record, Transformer
from groundup.model.config import LatentConfig, PositionConfig
from groundup.objectives import next_token
from groundup.training import TrainingConfig
from groundup.training.prepare import prepare
from groundup.training.working import Working
from tests.distributed.matrix import SHAPE, VOCABULARY, batches, difference, whole

PLAIN = {**SHAPE, "init": "normal"}
MODELS = {
    "grouped": ModelConfig(**PLAIN, key_smear=True, value_embeddings=True, ngrams=2, ngram_rows=37),
    "alibi": ModelConfig(**PLAIN, positions=PositionConfig("alibi"), tied=False, qk_norm="all"),
    "latent": ModelConfig(
        **{**SHAPE, "kv_heads": 4}, qk_norm="none", init="normal", tied=False, latent=LatentConfig(6)
    ),
}


def fresh(config: ModelConfig) -> Transformer:
    return Transformer(config, VOCABULARY).initialise(torch_rng(1, "weights"))


def divided(config: ModelConfig, sequence: bool = True) -> Working:
    present = worlds.world()
    worlds._present = replace(present, parallel=ParallelConfig(tensor=2, sequence=sequence))
    stepper, _ = prepare(fresh(config), next_token, TrainingConfig(precision="float32", device="cpu"), seed=3)
    return stepper.working


def written(model: Transformer) -> list[list[int]]:
    """What a model goes on with, greedily, after prompts of different lengths that join at different times."""
    engine = Engine(model, frozenset(), max_rows=2)
    prompts = [[1, 2, 3], [4], [5, 6, 7, 8, 9]]
    requests = [engine.submit(prompt, Sampling(temperature=0.0, max_tokens=6)) for prompt in prompts]
    while not engine.idle:
        engine.step()
    return [request.picked for request in requests]


def logits(config: ModelConfig) -> dict[str, float]:
    """How far the logits are from one process's, by the number of tokens."""
    model, alone = divided(config).model.eval(), fresh(config).eval()
    found = {}
    for time in (12, 7, 1):
        ids = torch.randint(VOCABULARY, (3, time), generator=torch.Generator().manual_seed(time))
        with without_gradients(model):
            found[str(time)] = difference([model(ids)], [alone(ids).detach()])
    return found


def streams(sequence: bool) -> dict[str, list[int]]:
    """How many tokens of the stream a process has between the products, by how many there are."""
    model = divided(MODELS["grouped"], sequence).model.eval()
    found: dict[str, list[int]] = {"12": [], "7": []}
    for time, seen in found.items():
        norm = model.get_submodule("blocks.0.feed_forward_norm")
        hook = norm.register_forward_hook(lambda _, __, normed, seen=seen: seen.append(normed.shape[1]))
        with without_gradients(model):
            ids = torch.zeros(2, int(time), dtype=torch.long)
            model(ids)
            model(ids, record=Record(wants_attention=False, wants_routing=False))
        hook.remove()
    return found


def noise(sequence: bool) -> bool:
    """Whether processes that drop at random still agree about all that they have in common."""
    model = divided(ModelConfig(**PLAIN, dropout=0.5), sequence).model
    torch.manual_seed(1)
    hidden = model(batches(0, 1)[0].tensors["inputs"], head=False)
    return len(set(worlds.world().gathered(float(hidden.double().abs().sum())))) == 1


def kept(config: ModelConfig) -> bool:
    """Whether whole tensors, divided again, are the same to the last bit."""
    parameters = dict(divided(config).model.named_parameters())
    again = all(torch.equal(local(part_of(whole(p), p)), local(p.detach())) for p in parameters.values())
    return again and all(
        torch.equal(whole(parameters[name]), p.detach()) for name, p in fresh(config).named_parameters()
    )


def refused(config: ModelConfig) -> str:
    try:
        divided(config)
    except UsageError as error:
        return str(error)
    return ""


def main() -> None:
    torch.set_num_threads(1)
    results: dict[str, object] = {}
    with joined(ParallelConfig()) as here:
        for name, config in MODELS.items():
            alone = fresh(config).eval()
            results[f"logits, {name}"] = logits(config)
            results[f"text, {name}"] = [written(divided(config).model.eval()), written(alone)]
            results[f"kept, {name}"] = kept(config)
        for sequence in (True, False):
            results[f"streams, {sequence}"] = streams(sequence)
            results[f"noise, {sequence}"] = noise(sequence)
        dense = ModelConfig(**PLAIN)
        changes: list[dict[str, int]] = [{"heads": 3, "kv_heads": 3}, {"kv_heads": 1}, {"hidden": 41}]
        results["refused"] = [refused(replace(dense, **each)) for each in changes]  # type: ignore[arg-type]
        worlds._present = here
        told = here.gathered(results)
    if here.leads:
        json.dump({"alike": told[0] == told[1], **results}, sys.stdout)


if __name__ == "__main__":
    main()
