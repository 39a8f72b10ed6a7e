"""A step that looks across documents, cut into phases that any number of processes share.

Whether a document repeats an earlier one cannot be said from that document alone, and a corpus does not fit into
memory. So every such step works in four phases, through files in a folder of its own::

    sketch    document  -> hashes         while a shard is read, by whoever reads it
    resolve   bucket    -> repetitions    equal hashes meet: each bucket holds one range of hash values of all shards
    settle              -> decisions      once; only MinHash and Embedding have something to do (which documents stay)
    verdict   document  -> kept, changed or dropped    while the shard is read again

    step = Exact(ExactConfig())
    workspace = Workspace(folder, len(shards))
    for shard, documents in enumerate(shards):                 # phase 1: shards in any order, anywhere
        sketches = step.sketches()
        for document in documents:
            sketches.add(document)
        sketches.write(workspace, shard)
    for bucket in range(workspace.buckets):                    # phase 2: buckets in any order, anywhere
        step.resolve(workspace, bucket)
    step.settle(workspace)                                     # phase 3: once
    for shard, documents in enumerate(shards):                 # phase 4: shards in any order, anywhere
        verdicts = step.verdicts(workspace, shard)
        results = [verdicts(position, document) for position, document in enumerate(documents)]

Between two phases all of the earlier one must be done; within a phase no process needs another, so that independent
ranks take shards and buckets r, r + n, r + 2n …. ``find_duplicates`` runs phases 2 and 3 in one process.

*First* always means the order of the shards and of the documents within each. A decision depends on that order alone:
not on how many processes work, not on where the shards are cut, not on the number of buckets. Every file appears
whole or not at all (``core.files``), and what is there already is not made again.
"""

import json
from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import ArtifactError
from groundup.core.files import atomic_file, atomic_folder, read_json
from groundup.corpus.dedup.hashing import Hashes
from groundup.corpus.document import Document, Dropped

#: Bytes that one bucket may take while it is resolved.
MEMORY = 1 << 28
#: What sorting one hash of a bucket takes: the hash, its place, the order and their sorted copies.
_BYTES_PER_HASH = 80

Integers = NDArray[np.int64]
Words32 = NDArray[np.uint32]


@dataclass(frozen=True)
class Sketch:
    """What phase 2 gets to know of one document."""

    keys: Hashes
    """Hashes that are compared with those of all other documents, in order of ``places``."""
    checks: Words32
    """32 further bits of each hash; hashes are equal when both parts are."""
    places: Words32
    """Where in the document each hash belongs: the number of a paragraph, of a token, of a band."""
    row: Words32
    """What comparing two documents needs (a fingerprint, a vector), of one length for all documents; or nothing."""


class Sketches:
    """The sketches of one shard while it is read; ``write`` leaves them sorted, for the buckets to take slices."""

    def __init__(self, step: "CrossStep") -> None:
        self._step = step
        self._ids: list[str] = []
        self._sketches: list[Sketch] = []

    def add(self, document: Document) -> None:
        """Sketch the next document of the shard."""
        self._ids.append(document.id)
        self._sketches.append(self._step.sketch(document))

    def write(self, workspace: "Workspace", shard: int) -> None:
        """Write the shard's sketches, unless they are there.

        Raises:
            StorageError: the disk is full or cannot be written.
        """
        target = workspace.sketches(shard)
        if target.exists():
            return
        sizes = [len(sketch.keys) for sketch in self._sketches]
        keys = _joined([sketch.keys for sketch in self._sketches], np.uint64)
        places = np.empty((3, len(keys)), dtype=np.uint32)
        places[0] = np.repeat(np.arange(len(sizes), dtype=np.uint32), sizes)
        places[1] = _joined([sketch.places for sketch in self._sketches], np.uint32)
        places[2] = _joined([sketch.checks for sketch in self._sketches], np.uint32)
        order = np.argsort(keys, kind="stable")
        names = [name.encode("utf-8", "surrogatepass") for name in self._ids]
        with atomic_folder(target) as folder:
            np.save(folder / "keys.npy", keys[order])
            np.save(folder / "places.npy", np.ascontiguousarray(places[:, order].T))
            np.save(folder / "rows.npy", np.stack([s.row for s in self._sketches]) if names else _NO_ROWS)
            np.save(folder / "ids.npy", np.frombuffer(b"".join(names), dtype=np.uint8))
            np.save(folder / "id_ends.npy", np.cumsum([len(name) for name in names], dtype=np.int64))
            hashes = len(keys) + self._step.counts_as * len(names)
            counts = {"step": self._step.name, "documents": len(names), "hashes": hashes}
            (folder / "counts.json").write_text(json.dumps(counts), encoding="utf-8")


