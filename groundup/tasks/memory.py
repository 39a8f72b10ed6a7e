"""Remembering what was said earlier: a fact, one or two turns about something else, then the question.

The content is the fact (what kind of thing, and its value); the turns between are problems of the same split.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from groundup.tasks.arithmetic import ARITHMETIC
from groundup.tasks.conversation import Message
from groundup.tasks.fallback import COLOURS
from groundup.tasks.letters import LETTERS, SPELLING
from groundup.tasks.lists import COMPARISON, LIST_WORDS, SORTING
from groundup.tasks.material import Material
from groundup.tasks.problem import Content, ContentSplit, Family, Wordings, split_of

#: What is talked about between telling and asking; all short.
BETWEEN = (ARITHMETIC, SPELLING, LETTERS, SORTING, COMPARISON)
TWO_TURNS_SHARE = 0.1
#: Share of conversations that tell a second fact, which is not asked for.
DISTRACTOR_SHARE = 0.25


@dataclass(frozen=True)
class Fact:
    """Something that a user tells about themselves."""

    asked_as: str
    """Fits after "What is"."""
    told_as: Sequence[str]
    values: Callable[[Material], Sequence[str]]


FACTS: Mapping[str, Fact] = {
    "name": Fact(
        "my name",
        ("My name is {value}.", "I am called {value}.", "Hello, my name is {value}.", "People call me {value}."),
        lambda material: material.names,
    ),
    "friend": Fact(
        "the name of my friend",
        ("My friend is called {value}.", "I have a friend. The name of my friend is {value}."),
        lambda material: material.names,
    ),
    "word": Fact(
        "the secret word",
        ('The secret word is "{value}".', 'Remember the secret word: "{value}".', 'My secret word is "{value}".'),
        lambda material: material.words[:LIST_WORDS],
    ),
    "number": Fact(
        "my number",
        ("My number is {value}.", "Remember my number: it is {value}.", "I have the number {value}."),
        lambda material: [str(number) for number in range(100)],
    ),
    "colour": Fact(
        "the colour that I like",
        ("I like the colour {value}.", "The colour that I like is {value}."),
        lambda material: COLOURS,
    ),
    "thing": Fact(
        "the thing that I lost",
        ("I lost my {value}.", "Today I lost my {value}.", "The thing that I lost is my {value}."),
        lambda material: material.things,
    ),
}

ACKNOWLEDGEMENTS = ("I will remember that.", "Thank you, I will remember it.", "Very well.", "Good to know.")
GREETINGS = ("Hello, {value}.", "Nice to meet you, {value}.", "I will remember that, {value}.", "Very well, {value}.")

WORDINGS = Wordings(
    seen=(
        "What is {thing}?",
        "What was {thing}?",
        "Tell me {thing}.",
        "Do you remember {thing}?",
        "I told you {thing}. What is it?",
        "Now tell me {thing}.",
        "What did I say? What is {thing}?",
        "Please say {thing}.",
        "I forgot {thing}. What is it?",
        "Do you still know {thing}?",
        "Say {thing} again.",
    ),
    held_out=(
        "Please tell me {thing} again.",
        "Do you still remember {thing}?",
        "Now say {thing}.",
        "I forgot {thing}. Do you know it?",
    ),
)


def _value(rng: random.Random, kind: str, material: Material) -> str:
    """A value for this kind of fact."""
    return rng.choice(FACTS[kind].values(material))


def _told(rng: random.Random, facts: Mapping[str, str]) -> list[Message]:
    """The turn that tells the facts (kind to value; a name comes first, as people do) and its acknowledgement."""
    kinds = sorted(facts, key=lambda kind: (kind != "name", rng.random()))
    told = " ".join(rng.choice(FACTS[kind].told_as).format(value=facts[kind]) for kind in kinds)
    answers = GREETINGS if "name" in facts else ACKNOWLEDGEMENTS
    return [Message("user", told), Message("assistant", rng.choice(answers).format(value=facts.get("name")))]


def _draw(rng: random.Random, material: Material, owner: ContentSplit) -> Content | None:
    kind, other = rng.sample(list(FACTS), 2)
    facts = {kind: _value(rng, kind, material)}
    key = ("memory", kind, facts[kind])
    if split_of(key) != owner:  # told early, to spare the turns between
        return None
    if rng.random() < DISTRACTOR_SHARE:
        facts[other] = _value(rng, other, material)
    history = _told(rng, facts)
    for _ in range(2 if rng.random() < TWO_TURNS_SHARE else 1):
        between = rng.choice(BETWEEN).problem(material, owner, seed=rng.getrandbits(32), index=0)
        history += between.conversation.messages
    return Content(
        kind="recall",
        key=key,
        slots={"thing": FACTS[kind].asked_as},
        answer=facts[kind],
        chance=1 / len(FACTS[kind].values(material)),
        history=tuple(history),
    )


MEMORY = Family("memory", _draw, {"recall": WORDINGS})
