"""Sequences shared by a group of processes."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch

from groundup.core.world import ParallelConfig
from groundup.dataloader import IGNORED, Batch
from groundup.dataloader.packing import pack
from groundup.model import ModelConfig
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, PositionConfig
from groundup.objectives import PolicyGradient, Preference
from groundup.training.config import MemoryConfig
from tests.distributed.matrix import ROWS, TIME, VOCABULARY, Cell

#: A multiple of twice any number of processes here, more than the rows of a batch have.
CONTEXT = 16
SHAPE: dict[str, Any] = {"layers": 2, "width": 24, "heads": 4, "kv_heads": 2, "hidden": 40, "context": CONTEXT}
DENSE = ModelConfig(**SHAPE, init="normal")
#: Balanced by a bias: the balancing loss is of what is computed at once, which would be another one.
EXPERTS = replace(DENSE, experts=ExpertConfig(count=4, shared=1, router="sigmoid", bias_rate=0.01, balance=0.0))

#: Models whose keys go around the ring, in all layers or in some.
RING = {
    "one key head": replace(DENSE, kv_heads=1, head_size=10, tied=False),
    "learned positions, biases": replace(DENSE, positions=PositionConfig("learned"), norm="layer", bias="all"),
    "sinusoidal positions": replace(DENSE, positions=PositionConfig("sinusoidal"), norm_place="post"),
    "yarn, norm of all heads": replace(
        DENSE, positions=PositionConfig(scaling="yarn", factor=2.0), qk_norm="all", norm_place="output"
    ),
    "window in one layer": replace(
        DENSE,
        attention=AttentionConfig(window=5, pattern="LG"),
        positions=PositionConfig(local_base=100.0),
        norm_place="sandwich",
    ),
    "value embeddings, stream scales": replace(DENSE, value_embeddings=True, residual_scalars=True),
    "n-grams": replace(DENSE, ngrams=3, ngram_rows=50),
}
#: Models of which some layer, or all of them, need all keys at once.
GATHERED = {
    "sinks": replace(DENSE, attention=AttentionConfig(sinks=True)),
    "soft caps": replace(DENSE, attention=AttentionConfig(softcap=5.0), logits_softcap=3.0),
    "alibi": replace(DENSE, positions=PositionConfig("alibi")),
    "latent": replace(DENSE, latent=LatentConfig(key_rank=8, query_rank=10), qk_norm="none", kv_heads=4),
    "smeared keys": replace(DENSE, key_smear=True),
}
#: With four processes, those of the ordinary tests.
ORDINARY = (
    "context 4, ring, dense",
    "context x shard, gathered, experts",
    "context x tensor, ring, dense",
    "packed, smeared keys, n-grams",
    "shard, pairs",
    "late targets, experts",
)
#: What may be changed about a training.
CHANGES: dict[str, dict[str, Any]] = {
    "bfloat16": {"precision": "bfloat16"},
    "compiled": {"compile": "on"},
    "recomputed": {"memory": MemoryConfig(recompute="block")},
}


def filled(step: int, count: int) -> list[Batch]:
    """Rows as long as the model's context: no tail is added, which routers would count as load."""
    found = []
    for number in range(count):
        ids = torch.randint(VOCABULARY, (ROWS, CONTEXT + 1), generator=torch.Generator().manual_seed(step + 9 * number))
        targets = ids[:, 1:].clone()
        targets[0] = IGNORED
        targets[1, :9] = IGNORED
        found.append(Batch({"inputs": ids[:, :-1], "targets": targets}, int((targets != IGNORED).sum())))
    return found


def late(step: int, count: int) -> list[Batch]:
    """Rows whose targets are all at the end: some processes have tokens, but none to learn from."""
    found = []
    for batch in filled(step, count):
        targets = batch.tensors["targets"].clone()
        targets[:, :-2] = IGNORED
        found.append(Batch({**batch.tensors, "targets": targets}, int((targets != IGNORED).sum())))
    return found


def packed(step: int, count: int) -> list[Batch]:
    """Rows of several sequences each, which do not see each other."""
    found = []
    for number in range(count):
        generator = torch.Generator().manual_seed(100 * step + number)
        rows = []
        for row in range(ROWS):
            lengths = (row + 2, TIME - 2 - row) if row % 2 else (TIME - row,)
            ids = [torch.randint(VOCABULARY, (length + 1,), generator=generator).tolist() for length in lengths]
            rows.append([(each, [place > row for place in range(len(each))]) for each in ids])
        tensors = pack(rows, TIME, padding=0)
        found.append(Batch(tensors, int((tensors["targets"] != IGNORED).sum())))
    return found


