"""Mixture of experts as a textbook prints it: each token alone chooses its experts, and mixes what they say."""

from collections.abc import Callable, Sequence
from heapq import nlargest
from itertools import chain
from typing import NamedTuple

import torch
from torch import Tensor

from groundup.model.config import ExpertConfig


class Choice(NamedTuple):
    """One expert that a token passes, and the weight of its output."""

    expert: int
    weight: Tensor


def choose(logits: Tensor, config: ExpertConfig, balancing_bias: Tensor | None = None) -> list[Choice]:
    """The experts of one token, the most preferred first.

    Args:
        logits: the router's scores of this token [count].
        config: how many to choose, from how many groups, and what makes a score a weight: softmax over the experts
            (Shazeer et al. 2017), or sigmoid for each alone (DeepSeek-V3, 2024).
        balancing_bias: [count], added to sigmoid scores where they decide who is chosen, not in the weights.
    """
    scores = logits.sigmoid() if config.router == "sigmoid" else logits.softmax(dim=0)
    preferred = (scores if balancing_bias is None else scores + balancing_bias).tolist()

    # A group is as good as its best expert (DeepSeek-V2), or as its two best together (V3).
    size, counted = config.count // config.groups, 2 if config.router == "sigmoid" else 1
    groups = [range(first, first + size) for first in range(0, config.count, size)]
    best = nlargest(
        config.active_groups, groups, key=lambda group: sum(nlargest(counted, (preferred[i] for i in group)))
    )
    chosen = nlargest(config.active, chain(*best), key=lambda expert: preferred[expert])

    total = torch.stack([scores[expert] for expert in chosen]).sum() if config.normalise else 1.0
    return [Choice(expert, config.scale * scores[expert] / total) for expert in chosen]


def mix(token: Tensor, choices: Sequence[Choice], experts: Sequence[Callable[[Tensor], Tensor]]) -> Tensor:
    """The weighted sum of what the chosen ``experts`` make of ``token`` [width]."""
    mixed = torch.zeros_like(token)
    for expert, weight in choices:
        mixed = mixed + weight * experts[expert](token)
    return mixed


def load_balancing_loss(logits: Tensor, choices: Sequence[Sequence[Choice]]) -> Tensor:
    """n · Σ fᵢ · Pᵢ over the n experts (Fedus et al. 2022, Switch, eq. 4).

    fᵢ is the share of tokens that chose expert i, counted and so without a gradient; Pᵢ the mean probability that the
    router gave it. With as many choices of each expert the loss is the number of choices per token.

    Args:
        logits: the router's scores [tokens, count].
        choices: of each token.
    """
    tokens, count = logits.shape
    probabilities = logits.softmax(dim=-1)
    loss = torch.zeros_like(logits[0, 0])
    for expert in range(count):
        share = sum(choice.expert == expert for chosen in choices for choice in chosen) / tokens
        loss = loss + count * share * probabilities[:, expert].mean()
    return loss
