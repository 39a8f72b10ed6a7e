"""Token ids on disk, of any size: written as a stream, read through memory maps.

    tokens/train/
      index.json             type, number of tokens and documents; the same and the hashes for each shard
      00000.tokens.npy       ids: whole documents one after the other, each begun by the document token
      00000.documents.npy    where each of them begins

A shard counts from the moment that the index names it. An encoding that was interrupted continues behind the last
shard; until it has ended, the index says that it is incomplete, and nobody can open it by accident.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from functools import cached_property
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.lib.format import write_array_header_1_0
from numpy.typing import NDArray

from groundup.core.errors import ArtifactError, DataError
from groundup.core.files import atomic_file, read_json, sha256_of, write_json

#: A shard is closed when it has so many tokens: 256 MB of them, at two bytes each.
SHARD_TOKENS = 2**27
INDEX = "index.json"

Ids = NDArray[np.unsignedinteger[Any]]


class Shard:
    """Documents one after the other, each begun by the document token.

    Args:
        ids: [tokens], usually a memory map.
        begins: where each document begins [documents]; looked for when first needed, if not given.
    """

    def __init__(self, ids: Ids, begins: NDArray[np.int64] | None = None) -> None:
        self.ids = np.asarray(ids)  # slicing a plain view of a memory map is five times as fast
        self._begins = begins

    @cached_property
    def begins(self) -> NDArray[np.int64]:
        """Where each document begins."""
        return np.flatnonzero(self.ids == self.ids[0]) if self._begins is None else np.asarray(self._begins)


class Tokens:
    """The tokens of many shards as if they lay in one line; only what is asked for is read."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = [shard for shard in shards if len(shard.ids)]
        self._starts = [0, *accumulate(len(shard.ids) for shard in self.shards)]

    @classmethod
    def of(cls, ids: "Ids | Tokens") -> "Tokens":
        """The tokens of one array."""
        return ids if isinstance(ids, Tokens) else cls([Shard(ids)])

    def __len__(self) -> int:
        return self._starts[-1]

    @property
    def documents(self) -> "Documents":
        """The same, document by document."""
        return Documents(self)

    def copy(self, start: int, into: NDArray[Any]) -> None:
        """Fill ``into`` with the tokens from ``start`` on.

        Behind the last token comes the first again. It is a document token, as behind every other document.
        """
        done = 0
        while done < len(into):
            place = (start + done) % len(self)
            number = bisect_right(self._starts, place) - 1
            offset = place - self._starts[number]
            part = self.shards[number].ids[offset : offset + len(into) - done]
            into[done : done + len(part)] = part
            done += len(part)

    def read(self, start: int, end: int) -> NDArray[np.int64]:
        """The tokens [start, end)."""
        ids = np.empty(end - start, np.int64)
        self.copy(start, ids)
        return ids

    def begins(self, documents: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where documents begin in the line of all tokens; their numbers ascend. Behind the last is the end."""
        parts = []
        bounds = np.searchsorted(documents, self._documents).tolist()
        for shard, first, number, (low, high) in zip(
            self.shards, self._starts, self._documents, pairwise(bounds), strict=False
        ):
            if low < high:
                parts.append(shard.begins[documents[low:high] - number] + first)
        return np.concatenate([*parts, np.full(len(documents) - bounds[-1], len(self))])

    @cached_property
    def _documents(self) -> list[int]:
        """Number of each shard's first document, and of documents in all."""
        return [0, *accumulate(len(shard.begins) for shard in self.shards)]


class Documents(Sequence[NDArray[np.int64]]):
    """The ids of each document, read when asked for."""

    def __init__(self, tokens: Tokens) -> None:
        self._tokens = tokens

    def __len__(self) -> int:
        return self._tokens._documents[-1]

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        first = range(len(self))[number]  # counts negative numbers from the end, and ends iteration
        start, end = self._tokens.begins(np.array([first, first + 1])).tolist()
        return self._tokens.read(start, end)


class TokenWriter:
    """Writes a folder of shards, or continues one. A context manager: leaving it without an error completes the folder.

    Memory is bounded by what one call of ``write`` is given.

    Args:
        folder: where; made if it does not exist.
        vocab_size: ids are smaller.
        made_from: what the ids depend on, such as the tokenizer's fingerprint; a folder made from something else is
            not continued.
        shard_tokens: a shard is closed behind the document that brings it to this size.

    Raises:
        ArtifactError: the folder was made from something else, or is damaged.
    """

    def __init__(
        self, folder: Path, vocab_size: int, made_from: Mapping[str, str], shard_tokens: int = SHARD_TOKENS
    ) -> None:
        self.folder = folder
        self.shard_tokens = shard_tokens
        dtype = "uint16" if vocab_size <= 2**16 else "uint32"
        counts = {"complete": False, "tokens": 0, "documents": 0, "shards": []}
        self._index: dict[str, Any] = {"vocab_size": vocab_size, "dtype": dtype, "made_from": dict(made_from), **counts}
        self._shard: _OpenShard | None = None
        if (folder / INDEX).exists():
            self._continue()

    def _continue(self) -> None:
        index = _read_index(self.folder)
        for key in ("vocab_size", "dtype", "made_from"):
            if index[key] != self._index[key]:
                raise ArtifactError(
                    f"{self.folder} holds the tokens of another text or tokenizer ({key} is {index[key]}, "
                    f"not {self._index[key]}); delete it to encode again"
                )
        if not index["complete"]:
            _verify(self.folder, index)
        self._index = index

    @property
    def complete(self) -> bool:
        """Whether every document is there."""
        return bool(self._index["complete"])

    @property
    def documents(self) -> int:
        """How many documents there are in whole shards: continue with the next."""
        return int(self._index["documents"])

    def write(self, documents: Sequence[Ids]) -> None:
        """Append ``documents``, each an array of ids that begins with the document token.

        Raises:
            DataError: an id is outside the vocabulary.
            StorageError: the disk is full or cannot be written.
        """
        while documents:
            if self._shard is None:
                self._shard = _OpenShard(self.folder, len(self._index["shards"]), self._index["dtype"])
            ends = np.cumsum([len(document) for document in documents])
            fitting = int(np.searchsorted(ends, self.shard_tokens - self._shard.tokens)) + 1
            self._shard.append(documents[:fitting], self._index["vocab_size"])
            documents = documents[fitting:]
            if self._shard.tokens >= self.shard_tokens:
                self._close_shard()

    def __enter__(self) -> "TokenWriter":
        return self

    def __exit__(self, *exception: Any) -> None:
        if exception[0] is not None:
            if self._shard is not None:
                self._shard.abandon(*exception)
        elif not self.complete:
            self._close_shard()
            self._index["complete"] = True
            write_json(self.folder / INDEX, self._index)

    def _close_shard(self) -> None:
        if self._shard is None:
            return
        entry = self._shard.close()
        self._shard = None
        self._index["shards"].append(entry)
        for key in ("tokens", "documents"):
            self._index[key] += entry[key]
        write_json(self.folder / INDEX, self._index)


class _OpenShard:
    """A shard that is being written; its files are whole once it is closed, else absent."""

    def __init__(self, folder: Path, number: int, dtype: str) -> None:
        self.tokens = 0
        self._paths = _paths(folder, number)
        self._dtype = np.dtype(dtype)
        self._begins: list[NDArray[np.int64]] = []
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_file(self._paths["tokens"]))
        self._handle: BinaryIO = self._stack.enter_context(temporary.open("wb"))
        self._write_header()

    def _write_header(self) -> None:
        """NumPy leaves room for the number to grow: the header is written again when it is known."""
        shape = {"descr": self._dtype.str, "fortran_order": False, "shape": (self.tokens,)}
        write_array_header_1_0(self._handle, shape)

    def append(self, documents: Sequence[Ids], vocab_size: int) -> None:
        ids = np.concatenate(documents)
        if ids.max() >= vocab_size:
            raise DataError(f"id {ids.max()} is outside the vocabulary of {vocab_size}; encode with its own tokenizer")
        lengths = [len(document) for document in documents]
        assert min(lengths) > 0, "a document has at least its document token"
        self._begins.append(self.tokens + np.cumsum([0, *lengths[:-1]]))
        self._handle.write(ids.astype(self._dtype).data)
        self.tokens += len(ids)

    def close(self) -> dict[str, Any]:
        """Complete both files; return the shard's entry of the index."""
        begins = np.concatenate(self._begins)
        with self._stack:
            with atomic_file(self._paths["documents"]) as temporary, temporary.open("wb") as handle:
                np.save(handle, begins)
            length = self._handle.tell()
            self._handle.seek(0)
            self._write_header()
            assert self._handle.tell() + self.tokens * self._dtype.itemsize == length, "a header keeps its length"
        hashes = {kind: sha256_of(path) for kind, path in self._paths.items()}
        return {"tokens": self.tokens, "documents": len(begins), "sha256": hashes}

    def abandon(self, *exception: Any) -> None:
        """Remove what was written; raises StorageError where the exception means that."""
        self._stack.__exit__(*exception)


