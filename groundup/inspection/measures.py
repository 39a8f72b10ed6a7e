"""What can be read off the inside of a model: attention weights, residuals and routing enter, plain figures leave.

Nothing here knows a model; every function is a few lines of algebra on tensors that a model has recorded.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

#: Rows of an embedding that are compared at a time, so that a large vocabulary needs no second copy.
ROWS_AT_A_TIME = 1 << 14


def head_statistics(weights: Tensor) -> dict[str, Tensor]:
    """What each head of a layer does, as means over every token but the first, which can only look at itself.

    Args:
        weights: who looks at whom [heads, time, time]; a row sums to 1, or to less if the head has a sink.

    Returns:
        One value per head [heads] of

        - ``entropy``: bits of the weights; 0 is one token alone, log2(n) is all n alike;
        - ``first``: share on the first token, where heads look that have nothing to say (Xiao et al. 2024);
        - ``previous``: share on the token before (0 for a single token);
        - ``itself``: share on the token itself;
        - ``distance``: mean number of tokens looked back;
        - ``nothing``: what is left for the sink.
    """
    time = weights.shape[-1]
    rows = weights[:, 1:] if time > 1 else weights
    places = torch.arange(time, device=weights.device)
    back = (places[:, None] - places).clamp(min=0)[-rows.shape[1] :]
    total = rows.sum(-1)
    shares = rows / total.clamp(min=1e-12)[..., None]
    return {
        "entropy": torch.special.entr(shares).sum(-1).mean(-1) / math.log(2),
        "first": rows[..., 0].mean(-1),
        "previous": weights.diagonal(-1, -2, -1).mean(-1) if time > 1 else torch.zeros_like(total[:, 0]),
        "itself": rows.diagonal(time - rows.shape[1], -2, -1).mean(-1),
        "distance": (shares * back).sum(-1).mean(-1),
        "nothing": (1 - total).clamp(min=0).mean(-1),
    }


def induction_scores(weights: Tensor, length: int) -> Tensor:
    """How much each head looks at what followed the same token earlier (Olsson et al. 2022).

    Args:
        weights: [batch, heads, 2 · length, 2 · length] over sequences whose second half repeats the first.
        length: of the half.

    Returns:
        Mean weight [heads] from the second occurrence of a token to the successor of its first.
    """
    return weights.diagonal(1 - length, -2, -1)[..., 1:].mean(dim=(0, -1))


@dataclass(frozen=True)
class Standing:
    """How a token of each position fares among all others, layer by layer."""

    ids: Tensor
    """The tokens [time]."""
    probability: Tensor
    """[layers + 1, time]."""
    rank: Tensor
    """1 is the most probable [layers + 1, time]."""


def standing(log_probabilities: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
    """Probability and rank [time] of ``ids`` [time] under ``log_probabilities`` [time, vocabulary]."""
    own = log_probabilities.gather(-1, ids[:, None])
    return own[:, 0].exp(), 1 + (log_probabilities > own).sum(-1)


def settled(rank: Tensor) -> Tensor:
    """The first row of ``rank`` [layers + 1, time] from which on the token stays the most probable one [time].

    The last row must be all 1: it ranks the tokens that are finally predicted.
    """
    return rank.shape[0] - (rank == 1).flip(0).cumprod(0).sum(0)


@dataclass(frozen=True)
class Stream:
    """The residual stream, to which every block adds."""

    norm: Tensor
    """Euclidean norm after the embedding and after each block [layers + 1, time]."""
    added: Tensor
    """Norm of what each block adds, as a share of the norm that it finds [layers, time]."""
    cosine: Tensor
    """Cosine to the stream after the last block [layers + 1, time]."""


def stream(residuals: Tensor) -> Stream:
    """The stream's figures from its states [layers + 1, time, width]."""
    residuals = residuals.double()
    norm = residuals.norm(dim=-1)
    added = residuals.diff(dim=0).norm(dim=-1) / norm[:-1].clamp(min=1e-12)
    cosine = torch.cosine_similarity(residuals, residuals[-1:].expand_as(residuals), dim=-1)
    return Stream(norm, added, cosine)


def neighbours(embedding: Tensor, ids: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The tokens whose embedding points most nearly the same way.

    Args:
        embedding: [vocabulary, width].
        ids: whose neighbours are wanted [tokens].
        count: how many; less one than the vocabulary at most.

    Returns:
        Cosines and ids [tokens, count], the nearest first; none is its own neighbour.
    """
    own = torch.nn.functional.normalize(embedding[ids].float(), dim=-1)
    blocks = (torch.nn.functional.normalize(block.float(), dim=-1) for block in embedding.split(ROWS_AT_A_TIME))
    cosines = torch.cat([own @ block.T for block in blocks], dim=-1)
    cosines.scatter_(-1, ids[:, None], -torch.inf)
    nearest = cosines.topk(min(count, embedding.shape[0] - 1), dim=-1)
    return nearest.values, nearest.indices


@dataclass(frozen=True)
class Load:
    """How the tokens spread over the experts of one layer."""

    tokens: Tensor
    """Share of the tokens that pass each expert [experts]; sums to the number of experts per token."""
    weight: Tensor
    """Mean router weight that each expert gets, over all tokens [experts]."""
    chosen: Tensor
    """The experts of each token [time, active]."""


def load(chosen: Tensor, weights: Tensor, count: int) -> Load:
    """The load of ``count`` experts from the choices [time, active] of a router and their weights [time, active]."""
    time = chosen.shape[0]
    picked = chosen.flatten().long()
    empty = torch.zeros(count, dtype=torch.float64, device=chosen.device)
    tokens = empty.index_add(0, picked, torch.ones_like(picked, dtype=torch.float64))
    weight = empty.index_add(0, picked, weights.flatten().double())
    return Load(tokens / time, weight / time, chosen)
