"""Several sources of rows → one, in given proportions."""

from collections.abc import Mapping, Sequence
from fractions import Fraction
from math import lcm
from typing import Any

from groundup.core.errors import ArtifactError, UsageError
from groundup.dataloader.rows import Row, RowSource


class Quota:
    """Deals numbered turns to takers in proportion to their weights.

    After any number of turns each has had its exact share but for less than one turn: of those who stay below it with
    one turn more, the one takes the turn whose next one would be due first (Balinski & Young 1975, "The quota method of
    apportionment").
    """

    def __init__(self, weights: Sequence[Fraction]) -> None:
        if not weights or min(weights) <= 0:
            raise UsageError("the weights of a mixture must be above 0")
        self.taken = [0] * len(weights)
        common = lcm(*(weight.denominator for weight in weights))
        self._shares = [int(weight * common) for weight in weights]
        self._whole = sum(self._shares)
        least = lcm(*self._shares)
        self._periods = [least // share for share in self._shares]

    def turn(self) -> int:
        """Who takes the next turn."""
        turns = sum(self.taken) + 1
        _, taker = min(
            ((taken + 1) * period, number)
            for number, (taken, share, period) in enumerate(zip(self.taken, self._shares, self._periods, strict=True))
            if taken * self._whole < share * turns
        )
        self.taken[taker] += 1
        return taker


class Mixture:
    """Rows of several sources, as many of each as its weight says; a source that has been used up begins again.

    Args:
        parts: for each name a source and its weight, of which only the proportions count.
    """

    def __init__(self, parts: Mapping[str, tuple[RowSource, Fraction]]) -> None:
        self.sources = {name: source for name, (source, _) in parts.items()}
        self.weights = {name: weight for name, (_, weight) in parts.items()}
        self._quota = Quota(list(self.weights.values()))

    @property
    def epochs(self) -> Mapping[str, float]:
        """For each part, how often all of it was taken."""
        return {name: count for name, source in self.sources.items() for count in source.epochs.values()}

    def take(self, count: int) -> list[Row]:
        """The next ``count`` rows."""
        turns = [self._quota.turn() for _ in range(count)]
        rows = [iter(source.take(turns.count(number))) for number, source in enumerate(self.sources.values())]
        return [next(rows[number]) for number in turns]

    def state_dict(self) -> dict[str, Any]:
        return {
            "weights": {name: str(weight) for name, weight in self.weights.items()},
            "taken": dict(zip(self.sources, self._quota.taken, strict=True)),
            "sources": {name: source.state_dict() for name, source in self.sources.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        expected, found = self.state_dict()["weights"], state.get("weights")
        if found != expected:
            raise ArtifactError(f"the saved position is that of the mixture {found}, not {expected}; begin a new run")
        self._quota.taken = [int(state["taken"][name]) for name in self.sources]
        for name, source in self.sources.items():
            source.load_state_dict(state["sources"][name])
