"""Problems whose answer stands in the question: looking a fact up, and going on with a verse.

The content of a lookup is its set of facts, whatever their order and the question; that of a verse is the passage.
"""

import itertools
import random
from collections.abc import Callable, Mapping, Sequence

from groundup.tasks.fallback import COLOURS
from groundup.tasks.material import Material
from groundup.tasks.problem import Content, ContentSplit, Family, Wordings

#: What a word of verse is freed of.
PUNCTUATION = " ,;:.!?-'’()"
#: What a card tells, and where the values come from.
ATTRIBUTES: Mapping[str, Callable[[Material], Sequence[str]]] = {
    "name": lambda material: material.names,
    "number": lambda material: [str(number) for number in range(100)],
    "colour": lambda material: COLOURS,
    "thing": lambda material: material.things,
}

LOOKUP_WORDINGS = Wordings(
    seen=(
        "{facts} What is the {asked}?",
        "{facts} Tell me the {asked}.",
        "What is the {asked}? {facts}",
        "Read this: {facts} What is the {asked}?",
        "Listen. {facts} Now tell me the {asked}.",
        "{facts} Do you know the {asked}?",
        "Here is what I know. {facts} What is the {asked}?",
        "Find the {asked}. {facts}",
        "{facts} Which {asked} do you read here?",
    ),
    held_out=(
        "Read this: {facts} Tell me the {asked}.",
        "Do you know the {asked}? {facts}",
        "Listen. {facts} What is the {asked}?",
    ),
)

VERSE_WORDINGS = Wordings(
    seen=(
        "Here are some lines:\n{lines}\nWhich word comes after the word {word}?",
        "Read these lines:\n{lines}\nHow do they go on after {word}?",
        "{lines}\nTell me the word after {word}.",
        "{lines}\nWhich word comes next after {word}?",
        "Read this:\n{lines}\nWhat comes after {word}?",
        "Here are two lines:\n{lines}\nGo on with one word after {word}.",
        "Listen:\n{lines}\nNow say the word that comes after {word}.",
        "{lines}\nWhat is the next word after {word}?",
        "{lines}\nSay how it goes on after {word}.",
        "{lines}\nPlease go on with one word: {word}",
        "Listen to these lines:\n{lines}\nSay what comes after {word}.",
    ),
    held_out=(
        "Here are two lines:\n{lines}\nWhich word comes after {word}?",
        "{lines}\nSay the next word after {word}.",
        "Listen:\n{lines}\nWhat comes next after the word {word}?",
        "Read these lines:\n{lines}\nNow go on with one word after {word}.",
    ),
)


def _draw_lookup(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    values = {kind: rng.choice(choices(material)) for kind, choices in ATTRIBUTES.items()}
    kinds = rng.sample(list(values), len(values))
    facts = [f"The {kind} is {values[kind]}." for kind in kinds]
    asked = rng.choice(kinds)
    slots = {"facts": " ".join(facts), "asked": asked}
    return Content("card", ("facts", *sorted(facts)), slots, values[asked], chance=1 / len(kinds))


def _draw_verse(rng: random.Random, material: Material, owner: ContentSplit) -> Content | None:
    passages = {
        "train": material.train_verses,
        "validation": material.validation_verses,
        "test": material.test_verses,
    }
    lines = rng.choice(passages[owner])
    words = [word.strip(PUNCTUATION) for line in lines for word in line.split()]
    ends = set(itertools.accumulate(len(line.split()) for line in lines))
    # A word that occurs once, is followed by another in its line, and is not joined to it by punctuation.
    raw = [word for line in lines for word in line.split()]
    fitting = [
        place
        for place, word in enumerate(words)
        if place + 1 not in ends and raw[place] == word and words[place + 1] and words.count(word) == 1
    ]
    if not fitting:
        return None
    place = rng.choice(fitting)
    slots = {"lines": "\n".join(lines), "word": words[place]}
    return Content("next", ("verse", *lines), slots, words[place + 1], chance=1 / len(words), owner=owner)


LOOKUP = Family("lookup", _draw_lookup, {"card": LOOKUP_WORDINGS})
VERSE = Family("verse", _draw_verse, {"next": VERSE_WORDINGS})
