"""One pass over one shard: documents come from its files or the pass before, go through the steps, and are written.

A pipeline is cut where a step looks across documents, because every shard must be done before such a step can speak:

    read → clean → long enough ┊ exact duplicates → redaction ┊ near duplicates
    ───────── pass 0 ───────── ┊ ────────── pass 1 ────────── ┊ ─── pass 2 ────

The result of a shard in a pass is a folder that appears whole or not at all, a function of shard and plan alone:

    kept.jsonl        the documents that go on, in order         sizes.npy      their bytes
    dropped-NN.jsonl  what step NN of the pass dropped           account.json   what every step did
"""

import json
import math
import time
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Protocol, TextIO

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import GroundupError, StorageError
from groundup.core.files import atomic_folder, read_json
from groundup.corpus.dedup import CrossStep, Workspace
from groundup.corpus.document import Document, Dropped, Step, read_documents
from groundup.corpus.pipeline.account import Account, Profile, Shown
from groundup.corpus.pipeline.executor import Task, Tell
from groundup.corpus.pipeline.registry import blackening, make
from groundup.corpus.pipeline.whole import WholeStep

KEPT, SIZES, ACCOUNT = "kept.jsonl", "sizes.npy", "account.json"
#: Documents that are read between two reports of progress.
REPORT = 16

Judge = Callable[[int, Document], Document | Dropped]


class Shard(Protocol):
    """A piece of the input of bounded size: ``reading.Shard``, or the archive of a registered source."""

    @property
    def name(self) -> str: ...

    @property
    def bytes(self) -> int: ...


#: A shard's records, one at a time; can be pickled.
Reader = Callable[[Any], Iterator[Document | Dropped]]


@dataclass(frozen=True)
class Pass:
    """The steps between two places where the pipeline is cut."""

    number: int
    lead: str
    """The step across documents that it begins with; empty for the first pass, which begins with reading."""
    steps: tuple[str, ...]
    following: str
    """The step across documents that comes next; empty at the end of the pipeline."""


@dataclass(frozen=True)
class Plan:
    """A pipeline, its input and the folder where it works. Can be pickled."""

    folder: Path
    """Another one, beside the others, whenever anything changes that the result depends on."""
    made_from: Mapping[str, Any]
    """What that is, by name."""
    config: Any
    """The sections that the steps are made from."""
    passes: tuple[Pass, ...]
    shards: int
    reader: Reader
    dropped_characters: int
    """Of a dropped text that are kept; 0: all."""

    def result(self, number: int, shard: int) -> Path:
        """Where a pass leaves what it made of a shard."""
        return self.folder / f"pass-{number}" / f"{shard:06d}"

    def results(self, number: int) -> list[Path]:
        """Of all shards, in order."""
        return [self.result(number, shard) for shard in range(self.shards)]

    def workspace(self, number: int) -> Workspace:
        """Where the step keeps its files that pass ``number`` begins with."""
        return Workspace(self.folder / f"across-{number}", self.shards)


@dataclass(frozen=True)
class ShardPass:
    """The work of one pass; called with a shard's task. Its steps are made once in each process."""

    plan: Plan
    this: Pass

    @cached_property
    def steps(self) -> list[Step]:
        return [make(name, self.plan.config) for name in self.this.steps]

    @cached_property
    def shown(self) -> Shown:
        """Texts as people may see them: without what any step of the pipeline removes for their sake."""
        names = [name for this in self.plan.passes for name in this.steps]
        return partial(_blackened, blackening(names, self.plan.config))

    @cached_property
    def following(self) -> CrossStep | None:
        """The next step across documents, if it wants to see every document on its way."""
        made = make(self.this.following, self.plan.config) if self.this.following else None
        return made if isinstance(made, CrossStep) else None

    @cached_property
    def workspace(self) -> Workspace:
        """Of the step that the pass begins with; remembers how many documents each shard has."""
        return self.plan.workspace(self.this.number)

    @cached_property
    def lead(self) -> CrossStep | WholeStep:
        made: CrossStep | WholeStep = make(self.this.lead, self.plan.config)
        return made

    def __call__(self, task: Task, tell: Tell) -> None:
        """Bring one shard through the pass, unless that is done.

        Raises:
            GroundupError: the disk is full, or a step cannot work at all; the message names what is wrong.
        """
        target = self.plan.result(self.this.number, task.number)
        if target.exists():
            return
        try:
            self._make(target, task, tell)
        except (OSError, StorageError):
            if not target.exists():  # else a worker that was thought lost has made the same meanwhile
                raise

    def _make(self, target: Path, task: Task, tell: Tell) -> None:
        sketches = self.following.sketches() if self.following else None
        accounts = [Account(name, shown=self.shown) for name in (self.this.lead or READ, *self.this.steps)]
        with atomic_folder(target) as folder, _Results(folder, accounts, self.plan.dropped_characters) as results:
            for document in self._incoming(task, results, tell):
                kept = results.through(document, self.steps)
                if kept is not None and sketches is not None:
                    sketches.add(kept)
            if sketches is not None:
                sketches.write(self.plan.workspace(self.this.number + 1), task.number)
            results.finish()

    def _incoming(self, task: Task, results: "_Results", tell: Tell) -> Iterator[Document]:
        """Documents that the first step of the pass has let through."""
        records = self._read(task, results) if not self.this.lead else self._judged(task, results)
        behind = 0
        for number, (size, document) in enumerate(records):
            behind += size
            if number % REPORT == 0:
                tell(behind)
                behind = 0
            if document is not None:
                yield document

    def _read(self, task: Task, results: "_Results") -> Iterator[tuple[int, Document | None]]:
        """Bytes and documents of the input."""
        account, records = results.accounts[0], iter(self.plan.reader(task.what))
        while True:
            start = time.thread_time()
            item = next(records, None)
            account.seconds += time.thread_time() - start
            if item is None:
                return
            size = item.bytes
            account.enter(size)
            if isinstance(item, Dropped):
                results.drop(0, item)
                yield size, None
            else:
                results.read.add(item, size)
                account.keep(size)
                yield size, item

    def _judged(self, task: Task, results: "_Results") -> Iterator[tuple[int, Document | None]]:
        """Bytes and documents of the pass before, as far as the step across documents keeps them."""
        judge: Judge = self.lead.verdicts(self.workspace, task.number)
        before = self.plan.result(self.this.number - 1, task.number) / KEPT
        for position, document in enumerate(read_documents(before)):
            size = document.bytes
            yield size, results.apply(0, partial(judge, position), document)


