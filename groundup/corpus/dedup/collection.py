"""A corpus in memory → the same without duplicates: exact ones by hash, near ones by MinHash and LSH.

Two documents resemble each other as far as their sets of *shingles* (runs of words) overlap (Broder 1997,
"On the resemblance and containment of documents"). Here A and B are such sets:

    resemblance (Jaccard)   |A ∩ B| / |A ∪ B|           a second edition of the same play
    containment             |A ∩ B| / min(|A|, |B|)     a poem inside the complete works

**Spelling.** Editions of one text can spell nearly every word differently ("I haue bene vpon the hil", "I have
been upon the hill"), and then share few runs of words. A shingle is therefore a run of four word *skeletons*:
vowels dropped together with u/v, i/j, y and h, which old spelling exchanges, doubled letters single, c/k/q and s/z one
letter. On Shakespeare's plays this raises the resemblance of the First Folio to a modern edition from
0.17-0.24 to 0.43-0.72, while no two different plays come above 0.01: any threshold between is safe.

**Search.** A MinHash signature estimates resemblance; locality-sensitive hashing over bands of it finds the
pairs worth comparing (Indyk & Motwani 1998; Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", ch. 3).
Containment has its own search: a fixed share of all shingles, chosen by their value, is indexed (Irber et al. 2022,
"FracMinHash"). Every pair found is then compared exactly, so that chance drops nothing.
"""

import hashlib
import re
import unicodedata
from array import array
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.core.progress import track
from groundup.core.seeding import numpy_rng
from groundup.corpus.dedup.hashing import Hashes, mix
from groundup.corpus.dedup.words import UNSPACED
from groundup.corpus.document import Document, Dropped

#: Words per shingle. With three, different plays reach 0.036; with five, folio and modern edition fall to 0.39.
SHINGLE_WORDS = 4
#: A document with fewer words than this has too few shingles to judge; only exact copies of it are found.
MINIMUM_WORDS = 20
#: 64 bands of 2 rows: a pair of resemblance 0.3 meets with probability 0.998, one of 0.01 with 0.006.
BANDS, ROWS = 64, 2
#: One shingle in this many is indexed in the search for containment.
SAMPLING = 8
#: Pairs that overlap less than this count as unrelated.
RELATED = 0.1


# --- exact duplicates -------------------------------------------------------------------------------------------------


def drop_exact_duplicates(documents: list[Document]) -> tuple[list[Document], list[Dropped]]:
    """Keep the first of the documents whose texts are equal but for case and white space."""
    first: dict[bytes, Document] = {}
    kept, dropped = [], []
    for document in documents:
        key = hashlib.sha256(" ".join(document.text.casefold().split()).encode("utf-8")).digest()
        if (original := first.setdefault(key, document)) is document:
            kept.append(document)
        else:
            dropped.append(Dropped.of(document, "exact duplicate", f"same text as {original.id}"))
    return kept, dropped


# --- shingles ---------------------------------------------------------------------------------------------------------

_WORD = re.compile(f"[{UNSPACED}]|[^\\W_{UNSPACED}]+(?:['’][^\\W_{UNSPACED}]+)*")
_SPACE = re.compile(r"\s")
_EXCHANGED = str.maketrans({**dict.fromkeys("aeiouæœvyjh'’"), "c": "k", "q": "k", "z": "s"})
_DOUBLED = re.compile(r"(.)\1+")


def skeleton(word: str) -> str:
    """What stays of a word when spelling changes: ``skeleton("Vpon") == skeleton("upon") == "pn"``.

    Words of vowels alone ("I", "you") have an empty skeleton and take no part in shingles.
    """
    letters = unicodedata.normalize("NFKD", word.lower()).replace("vv", "w")
    letters = "".join(letter for letter in letters if not unicodedata.combining(letter))
    if letters.isdecimal():
        return letters
    return _DOUBLED.sub(r"\1", letters.translate(_EXCHANGED))


class Vocabulary(dict[str, int]):
    """Word → 64-bit hash of its skeleton (0 for an empty one), remembered: a corpus repeats its words."""

    LIMIT = 1_000_000

    def __missing__(self, word: str) -> int:
        bones = skeleton(word)
        value = int.from_bytes(hashlib.blake2b(bones.encode("utf-8"), digest_size=8).digest(), "little") if bones else 0
        if len(self) < self.LIMIT:
            self[word] = value
        return value


def _words(text: str, piece: int = 1 << 20) -> Iterator[list[str]]:
    """The words of a text, in lists of bounded length: a book of 50 MB never is ten million strings at once."""
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + piece)
        end = space.start() if space else len(text)
        yield _WORD.findall(text, start, end)
        start = end


