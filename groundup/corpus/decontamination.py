"""Documents → documents without the problems that models are examined with.

A benchmark measures nothing once its questions stood in the training text. Here documents are searched for runs of
words (8 to 13, as in the reports on GPT-3, PaLM and Llama 2) that a benchmark's items contain, too. What words are says
``dedup.words``: case, punctuation and white space do not count.

A run is no evidence when it holds next to no letters ("1 2 3 4 5 …") or stands in many items of the benchmark itself
("which of the following is the best answer to"). Items of fewer than eight words cannot be told from chance.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import DataError, UsageError
from groundup.core.files import read_jsonl
from groundup.corpus.dedup.hashing import Hashes, run_hashes
from groundup.corpus.dedup.spans import without_spans
from groundup.corpus.dedup.words import located_words
from groundup.corpus.document import Document, Dropped
from groundup.tasks import Material, Problem, TaskMixture

SHORTEST, LONGEST = 8, 13
#: What the problems of our own tasks are called together.
OWN = "our own problems"
_ACTIONS = ("drop", "cut", "mark")
#: Our own families whose problems do not depend on the corpus. All others are made of its words once it is finished:
#: the evaluation searches the train documents for them.
OWN_FAMILIES = ("arithmetic",)
#: Problems of each that are drawn: of the one family nearly every content, in most of its wordings.
OWN_PROBLEMS = 2000


@dataclass(frozen=True)
class DecontaminationConfig:
    """Against which benchmarks, and what becomes of a document that holds an item."""

    benchmarks: tuple[Path, ...] = ()
    """Files with the benchmarks' texts: .txt, one item a line; .jsonl, an object with strings (question, answer, …) a
    line. None: the problems of our own that do not depend on the corpus."""
    ngram: int = 13
    """Words that a document must share in a row with an item; an item of fewer words, but at least 8, as a whole."""
    action: Literal["drop", "cut", "mark"] = "drop"
    """drop the document, cut the shared words out of it, or mark it with the fact "contaminated"."""
    min_letters: int = 20
    """A run of words with fewer letters is no evidence."""
    max_items: int = 5
    """A run of words that more items of the benchmarks contain is no evidence."""

    def __post_init__(self) -> None:
        if not SHORTEST <= self.ngram <= LONGEST:
            raise UsageError(f"corpus.decontamination.ngram is {self.ngram}; it must be from {SHORTEST} to {LONGEST}")
        if self.action not in _ACTIONS:
            raise UsageError(f"corpus.decontamination.action is {self.action!r}; use drop, cut or mark")
        for name, least in (("min_letters", 0), ("max_items", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"corpus.decontamination.{name} is {getattr(self, name)}; it must be at least {least}")


@dataclass(frozen=True)
class Item:
    """One problem of a benchmark: its name ("gsm8k 17") and everything that gives it away. Items of one name are one
    problem in several wordings."""

    name: str
    text: str


def items_of(name: str, texts: Iterable[str]) -> Iterator[Item]:
    """Items of a benchmark whose texts are at hand, such as the problems of a task: ``name 0``, ``name 1`` …"""
    return (Item(f"{name} {number}", text) for number, text in enumerate(texts))


def items_of_problems(problems: Iterable[Problem]) -> Iterator[Item]:
    """The questions of our own problems, and their contents without the words of the question."""
    for problem in problems:
        yield Item(name_of(problem), "\n".join(message.content for message in problem.conversation.prompt.messages))
        yield Item(name_of(problem), "\n".join(problem.key[1:]))


def name_of(problem: Problem) -> str:
    """The item that a problem belongs to: one for all wordings of its content."""
    return " / ".join(problem.key)


def benchmark_of(item: str) -> str:
    """The benchmark that an item is of, by its name: that of a file, or ``OWN``."""
    return OWN if " / " in item else item.rpartition(" ")[0]


def own_items() -> Iterator[Item]:
    """The test problems of ``OWN_FAMILIES``, in seen and in held-out wordings."""
    nothing = Material.from_documents(())
    for family in OWN_FAMILIES:
        for split in ("test", "test-wordings"):
            task = TaskMixture(split, 0, nothing, {family: 1.0}, size=OWN_PROBLEMS)
            yield from items_of_problems(map(task.problem, range(len(task))))


def read_items(path: Path) -> Iterator[Item]:
    """The items of a file, named after it.

    Raises:
        UsageError: no such file, or not of a kind that is read here.
        ArtifactError: a line that is not JSON.
        DataError: a line without any text.
    """
    if not path.is_file():
        raise UsageError(f"corpus.decontamination.benchmarks: {path} is no file")
    if path.suffix == ".txt":
        with path.open(encoding="utf-8", errors="replace") as lines:
            yield from items_of(path.stem, (line.strip() for line in lines))
    elif path.suffix == ".jsonl":
        yield from items_of(
            path.stem, (_text_of(row, path, line) for line, row in enumerate(read_jsonl(path), start=1))
        )
    else:
        raise UsageError(f"corpus.decontamination.benchmarks: {path.name} is neither .txt nor .jsonl")


def _text_of(row: Any, path: Path, line: int) -> str:
    """All strings of a JSON value, in order."""
    if text := "\n".join(_strings(row)):
        return text
    raise DataError(f"{path} line {line} has no text; every line must be an object with strings")


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _strings(each)
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


# --- the index --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """Words that a document shares with an item of a benchmark."""

    start: int
    stop: int
    """Characters of the document, from the first shared word to behind the last one."""
    item: str


@dataclass(frozen=True)
class BenchmarkIndex:
    """What is searched for: the runs of words of all items."""

    names: tuple[str, ...]
    runs: Mapping[int, "RunSet"] = field(repr=False)
    """Words in a run → runs of that length."""
    min_letters: int

    @classmethod
    def of(cls, items: Iterable[Item], config: DecontaminationConfig) -> "BenchmarkIndex":
        """Index the items; those of fewer than eight words are left out, since they prove nothing."""
        numbers: dict[str, int] = {}
        found: defaultdict[int, list[tuple[Hashes, int]]] = defaultdict(list)
        for item in items:
            number = numbers.setdefault(item.name, len(numbers))
            words, _, _ = located_words(item.text)
            length = min(config.ngram, len(words))
            if length >= SHORTEST:
                found[length].append((run_hashes(words, length), number))
        return cls(
            tuple(numbers),
            {n: RunSet.of(rows, config.max_items) for n, rows in sorted(found.items())},
            config.min_letters,
        )

    def overlaps(self, text: str) -> list[Overlap]:
        """Where the text shares words with an item, in order; runs that touch and name one item are joined."""
        words, starts, ends = located_words(text)
        hits: list[tuple[int, int, int]] = []  # item, first word, the word behind the last
        for length, runs in self.runs.items():
            for place, item in runs.find(run_hashes(words, length)):
                if self._is_evidence(text[int(starts[place]) : int(ends[place + length - 1])]):
                    hits.append((item, place, place + length))
        overlaps = [
            Overlap(int(starts[first]), int(ends[last - 1]), self.names[item]) for item, first, last in _merged(hits)
        ]
        return sorted(overlaps, key=lambda overlap: (overlap.start, overlap.stop))

    def _is_evidence(self, passage: str) -> bool:
        return sum(map(str.isalpha, passage)) >= self.min_letters


@dataclass(frozen=True)
class RunSet:
    """Hashes of runs of words, each with the items that contain it; 28 bytes or less a run."""

    hashes: Hashes
    """Sorted; once for every item."""
    items: NDArray[np.uint32]
    """Number of the item, for each hash."""
    maybe: NDArray[np.bool_]
    """Whether any hash begins with these bits, which spares most runs of a document the search; of length 2ⁿ."""

    @classmethod
    def of(cls, rows: list[tuple[Hashes, int]], max_items: int) -> "RunSet":
        """The runs of all items, given as (hashes, number of the item), but for those of more than ``max_items``."""
        hashes = np.concatenate([keys for keys, _ in rows])
        items = np.repeat(np.array([item for _, item in rows], dtype=np.uint32), [len(keys) for keys, _ in rows])
        order = np.lexsort((items, hashes))
        hashes, items = hashes[order], items[order]
        once = np.r_[True, (hashes[1:] != hashes[:-1]) | (items[1:] != items[:-1])][: len(hashes)]
        hashes, items = hashes[once], items[once]
        _, places, counts = np.unique(hashes, return_inverse=True, return_counts=True)
        rare = counts[places] <= max_items
        hashes, items = hashes[rare], items[rare]
        maybe = np.zeros(1 << max(16, (8 * len(hashes)).bit_length()), dtype=bool)
        maybe[_first_bits(hashes, len(maybe))] = True
        return cls(hashes, items, maybe)

    def places(self, runs: Hashes) -> NDArray[np.int64]:
        """Where in ``hashes`` those of ``runs`` stand that are in the set."""
        likely = runs[self.maybe[_first_bits(runs, len(self.maybe))]]
        places = np.minimum(np.searchsorted(self.hashes, likely), len(self.hashes) - 1)
        return places[self.hashes[places] == likely]

    def find(self, runs: Hashes) -> Iterator[tuple[int, int]]:
        """(place in ``runs``, item) of those that are in the set."""
        likely = np.flatnonzero(self.maybe[_first_bits(runs, len(self.maybe))])
        firsts = np.searchsorted(self.hashes, runs[likely], side="left")
        lasts = np.searchsorted(self.hashes, runs[likely], side="right")
        for place, first, last in zip(likely.tolist(), firsts.tolist(), lasts.tolist(), strict=True):
            for item in self.items[first:last].tolist():
                yield place, item


def _first_bits(hashes: Hashes, size: int) -> NDArray[np.int64]:
    """The highest bits of each hash, as an index into ``size`` places."""
    return (hashes >> np.uint64(65 - size.bit_length())).astype(np.int64)


def _merged(hits: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Hits in order, joined where they overlap or touch in the same item."""
    merged: list[tuple[int, int, int]] = []
    for item, first, last in sorted(hits):
        if merged and merged[-1][0] == item and first <= merged[-1][2]:
            merged[-1] = (item, merged[-1][1], max(last, merged[-1][2]))
        else:
            merged.append((item, first, last))
    return merged


