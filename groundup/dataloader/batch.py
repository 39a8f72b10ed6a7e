"""What a training step eats, and where it comes from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

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


class Source(Protocol):
    """An endless stream of batches that continues exactly where its state says."""

    def __iter__(self) -> Iterator[Batch]:
        """Batches from the current position on."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON: the batches already yielded are behind it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""