def _blackened(steps: Sequence[Step], text: str) -> str:
    document = Document("", "", "", text)
    for step in steps:
        after = step(document)
        document = after if isinstance(after, Document) else replace(document, text="")
    return document.text


#: The step that every pipeline begins with.
READ = "read"


class _Results(ExitStack):
    """The files of a shard's result while they are written, and the account of the steps."""

    def __init__(self, folder: Path, accounts: Sequence[Account], dropped_characters: int) -> None:
        super().__init__()
        self.accounts = accounts
        self.read, self.kept = Profile(), Profile()
        self._folder = folder
        self._sizes = array("q")
        self._dropped_characters = dropped_characters
        self._file = self.enter_context((folder / KEPT).open("w", encoding="utf-8", newline="\n"))
        self._drops: dict[int, TextIO] = {}

    def through(self, document: Document, steps: Sequence[Step]) -> Document | None:
        """Bring a document through the steps and write what is left of it."""
        for number, step in enumerate(steps, start=1):
            after = self.apply(number, step, document)
            if after is None:
                return None
            document = after
        self._file.write(json.dumps(document.to_json(), ensure_ascii=False, allow_nan=False) + "\n")
        size = document.bytes
        self._sizes.append(size)
        self.kept.add(document, size)
        return document

    def apply(self, number: int, step: Callable[[Document], Document | Dropped], document: Document) -> Document | None:
        """Bring a document through one step, and count; None: it was dropped."""
        account = self.accounts[number]
        account.enter(document.bytes)
        start = time.thread_time()
        after = attempt(step, document)
        account.seconds += time.thread_time() - start
        if isinstance(after, Dropped):
            account.measure(document.measures, after.document.measures)
            account.find_out(document.facts, after.document.facts)
            self.drop(number, after)
            return None
        if after is not document:
            account.measure(document.measures, after.measures)
            account.find_out(document.facts, after.facts)
            if after.text != document.text:
                account.change(document, after)
        account.keep(after.bytes)
        return after

    def drop(self, number: int, item: Dropped) -> None:
        self.accounts[number].drop(item)
        if number not in self._drops:
            path = self._folder / dropped_name(number)
            self._drops[number] = self.enter_context(path.open("w", encoding="utf-8", newline="\n"))
        row = item.to_json()
        if self._dropped_characters:
            row["text"] = row["text"][: self._dropped_characters]
        self._drops[number].write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")

    def finish(self) -> None:
        """Close the files and write what was counted."""
        self.close()
        np.save(self._folder / SIZES, np.frombuffer(self._sizes, dtype=np.int64))
        accounts = [account.to_json() for account in self.accounts]
        rows = {"accounts": accounts, "read": self.read.to_json(), "kept": self.kept.to_json()}
        (self._folder / ACCOUNT).write_text(json.dumps(rows, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def attempt(step: Callable[[Document], Document | Dropped], document: Document) -> Document | Dropped:
    """What a step makes of a document. One that no step could foresee costs that document, counted, not the corpus."""
    try:
        after = step(document)
        measures = after.document.measures if isinstance(after, Dropped) else after.measures
        if not all(map(math.isfinite, measures.values())):
            raise ValueError(f"measures are no finite numbers: {dict(measures)}")
        return after
    except (GroundupError, MemoryError, OSError):
        raise
    except Exception as error:
        return Dropped.of(document, "step failed", f"{type(error).__name__}: {' '.join(str(error).split())}")


def dropped_name(number: int) -> str:
    """The file of what step ``number`` of a pass dropped."""
    return f"dropped-{number:02d}.jsonl"


def read_sizes(result: Path) -> NDArray[np.int64]:
    """Bytes of the documents that a shard's result keeps."""
    sizes: NDArray[np.int64] = np.load(result / SIZES, allow_pickle=False)
    return sizes


def read_accounts(result: Path) -> tuple[list[Account], Profile, Profile]:
    """What every step of a pass did, and what the documents were like that were read and that are left."""
    rows = read_json(result / ACCOUNT)
    accounts = [Account.from_json(row) for row in rows["accounts"]]
    return accounts, Profile.from_json(rows["read"]), Profile.from_json(rows["kept"])