def skeleton_hashes(text: str, vocabulary: dict[str, int] | None = None) -> Hashes:
    """A hash for the skeleton of every word that has one, in order."""
    vocabulary = Vocabulary() if vocabulary is None else vocabulary
    pieces = [
        np.fromiter(map(vocabulary.__getitem__, words), dtype=np.uint64, count=len(words))
        for words in _words(text.lower())
    ]
    return np.concatenate([np.empty(0, dtype=np.uint64), *(piece[piece != 0] for piece in pieces)])


def shingles(text: str, vocabulary: dict[str, int] | None = None) -> Hashes:
    """Hashes of all runs of ``SHINGLE_WORDS`` word skeletons, sorted and unique; empty for a short text."""
    hashes = skeleton_hashes(text, vocabulary)
    if len(hashes) < MINIMUM_WORDS:
        return np.empty(0, dtype=np.uint64)
    runs = len(hashes) - SHINGLE_WORDS + 1
    keys = np.zeros(runs, dtype=np.uint64)
    for place in range(SHINGLE_WORDS):
        keys = mix(keys + hashes[place : place + runs])
    return np.unique(keys)


# --- MinHash ----------------------------------------------------------------------------------------------------------


def permutations(count: int = BANDS * ROWS) -> tuple[Hashes, Hashes]:
    """``count`` linear permutations x → a·x + b of the 64-bit numbers: odd factors a, and offsets b."""
    rng = numpy_rng(0, "corpus", "minhash")
    factors = rng.integers(0, 2**64, size=count, dtype=np.uint64) | np.uint64(1)
    return factors, rng.integers(0, 2**64, size=count, dtype=np.uint64)


def signature_plain(keys: Sequence[int], factors: Sequence[int], offsets: Sequence[int]) -> list[int]:
    """MinHash as the textbook has it: under each permutation, the smallest shingle.

    Two sets agree at one place of their signatures with probability equal to their resemblance, because
    under a random order each shingle of the union is equally likely to be the first.
    """
    return [min((a * key + b) % 2**64 for key in keys) for a, b in zip(factors, offsets, strict=True)]


def signature(keys: Hashes, factors: Hashes, offsets: Hashes, block: int = 4096) -> Hashes:
    """The same as ``signature_plain``, for a block of shingles and all permutations at once; shape [permutations]."""
    smallest = np.full(len(factors), 2**64 - 1, dtype=np.uint64)
    for start in range(0, len(keys), block):
        permuted = factors[:, None] * keys[None, start : start + block] + offsets[:, None]
        np.minimum(smallest, permuted.min(axis=1), out=smallest)
    return smallest


# --- which pairs to compare -------------------------------------------------------------------------------------------


def banded_pairs(signatures: Hashes) -> set[tuple[int, int]]:
    """Pairs of rows that agree in at least one band of ``ROWS`` columns.

    In a bucket of many, each is paired with the first and with the one before it: a chain through all
    members, and linear work where a thousand copies of one page meet.

    Args:
        signatures: shape [documents, BANDS * ROWS].
    """
    pairs: set[tuple[int, int]] = set()
    for band in range(0, signatures.shape[1], ROWS):
        keys = signatures[:, band]
        for column in range(band + 1, band + ROWS):
            keys = mix(keys) + signatures[:, column]
        pairs |= _linked(keys, np.arange(len(keys)))
    return pairs


def _linked(keys: Hashes, items: NDArray[np.int64]) -> set[tuple[int, int]]:
    """For items that share a key: (first, each) and (previous, each), smaller item first."""
    order = np.argsort(keys, kind="stable")
    ordered, keys = items[order], keys[order]
    repeats = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    if not len(repeats):
        return set()
    starts = np.r_[True, keys[1:] != keys[:-1]]
    first = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    lefts = np.r_[ordered[first[repeats]], ordered[repeats - 1]]
    rights = np.r_[ordered[repeats], ordered[repeats]]
    return {(min(a, b), max(a, b)) for a, b in zip(lefts.tolist(), rights.tolist(), strict=True) if a != b}


