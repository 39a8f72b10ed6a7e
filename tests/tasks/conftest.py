"""Material for the task tests: made from a generated corpus with verse, and from nothing."""

import random

import pytest

from groundup.tasks import Material
from groundup.tasks.fallback import COMMON_WORDS


def invented_verse(seed: int, lines: int) -> str:
    """Lines of four common words each, a blank line after every eighth."""
    rng = random.Random(seed)
    written = [" ".join(rng.sample(COMMON_WORDS, 4)).capitalize() + "," for _ in range(lines)]
    return "\n".join(line + ("\n" if number % 8 == 7 else "") for number, line in enumerate(written))


@pytest.fixture(scope="session", params=["verse", "nothing"])
def material(request: pytest.FixtureRequest) -> Material:
    """Both a corpus of verse and no corpus at all."""
    if request.param == "nothing":
        return Material.from_documents([], [])
    return Material.from_documents([invented_verse(seed, 800) for seed in (1, 2)], [invented_verse(3, 400)])
