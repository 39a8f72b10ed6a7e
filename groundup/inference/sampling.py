"""From logits to the next token: temperature, top-k, top-p, one uniform number per draw.

Enters: logits [rows, vocabulary], one uniform number and one set of options per row. Leaves: ids [rows].
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.core.errors import TrainingError, UsageError


@dataclass(frozen=True)
class Sampling:
    """How the tokens of one completion are drawn."""

    temperature: float = 0.8
    """Divides the logits: below 1 sharpens, above 1 flattens; 0 always takes the most probable token (greedy)."""
    top_k: int = 0
    """Draw only among the k most probable tokens; 0 is off."""
    top_p: float = 1.0
    """Draw only among the fewest tokens that together reach this probability (nucleus sampling); 1 is off."""
    max_tokens: int = 256
    """Most tokens to generate; the model's context may allow fewer."""
    seed: int = 0
    """The draws are a function of this number alone, whoever shares the batch."""

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise UsageError(f"temperature is {self.temperature}; use 0 (greedy) or a positive number")
        if self.top_k < 0:
            raise UsageError(f"top-k is {self.top_k}; use 0 (off) or a positive number")
        if not 0 < self.top_p <= 1:
            raise UsageError(f"top-p is {self.top_p}; use a number above 0, at most 1 (off)")
        if self.max_tokens < 1:
            raise UsageError(f"max-tokens is {self.max_tokens}; it must be at least 1")


def plain_pick(logits: list[float], uniform: float, temperature: float, top_k: int, top_p: float) -> int:
    """One row, step by step; the tests hold :func:`pick` against it."""
    by_rank = sorted(range(len(logits)), key=lambda token: -logits[token])
    if temperature == 0:
        return by_rank[0]
    candidates = by_rank[: top_k or None]
    weights = {token: math.exp((logits[token] - logits[by_rank[0]]) / temperature) for token in candidates}
    nucleus, mass = [], 0.0
    for token in candidates:
        if mass >= top_p * sum(weights.values()) and top_p < 1:
            break
        nucleus.append(token)
        mass += weights[token]
    threshold = uniform * mass
    for token in sorted(nucleus):
        threshold -= weights[token]
        if threshold < 0:
            return token
    return max(nucleus)


def pick(logits: Tensor, uniforms: Tensor, temperature: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Draw one token per row; rows may have different options.

    A row's token is a function of that row alone. The cumulative distribution runs in order of token id, so a row
    without filters draws the same token whether or not its neighbours make the batch go through the filters.

    Args:
        logits: [rows, vocabulary].
        uniforms: numbers in [0, 1), [rows]; the draw is the inverse of the cumulative distribution at this number.
        temperature: [rows]; 0 takes the largest logit.
        top_k: [rows]; 0 is off. Among equal logits the smaller id ranks higher.
        top_p: [rows]; 1 is off (Holtzman et al. 2020). Applied to what top-k left, renormalised.

    Returns:
        Token ids [rows].

    Raises:
        TrainingError: a logit is not a finite number.
    """
    if not torch.isfinite(logits).all():
        raise TrainingError(
            "the model's logits are not finite numbers; its weights are damaged, use an earlier checkpoint"
        )
    greedy = temperature == 0
    if greedy.all():
        return logits.argmax(dim=-1)
    probabilities = (logits / temperature.where(~greedy, 1.0)[:, None]).softmax(dim=-1)
    if ((top_k > 0) | (top_p < 1)).any():
        probabilities = probabilities * kept(probabilities, top_k, top_p)
    cumulative = probabilities.double().cumsum(dim=-1)
    target = uniforms.double()[:, None] * cumulative[:, -1:]
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0]
    return logits.argmax(dim=-1).where(greedy, drawn)


def kept(probabilities: Tensor, top_k: Tensor, top_p: Tensor) -> Tensor:
    """Which tokens survive top-k and top-p, boolean [rows, vocabulary]; the most probable one always does.

    Sorting a whole vocabulary costs more than a small model's forward pass, so only the head of the ranking is
    taken, deeper when a nucleus does not fit. It yields the smallest probability that survives in each row.
    """
    vocabulary = probabilities.shape[-1]
    unfiltered = (top_k == 0) & (top_p >= 1)
    limit = top_k.where(top_k > 0, vocabulary).clamp(max=vocabulary)
    depth = min(vocabulary, max(64, int(limit[top_k > 0].amax()) if (top_k > 0).any() else 0))
    while True:
        ranked = probabilities.topk(depth).values
        mass = ranked.double().cumsum(dim=-1)
        if (unfiltered | (limit <= depth) | (mass[:, -1] >= top_p)).all():
            break
        depth = min(vocabulary, 8 * depth)
    total = mass.gather(1, limit.clamp(max=depth)[:, None] - 1).where(top_k[:, None] > 0, 1.0)
    before = mass - ranked
    inside = (before < top_p[:, None] * total) | (top_p[:, None] >= 1)
    inside &= torch.arange(depth, device=ranked.device) < limit[:, None]
    count = inside.sum(dim=-1, keepdim=True).clamp(min=1)
    smallest = ranked.gather(1, count - 1)
    above, tied = probabilities > smallest, probabilities == smallest
    among_equals = tied & (tied.cumsum(dim=-1) <= count - above.sum(dim=-1, keepdim=True))
    return above | among_equals | unfiltered[:, None]