def containing_pairs(sets: Sequence[Hashes]) -> set[tuple[int, int]]:
    """Pairs (i, j) of which the smaller seems to lie, for at least half of ``RELATED``, inside the larger.

    The estimate counts the sampled shingles that the two share. A shingle of many documents is only counted for the
    largest of them with each of the others.
    """
    samples = [keys[keys < np.uint64(2**64 // SAMPLING)] for keys in sets]
    sizes = np.array([len(keys) for keys in sets])
    owners = np.repeat(np.arange(len(sets)), [len(sample) for sample in samples])
    keys = np.concatenate(samples) if samples else np.empty(0, dtype=np.uint64)
    order = np.lexsort((owners, -sizes[owners], keys))
    keys, owners = keys[order], owners[order]
    repeats = np.flatnonzero(keys[1:] == keys[:-1]) + 1
    starts = np.r_[True, keys[1:] != keys[:-1]] if len(keys) else np.empty(0, dtype=bool)
    first = np.maximum.accumulate(np.where(starts, np.arange(len(keys)), 0))
    larger, smaller = owners[first[repeats]], owners[repeats]
    codes, counts = np.unique(larger * len(sets) + smaller, return_counts=True)
    pairs = set()
    for code, count in zip(codes.tolist(), counts.tolist(), strict=True):
        large, small = divmod(code, len(sets))
        if count >= RELATED / 2 * len(samples[small]):
            pairs.add((min(large, small), max(large, small)))
    return pairs


# --- comparing and choosing -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Overlap:
    """How much two documents share, counted exactly over their shingles."""

    first: int
    second: int
    resemblance: float
    containment: float


def overlap(sets: Sequence[Hashes], first: int, second: int) -> Overlap:
    """Compare two documents exactly, in time that is linear in the smaller."""
    small, large = sorted((sets[first], sets[second]), key=len)
    if not len(small):
        return Overlap(first, second, 0.0, 0.0)
    places = np.minimum(np.searchsorted(large, small), len(large) - 1)
    shared = int(np.count_nonzero(large[places] == small))
    return Overlap(first, second, shared / (len(small) + len(large) - shared), shared / len(small))


class Clusters:
    """Union-find over 0 … count-1, with path halving."""

    def __init__(self, count: int) -> None:
        self._parent = array("q", range(count))

    def find(self, item: int) -> int:
        while self._parent[item] != item:
            self._parent[item] = item = self._parent[self._parent[item]]
        return item

    def union(self, first: int, second: int) -> None:
        first, second = sorted((self.find(first), self.find(second)))
        self._parent[second] = first

    def groups(self) -> list[list[int]]:
        """All clusters, each in order, sorted by their first member."""
        members: defaultdict[int, list[int]] = defaultdict(list)
        for item in range(len(self._parent)):
            members[self.find(item)].append(item)
        return list(members.values())


def shingle_sets(documents: Sequence[Document]) -> list[Hashes]:
    """``shingles`` of every document, with one shared vocabulary."""
    vocabulary = Vocabulary()
    return [
        shingles(document.text, vocabulary)
        for document in track(documents, "shingles", total=len(documents), unit="document")
    ]


def related_pairs(sets: Sequence[Hashes]) -> list[Overlap]:
    """Every pair found whose containment is at least ``RELATED``, compared exactly, in order."""
    judged = [index for index, keys in enumerate(sets) if len(keys)]
    factors, offsets = permutations()
    rows = [signature(sets[i], factors, offsets) for i in track(judged, "MinHash", total=len(judged), unit="document")]
    candidates = containing_pairs(sets)
    if rows:
        candidates |= {(judged[a], judged[b]) for a, b in banded_pairs(np.stack(rows))}
    compared = (overlap(sets, *pair) for pair in sorted(candidates))
    return [pair for pair in compared if pair.containment >= RELATED]


def drop_near_duplicates(
    documents: list[Document], resemblance: float, containment: float
) -> tuple[list[Document], list[Dropped], list[list[str]]]:
    """Keep one of every set of documents that say the same.

    In each cluster the longest document is kept, or the first in order among those at least four fifths as
    long: so the order of a corpus expresses which edition is preferred, but no fragment displaces a whole.
    Then the same among those left that do not resemble it, until none is left. Hence every dropped
    document resembles, or lies inside, one that was kept, which its ``detail`` names.

    Args:
        resemblance, containment: thresholds; either suffices.

    Returns:
        Kept documents in their order, dropped ones, and ids of kept documents grouped so that documents of different
        groups share less than ``RELATED`` (a poem that two collections print): what a split must not part.
    """
    sets = shingle_sets(documents) if len(documents) > 1 else [np.empty(0, dtype=np.uint64) for _ in documents]
    pairs = related_pairs(sets)

    def duplicate(pair: Overlap) -> bool:
        return pair.resemblance >= resemblance or pair.containment >= containment

    clusters, relatives = Clusters(len(documents)), Clusters(len(documents))
    for pair in pairs:
        relatives.union(pair.first, pair.second)
        if duplicate(pair):
            clusters.union(pair.first, pair.second)

    dropped: dict[int, Dropped] = {}
    for group in clusters.groups():
        while group:
            longest = max(len(sets[index]) for index in group)
            chosen = next(index for index in group if len(sets[index]) >= 0.8 * longest)
            others = [overlap(sets, chosen, index) for index in group if index != chosen]
            for other in filter(duplicate, others):
                detail = (
                    f"resemblance {other.resemblance:.2f}, containment {other.containment:.2f} "
                    f"with {documents[chosen].id}"
                )
                dropped[other.second] = Dropped.of(documents[other.second], "near duplicate", detail)
            group = [other.second for other in others if not duplicate(other)]

    groups = [[documents[index].id for index in group if index not in dropped] for group in relatives.groups()]
    kept = [document for index, document in enumerate(documents) if index not in dropped]
    return kept, [dropped[index] for index in sorted(dropped)], [group for group in groups if group]
