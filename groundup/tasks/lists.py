"""Problems about a short list of words or numbers: sorting, copying, reversing, comparing.

The content is the multiset of the items: a list sorted in training is not compared, copied or met in another
order in the test. Lists are written ``apple king tree`` in questions and answers alike, and are made of the corpus's
most frequent words: each is one token or two, so that the problem is about the list and not about its words.
"""

import math
import random
from collections.abc import Sequence

from groundup.tasks.material import Material
from groundup.tasks.problem import Content, ContentSplit, Family, Wordings

LARGEST_NUMBER = 99
#: How many of the corpus's words, from the most frequent on, occur in lists.
LIST_WORDS = 500
#: Share of word lists whose first letters differ, which makes their alphabetical order easier to see.
EASY_SHARE = 0.75

SORTING_WORDINGS = {
    "words": Wordings(
        seen=(
            "Put these words in alphabetical order: {items}.",
            "Sort these words: {items}.",
            "Sort alphabetically: {items}.",
            "Please sort these words from a to z: {items}.",
            "Which order do these words have in the alphabet? {items}",
            "{items}. Put them in alphabetical order.",
            "Write these words in the order of the alphabet: {items}.",
            "Say these words from a to z: {items}.",
        ),
        held_out=(
            "Please put these words in alphabetical order: {items}.",
            "Sort these words from a to z: {items}.",
            "{items}. Sort them alphabetically.",
        ),
    ),
    "numbers": Wordings(
        seen=(
            "Put these numbers in order: {items}.",
            "Sort these numbers: {items}.",
            "Sort from small to large: {items}.",
            "Please sort these numbers from small to large: {items}.",
            "Write these numbers in order, the smallest first: {items}.",
            "{items}. Put them in order, the smallest first.",
            "Say these numbers from the smallest to the largest: {items}.",
        ),
        held_out=(
            "Please put these numbers in order: {items}.",
            "Sort these numbers, the smallest first: {items}.",
            "{items}. Sort them from small to large.",
        ),
    ),
}

COPYING_WORDINGS = Wordings(
    seen=(
        "Repeat these words: {items}.",
        "Repeat after me: {items}.",
        "Say exactly this: {items}.",
        "Copy these words: {items}.",
        "Please repeat this list: {items}.",
        "Write the same words again: {items}.",
        "Copy this list exactly: {items}.",
        "Say these words again, in the same order: {items}.",
        "{items}. Repeat that.",
        "{items}. Please say that again.",
        "Say this after me, word for word: {items}.",
    ),
    held_out=(
        "Please copy these words: {items}.",
        "Say the same words again: {items}.",
        "Write exactly this: {items}.",
        "{items}. Repeat that word for word.",
    ),
)

REVERSING_WORDINGS = Wordings(
    seen=(
        "Say these words in reverse order: {items}.",
        "Reverse the order of these words: {items}.",
        "Put these words in reverse order: {items}.",
        "Write these words from last to first: {items}.",
        "Reverse this list: {items}.",
        "Please say this list from the last word to the first: {items}.",
        "Turn this list around: {items}.",
        "{items}. Say that in reverse order.",
        "{items}. Now turn the order around.",
        "Begin with the last word and end with the first: {items}.",
        "Repeat these words from the end to the beginning: {items}.",
    ),
    held_out=(
        "Please reverse the order of this list: {items}.",
        "Repeat these words in reverse order: {items}.",
        "Say these words from last to first: {items}.",
        "{items}. Turn that list around.",
    ),
)

