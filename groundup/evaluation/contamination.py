"""What of the examination stood in the text that was trained on.

Train documents enter one at a time, with the problems that were asked and the held-out documents; which of these share
a run of words with a train document leaves. Both are searched by the same rule as the corpus's decontamination: 13
words in a row (Brown et al. 2020, GPT-3), case and punctuation aside; of a problem of fewer words, but at least eight,
all. Nothing is dropped here: scores are reported for both parts (as in Touvron et al. 2023, Llama 2).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.core.progress import track
from groundup.corpus import Document
from groundup.corpus.decontamination import (
    BenchmarkIndex,
    DecontaminationConfig,
    RunSet,
    benchmark_of,
    items_of_problems,
)
from groundup.corpus.dedup.hashing import Hashes, run_hashes
from groundup.corpus.dedup.words import located_words, word_hashes
from groundup.tasks import Problem


@dataclass(frozen=True)
class Leak:
    """Where an item stood."""

    documents: int
    """Train documents that hold it."""
    first: str
    """Id of the first of them."""


@dataclass(frozen=True)
class Shared:
    """Runs of words of the documents of a held-out side."""

    runs: NDArray[np.int64]
    """[documents]: how many each has."""
    shared: NDArray[np.int64]
    """[documents]: how many of them a train document has, too."""


@dataclass(frozen=True)
class Contamination:
    """What was found."""

    documents: int
    """Train documents that were searched."""
    problems: Mapping[str, Leak]
    """The items (``decontamination.name_of``) of the problems that stood in train documents."""
    held_out: Mapping[str, Shared]
    """Side → what its documents share."""
    marked: Mapping[str, Mapping[str, int]]
    """Benchmark → item → train documents, as the corpus marked them (``corpus.decontamination.action = "mark"``)."""


def search(
    train: Iterable[Document], problems: Iterable[Problem], held_out: Mapping[str, Sequence[str]]
) -> Contamination:
    """Go through the train documents once. Memory: one of them, and up to 40 bytes for each held-out word."""
    config = DecontaminationConfig()
    index = BenchmarkIndex.of(items_of_problems(problems), config)
    sides = {side: _Runs(texts, config) for side, texts in held_out.items()}
    leaks: dict[str, Leak] = {}
    marked: defaultdict[str, dict[str, int]] = defaultdict(dict)
    documents = 0
    for document in track(train, "contamination", unit="document"):
        documents += 1
        for item in {overlap.item for overlap in index.overlaps(document.text)}:
            before = leaks.get(item, Leak(0, document.id))
            leaks[item] = Leak(before.documents + 1, before.first)
        runs = run_hashes(word_hashes(document.text), config.ngram)
        for side in sides.values():
            side.mark(runs)
        for item in filter(None, document.facts.get("contaminated", "").split(", ")):
            counts = marked[benchmark_of(item)]
            counts[item] = counts.get(item, 0) + 1
    return Contamination(documents, leaks, {name: side.shared() for name, side in sides.items()}, dict(marked))


class _Runs:
    """The runs of words of a side, and which of them were met elsewhere."""

    def __init__(self, texts: Sequence[str], config: DecontaminationConfig) -> None:
        rows = [_telling_runs(text, config) for text in texts]
        self._counts = np.array([len(row) for row in rows], dtype=np.int64)
        hashes, self._places = np.unique(np.concatenate([np.empty(0, np.uint64), *rows]), return_inverse=True)
        self._set = RunSet.of([(hashes, 0)], max_items=1)
        self._met = np.zeros(len(hashes), dtype=bool)

    def mark(self, runs: Hashes) -> None:
        """These were met."""
        self._met[self._set.places(runs)] = True

    def shared(self) -> Shared:
        """How many of each document were met."""
        owners = np.repeat(np.arange(len(self._counts)), self._counts)
        met = np.bincount(owners[self._met[self._places]], minlength=len(self._counts))
        return Shared(self._counts, met)


def _telling_runs(text: str, config: DecontaminationConfig) -> Hashes:
    """The runs of a text that hold enough letters to be evidence."""
    words, starts, ends = located_words(text)
    runs = run_hashes(words, config.ngram)
    letters = np.zeros(len(text) + 1, dtype=np.int32)
    np.cumsum(np.fromiter(map(str.isalpha, text), bool, len(text)), out=letters[1:])
    held = letters[ends[config.ngram - 1 :]] - letters[starts[: len(runs)]]
    return runs[held >= config.min_letters]
