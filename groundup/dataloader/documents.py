"""Tokens → rows of whole documents: few are cut, none is dropped, and none sees another.

A document longer than a row is cut into pieces, each as long as a row but the last. The pieces of all documents are
shuffled together and packed a block at a time, so that a row is a function of the seed and the position alone.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import DataError
from groundup.core.seeding import numpy_rng
from groundup.dataloader.packing import best_fit_decreasing
from groundup.dataloader.permutation import Permutation
from groundup.dataloader.rows import Row, Span
from groundup.dataloader.shards import Ids, Tokens

#: Pieces that are packed together: of so many, the last few rows, which nothing is left to fill, hardly count.
BLOCK = 4096
#: The number of pieces is kept for every so many documents, and counted again in between.
STRIDE = 64
#: Documents whose pieces are counted at once.
COUNTED = 2**20


class PackedDocuments:
    """Rows of up to ``time`` tokens, filled with documents by best-fit decreasing.

    Each document is predicted from its document token to its end, which is predicted as a document token. Every epoch
    shuffles and packs anew.
    """

    def __init__(self, tokens: Tokens | Ids, time: int, seed: int, name: str = "train", block: int = BLOCK) -> None:
        self.tokens = Tokens.of(tokens)
        if not len(self.tokens):
            raise DataError(f"{name} has no tokens; give more text")
        self.seed = seed
        self.name = name
        self.pieces = Pieces(self.tokens, time)
        self._blocks = -(-len(self.pieces) // block)
        self._place = (0, 0, 0)  # epoch, block and row: the next to be taken
        self._order: tuple[int, Permutation] = (-1, Permutation(1, 0))
        self._packed, self._packed_place = _Packed([], [], []), (-1, -1)

    @property
    def epochs(self) -> Mapping[str, float]:
        """How often all documents were taken."""
        epoch, block, row = self._place
        first, last = self._bounds(block)
        done = first + (last - first) * (row / len(self._block(epoch, block).rows) if row else 0.0)
        return {self.name: epoch + done / len(self.pieces)}

    def state_dict(self) -> dict[str, Any]:
        return dict(zip(("epoch", "block", "row"), self._place, strict=True))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._place = (int(state["epoch"]), int(state["block"]), int(state["row"]))

    def take(self, count: int) -> list[Row]:
        """The next ``count`` rows."""
        taken: list[Row] = []
        while len(taken) < count:
            epoch, block, row = self._place
            packed = self._block(epoch, block)
            part = packed.rows[row : row + count - len(taken)]
            taken += [[Span(self.tokens, packed.starts[n], packed.lengths[n]) for n in pieces] for pieces in part]
            if row + len(part) < len(packed.rows):
                self._place = (epoch, block, row + len(part))
            else:
                self._place = (epoch, block + 1, 0) if block + 1 < self._blocks else (epoch + 1, 0, 0)
        return taken

    def _bounds(self, block: int) -> tuple[int, int]:
        """The places in an epoch's order whose pieces the block packs."""
        return block * len(self.pieces) // self._blocks, (block + 1) * len(self.pieces) // self._blocks

    def _block(self, epoch: int, block: int) -> "_Packed":
        """A block, packed; its rows in random order, for packing makes those with the longest pieces first."""
        if self._packed_place != (epoch, block):
            if self._order[0] != epoch:
                self._order = (epoch, Permutation(len(self.pieces), self.seed, "order", epoch))
            starts, lengths = self.pieces.spans(self._order[1](np.arange(*self._bounds(block))))
            rows = best_fit_decreasing(lengths.tolist(), self.pieces.time)
            order = numpy_rng(self.seed, "rows", epoch, block).permutation(len(rows)).tolist()
            self._packed = _Packed(starts.tolist(), lengths.tolist(), [rows[row] for row in order])
            self._packed_place = (epoch, block)
        return self._packed


class _Packed(NamedTuple):
    """Pieces, and the numbers of those in each row."""

    starts: list[int]
    lengths: list[int]
    rows: list[list[int]]


class Pieces:
    """The documents of ``tokens`` cut into pieces of at most ``time`` tokens, by number.

    Little is kept in memory, eight bytes for every ``STRIDE`` documents.
    """

    def __init__(self, tokens: Tokens, time: int) -> None:
        self.time = time
        self._tokens = tokens
        self._count = len(tokens.documents)
        counted = [np.zeros(1, np.int64)]
        for first in range(0, self._count, COUNTED):
            bounds = tokens.begins(np.arange(first, min(first + COUNTED, self._count) + 1))
            counts = self._counts(bounds)
            counted.append(np.add.reduceat(counts, np.arange(0, len(counts), STRIDE)))
        self._before = np.cumsum(np.concatenate(counted))  # pieces before every STRIDE-th document, and in all

    def __len__(self) -> int:
        return int(self._before[-1])

    def _counts(self, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
        """Pieces of each of the documents between ``bounds``, along the last axis."""
        return -(-np.diff(bounds) // self.time)

    def spans(self, numbers: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the pieces ``numbers`` begin in the line of all tokens, and how long they are."""
        strides, which = np.unique(np.searchsorted(self._before, numbers, "right") - 1, return_inverse=True)
        documents = np.minimum(strides[:, None] * STRIDE + np.arange(STRIDE + 1), self._count)
        bounds = self._tokens.begins(documents.ravel()).reshape(documents.shape)
        counts = self._counts(bounds)
        after = self._before[strides, None] + counts.cumsum(axis=1)
        document = (after[which] <= numbers[:, None]).sum(axis=1)
        begins, ends = bounds[which, document], bounds[which, document + 1]
        starts = begins + (numbers - (after - counts)[which, document]) * self.time
        return starts, np.minimum(self.time, ends - starts)