_NO_ROWS = np.empty((0, 0), dtype=np.uint32)


@dataclass(frozen=True)
class Workspace:
    """The folder in which one step across the documents of ``shards`` shards keeps its files."""

    folder: Path
    shards: int
    memory: int = MEMORY
    """Bytes that one bucket may take; the same in all phases."""

    def sketches(self, shard: int) -> Path:
        """Phase 1: what a shard's documents were made into."""
        return self.folder / f"sketches-{shard:06d}"

    def repetitions(self, bucket: int) -> Path:
        """Phase 2: what was found in a bucket."""
        return self.folder / f"repetitions-{bucket:06d}.npy"

    @property
    def decisions(self) -> Path:
        """Phase 3: what was decided about all documents together."""
        return self.folder / "decisions"

    @cached_property
    def counts(self) -> list[dict[str, Any]]:
        """Documents and hashes of every shard.

        Raises:
            ArtifactError: the sketches of a shard are missing.
        """
        return [read_json(self.sketches(shard) / "counts.json") for shard in range(self.shards)]

    @cached_property
    def starts(self) -> list[int]:
        """Number of the first document of every shard, and behind them the number of documents."""
        return [0, *np.cumsum([counts["documents"] for counts in self.counts], dtype=np.int64).tolist()]

    @cached_property
    def _starts(self) -> Integers:
        return np.array(self.starts, dtype=np.int64)

    @cached_property
    def buckets(self) -> int:
        """Into how many ranges hashes are divided, so that each fits into about ``memory`` bytes; a power of two."""
        hashes = sum(counts["hashes"] for counts in self.counts)
        return 1 << (hashes * _BYTES_PER_HASH // self.memory).bit_length()

    def array(self, shard: int, name: str) -> NDArray[Any]:
        """One array of a shard's sketches, mapped rather than read."""
        return open_array(self.sketches(shard) / f"{name}.npy")

    @cached_property
    def _opened(self) -> Callable[[int, str], NDArray[Any]]:
        """``array``, which remembers the last few."""
        return lru_cache(maxsize=64)(self.array)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_opened"}

    def locate(self, document: int) -> tuple[int, int]:
        """(shard, position in it) of a document's number."""
        shard = bisect_right(self.starts, document) - 1
        return shard, document - self.starts[shard]

    def id_of(self, document: int) -> str:
        """The id of a document, by its number."""
        shard, position = self.locate(document)
        ends, names = self._opened(shard, "id_ends"), self._opened(shard, "ids")
        start = int(ends[position - 1]) if position else 0
        return names[start : int(ends[position])].tobytes().decode("utf-8", "surrogatepass")

    def rows(self, documents: Integers) -> Words32:
        """The ``row`` of each of these documents; shape [documents, length of a row]."""
        if not len(documents):
            return _NO_ROWS
        shards = np.searchsorted(self._starts, documents, side="right") - 1
        found: Words32 | None = None
        for shard in np.unique(shards).tolist():
            here = shards == shard
            rows = self._opened(shard, "rows")[documents[here] - self.starts[shard]]
            if found is None:
                found = np.empty((len(documents), rows.shape[1]), dtype=np.uint32)
            found[here] = rows
        assert found is not None
        return found

    def repetitions_of(self, shard: int) -> Integers:
        """What the buckets say about one shard, in order; columns as in ``CrossStep.repeated``, numbers from 0 on."""
        start, stop = self.starts[shard : shard + 2]
        parts = []
        for bucket in range(self.buckets):
            rows = open_array(self.repetitions(bucket))
            first, last = np.searchsorted(rows[0], (start, stop))
            parts.append(rows[:, first:last])
        rows = np.concatenate(parts, axis=1)
        rows = rows[:, np.lexsort(rows[::-1])]
        rows[0] -= start
        return rows


@dataclass(frozen=True)
class Repeated:
    """Equal hashes of one bucket: entries in order of the groups, and within each in the order of the corpus."""

    documents: Integers
    places: Integers
    firsts: Integers
    """For every entry the index, into the two above, of the first entry of its group."""


class CrossStep(ABC):
    """A step across documents; see the module for its phases. Can be pickled."""

    name: str
    counts_as: int = 0
    """Hashes that a document counts for, beside its own, where the work is divided into buckets."""

    def sketches(self) -> Sketches:
        """An empty collection for the documents of a shard."""
        return Sketches(self)

    @abstractmethod
    def sketch(self, document: Document) -> Sketch:
        """Phase 1: the hashes of one document."""

    def resolve(self, workspace: Workspace, bucket: int) -> None:
        """Phase 2: find what repeats in one bucket, unless that is known."""
        target = workspace.repetitions(bucket)
        if not target.exists():
            found = self.find(workspace, bucket)
            save_array(target, found[:, np.lexsort(found[::-1])])

    def find(self, workspace: Workspace, bucket: int) -> Integers:
        """What phases 3 and 4 must know of one bucket; shape [columns, entries], the first column is the document."""
        return self.repeated(workspace, _bucket(workspace, bucket))

    def repeated(self, workspace: Workspace, groups: Repeated) -> Integers:
        """The same, from the equal hashes of the bucket; for steps that have no other way to find."""
        raise NotImplementedError

    def settle(self, workspace: Workspace) -> None:  # noqa: B027, for it is no mistake to decide nothing
        """Phase 3: decide what concerns all documents at once; most steps have nothing to decide."""

    @abstractmethod
    def verdicts(self, workspace: Workspace, shard: int) -> "Verdicts":
        """Phase 4: what becomes of each document of a shard."""


class Verdicts(ABC):
    """What becomes of the documents of one shard, each told by its position in it."""

    @abstractmethod
    def __call__(self, position: int, document: Document) -> Document | Dropped:
        """The document, changed or not; or why it leaves."""


def find_duplicates(step: CrossStep, workspace: Workspace) -> None:
    """Phases 2 and 3 in this process; what an earlier, interrupted call finished is not done again."""
    for bucket in range(workspace.buckets):
        step.resolve(workspace, bucket)
    step.settle(workspace)


def run(
    step: CrossStep, shards: Sequence[Sequence[Document]], folder: Path, memory: int = MEMORY
) -> Iterator[Document | Dropped]:
    """All four phases over shards that can be read twice, in one process: what becomes of every document, in order."""
    workspace = Workspace(folder, len(shards), memory)
    for shard, documents in enumerate(shards):
        sketches = step.sketches()
        for document in documents:
            sketches.add(document)
        sketches.write(workspace, shard)
    find_duplicates(step, workspace)
    for shard, documents in enumerate(shards):
        verdicts = step.verdicts(workspace, shard)
        for position, document in enumerate(documents):
            yield verdicts(position, document)


def _bucket(workspace: Workspace, bucket: int) -> Repeated:
    """The hashes of one range that occur more than once."""
    width = 2**64 // workspace.buckets
    bounds = np.array([bucket * width, (bucket + 1) * width - 1], dtype=np.uint64)
    keys, places, documents = [], [], []
    for shard in range(workspace.shards):
        hashes = workspace.array(shard, "keys")
        first = int(np.searchsorted(hashes, bounds[0], side="left"))
        last = int(np.searchsorted(hashes, bounds[1], side="right"))
        keys.append(np.asarray(hashes[first:last]))
        places.append(np.asarray(workspace.array(shard, "places")[first:last]))
        documents.append(places[-1][:, 0].astype(np.int64) + workspace.starts[shard])
    if not keys:
        empty = np.empty(0, dtype=np.int64)
        return Repeated(empty, empty, empty)
    return _repeated(np.concatenate(keys), np.concatenate(places), np.concatenate(documents))


def _repeated(keys: Hashes, places: Words32, documents: Integers) -> Repeated:
    """Group equal hashes; entries come in the order of the corpus for each key."""
    order = np.argsort(keys, kind="stable")
    equal = keys[order[1:]] == keys[order[:-1]]
    repeated = np.zeros(len(keys), dtype=bool)
    repeated[1:] |= equal
    repeated[:-1] |= equal
    order = order[repeated]
    keys, checks = keys[order], places[order, 2]
    if np.any((keys[1:] == keys[:-1]) & (checks[1:] != checks[:-1])):  # two hashes that agree in 64 bits only
        finer = np.lexsort((checks, keys))
        order, keys, checks = order[finer], keys[finer], checks[finer]
    starts = np.ones(len(keys), dtype=bool)
    starts[1:] = (keys[1:] != keys[:-1]) | (checks[1:] != checks[:-1])
    firsts = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    return Repeated(documents[order], places[order, 1].astype(np.int64), firsts)


# --- arrays in files --------------------------------------------------------------------------------------------------


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array, atomically."""
    with atomic_file(path) as temporary:
        np.save(temporary, np.ascontiguousarray(array))


def open_array(path: Path) -> NDArray[Any]:
    """Map an array that ``np.save`` wrote; a small one is read.

    Raises:
        ArtifactError: it is missing or damaged.
    """
    try:
        small = path.stat().st_size < 1 << 16
        array: NDArray[Any] = np.load(path, mmap_mode=None if small else "r", allow_pickle=False)
        return array
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; run the stage that makes it first") from error
    except (ValueError, EOFError) as error:
        raise ArtifactError(f"{path} is damaged; delete it and run again") from error


def _joined(arrays: list[NDArray[Any]], dtype: Any) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.empty(0, dtype=dtype)
