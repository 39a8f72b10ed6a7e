"""What a problem is, which split owns it, and how an answer to it is judged.

A problem is a pure function of (seed, split, family, index). Its *content* (the numbers, the word, the facts) and
its *wording* (how the question is put) are drawn apart, so that held-out content and held-out wordings can be
measured separately.
"""

import hashlib
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol

from groundup.core.errors import UsageError
from groundup.core.seeding import python_rng
from groundup.tasks.conversation import Conversation, Message
from groundup.tasks.material import Material

#: ``test`` asks held-out content in wordings seen in training; ``test-wordings`` asks the same content, index by
#: index, in wordings that never occur in any other split.
Split = Literal["train", "validation", "test", "test-wordings"]
#: The owner of a content. Contents are disjoint between these three.
ContentSplit = Literal["train", "validation", "test"]

#: Percent of all contents that validation owns, and test; train owns the rest.
VALIDATION_PERCENT = 10
TEST_PERCENT = 10
#: Draws before a split counts as empty; material always leaves every split of every family something.
MAX_DRAWS = 10_000


class Task(Protocol):
    """One definition serves SFT data, evaluation and reward."""

    def __len__(self) -> int: ...

    def conversation(self, index: int) -> Conversation:
        """The conversation of problem ``index``; its last message is the assistant's reference answer."""
        ...

    def reward(self, index: int, answer: str) -> float:
        """1.0 if ``answer`` solves problem ``index``, else 0.0."""
        ...


@dataclass(frozen=True)
class Problem:
    """A question with a checkable answer."""

    family: str
    """Name of the family, such as ``arithmetic``."""
    conversation: Conversation
    """Ends with the reference answer; ``conversation.prompt`` is what the model is given."""
    answer: str
    """The reference answer, short and canonical."""
    wording_id: str
    """``family/kind/number``, or ``family/kind/held-out-number``."""
    chance: float
    """Probability that a blind guess, uniform over the plausible answers, is right."""
    key: tuple[str, ...]
    """The content whatever the wording; equal contents have equal keys, also across families."""
    scored: bool = True
    """False for chit-chat, where many answers are right."""


@dataclass(frozen=True)
class Content:
    """A problem before it is put into words."""

    kind: str
    """Which group of the family's wordings asks it."""
    key: tuple[str, ...]
    slots: Mapping[str, str]
    """What fills the braces of the wording."""
    answer: str
    chance: float
    history: tuple[Message, ...] = ()
    """Earlier turns of the conversation."""
    owner: ContentSplit | None = None
    """The split, where the material is already divided by origin; otherwise the key decides."""


@dataclass(frozen=True)
class Wordings:
    """Ways to ask one kind of question, as templates for ``str.format``."""

    seen: tuple[str, ...]
    """For training, validation and ``test``."""
    held_out: tuple[str, ...]
    """Paraphrases for ``test-wordings`` only, made of words that the seen ones use."""


@dataclass(frozen=True)
class Family:
    """A kind of skill: how to draw contents, and how to word them."""

    name: str
    draw: Callable[[random.Random, Material, ContentSplit], Content | None]
    """None means that what was drawn will not do: draw again."""
    wordings: Mapping[str, Wordings]
    """By ``Content.kind``."""

    def problem(self, material: Material, split: Split, seed: int, index: int) -> Problem:
        """Problem ``index`` of ``split``: the same for the same arguments, now and ever."""
        owner = owner_of(split)
        content = self._content(python_rng(seed, "tasks", self.name, owner, index, "content"), material, owner)
        rng = python_rng(seed, "tasks", self.name, split, index, "wording")
        wordings = self.wordings[content.kind]
        templates, prefix = (wordings.held_out, "held-out-") if split == "test-wordings" else (wordings.seen, "")
        number = rng.randrange(len(templates))
        question = Message("user", templates[number].format(**content.slots))
        return Problem(
            family=self.name,
            conversation=Conversation((*content.history, question, Message("assistant", content.answer))),
            answer=content.answer,
            wording_id=f"{self.name}/{content.kind}/{prefix}{number}",
            chance=content.chance,
            key=content.key,
        )

    def _content(self, rng: random.Random, material: Material, owner: ContentSplit) -> Content:
        """Draw until the content belongs to ``owner``."""
        for _ in range(MAX_DRAWS):
            content = self.draw(rng, material, owner)
            if content is not None and (content.owner or split_of(content.key)) == owner:
                return content
        raise UsageError(f"no {self.name} problem for {owner} in {MAX_DRAWS} draws; use a larger corpus")


def owner_of(split: Split) -> ContentSplit:
    """Whose contents a split asks."""
    return "test" if split == "test-wordings" else split


def split_of(key: tuple[str, ...]) -> ContentSplit:
    """The split that owns a content, from the hash of its key alone: the same for every seed and wording."""
    digest = hashlib.sha256("\x1f".join(key).encode()).digest()
    percent = int.from_bytes(digest[:8], "little") % 100
    if percent < TEST_PERCENT:
        return "test"
    return "validation" if percent < TEST_PERCENT + VALIDATION_PERCENT else "train"


@dataclass(frozen=True)
class Grade:
    """What is right and wrong about an answer."""

    correct: bool
    """Equal to the reference, apart from case, outer space and final punctuation."""
    concise: bool
    """No more words than the reference."""
    contains: bool
    """The reference occurs in it as whole words; with ``correct`` false it is right but rambling, or a lucky list."""


def normalise(text: str) -> str:
    """Lower case, single spaces, no space outside and no punctuation at the end."""
    return " ".join(text.casefold().split()).rstrip(" .,;:!?")


def grade(problem: Problem, answer: str) -> Grade:
    """Judge ``answer``; only ``correct`` counts as reward, the rest orders wrong answers for preference pairs."""
    given, reference = normalise(answer), normalise(problem.answer)
    return Grade(
        correct=given == reference,
        concise=len(given.split()) <= len(reference.split()),
        contains=re.search(rf"(?<![\w-]){re.escape(reference)}(?![\w-])", given) is not None,
    )


def reward(problem: Problem, answer: str) -> float:
    """1.0 for a correct answer, else 0.0.

    Raises:
        UsageError: the problem is chit-chat, which has no single right answer.
    """
    if not problem.scored:
        raise UsageError("chit-chat has no right answer; give a TaskMixture with chitchat=0 where answers are scored")
    return float(grade(problem, answer).correct)
