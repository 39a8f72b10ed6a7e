"""Products shared by a group of processes."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from groundup.core.world import ParallelConfig
from groundup.dataloader import Batch
from groundup.model import ModelConfig
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, PositionConfig
from groundup.model.presets import names, preset, shrunk
from groundup.objectives import Objective, PolicyGradient, Preference, next_token
from groundup.optim import OptimizerConfig
from groundup.training.config import MemoryConfig
from tests.distributed.matrix import MODELS, ROWS, SHAPE, TIME, Cell, batches

LATENT = {"kv_heads": 4, "qk_norm": "none", "tied": False}
#: Choices of a model that concern heads, units, words or the stream: what is divided is computed otherwise.
FEATURES: dict[str, dict[str, Any]] = {
    "biases, learned": {"bias": "all", "norm": "layer", "feed_forward": "gelu", "positions": PositionConfig("learned")},
    "query biases, tied": {"bias": "qkv", "qk_norm": "none", "tied": True},
    "output norms of all heads": {"norm_place": "output", "qk_norm": "all", "tied": False},
    "sandwich, caps, window": {
        "norm_place": "sandwich",
        "norm_offset": True,
        "logits_softcap": 5.0,
        "attention": AttentionConfig(window=5, pattern="LG", softcap=9.0),
    },
    "post norms, sinusoidal": {"norm_place": "post", "positions": PositionConfig("sinusoidal")},
    "alibi, sinks": {"positions": PositionConfig("alibi"), "attention": AttentionConfig(sinks=True)},
    "smear, embeddings, scales": {
        "key_smear": True,
        "value_embeddings": True,
        "ngrams": 3,
        "ngram_rows": 37,
        "residual_scalars": True,
    },
    "latent": {**LATENT, "latent": LatentConfig(key_rank=6, query_rank=10)},
    "latent, queries whole": {**LATENT, "latent": LatentConfig(key_rank=6)},
    "shared experts": {
        "experts": ExpertConfig(count=4, active=2, shared=1, hidden=12, dense_layers=1, groups=2, active_groups=1)
    },
    "scaled logits": {"mup_width": 12, "init": "zero", "tied": False},
}


def drawn(step: int, count: int, time: int = TIME) -> list[Batch]:
    """Pairs of answers with their log-probabilities, advantages and two sequences in each row; for any objective."""
    found = []
    for batch in batches(step, count):
        tensors = {name: tensor[:, :time] for name, tensor in batch.tensors.items()}
        generator = torch.Generator().manual_seed(step)
        tensors["segments"] = (torch.arange(time) >= time // 3).long().expand(ROWS, -1).contiguous()
        tensors["positions"] = torch.arange(time).expand(ROWS, -1) - time // 3 * tensors["segments"]
        tensors["reference"] = -20 * torch.rand(ROWS, generator=generator)
        tensors["advantages"] = torch.randn(ROWS, generator=generator)
        tensors["old"] = -4 + torch.randn(ROWS, time, generator=generator) / 5
        found.append(Batch(tensors, ROWS // 2, paired=True))
    return found


#: What is lowered, and of how many tokens.
OBJECTIVES: dict[str, tuple[Objective, int]] = {
    "dpo": (Preference(0.1, anchor=0.5), TIME),
    "dpo of odd rows": (Preference(0.1), TIME - 1),
    "grpo": (PolicyGradient(), TIME),
    "packed odd rows": (next_token, TIME - 1),
}
#: How a plan may be computed.
WAYS: dict[str, dict[str, Any]] = {
    "recomputed": {"memory": MemoryConfig(recompute="block")},
    "bfloat16": {"precision": "bfloat16"},
    "bfloat16, recomputed": {"precision": "bfloat16", "memory": MemoryConfig(recompute="block")},
    "compiled": {"compile": "on"},
    "compiled, recomputed": {"compile": "on", "memory": MemoryConfig(recompute="block")},
    "compiled, bfloat16": {"compile": "on", "precision": "bfloat16"},
    "compiled, bfloat16, recomputed": {
        "compile": "on",
        "precision": "bfloat16",
        "memory": MemoryConfig(recompute="block"),
    },
    "selective": {"memory": MemoryConfig(recompute="selective")},
    "bfloat16-weights": {"precision": "bfloat16-weights"},
    "accumulated": {"accumulation": 2},
    "muon": {"optimizer": OptimizerConfig()},
    "lion": {"optimizer": OptimizerConfig(matrices="lion", matrix_rate=0.001)},
    "adamw": {"optimizer": OptimizerConfig(matrices="adamw")},
    "frozen": {"freeze": ("embedding.*", "blocks.0.attention.*")},
}
#: Those of the ordinary tests.
ORDINARY = (
    "tensor, dense, muon",
    "tensor, dense, compiled",
    "tensor, experts, recomputed",
    "tensor x shard, dense, bfloat16",
    "tensor x data, experts",
    "tensor of four, dense",
)


def cells(processes: int) -> Iterator[Cell]:
    """Every plan with every model in every way; each feature, and each preset."""
    if processes == 4:
        plans = {
            "tensor x shard": ParallelConfig(tensor=2, shard=2),
            "tensor x data": ParallelConfig(tensor=2, data=2),
            "tensor of four": ParallelConfig(tensor=4),
        }
    else:
        plans = {"tensor": ParallelConfig(tensor=2), "stream whole": ParallelConfig(tensor=2, sequence=False)}
    capped = replace(MODELS["dense"], kv_heads=4, logits_softcap=5.0)
    for plan, parallel in plans.items():
        for name in ("dense", "experts"):
            model = replace(MODELS[name], kv_heads=4) if parallel.tensor == 4 else MODELS[name]
            cell = f"{plan}, {name}"
            yield Cell(cell, model, parallel, slow=processes == 4 and cell not in ORDINARY)
            for way, options in WAYS.items():
                cell, asked = f"{plan}, {name}, {way}", model
                if name == "experts" and "bfloat16" in way:  # rounding would send some tokens to other experts
                    asked = replace(model, experts=replace(model.experts, active=model.experts.count))
                backend = "aot_eager" if cell in ORDINARY else "inductor"
                yield Cell(cell, asked, parallel, options, slow=cell not in ORDINARY, backend=backend)
        for name, choices in FEATURES.items():
            if parallel.tensor == 2:
                model = ModelConfig(**{**SHAPE, "init": "normal", **choices})
                yield Cell(f"{plan}, {name}", model, parallel, slow=plan != "tensor")
        for name, (objective, time) in OBJECTIVES.items():
            rows = partial(drawn, time=time)
            yield Cell(f"{plan}, {name}", capped, parallel, objective=objective, drawn=rows, slow=processes > 2)
    if processes == 2:
        shapes = {shrunk(preset(name).config): name for name in names()}  # many are alike, but for their sizes
        for model, name in shapes.items():
            if model.kv_heads > 1:  # one key/value head cannot be divided
                # Without rotary positions softmax does not see the bias of keys: its gradient is rounding, no more.
                unseen = model.bias != "none" and model.positions.kind != "rotary" and model.qk_norm == "none"
                options = {"freeze": ("*.key.bias",)} if unseen else {}
                model = replace(model, init="normal")
                yield Cell(f"tensor, {name}", model, ParallelConfig(tensor=2), options, slow=True)
