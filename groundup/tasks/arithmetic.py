"""Addition of a number below 100 and one below 10, and the subtractions that undo it.

The content is the fact a + b = c: the sum either way round and the two subtractions that undo it belong to the same
split, so a held-out sum has never been seen in any form.
"""

import random

from groundup.tasks.material import Material
from groundup.tasks.problem import Content, ContentSplit, Family, Wordings

#: The smaller summand has one digit: the table of digits and the carry can be learned from other sums.
LARGEST, SMALL = 99, 9
#: A little more than the share of the most frequent result.
CHANCE = 0.05

WORDINGS = {
    "add": Wordings(
        seen=(
            "What is {a} + {b}?",
            "{a} + {b} =",
            "Add {a} and {b}.",
            "What is {a} plus {b}?",
            "How much is {a} plus {b}?",
            "Tell me the sum of {a} and {b}.",
            "What do you get when you add {b} to {a}?",
            "Please work out {a} + {b}.",
            "I have {a} apples and find {b} more. How many apples do I have now?",
        ),
        held_out=(
            "How much is {a} + {b}?",
            "What is the sum of {a} and {b}?",
            "Please add {b} to {a}.",
        ),
    ),
    "subtract": Wordings(
        seen=(
            "What is {a} - {b}?",
            "{a} - {b} =",
            "Subtract {b} from {a}.",
            "What is {a} minus {b}?",
            "How much is {a} minus {b}?",
            "What do you get when you take {b} away from {a}?",
            "Please work out {a} - {b}.",
            "I have {a} apples and give away {b}. How many apples do I have now?",
        ),
        held_out=(
            "How much is {a} - {b}?",
            "Please subtract {b} from {a}.",
            "Take {b} away from {a}. How much is that?",
        ),
    ),
}


def _draw(rng: random.Random, material: Material, owner: ContentSplit) -> Content:
    small = rng.randint(0, SMALL)
    large = rng.randint(0, LARGEST - small)
    a, b = rng.choice(((large, small), (small, large)))
    key = ("sum", str(min(a, b)), str(max(a, b)))
    if rng.random() < 0.5:
        return Content("subtract", key, {"a": str(a + b), "b": str(b)}, str(a), CHANCE)
    return Content("add", key, {"a": str(a), "b": str(b)}, str(a + b), CHANCE)


ARITHMETIC = Family("arithmetic", _draw, WORDINGS)