# --- the step ---------------------------------------------------------------------------------------------------------


class Decontamination:
    """The step; without benchmarks it searches for the problems of our own that do not depend on the corpus."""

    name = "decontamination"

    def __init__(self, config: DecontaminationConfig, items: Iterable[Item] = ()) -> None:
        """``items`` are added to those of the files that the configuration names."""
        self.config = config
        self._items = tuple(items)

    @cached_property
    def index(self) -> BenchmarkIndex:
        """What is searched for.

        Raises:
            UsageError: nothing to search for.
        """
        index = BenchmarkIndex.of(self._all_items(), self.config)
        if not index.runs:
            raise UsageError(
                f"corpus.decontamination.benchmarks has no item of at least {SHORTEST} words; name a file of texts"
            )
        return index

    def __call__(self, document: Document) -> Document | Dropped:
        overlaps = self.index.overlaps(document.text)
        if not overlaps:
            return document
        if self.config.action == "mark":
            items = ", ".join(dict.fromkeys(overlap.item for overlap in overlaps))
            return replace(document, facts={**document.facts, "contaminated": items})
        if self.config.action == "cut":
            text = without_spans(document.text, [(overlap.start, overlap.stop) for overlap in overlaps])
            if text:
                measures = {**document.measures, "contaminated.cut": float(len(overlaps))}
                return replace(document, text=text, measures=measures)
        first = overlaps[0]
        passage = " ".join(document.text[first.start : first.stop].split())
        return Dropped.of(document, "contaminated", f"{first.item}: {passage[:120]!r}")

    def _all_items(self) -> Iterator[Item]:
        for path in self.config.benchmarks:
            yield from read_items(path)
        yield from self._items
        if not self.config.benchmarks and not self._items:
            yield from own_items()