COMPARISON_WORDINGS = {
    "number": Wordings(
        seen=(
            "Which number is the {most}: {options}?",
            "Which is the {most}: {options}?",
            "Tell me the {most} number: {options}.",
            "{options}: which is the {most}?",
            "Find the {most} of these numbers: {items}.",
            "Which of these numbers is the {most}? {items}",
        ),
        held_out=(
            "Tell me which is the {most}: {options}.",
            "{options}: which number is the {most}?",
            "Find the {most} number: {items}.",
        ),
    ),
    "length": Wordings(
        seen=(
            "Which word is the {most}: {options}?",
            "Which is the {most} word: {options}?",
            "Tell me the {most} word: {options}.",
            "{options}: which word is the {most}?",
            "Find the {most} of these words: {items}.",
            "Which of these words is the {most}? {items}",
        ),
        held_out=(
            "Tell me which word is the {most}: {options}.",
            "{options}: which is the {most} word?",
            "Find the {most} word: {items}.",
        ),
    ),
    "alphabet": Wordings(
        seen=(
            "Which word comes {most} in the alphabet: {options}?",
            "Which comes {most} in alphabetical order: {options}?",
            "Tell me which word comes {most} in the alphabet: {options}.",
            "{options}: which word comes {most} in alphabetical order?",
            "Which of these words comes {most} in the alphabet? {items}",
            "Find the word that comes {most} in the alphabet: {items}.",
        ),
        held_out=(
            "Tell me which comes {most} in the alphabet: {options}.",
            "{options}: which comes {most} in the alphabet?",
            "Which of these words comes {most} in alphabetical order? {items}",
        ),
    ),
}


def _words(rng: random.Random, material: Material, count: int) -> list[str]:
    """Different words; usually their first letters differ too."""
    easy = rng.random() < EASY_SHARE
    words: list[str] = []
    while len(words) < count:
        word = rng.choice(material.words[:LIST_WORDS])
        if word not in words and not (easy and word[0] in {other[0] for other in words}):
            words.append(word)
    return words


def _numbers(rng: random.Random, count: int) -> list[str]:
    """Different numbers, half of the lists below 20."""
    limit = rng.choice((20, LARGEST_NUMBER + 1))
    return [str(number) for number in rng.sample(range(limit), count)]


def _key(items: Sequence[str]) -> tuple[str, ...]:
    return ("list", *sorted(items))


def _listed(items: Sequence[str]) -> str:
    return " ".join(items)


def _order_chance(items: Sequence[str]) -> float:
    """One of all orders of the items."""
    return 1 / math.factorial(len(items))


def _draw_sorting(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    if rng.random() < 0.5:
        kind, items = "words", _words(rng, material, 3)
        ordered = sorted(items)
    else:
        kind, items = "numbers", _numbers(rng, rng.randint(3, 4))
        ordered = sorted(items, key=int)
    return Content(kind, _key(items), {"items": _listed(items)}, _listed(ordered), _order_chance(items))


def _draw_copying(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    items = _words(rng, material, rng.randint(3, 4))
    return Content("copy", _key(items), {"items": _listed(items)}, _listed(items), _order_chance(items))


def _draw_reversing(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    items = _words(rng, material, rng.randint(3, 4))
    return Content("reverse", _key(items), {"items": _listed(items)}, _listed(items[::-1]), _order_chance(items))


def _draw_comparison(rng: random.Random, material: Material, owner: ContentSplit) -> Content | None:
    """Three items of which one is the most: largest, smallest, longest, shortest, first or last."""
    kind = rng.choice(("number", "length", "alphabet"))
    if kind == "number":
        items = _numbers(rng, 3)
        most, answer = rng.choice((("largest", max(items, key=int)), ("smallest", min(items, key=int))))
    elif kind == "length":
        items = _words(rng, material, 3)
        if len({len(word) for word in items}) < len(items):  # a tie
            return None
        most, answer = rng.choice((("longest", max(items, key=len)), ("shortest", min(items, key=len))))
    else:
        items = _words(rng, material, 3)
        most, answer = rng.choice((("first", min(items)), ("last", max(items))))
    slots = {"most": most, "items": _listed(items), "options": f"{', '.join(items[:-1])} or {items[-1]}"}
    return Content(kind, _key(items), slots, answer, chance=1 / 3)


SORTING = Family("sorting", _draw_sorting, SORTING_WORDINGS)
COPYING = Family("copying", _draw_copying, {"copy": COPYING_WORDINGS})
REVERSING = Family("reversing", _draw_reversing, {"reverse": REVERSING_WORDINGS})
COMPARISON = Family("comparison", _draw_comparison, COMPARISON_WORDINGS)
