"""Perplexity over windows of a text that do not overlap: a text's ids enter, a window's surprisal leaves."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

#: Tokens of a window. Its first is given, not predicted.
WINDOW = 1024

#: Ids [1, time] → logits [1, time, vocabulary].
Logits = Callable[[Tensor], Tensor]


def windows(ids: Sequence[int]) -> list[Tensor]:
    """The ids, cut; the last window may be shorter."""
    return [window for window in torch.tensor(ids).split(WINDOW) if len(window) > 1]


@torch.inference_mode()
def surprisal(model: Logits, window: Tensor) -> float:
    """-Σ log p of all tokens but the first, in nats."""
    return float(F.cross_entropy(model(window[None])[0, :-1], window[1:], reduction="sum"))


def perplexity(surprisals: Sequence[float], measured: Sequence[Tensor]) -> float:
    """The exponential of the mean surprisal of a token."""
    return math.exp(math.fsum(surprisals) / sum(len(window) - 1 for window in measured))
