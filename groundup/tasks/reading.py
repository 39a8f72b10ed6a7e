"""Problems whose answer stands in the question: looking a fact up, and finding the next line of a verse.

The content of a lookup is its set of facts, whatever their order and the question; that of a verse is the passage.
"""

import random

from groundup.tasks.material import Material
from groundup.tasks.problem import Content, ContentSplit, Family, Wordings

#: "Anna keeps the lamp." and "What does Anna keep?"
VERBS = (
    ("keeps", "keep"),
    ("has", "have"),
    ("holds", "hold"),
    ("wants", "want"),
    ("finds", "find"),
    ("brings", "bring"),
    ("sees", "see"),
    ("takes", "take"),
)

LOOKUP_WORDINGS = {
    "who": Wordings(
        seen=(
            "{facts} Who {verbs} the {thing}?",
            "{facts} Tell me who {verbs} the {thing}.",
            "Who {verbs} the {thing}? {facts}",
            "Read this: {facts} Who {verbs} the {thing}?",
            "Listen. {facts} Now tell me who {verbs} the {thing}.",
            "{facts} Do you know who {verbs} the {thing}?",
            "Here is what I know. {facts} Who {verbs} the {thing}?",
        ),
        held_out=(
            "Read this: {facts} Tell me who {verbs} the {thing}.",
            "Do you know who {verbs} the {thing}? {facts}",
            "Listen. {facts} Who {verbs} the {thing}?",
        ),
    ),
    "what": Wordings(
        seen=(
            "{facts} What does {name} {verb}?",
            "{facts} Tell me what {name} {verbs}.",
            "What does {name} {verb}? {facts}",
            "Read this: {facts} What does {name} {verb}?",
            "Listen. {facts} Now tell me what {name} {verbs}.",
            "{facts} Do you know what {name} {verbs}?",
            "Here is what I know. {facts} What does {name} {verb}?",
        ),
        held_out=(
            "Read this: {facts} Tell me what {name} {verbs}.",
            "Do you know what {name} {verbs}? {facts}",
            "Listen. {facts} What does {name} {verb}?",
        ),
    ),
}

VERSE_WORDINGS = Wordings(
    seen=(
        'Here are some lines:\n{lines}\nWhich line comes after "{line}"?',
        'Read these lines:\n{lines}\nWhat comes after "{line}"?',
        '{lines}\nWhich line comes after "{line}"?',
        '{lines}\nTell me the line after "{line}".',
        'Which line comes after "{line}"?\n{lines}',
        'Read this:\n{lines}\nWhat is the next line after "{line}"?',
        'Here are four lines:\n{lines}\nSay the line that comes after "{line}".',
        'Listen:\n{lines}\nNow go on after "{line}".',
        '{lines}\nI have read "{line}". What is the next line?',
        'Tell me the line after "{line}".\n{lines}',
        '{lines}\nGive me the line that comes next after "{line}".',
    ),
    held_out=(
        'Here are four lines:\n{lines}\nTell me the next line after "{line}".',
        '{lines}\nSay the line after "{line}".',
        'What comes after "{line}"?\n{lines}',
        'Listen:\n{lines}\nWhich line comes next after "{line}"?',
    ),
)


def _draw_lookup(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    count = rng.randint(3, 4)
    names, things = rng.sample(material.names, count), rng.sample(material.things, count)
    verbs, verb = rng.choice(VERBS)
    facts = [f"{name} {verbs} the {thing}." for name, thing in zip(names, things, strict=True)]
    asked = rng.randrange(count)
    slots = {"facts": " ".join(facts), "verbs": verbs, "verb": verb, "name": names[asked], "thing": things[asked]}
    kind, answer = rng.choice((("who", names[asked]), ("what", f"the {things[asked]}")))
    return Content(kind, ("facts", *sorted(facts)), slots, answer, chance=1 / count)


def _draw_verse(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    passages = {
        "train": material.train_verses,
        "validation": material.validation_verses,
        "test": material.test_verses,
    }
    lines = rng.choice(passages[owner])
    asked = rng.randrange(len(lines) - 1)
    # The quoted line loses its final punctuation, which would collide with that of the question.
    slots = {"lines": "\n".join(lines), "line": lines[asked].rstrip(" ,;:.!?-")}
    # Any other line could be the next one.
    return Content("next", ("verse", *lines), slots, lines[asked + 1], chance=1 / (len(lines) - 1), owner=owner)


LOOKUP = Family("lookup", _draw_lookup, LOOKUP_WORDINGS)
VERSE = Family("verse", _draw_verse, {"next": VERSE_WORDINGS})
