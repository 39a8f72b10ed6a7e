"""A weighted mixture of task families: what SFT, preference pairs, rewards and evaluation draw from."""

import bisect
import difflib
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import get_args

from groundup.core.errors import UsageError
from groundup.core.seeding import python_rng
from groundup.tasks.arithmetic import ARITHMETIC
from groundup.tasks.chitchat import OPENINGS, chitchat, exchange
from groundup.tasks.conversation import Conversation, Message
from groundup.tasks.letters import COUNTING, LETTERS, SPELLING
from groundup.tasks.lists import COMPARISON, COPYING, REVERSING, SORTING
from groundup.tasks.material import Material
from groundup.tasks.memory import BETWEEN, MEMORY
from groundup.tasks.problem import Family, Grade, Problem, Split, grade, owner_of, reward
from groundup.tasks.reading import LOOKUP, VERSE

#: Every scored family, by name.
FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        ARITHMETIC,
        SPELLING,
        COUNTING,
        LETTERS,
        SORTING,
        COPYING,
        REVERSING,
        COMPARISON,
        LOOKUP,
        VERSE,
        MEMORY,
    )
}

#: How often training meets each family: what is learned slowly comes more often, what is learned at once less.
TRAINING_WEIGHTS: dict[str, float] = {
    **dict.fromkeys(FAMILIES, 1.0),
    "arithmetic": 4.0,
    "verse": 3.0,
    "sorting": 1.5,
    "spelling": 2.0,
}

#: Fraction of the golden ratio: its multiples fill the unit interval most evenly.
GOLDEN = (5**0.5 - 1) / 2


def _evenly() -> dict[str, float]:
    return dict.fromkeys(FAMILIES, 1.0)


@dataclass(frozen=True)
class TaskMixture:
    """A :class:`~groundup.tasks.problem.Task` over several families; every method is a pure function of the index."""

    split: Split
    seed: int
    material: Material
    families: Mapping[str, float] = field(default_factory=_evenly)
    """Weight of each family; those not named do not occur."""
    size: int = 100_000
    """Number of problems; the generators themselves have no end."""
    chitchat: float = 0.0
    """Share of small talk, which is not scored: for SFT only."""
    multi_turn: float = 0.0
    """Share of problems that come after an unrelated exchange in the same conversation."""

    def __post_init__(self) -> None:
        if self.split not in get_args(Split):
            raise UsageError(f"split {self.split!r} is unknown; use one of {', '.join(get_args(Split))}")
        for name, weight in self.families.items():
            if name not in FAMILIES:
                near = difflib.get_close_matches(name, FAMILIES, n=1)
                hint = f"did you mean {near[0]!r}?" if near else f"use some of {', '.join(FAMILIES)}"
                raise UsageError(f"task family {name!r} is unknown; {hint}")
            if not 0 <= weight < float("inf"):
                raise UsageError(f"weight {weight} of task family {name!r} must be a number of at least 0")
        if sum(self.families.values()) <= 0:
            raise UsageError("a task mixture needs at least one family with a weight above 0")
        if self.size < 1:
            raise UsageError(f"size {self.size} of a task mixture must be at least 1")
        for label, share in (("chitchat", self.chitchat), ("multi_turn", self.multi_turn)):
            if not 0 <= share <= 1:
                raise UsageError(f"{label} share {share} of a task mixture must lie between 0 and 1")

    def __len__(self) -> int:
        return self.size

    def family(self, index: int) -> str:
        """Name of the family of problem ``index``.

        Families are interleaved so that any stretch of problems holds them nearly in proportion to their weights
        (a Kronecker sequence: Weyl, 1916).
        """
        if not 0 <= index < self.size:
            raise IndexError(f"problem {index} of {self.size}")
        names, cumulative = list(self.families), list(itertools.accumulate(self.families.values()))
        place = (index * GOLDEN + self._uniform("offset")) % 1.0
        return names[min(bisect.bisect_right(cumulative, place * cumulative[-1]), len(names) - 1)]

    def problem(self, index: int) -> Problem:
        """Problem ``index``."""
        family = FAMILIES[self.family(index)]
        if self._uniform("chitchat", index) < self.chitchat:
            return chitchat(self.seed, index)
        problem = family.problem(self.material, self.split, self.seed, index)
        if self._uniform("multi-turn", index) < self.multi_turn:
            return self._after_something_else(problem, index)
        return problem

    def conversation(self, index: int) -> Conversation:
        """Conversation of problem ``index``, which ends with the reference answer."""
        return self.problem(index).conversation

    def grade(self, index: int, answer: str) -> Grade:
        """What is right and wrong about ``answer`` to problem ``index``."""
        return grade(self.problem(index), answer)

    def reward(self, index: int, answer: str) -> float:
        """1.0 if ``answer`` solves problem ``index``, else 0.0."""
        return reward(self.problem(index), answer)

    def distinct(self, count: int) -> list[int]:
        """The first ``count`` indices whose questions differ; fewer if the mixture holds fewer.

        A test on repeated questions would claim a narrower interval than it has.
        """
        seen: set[Conversation] = set()
        indices: list[int] = []
        for index in range(self.size):
            if len(indices) == count:
                break
            prompt = self.conversation(index).prompt
            if prompt not in seen:
                seen.add(prompt)
                indices.append(index)
        return indices

    def _after_something_else(self, problem: Problem, index: int) -> Problem:
        """The same problem after small talk or a problem of the same split."""
        rng = python_rng(self.seed, "tasks", self.split, "before", index)
        if rng.random() < 0.3:
            before: tuple[Message, ...] = exchange(rng, rng.choice(OPENINGS))
        else:
            others = [family for family in BETWEEN if family.name != problem.family]
            other = rng.choice(others).problem(self.material, owner_of(self.split), rng.getrandbits(32), index)
            before = other.conversation.messages
        return replace(problem, conversation=Conversation((*before, *problem.conversation.messages)))

    def _uniform(self, *names: object) -> float:
        """A number in [0, 1) for these names."""
        return python_rng(self.seed, "tasks", self.split, *names).random()