def answers(step: int, count: int) -> list[Batch]:
    """Rows of a length that nothing divides, and what GRPO wants to know of them."""
    found = []
    for batch in packed(step, count):
        inputs, targets = (batch.tensors[name][:, :11] for name in ("inputs", "targets"))
        generator = torch.Generator().manual_seed(step)
        advantages = torch.randn(ROWS, generator=generator)
        old = -4 + torch.rand(targets.shape, generator=generator) / 10
        tensors = {"inputs": inputs, "targets": targets, "advantages": advantages, "old": old}
        found.append(Batch(tensors, int((targets != IGNORED).sum())))
    return found


def pairs(step: int, count: int) -> list[Batch]:
    """The same rows as pairs for DPO; of a length that nothing divides."""
    found = []
    for batch in answers(step, count):
        tensors = {name: batch.tensors[name] for name in ("inputs", "targets")}
        reference = -20 + torch.arange(ROWS) / 2
        found.append(Batch({**tensors, "reference": reference}, ROWS // 2, {"number": 2.0}, paired=True))
    return found


def cells(processes: int) -> Iterator[Cell]:
    """All; of four processes few are ordinary tests."""
    for cell in _every(processes):
        yield cell if processes == 2 else replace(cell, slow=cell.name not in ORDINARY)


def _every(processes: int) -> Iterator[Cell]:
    """Every plan with both ways, compiled and not, in both precisions, recomputed and not; and every feature."""
    alone = {f"context {processes}": ParallelConfig(context=processes)}
    plans = {
        **alone,
        "context x shard": ParallelConfig(context=2, shard=2),
        "context x data": ParallelConfig(context=2, data=2),
        "context x tensor": ParallelConfig(context=2, tensor=2),
    }
    for plan, parallel in (plans if processes == 4 else alone).items():
        for kind, model in (("dense", DENSE), ("experts", EXPERTS)):
            yield from _product(f"{plan}, ring, {kind}", model, parallel, processes == 2, kind == "dense")
            model = replace(model, attention=AttentionConfig(window=5), key_smear=True)
            yield from _product(f"{plan}, gathered, {kind}", model, parallel, False, kind == "experts")
        for name, model in {**RING, **GATHERED}.items():
            if model.kv_heads % parallel.tensor == 0:
                yield Cell(f"{plan}, {name}", model, parallel)
    parallel = ParallelConfig(context=processes)
    whole = {"accumulation": 2}
    yield Cell("packed", DENSE, parallel, drawn=packed)
    yield Cell("packed, smeared keys, n-grams", replace(DENSE, key_smear=True, ngrams=2), parallel, drawn=packed)
    preferred = Preference(0.3, anchor=0.2)
    yield Cell("pairs", DENSE, parallel, whole, objective=preferred, drawn=pairs)
    yield Cell("answers", DENSE, parallel, objective=PolicyGradient(), drawn=answers)
    if processes == 4:
        mixed = ParallelConfig(context=2, shard=2)
        yield Cell("shard, packed", DENSE, mixed, drawn=packed)
        yield Cell("shard, pairs", DENSE, mixed, whole, objective=preferred, drawn=pairs)
        yield Cell("shard, answers", DENSE, mixed, objective=PolicyGradient(), drawn=answers)
    quick = replace(EXPERTS, experts=replace(EXPERTS.experts, bias_rate=0.1))
    yield Cell("late targets, experts", quick, parallel, drawn=late)
    yield Cell("selective", DENSE, parallel, {"memory": MemoryConfig(recompute="selective")})


def _product(name: str, model: ModelConfig, parallel: ParallelConfig, few: bool, plain: bool) -> Iterator[Cell]:
    """With every combination of what may be changed. The ``plain`` one is an ordinary test, and of ``few`` processes a
    compiled one, too."""
    for count in range(len(CHANGES) + 1):
        for words in combinations(CHANGES, count):
            options = {key: value for word in words for key, value in CHANGES[word].items()}
            routed = model.experts.count > 0
            compiled = few and not routed and words == ("compiled",)
            ordinary = (not words and plain) or compiled
            backend = "aot_eager" if compiled else "inductor"
            if routed and "bfloat16" in words:  # rounding would send a token to another expert: all get all
                model = replace(model, experts=replace(model.experts, active=model.experts.count))
            drawn = filled if routed else None
            cell = ", ".join([name, *words])
            yield Cell(cell, model, parallel, options, slow=not ordinary, drawn=drawn, backend=backend)
