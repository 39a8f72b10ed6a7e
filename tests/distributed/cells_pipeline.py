"""Layers divided among processes, which compute one after the other."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch

from groundup.core.world import ParallelConfig
from groundup.dataloader import IGNORED, Batch
from groundup.model import ModelConfig
from groundup.model.config import ExpertConfig
from groundup.objectives import Preference
from tests.distributed.cells_context import answers, packed
from tests.distributed.cells_tensor import OBJECTIVES, WAYS, drawn
from tests.distributed.matrix import SHAPE, TIME, VOCABULARY, Cell

DENSE = ModelConfig(**{**SHAPE, "layers": 4}, init="normal")
EXPERTS = replace(DENSE, experts=ExpertConfig(count=4, router="sigmoid", bias_rate=0.01, balance=0.1))
#: What is in two places, what goes along with the stream, and what each stage must know.
FEATURES = {
    "tied": replace(DENSE, tied=True),
    "scales, n-grams, value embeddings": replace(
        DENSE, residual_scalars=True, ngrams=2, ngram_rows=31, value_embeddings=True
    ),
    "five layers, first dense": replace(EXPERTS, layers=5, experts=replace(EXPERTS.experts, dense_layers=2)),
}
#: Those of the ordinary tests.
ORDINARY = (
    "gpipe, dense",
    "1f1b, dense, bfloat16",
    "interleaved, experts",
    "zero-bubble, experts, recomputed",
    "zero-bubble, scales, n-grams, value embeddings",
    "1f1b, tied",
    "1f1b, dpo",
    "four, scales, n-grams, value embeddings",
    "x shard, tied",
    "x data, experts",
    "x tensor, dense",
)


def rows(step: int, count: int, first: int = 0) -> list[Batch]:
    """Eight rows, which all plans divide evenly: routers are balanced over what is computed at once."""
    found = []
    for number in range(count):
        generator = torch.Generator().manual_seed(first + 100 * step + number)
        ids = torch.randint(VOCABULARY, (8, TIME + 1), generator=generator)
        targets = ids[:, 1:].clone()
        for row in range(8):
            targets[row, : row + number] = IGNORED
        targets[0] = IGNORED
        found.append(Batch({"inputs": ids[:, :-1], "targets": targets}, int((targets != IGNORED).sum())))
    return found


def cells(processes: int) -> Iterator[Cell]:
    """Every schedule and combination with every model in every way, and everything that travels."""
    if processes == 4:
        two = partial(ParallelConfig, pipeline=2)
        plans = {
            "four": ParallelConfig(pipeline=4),
            "x data": two(data=2),
            "x shard": two(shard=2),
            "x shard, zero-bubble": two(shard=2, schedule="zero-bubble"),
            "x shard, interleaved": two(shard=2, schedule="interleaved", chunks=2),
            "x tensor": two(tensor=2),
            "x tensor, zero-bubble": two(tensor=2, schedule="zero-bubble"),
            "x context": two(context=2),
            "x expert": two(expert=2),
        }
    else:
        plans = {name: ParallelConfig(pipeline=2, schedule=name) for name in ("gpipe", "1f1b", "zero-bubble")}
        plans["interleaved"] = ParallelConfig(pipeline=2, schedule="interleaved", chunks=2)
        yield Cell("split by hand", EXPERTS, ParallelConfig(pipeline=2, split=(3,)), drawn=rows)
    for plan, parallel in plans.items():
        # A balancing loss is of the tokens that a process computes at once, which context divides.
        experts = EXPERTS.experts if parallel.context == 1 else replace(EXPERTS.experts, balance=0.0)
        for kind, model in (("dense", DENSE), ("experts", replace(EXPERTS, experts=experts))):
            if kind == "dense" and parallel.expert > 1:
                continue
            for way, options in {"": {}, **WAYS}.items():
                if ("compile" in options or way == "selective") and parallel.schedule == "zero-bubble":
                    continue  # refused
                cell, asked = ", ".join(filter(None, (plan, kind, way))), model
                if kind == "experts" and "bfloat16" in way:  # rounding would send some tokens to other experts
                    asked = replace(model, experts=replace(model.experts, active=model.experts.count))
                # One token of the usual rows is between two experts, and generated code rounds otherwise.
                given = partial(rows, first=50) if kind == "experts" and "compile" in options else rows
                yield Cell(cell, asked, parallel, options, slow=cell not in ORDINARY, drawn=given)
        for name, model in FEATURES.items():
            if parallel.chunks == 1 or model.layers == 4:
                own = model
                if model.experts.count:
                    own = replace(model, experts=replace(model.experts, balance=experts.balance))
                elif parallel.expert > 1:
                    own = replace(model, experts=experts)
                cell = f"{plan}, {name}"
                yield Cell(cell, own, parallel, slow=cell not in ORDINARY, drawn=rows)
        for name, (objective, time) in OBJECTIVES.items():
            cell, given = f"{plan}, {name}", partial(drawn, time=time)
            if parallel.context > 1 and not isinstance(objective, Preference):  # pairs are of those alone
                given = answers
            if parallel.expert == 1:
                yield Cell(cell, DENSE, parallel, objective=objective, drawn=given, slow=cell not in ORDINARY)
        if parallel.expert == 1:
            yield Cell(f"{plan}, packed", replace(DENSE, context=16), parallel, drawn=packed, slow=True)
