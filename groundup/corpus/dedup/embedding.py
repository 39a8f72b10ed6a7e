"""Documents that say the same in other words: vectors, clusters, cosines within each (Abbas et al. 2023, "SemDeDup").

    document → vector    as it is read: of what words it has, or of the tokens' vectors of a model
    vectors  → space     once, from a sample: what all documents have in common is taken out; k-means finds clusters
    cluster  → pairs     every document is compared with those of the clusters whose centres are nearest to it

Without a model, a vector is a sparse random projection (Achlioptas 2003) of the words' counts, as 1 + log(count): it
knows which words a document uses, not what they mean. In the space the mean is taken out, and every direction is
divided by the spread that documents have along it (ZCA whitening), which makes little of the words that all of them
share, as weighting by inverse document frequency would, and of words that come together, as latent semantic
analysis would. With a model, the vector is the mean of its tokens' vectors; the space is made in the same way.

Vectors and the numbers of the space are whole numbers, small enough for floating point to add them without rounding: so
clusters and cosines are the same on any machine, with any number of threads and in any order.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

from groundup.core.errors import StorageError, UsageError
from groundup.core.files import atomic_folder
from groundup.core.seeding import numpy_rng
from groundup.corpus.dedup.collection import Clusters
from groundup.corpus.dedup.cross import Integers, Sketch, Words32, Workspace, open_array, save_array
from groundup.corpus.dedup.hashing import STEP, Hashes, mix
from groundup.corpus.dedup.near import Keep, NearStep
from groundup.corpus.dedup.words import word_hashes
from groundup.corpus.document import Document

Bytes = NDArray[np.int8]
Reals = NDArray[np.float64]

#: Dimensions of a projection, and how many of them each word goes to.
DIMENSIONS, PLACES = 256, 8
#: Dimensions that a model may have: more, and sums of products would be rounded.
MOST_DIMENSIONS = 1024
#: Documents of a cluster, on average, and how many clusters there are at most.
CLUSTER, MOST_CLUSTERS = 1000, 16384
#: Clusters in which a document is compared: beside the nearest one the next, for those at a border.
NEAREST = 2
#: Documents that the space is made from, at least and for each cluster.
SAMPLE, SAMPLE_PER_CLUSTER = 20_000, 8
ROUNDS = 10
#: Share of the mean spread that is added to that of every direction, so that no noise is made large; and as many times
#: that as there are dimensions for each document: a few documents hardly say how all of them lie.
RIDGE, RIDGE_OF_FEW = 0.1, 4
_AT_ONCE = 1024
#: The file of the space, in a folder of its own.
SPACE = "space.safetensors"
_PIECE = 1 << 16  # characters that a tokenizer gets at once


@dataclass(frozen=True)
class EmbeddingConfig:
    """What counts as saying the same."""

    model: Path | None = None
    """A folder with vectors of tokens: model.safetensors (one table, as of model2vec) and tokenizer.json; none: hashed
    words, projected."""
    threshold: float = 0.7
    """Documents say the same whose vectors have at least this cosine."""
    keep: Keep = "first"
    """Which one stays."""
    min_words: int = 20
    """Shorter documents are not judged."""

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise UsageError(f"corpus.embedding.threshold is {self.threshold}; it must be above 0 and at most 1")
        if self.min_words < 1:
            raise UsageError(f"corpus.embedding.min_words is {self.min_words}; it must be at least 1")
        if self.keep not in ("first", "longest"):
            raise UsageError(f"corpus.embedding.keep is {self.keep!r}; use first or longest")


# --- a document's vector ----------------------------------------------------------------------------------------------


def projected_words(words: Hashes) -> Reals:
    """A sparse random projection of 1 + log(count) of every word; shape [DIMENSIONS]."""
    distinct, counts = np.unique(words, return_counts=True)
    drawn = mix(distinct + np.arange(1, PLACES + 1, dtype=np.uint64)[:, None] * np.uint64(STEP))
    signs = 1.0 - 2.0 * (drawn >> np.uint64(63)).astype(np.float64)
    places = (drawn % np.uint64(DIMENSIONS)).astype(np.int64)
    weights = signs * (1.0 + np.log(counts))
    vector: Reals = np.bincount(places.ravel(), weights=weights.ravel(), minlength=DIMENSIONS).astype(np.float64)
    return vector


class TokenVectors:
    """A model that has a vector for every token and nothing else, in the format of model2vec.

    Raises:
        UsageError: the folder is not such a model, or the package ``tokenizers`` is missing.
    """

    def __init__(self, folder: Path) -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise UsageError("corpus.embedding.model needs tokenizers; pip install 'groundup[data]'") from error

        try:
            tensors = load_file(folder / "model.safetensors")
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # a SafetensorError, an OSError; of tokenizers a bare one
            raise UsageError(f"corpus.embedding.model {folder} cannot be read: {error}") from error
        tables = [tensor for tensor in tensors.values() if tensor.ndim == 2]
        if len(tables) != 1 or tables[0].shape[1] > MOST_DIMENSIONS:
            shapes = {name: list(tensor.shape) for name, tensor in tensors.items()}
            told = f"has {json.dumps(shapes)}; it must have one table of at most {MOST_DIMENSIONS} columns"
            raise UsageError(f"corpus.embedding.model {folder}: model.safetensors {told}")
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        tokens = self._tokenizer.get_vocab_size()
        self._table = tables[0]
        self._rows = tensors.get("mapping", np.arange(len(self._table)))
        self._weights = tensors.get("weights", np.ones(len(self._rows)))
        if min(len(self._rows), len(self._weights)) < tokens or self._rows.max(initial=0) >= len(self._table):
            raise UsageError(
                f"corpus.embedding.model {folder}: {tokens} tokens, but vectors for {len(self._rows)} only"
            )

    def __call__(self, text: str) -> Reals:
        """The sum of the vectors of all tokens."""
        counts = np.zeros(len(self._rows), dtype=np.int64)
        for start in range(0, len(text), _PIECE):
            ids = self._tokenizer.encode(text[start : start + _PIECE], add_special_tokens=False).ids
            counts += np.bincount(np.array(ids, dtype=np.int64), minlength=len(counts))
        used = np.flatnonzero(counts)
        weights = counts[used] * self._weights[used].astype(np.float64)
        return (self._table[self._rows[used]].astype(np.float64) * weights[:, None]).sum(axis=0)


def _small(vectors: Reals, largest: float = 127.0) -> Bytes:
    """Vectors scaled so that their largest number is ±127, and rounded."""
    most = np.abs(vectors).max(axis=-1, keepdims=True, initial=0.0)
    return np.rint(vectors * (largest / np.where(most > 0, most, 1.0))).astype(np.int8)


# --- the space --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Space:
    """How documents lie to each other, whatever all of them share; made from a sample."""

    turn: Reals
    """Whole numbers; shape [dimensions, dimensions]."""
    mean: Reals
    """Of the documents, turned; shape [dimensions]."""
    centres: Bytes
    """Of the clusters; shape [clusters, dimensions]."""

    @classmethod
    def of(cls, sample: Bytes, clusters: int) -> "Space":
        """The space of these vectors."""
        units = sample / np.maximum(_lengths(sample), 1.0)[:, None]
        exact = np.rint(units * 2**14)  # so that their sums are
        count, total = len(exact), exact.sum(axis=0)
        spread = exact.T @ exact / max(count, 1) - np.outer(total, total) / max(count, 1) ** 2
        turn = _whitening(spread, count)
        # One document more at the origin: where all are copies of one, something of it must stay.
        mean = np.rint(total @ turn / (count + 1))
        placed = cls(turn, mean, np.empty((0, sample.shape[1]), dtype=np.int8)).place(sample)
        return cls(turn, mean, _k_means(placed, clusters))

    def place(self, vectors: Bytes) -> Bytes:
        """Where documents lie, as seen from the mean; only directions mean something."""
        lengths = np.maximum(_lengths(vectors), 1.0)
        placed = np.empty(vectors.shape, dtype=np.int8)
        for start in range(0, len(vectors), _AT_ONCE):
            chunk = slice(start, start + _AT_ONCE)
            turned = vectors[chunk].astype(np.float64) @ self.turn
            placed[chunk] = _small(turned / lengths[chunk, None] * 2**14 - self.mean)
        return placed

    def nearest(self, placed: Bytes) -> NDArray[np.int32]:
        """The clusters whose centres are nearest; shape [NEAREST, documents], -1 where there are not so many."""
        found = np.full((NEAREST, len(placed)), -1, dtype=np.int32)
        for start in range(0, len(placed), _AT_ONCE):
            chunk = slice(start, start + _AT_ONCE)
            cosines = _cosines(placed[chunk], self.centres)
            for place in range(min(NEAREST, len(self.centres))):
                found[place, chunk] = best = cosines.argmax(axis=1)
                cosines[np.arange(len(best)), best] = -np.inf
        return found


def _whitening(spread: Reals, count: int) -> Reals:
    """The inverse square root of a covariance, with a ridge, as whole numbers: so rounding differs nowhere."""
    values, directions = np.linalg.eigh(spread)
    ridge = RIDGE + RIDGE_OF_FEW * len(values) / max(count, 1)
    values = np.maximum(values, 0.0) + ridge * max(float(values.mean()), 1e-9)
    turn = (directions / np.sqrt(values)) @ directions.T
    whole: Reals = np.rint(turn * (2**12 / np.abs(turn).max()))
    return whole


def _k_means(placed: Bytes, clusters: int) -> Bytes:
    """Centres of clusters (Lloyd 1982), by cosine."""
    clusters = min(clusters, len(placed))
    chosen = numpy_rng(0, "corpus", "embedding").choice(len(placed), clusters, replace=False)
    space = Space(np.empty((0, 0)), np.empty(0), placed[np.sort(chosen)])
    for _ in range(ROUNDS if clusters > 1 else 0):
        nearest = space.nearest(placed)[0]
        sums = np.zeros(space.centres.shape, dtype=np.int64)
        np.add.at(sums, nearest, placed)
        filled = np.bincount(nearest, minlength=clusters) > 0
        centres = np.where(filled[:, None], _small(sums.astype(np.float64)), space.centres)
        space = Space(space.turn, space.mean, centres)
    return space.centres


def _lengths(vectors: Bytes) -> Reals:
    """Of vectors of small numbers; a sum of their squares is exact."""
    lengths: Reals = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.int64).astype(np.float64))
    return lengths


def _cosines(one: Bytes, other: Bytes) -> Reals:
    """Of all pairs; single precision holds every sum of at most 1024 products of small numbers exactly."""
    products = (one.astype(np.float32) @ other.astype(np.float32).T).astype(np.float64)
    cosines: Reals = products / np.maximum(_lengths(one), 1.0)[:, None] / np.maximum(_lengths(other), 1.0)
    return cosines


@lru_cache(maxsize=2)
def _read_space(path: Path) -> Space:
    return Space(**load_file(path))


# --- the step ---------------------------------------------------------------------------------------------------------


class Embedding(NearStep):
    """Keeps one of every set of documents that say the same in other words; see the module and ``NearStep``."""

    name = "embedding duplicates"
    reason = "same content"
    scale = "cosine"
    counts_as = 20

    def __init__(self, config: EmbeddingConfig) -> None:
        super().__init__(config.threshold, config.keep)
        self.config = config
        if config.model and not config.model.is_dir():
            raise UsageError(f"corpus.embedding.model {config.model} is no folder")

    @cached_property
    def _model(self) -> TokenVectors | None:
        return TokenVectors(self.config.model) if self.config.model else None

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_model"}

    def sketch(self, document: Document) -> Sketch:
        words = word_hashes(document.text)
        vector = _small(self._model(document.text) if self._model else projected_words(words))
        judged = len(words) >= self.config.min_words and bool(vector.any())
        row = np.append(np.pad(vector, (0, -len(vector) % 4)).view(np.uint32), np.uint32(len(words) if judged else 0))
        nothing = np.empty(0, dtype=np.uint32)
        return Sketch(np.empty(0, dtype=np.uint64), nothing, nothing, row)

    def find(self, workspace: Workspace, bucket: int) -> Integers:
        """Columns: document, an earlier one that says the same; of all such pairs those that connect as many."""
        documents, clusters = [_NONE], [_NONE]
        first = bucket * workspace.shards // workspace.buckets  # others begin elsewhere: what is missing is made once
        for shard in [*range(first, workspace.shards), *range(first)]:
            found = self._nearest(workspace, shard)
            if not found.size:
                continue
            number = len(self._space(workspace).centres)  # of the clusters, of which a bucket has a range
            ends = [-(-each * number // workspace.buckets) for each in (bucket, bucket + 1)]
            here = slice(*np.searchsorted(found[0], ends))
            documents.append(found[1, here] + workspace.starts[shard])
            clusters.append(found[0, here].astype(np.int64))
        members, owners = np.concatenate(documents), np.concatenate(clusters)
        order = np.lexsort((members, owners))
        borders = np.flatnonzero(np.diff(owners[order])) + 1
        pairs = [self._linked(workspace, group) for group in np.split(members[order], borders) if len(group) > 1]
        return np.unique(np.concatenate([np.empty((2, 0), dtype=np.int64), *pairs], axis=1), axis=1)

    def likeness(self, workspace: Workspace, rows: Words32, one: Integers, other: Integers) -> Reals:
        placed = self._space(workspace).place(_vectors(rows))
        products = np.einsum("ij,ij->i", placed[one], placed[other], dtype=np.int64)
        lengths = np.maximum(_lengths(placed), 1.0)
        likeness: Reals = products / (lengths[one] * lengths[other])
        return likeness

    def _space(self, workspace: Workspace) -> Space:
        """The space of the corpus; that of whoever makes it first is everybody's: on another machine it might differ in
        the last place."""
        path = workspace.folder / "space"
        if not path.exists():
            documents = workspace.starts[-1]
            clusters = min(max(documents // CLUSTER, 1), MOST_CLUSTERS)
            count = min(documents, max(SAMPLE, SAMPLE_PER_CLUSTER * clusters))
            rows = workspace.rows(np.arange(count) * documents // max(count, 1))
            space = Space.of(_vectors(rows[rows[:, -1] > 0]), clusters)
            tensors = {name: np.ascontiguousarray(array) for name, array in vars(space).items()}
            try:
                with atomic_folder(path) as temporary:
                    save_file(tensors, temporary / SPACE)
            except (OSError, StorageError):
                if not path.exists():
                    raise
        return _read_space(path / SPACE)

    def _nearest(self, workspace: Workspace, shard: int) -> NDArray[np.int32]:
        """Clusters that documents of a shard are compared in, in order, and the documents' positions; of those that are
        judged. Shape [2, entries]."""
        path = workspace.folder / f"nearest-{shard:06d}.npy"
        if not path.exists():
            rows = workspace.array(shard, "rows")
            judged = np.flatnonzero(rows[:, -1]) if len(rows) else _NONE
            found = np.empty((2, 0), dtype=np.int32)
            if len(judged):
                space = self._space(workspace)
                nearest = space.nearest(space.place(_vectors(rows[judged])))
                found = np.stack([nearest.ravel(), np.tile(judged, NEAREST)]).astype(np.int32)[:, nearest.ravel() >= 0]
            save_array(path, found[:, np.lexsort(found[::-1])])
        return open_array(path)

    def _linked(self, workspace: Workspace, members: Integers) -> Integers:
        """(later, earlier) of pairs within a cluster that say the same, as many as it takes to connect all of them."""
        placed = self._space(workspace).place(_vectors(workspace.rows(members)))
        groups, labels = Clusters(len(members)), np.arange(len(members))
        pairs: list[tuple[int, int]] = []
        for rows, columns in _tiles(len(members)):
            later, earlier = np.nonzero(self.alike(_cosines(placed[rows], placed[columns])))
            later, earlier = later + rows.start, earlier + columns.start
            new = (earlier < later) & (labels[earlier] != labels[later])
            later, earlier = later[new], earlier[new]
            if not len(later):
                continue
            _, each = np.unique(labels[later] * len(members) + labels[earlier], return_index=True)
            for one, other in zip(later[each].tolist(), earlier[each].tolist(), strict=True):
                if groups.find(one) != groups.find(other):
                    groups.union(one, other)
                    pairs.append((one, other))
            touched = np.unique(labels)
            roots = np.arange(len(members))
            roots[touched] = [groups.find(label) for label in touched.tolist()]
            labels = roots[labels]
        return members[np.array(pairs, dtype=np.int64).reshape(-1, 2).T]


_NONE = np.empty(0, dtype=np.int64)


def _vectors(rows: Words32) -> Bytes:
    return np.ascontiguousarray(rows[:, :-1]).view(np.int8)


def _tiles(count: int) -> Iterator[tuple[slice, slice]]:
    """Squares that cover all pairs of ``count`` things of which the first is not before the second."""
    for first in range(0, count, _AT_ONCE):
        for second in range(0, first + 1, _AT_ONCE):
            yield slice(first, first + _AT_ONCE), slice(second, second + _AT_ONCE)