def open_tokens(*paths: Path) -> Tokens:
    """The tokens of folders of shards, or of single ``.npy`` files of ids, in the order given.

    Raises:
        ArtifactError: one is missing, damaged or incomplete.
    """
    return Tokens([shard for path in paths for shard in (_shards(path) if path.suffix != ".npy" else [_single(path)])])


def verify_tokens(folder: Path) -> None:
    """Compare every file of a folder of shards with its hash.

    Raises:
        ArtifactError: a file is missing, or was changed.
    """
    _verify(folder, _read_index(folder))


def _verify(folder: Path, index: Mapping[str, Any]) -> None:
    for number, entry in enumerate(index["shards"]):
        for kind, path in _paths(folder, number).items():
            if not path.is_file() or sha256_of(path) != entry["sha256"][kind]:
                raise ArtifactError(f"{path} is missing or was changed; delete {folder} to encode again")


def _read_index(folder: Path) -> dict[str, Any]:
    index = read_json(folder / INDEX)
    keys = {"vocab_size", "dtype", "made_from", "complete", "tokens", "documents", "shards"}
    if not isinstance(index, dict) or not keys <= index.keys():
        raise ArtifactError(f"{folder / INDEX} is not the index of token ids; delete {folder} to encode again")
    return index


def _paths(folder: Path, number: int) -> dict[str, Path]:
    return {kind: folder / f"{number:05d}.{kind}.npy" for kind in ("tokens", "documents")}


