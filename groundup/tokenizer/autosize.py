"""Corpus size and model size → a vocabulary size, with reasons.

Two things bound a vocabulary. A token's row of the embedding is learnt from the places where the token stands: one
that occurs too seldom stays a row of noise. And the rows cost: beyond some size the weights are better spent
elsewhere. The smaller bound decides.

    the corpus  Nineteen of twenty tokens should occur at least a hundred times (Gowda & May, 2020, "Finding the
                optimal vocabulary size for neural machine translation"). A sample tells directly, by how often the
                pair of each merge occurred; without one, we go by what is usual.
    the model   The weights of the vocabulary should grow as the power 0.835 of the other weights, from 3.1 M beside
                33 M (Tao et al., 2024, "Scaling laws with vocabulary", the derivative-based estimate).
"""

from dataclasses import dataclass

import numpy as np

from groundup.core.errors import UsageError
from groundup.tokenizer.trainer import Learnt

#: So often should a token occur …
ENOUGH_OCCURRENCES = 100
#: … at this share of the tokens.
TRAINED_SHARE = 0.95
#: What Tao et al. found best for their smallest model, 6,144 ids of width 512, and the exponent from there.
REFERENCE_BODY, REFERENCE_VOCABULARY, EXPONENT = 33e6, 6144 * 512, 0.8354
#: Without a sample: ``COEFFICIENT · bytes ** POWER`` ids occur often enough. Fitted to English prose and Python code of
#: 0.1 to 31 MB, cut by two patterns, of which it is nowhere off by more than 16 %.
COEFFICIENT, POWER = 0.459, 0.573
#: Matrix products are fast when sizes are a multiple of this.
MULTIPLE = 64
#: The 256 bytes and the special tokens need as much.
SMALLEST = 320


@dataclass(frozen=True)
class Proposal:
    """A vocabulary size and where it comes from."""

    vocab_size: int
    """Ids, special tokens included; a multiple of 64."""
    why: list[str]
    """The reasons, a sentence each."""


@dataclass(frozen=True)
class Body:
    """The model that the vocabulary is for, without its embedding and output head."""

    parameters: int
    """Its weights."""
    width: int
    """Numbers per token in the residual stream."""
    tied: bool = True
    """The embedding is the output head too."""

    def __post_init__(self) -> None:
        for name in ("parameters", "width"):
            if getattr(self, name) < 1:
                raise UsageError(f"the {name} of the model is {getattr(self, name)}; it must be at least 1")


def propose(corpus_bytes: int, body: Body | None = None, sample: Learnt | None = None) -> Proposal:
    """The vocabulary size that the corpus can train and the model can afford.

    Args:
        corpus_bytes: the UTF-8 length of all text that the model will be trained on.
        body: the model; without it the corpus alone decides.
        sample: merges learnt from the corpus or a part of it, more than will be proposed.

    Raises:
        UsageError: a size is not positive.
    """
    if corpus_bytes < 1:
        raise UsageError(f"corpus_bytes is {corpus_bytes}; it must be at least 1")
    trainable, how = _trainable(corpus_bytes, sample)
    why = [
        f"the corpus of {corpus_bytes:,} bytes can train about {trainable:,.0f} ids, so that "
        f"{TRAINED_SHARE:.0%} of them occur {ENOUGH_OCCURRENCES} times or more ({how})"
    ]
    if body is None:
        vocab_size = _rounded(trainable)
        why.append(f"chosen: {vocab_size:,}, a multiple of {MULTIPLE}; no model was named that may afford fewer")
        return Proposal(vocab_size, why)
    affordable = REFERENCE_VOCABULARY * (body.parameters / REFERENCE_BODY) ** EXPONENT / body.width
    vocab_size = _rounded(min(affordable, trainable))
    weights = vocab_size * body.width * (1 if body.tied else 2)
    smaller = "model" if affordable < trainable else "corpus"
    why += [
        f"the model with {body.parameters:,} other weights of width {body.width} can afford about "
        f"{affordable:,.0f} ids (vocabulary weights grow with the power {EXPONENT:.2f} of the others)",
        f"chosen: {vocab_size:,}, by the {smaller}, a multiple of {MULTIPLE}; the vocabulary then holds "
        f"{weights / (weights + body.parameters):.0%} of all weights",
    ]
    return Proposal(vocab_size, why)


def _rounded(ids: float) -> int:
    return max(SMALLEST, int(ids) // MULTIPLE * MULTIPLE)


def _trainable(corpus_bytes: int, sample: Learnt | None) -> tuple[float, str]:
    """How many ids the corpus can train, and how that is known."""
    if sample is None:
        return COEFFICIENT * corpus_bytes**POWER, "by what is usual in prose and code"
    scale = corpus_bytes / sample.bytes
    enough = int(np.count_nonzero(sample.counts * scale >= ENOUGH_OCCURRENCES))
    how = f"by the counts of {len(sample.counts):,} merges in a sample of {sample.bytes:,} bytes"
    if enough == len(sample.counts):
        how += ", which all occur so often: more merges could tell more"
    return 256 + enough / TRAINED_SHARE, how
