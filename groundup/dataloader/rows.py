"""Rows → batches. What a row holds is planned first, as places in the tokens on disk, and read later.

Enters: a source of rows. Leaves: batches. Planning is sequential and cheap; reading a planned batch depends on nothing
but the plan, so that several threads may read at once (``prefetch.py``) without changing any batch or their order.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch

from groundup.dataloader.batch import IGNORED, Batch
from groundup.dataloader.shards import Tokens


class Span(NamedTuple):
    """``length`` tokens from ``start`` on to read, each of which predicts the one behind it."""

    tokens: Tokens
    start: int
    length: int


#: The sequences of a row, laid end to end.
Row = Sequence[Span]


class RowSource(Protocol):
    """An endless stream of planned rows that continues exactly where its state says."""

    @property
    def epochs(self) -> Mapping[str, float]:
        """For each text by its name, how often all of it was taken."""

    def take(self, count: int) -> list[Row]:
        """The next ``count`` rows."""

    def state_dict(self) -> dict[str, Any]:
        """The position, as JSON: the rows already taken are behind it."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from ``state``."""


class Plan(NamedTuple):
    """All that decides a batch."""

    rows: list[Row]
    metrics: dict[str, float]


class RowBatches:
    """Batches of ``rows`` rows of ``time`` tokens each.

    Args:
        source: plans the rows.
        rows: rows of a batch.
        time: tokens of a row.
        padding: the id that fills rows whose sequences do not; such batches also hold ``positions`` and ``segments``,
            and count what they fill. None: every row is one sequence of ``time`` tokens, and the model needs no mask.
    """

    def __init__(self, source: RowSource, rows: int, time: int, padding: int | None = None) -> None:
        self.source = source
        self.rows = rows
        self.time = time
        self.padding = padding

    def state_dict(self) -> dict[str, Any]:
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.source.load_state_dict(state)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            yield self.assemble(self.plan())

    def plan(self) -> Plan:
        """What the next batch is made of; the position is then behind it."""
        rows = self.source.take(self.rows)
        return Plan(rows, {f"epochs/{name}": round(count, 4) for name, count in self.source.epochs.items()})

    def assemble(self, plan: Plan) -> Batch:
        """Read a planned batch; any number of threads may do so at once."""
        if self.padding is None:
            return read_windows(plan, self.time)
        return read_packed(plan, self.time, self.padding)


def read_windows(plan: Plan, time: int) -> Batch:
    """A batch of rows of one sequence each: ``inputs`` and ``targets`` [rows, time]."""
    ids = np.empty((len(plan.rows), time + 1), np.int64)
    for row, (span,) in zip(ids, plan.rows, strict=True):
        span.tokens.copy(span.start, row)
    window = torch.from_numpy(ids)
    return Batch({"inputs": window[:, :-1], "targets": window[:, 1:]}, len(ids) * time, plan.metrics)


def read_packed(plan: Plan, time: int, padding: int) -> Batch:
    """A batch of packed rows.

    Beside ``inputs`` and ``targets`` it holds ``positions``, which count within each sequence, and ``segments``, the
    number of each token's sequence in its row, -1 for padding; all [rows, time]. ``padding`` among the metrics is the
    share of the tokens that only fill.
    """
    shape = (len(plan.rows), time)
    inputs, targets = np.full(shape, padding), np.full(shape, IGNORED)
    positions, segments = np.zeros(shape, np.int64), np.full(shape, -1)
    ids, count = np.empty(time + 1, np.int64), np.arange(time)
    for row, spans in enumerate(plan.rows):
        end = 0
        for segment, (tokens, start, length) in enumerate(spans):
            tokens.copy(start, ids[: length + 1])
            place = slice(end, end := end + length)
            inputs[row, place] = ids[:length]
            targets[row, place] = ids[1 : length + 1]
            positions[row, place] = count[:length]
            segments[row, place] = segment
        assert end <= time, "the planner must not overfill a row"
    arrays = {"inputs": inputs, "targets": targets, "positions": positions, "segments": segments}
    tensors = {name: torch.from_numpy(array) for name, array in arrays.items()}
    weight = sum(span.length for spans in plan.rows for span in spans)
    return Batch(tensors, weight, {**plan.metrics, "padding": 1 - weight / inputs.size})
