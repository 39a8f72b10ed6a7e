"""Problems whose answer stands in the question: looking a fact up, and finishing a line of verse.

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
        'Here are some lines:\n{lines}\nFinish the line "{start}".',
        'Read these lines:\n{lines}\nHow does "{start}" go on?',
        '{lines}\nFinish the line that begins with "{start}".',
        '{lines}\nHow does the line "{start}" end?',
        'Read this:\n{lines}\nWhat comes after "{start}"?',
        'Here are three lines:\n{lines}\nGo on after "{start}".',
        'Listen:\n{lines}\nNow finish "{start}".',
        '{lines}\nWhat comes next after "{start}"?',
        '{lines}\nTell me how "{start}" goes on.',
        '{lines}\nPlease go on: "{start}"',
        'Listen to these lines:\n{lines}\nSay what comes after "{start}".',
    ),
    held_out=(
        'Here are three lines:\n{lines}\nHow does "{start}" go on?',
        '{lines}\nFinish the line "{start}".',
        'Listen:\n{lines}\nWhat comes next after "{start}"?',
        'Read these lines:\n{lines}\nNow go on after "{start}".',
    ),
)


def _draw_lookup(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    count = 3
    names, things = rng.sample(material.names, count), rng.sample(material.things, count)
    verbs, verb = rng.choice(VERBS)
    facts = [f"{name} {verbs} the {thing}." for name, thing in zip(names, things, strict=True)]
    asked = rng.randrange(count)
    slots = {"facts": " ".join(facts), "verbs": verbs, "verb": verb, "name": names[asked], "thing": things[asked]}
    kind, answer = rng.choice((("who", names[asked]), ("what", f"the {things[asked]}")))
    return Content(kind, ("facts", *sorted(facts)), slots, answer, chance=1 / count)


def _draw_verse(rng: random.Random, material: Material, owner: ContentSplit) -> Content | None:
    passages = {
        "train": material.train_verses,
        "validation": material.validation_verses,
        "test": material.test_verses,
    }
    lines = rng.choice(passages[owner])
    words = rng.choice(lines).split()
    given = rng.randint(2, max(2, min(3, len(words) - 1)))
    # The end loses its final punctuation, which is no part of the question.
    slots = {"lines": "\n".join(lines), "start": " ".join(words[:given])}
    answer = " ".join(words[given:]).rstrip(" ,;:.!?-")
    if not answer or sum(line.startswith(slots["start"]) for line in lines) > 1:
        return None
    # The end of any of the lines could follow.
    return Content("next", ("verse", *lines), slots, answer, chance=1 / len(lines), owner=owner)


LOOKUP = Family("lookup", _draw_lookup, LOOKUP_WORDINGS)
VERSE = Family("verse", _draw_verse, {"next": VERSE_WORDINGS})
