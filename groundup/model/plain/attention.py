"""Attention as a textbook prints it: every tensor on the way from queries, keys and values to the output.

Leading dimensions, if any, are batch and heads; the page is about the last two.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Attended(NamedTuple):
    """What :func:`attention` computes, step by step."""

    scores: Tensor
    """How well each query meets each key [..., time, length]: scaled, bounded, lowered by distance."""
    masked: Tensor
    """The scores, with -∞ where a query may not look [..., time, length]."""
    weights: Tensor
    """Shares of the values [..., time, length]: a row sums to 1, or with a sink to less."""
    output: Tensor
    """The values, mixed [..., time, value_size]."""


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    scale: float | None = None,
    softcap: float = 0.0,
    slope: Tensor | float = 0.0,
    window: int = 0,
    mask: Tensor | None = None,
    sink: Tensor | None = None,
) -> Attended:
    """softmax(query · keyᵀ / √size) · value, causal (Vaswani et al. 2017, eq. 1).

    Args:
        query: [..., time, size], of the last ``time`` of the positions that the keys have.
        key: [..., length, size].
        value: [..., length, value_size].
        scale: factor of query · key; None: 1/√size.
        softcap: bound on the scores, cap · tanh(score / cap) (Gemma 2); 0: none.
        slope: how much a step of distance lowers a score (ALiBi, Press et al. 2022), a number or [..., 1, 1].
        window: how many positions a query sees, its own included; 0: all before it.
        mask: what may be seen besides, boolean [..., time, length].
        sink: a score that takes weight and gives nothing (gpt-oss), a number or [..., 1, 1]; None: none.
    """
    time, length = query.shape[-2], key.shape[-2]
    positions = torch.arange(length, device=query.device)
    distance = positions[length - time :, None] - positions  # [time, length]; the future is below 0
    seen = distance >= 0
    if window:
        seen = seen & (distance < window)
    if mask is not None:
        seen = seen & mask

    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    scores = scores - slope * distance
    masked = scores.masked_fill(~seen, -torch.inf)
    weights = softmax(masked, sink)
    return Attended(scores, masked, weights, weights @ value)


def softmax(scores: Tensor, sink: Tensor | None = None) -> Tensor:
    """exp(score) / Σ exp(score) over the last axis; a ``sink`` is one more score of the sum.

    The largest score is taken from all first, which changes nothing but keeps exp from overflowing.
    """
    largest = scores.amax(dim=-1, keepdim=True).detach()
    exponentials = (scores - largest).exp()
    total = exponentials.sum(dim=-1, keepdim=True)
    if sink is not None:
        total = total + (sink - largest).exp()
    return exponentials / total


def alibi_slopes(heads: int) -> list[float]:
    """What a step of distance costs in each head: 2^(-8/n), 2^(-16/n), … for n heads (Press et al. 2022).

    When n is no power of two, the slopes of the power below come first, then every second one of the power above, as
    in the authors' code.
    """
    below = 1 << heads.bit_length() - 1
    slopes = [2 ** (-8 * head / below) for head in range(1, below + 1)]
    slopes += [2 ** (-8 * head / (2 * below)) for head in range(1, 2 * below, 2)]
    return slopes[:heads]


def smeared(key: Tensor, share: Tensor) -> Tensor:
    """Each key [time, size] and ``share`` of the key before it (Elhage et al. 2022, smeared keys)."""
    before = torch.cat([torch.zeros_like(key[:1]), key[:-1]])
    return key + share * before
