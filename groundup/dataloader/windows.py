"""Tokens → rows cut from the line of all tokens wherever a row ends, across the borders of documents."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from groundup.core.errors import DataError
from groundup.core.seeding import derive_seed
from groundup.dataloader.permutation import Permutation
from groundup.dataloader.rows import Row, RowBatches, Span
from groundup.dataloader.shards import Ids, Tokens

#: Places of an order that are looked up at once.
BLOCK = 4096


class Windows:
    """Windows of ``time`` tokens and their next tokens, each epoch in a new order and cut at a new phase.

    Every epoch shifts the cuts by a random phase, so that a token is not always seen at the same position, and visits
    the windows in a random permutation without replacement. The order does not depend on how the tokens are divided
    into shards.
    """

    def __init__(self, tokens: Tokens | Ids, time: int, seed: int, name: str = "train") -> None:
        self.tokens = Tokens.of(tokens)
        if len(self.tokens) < 2 * time + 1:
            raise DataError(
                f"{name} has {len(self.tokens)} tokens, fewer than two windows of {time}; "
                "give more text or lower model.context"
            )
        self.time = time
        self.seed = seed
        self.name = name
        self.position = 0  # windows already taken
        self._epoch, self._order, self._phase = -1, Permutation(1, 0), 0
        self._block, self._starts = (-1, -1), list[int]()

    @property
    def windows(self) -> int:
        """Windows in an epoch, whatever its phase."""
        return (len(self.tokens) - self.time - 1) // self.time

    @property
    def epochs(self) -> Mapping[str, float]:
        """How often all tokens were taken."""
        return {self.name: self.position / self.windows}

    def state_dict(self) -> dict[str, Any]:
        return {"position": self.position}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.position = int(state["position"])

    def take(self, count: int) -> list[Row]:
        """The next ``count`` windows."""
        numbers = range(self.position, self.position + count)
        self.position += count
        return [(Span(self.tokens, self._start(number), self.time),) for number in numbers]

    def _start(self, number: int) -> int:
        """Where window ``number`` since the beginning begins."""
        epoch, place = divmod(number, self.windows)
        block = (epoch, place // BLOCK)
        if block != self._block:
            self._look_up(*block)
        return self._starts[place % BLOCK]

    def _look_up(self, epoch: int, block: int) -> None:
        if epoch != self._epoch:
            self._epoch, self._order = epoch, Permutation(self.windows, self.seed, "order", epoch)
            self._phase = derive_seed(self.seed, "phase", epoch) % self.time
        places = np.arange(block * BLOCK, min((block + 1) * BLOCK, self.windows))
        self._block, self._starts = (epoch, block), (self._order(places) * self.time + self._phase).tolist()


class TokenSource(RowBatches):
    """Batches of windows: what a pretraining on one text eats unless it is told otherwise."""

    def __init__(self, tokens: Tokens | Ids, rows: int, time: int, seed: int) -> None:
        super().__init__(Windows(tokens, time, seed), rows, time)
