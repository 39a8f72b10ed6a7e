"""Which parameter gets which rule.

Hidden matrices get the rule that the configuration chooses; embeddings, the head, routers and vectors get AdamW
(Loshchilov & Hutter 2019), and vectors are never decayed.

μP (Yang et al. 2022) keeps the spectral norm of a step relative to that of the matrix (Yang, Simon & Bernstein 2023):
for a matrix that reads the residual stream AdamW's and Lion's grow with the width, Muon's with its root, so their rates
shrink as much. What the rate times the decay takes from the weights stays the same (Wang & Aitchison 2024).
"""

from typing import Any

import torch

from groundup.model import Transformer
from groundup.optim.config import OptimizerConfig
from groundup.optim.groups import parameter_groups
from groundup.optim.lion import Lion
from groundup.optim.muon import Muon
from groundup.optim.orthogonal import quintics
from groundup.optim.uncompiled import AdamW


def build_optimizers(
    model: Transformer, config: OptimizerConfig, dtype: torch.dtype = torch.float32, muon: type[Muon] = Muon
) -> list[torch.optim.Optimizer]:
    """The optimizers that together update every trainable parameter of ``model`` once.

    Each group says its ``name`` (embedding, head, vectors, matrices, routers), and remembers its full rate as
    ``full_lr``, which the loop multiplies by the schedule's factor. ``dtype`` is that of Muon's iteration, and ``muon``
    the class: another one where matrices are divided among processes.
    """
    decay = config.weight_decay
    narrower = model.config.mup_width / model.config.width if model.config.mup_width else 1.0
    own_rate = config.matrix_rate or config.rate
    shrunk = narrower**0.5 if config.rule == "muon" else narrower
    settings = {
        "embedding": (config.rate * config.embedding_factor, decay if config.decay_embedding else 0.0),
        "head": (config.rate * config.head_factor, decay),
        "vectors": (config.rate * config.vector_factor, 0.0),
        "matrices": (own_rate * shrunk, decay / shrunk),
        "routers": (config.rate * narrower, decay / narrower),
    }
    groups = {
        name: {"params": parameters, "name": name, "lr": settings[name][0], "weight_decay": settings[name][1]}
        for name, parameters in parameter_groups(model).items()
        if parameters
    }
    optimizers: list[torch.optim.Optimizer] = []
    if config.rule != "adamw" and "matrices" in groups:
        optimizers.append(_matrix_optimizer(groups.pop("matrices"), config, dtype, muon))
    if groups:
        betas = (config.beta1, config.beta2)
        optimizers.append(AdamW(list(groups.values()), config.rate, betas, eps=1e-10, fused=True))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["full_lr"] = group["lr"]
    return optimizers


def _matrix_optimizer(
    group: dict[str, Any], config: OptimizerConfig, dtype: torch.dtype, muon: type[Muon]
) -> torch.optim.Optimizer:
    if config.rule == "lion":
        return Lion([group], config.matrix_rate)
    polynomials = quintics(config.iteration, config.iteration_steps)
    return muon(
        [group],
        config.matrix_rate,
        config.momentum,
        momentum_warmup=config.momentum_warmup,
        polynomials=polynomials,
        dtype=dtype,
    )
