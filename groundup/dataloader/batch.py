"""What a training step eats, and where it comes from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor

#: The target that means: nothing is to be learned at this position.
IGNORED = -100


@dataclass(frozen=True)
class Batch:
    """One micro-batch.

    ``tensors`` holds at least ``inputs`` and ``targets`` [rows, time]; where a target is
    :data:`IGNORED`, nothing is learned. ``weight`` counts the terms (tokens, pairs) that the objective
    sums over; the loop divides once by the sum of the weights of a whole step. ``metrics`` are numbers that
    the source, or the objective, wants logged with the step.
    """

    tensors: Mapping[str, Tensor]
    weight: int
    metrics: dict[str, float] = field(default_factory=dict)
    paired: bool = False
    """Whether a term is a pair: a row of the first half of the rows, and one of the second."""
    idle: bool = False
    """Whether its rows only fill up, where every process must compute something: nothing about them counts."""

    def split(self, parts: int) -> "list[Batch]":
        """The batch as at most ``parts`` smaller ones with the same terms in all."""
        if parts == 1:
            return [self]
        rows = len(self.tensors["inputs"])
        whole = torch.arange(rows)
        blocks = whole.view(2, -1) if self.paired else whole[None]
        pieces = [block.flatten() for block in blocks.tensor_split(min(parts, blocks.shape[1]), dim=1)]
        batches = []
        for piece in pieces:
            tensors = {name: tensor[piece.to(tensor.device)] for name, tensor in self.tensors.items()}
            terms = len(piece) // 2 if self.paired and self.weight else int((tensors["targets"] != IGNORED).sum())
            batches.append(replace(self, tensors=tensors, weight=terms, metrics=dict(self.metrics)))
        assert sum(batch.weight for batch in batches) == self.weight, "a term is a target, or a pair of rows"
        return batches


class Source(Protocol):
    """An endless stream of batches that continues exactly where its state says."""

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the current position on."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON: the batches already yielded are behind it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