def _shards(folder: Path) -> list[Shard]:
    index = _read_index(folder)
    if not index["complete"]:
        raise ArtifactError(f"the encoding in {folder} was interrupted; run the stage that makes it again")
    shards = []
    for number, entry in enumerate(index["shards"]):
        paths = _paths(folder, number)
        ids, begins = _mapped(paths["tokens"], index["dtype"]), _mapped(paths["documents"], "int64")
        for path, array, count in ((paths["tokens"], ids, "tokens"), (paths["documents"], begins, "documents")):
            if len(array) != entry[count]:
                raise ArtifactError(f"{path} is damaged: {len(array)} {count}, not {entry[count]}; delete {folder}")
        shards.append(Shard(ids, begins))
    return shards


def _single(path: Path) -> Shard:
    ids = _mapped(path, "uint16", "uint32")
    return Shard(ids)


def _mapped(path: Path, *dtypes: str) -> NDArray[Any]:
    """A one-dimensional array in a ``.npy`` file, memory-mapped."""
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path} does not exist; run the stage that makes it first") from error
    except (ValueError, OSError, EOFError) as error:
        raise ArtifactError(f"{path} is damaged ({error}); delete it and run again") from error
    if array.ndim != 1 or array.dtype.name not in dtypes:
        raise ArtifactError(f"{path} does not hold numbers of type {' or '.join(dtypes)}; delete it and run again")
    return array
