"""Near duplicates in a corpus of any size: MinHash signatures whose bands meet on disk.

Two documents resemble each other as far as their sets of shingles (runs of words) overlap: J = |A ∩ B| / |A ∪ B|.
Their MinHash signatures agree at any one place with probability J (Broder 1997). Cut into ``bands`` of ``rows`` places,
two signatures agree in at least one whole band with probability 1 - (1 - J^rows)^bands: nearly never for a small J,
nearly always for a large one (Indyk & Motwani 1998; Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", ch. 3;
``collision_probability``). Pairs that meet so are then judged by all places of their signatures.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.core import compiled
from groundup.core.errors import UsageError
from groundup.core.files import atomic_file, atomic_folder
from groundup.core.seeding import numpy_rng
from groundup.corpus.dedup.collection import Clusters, Vocabulary, skeleton_hashes
from groundup.corpus.dedup.cross import CrossStep, Integers, Repeated, Sketch, Verdicts, Words32, Workspace, open_array
from groundup.corpus.dedup.hashing import STEP, Hashes, mix, run_hashes
from groundup.corpus.dedup.words import small_letters, word_hashes
from groundup.corpus.document import Document, Dropped

#: In a bucket of at most so many documents all pairs are judged; in a larger one each with the first and the last one.
SMALL_BUCKET = 16
#: Of documents at least this share as long as the longest, the first is kept: order tells preference.
ABOUT_AS_LONG = 0.8
_PAIRS_TOGETHER = 1 << 15
_KERNELS = "groundup.corpus.dedup.kernels.minhash"
_NOTHING = np.uint32(2**32 - 1)


@dataclass(frozen=True)
class MinHashConfig:
    """What counts as a near duplicate, and how surely it is found."""

    words: Literal["plain", "skeleton"] = "plain"
    """What shingles are made of: words in small letters, or their skeletons, which see through old spelling."""
    ngram: int = 5
    """Words per shingle."""
    bands: int = 14
    """Chances to meet; see rows."""
    rows: int = 8
    """Places that must agree for documents to meet in a band: 14 x 8 finds pairs of resemblance 0.8 with
    probability 0.92, 0.7 with 0.56, 0.5 with 0.05; 64 x 2 finds 0.3 with 0.998."""
    similarity: float = 0.7
    """Of documents that met, those resemble each other whose signatures agree at this share of the places; with 0 it
    suffices that they met."""
    keep: Literal["first", "longest"] = "first"
    """Which one stays."""
    min_words: int = 20
    """Shorter documents are not judged."""

    def __post_init__(self) -> None:
        for name, least in (("ngram", 1), ("bands", 1), ("rows", 1), ("min_words", 1)):
            if getattr(self, name) < least:
                raise UsageError(f"corpus.minhash.{name} is {getattr(self, name)}; it must be at least {least}")
        if not 0.0 <= self.similarity <= 1.0:
            raise UsageError(f"corpus.minhash.similarity is {self.similarity}; it must be from 0 to 1")
        for name, choices in (("words", ("plain", "skeleton")), ("keep", ("first", "longest"))):
            if getattr(self, name) not in choices:
                raise UsageError(f"corpus.minhash.{name} is {getattr(self, name)!r}; use {' or '.join(choices)}")

    @property
    def permutations(self) -> int:
        """Places of a signature."""
        return self.bands * self.rows


# --- signatures -------------------------------------------------------------------------------------------------------

_text_signature = compiled.Kernel(
    f"{_KERNELS}:text_signature",
    "i64",
    *("u8*", "i64", "u32*", "u64*", "u32*", "i64", "i64", "u32*", "u32*", "i64", "u32*"),
)
_sign = compiled.Kernel(f"{_KERNELS}:sign", "i64", "u32*", "i64", "u32*", "u32*", "i64", "u32*")
_band = compiled.Kernel(f"{_KERNELS}:band", "i64", "u32*", "i64", "i64", "u64*")


@cache
def permutations32(count: int) -> tuple[Words32, Words32]:
    """``count`` linear permutations x → a·x + b of the 32-bit numbers: odd factors a, and offsets b."""
    rng = numpy_rng(0, "corpus", "minhash", 32)
    factors = rng.integers(0, 2**32, size=(2, count), dtype=np.uint32)
    return factors[0] | np.uint32(1), factors[1]


def shingle_keys(hashes: Hashes, ngram: int) -> Words32:
    """A 32-bit key for every run of ``ngram`` words; empty where there are fewer words."""
    return (run_hashes(hashes, ngram) >> np.uint64(32)).astype(np.uint32)


def signature_of_keys(keys: Words32, count: int) -> Words32:
    """The smallest key under each of ``count`` permutations; the largest number there is where no key is."""
    factors, offsets = permutations32(count)
    smallest = np.full(count, _NOTHING, dtype=np.uint32)
    if compiled.available():
        _sign(np.ascontiguousarray(keys), len(keys), factors, offsets, count, smallest)
        return smallest
    for start in range(0, len(keys), 4096):
        permuted = factors[:, None] * keys[None, start : start + 4096] + offsets[:, None]
        np.minimum(smallest, permuted.min(axis=1), out=smallest)
    return smallest


def text_signature(text: str, config: MinHashConfig) -> tuple[Words32, int]:
    """(signature of a text, number of its shingles); a text that is too short to be judged has none."""
    least = max(config.min_words, config.ngram)
    if config.words == "plain" and compiled.available():
        return _compiled_signature(text, config, least)
    hashes = word_hashes(text) if config.words == "plain" else skeleton_hashes(text, _vocabulary())
    keys = shingle_keys(hashes if len(hashes) >= least else hashes[:0], config.ngram)
    return signature_of_keys(keys, config.permutations), len(keys)


def _compiled_signature(text: str, config: MinHashConfig, least: int) -> tuple[Words32, int]:
    """From the text to the signature in one call."""
    data = text.encode("utf-8", "surrogatepass")
    most = len(data) // 2 + 2
    hashes, scratch = np.empty(most, dtype=np.uint64), np.empty(most, dtype=np.uint32)
    smallest = np.full(config.permutations, _NOTHING, dtype=np.uint32)
    small, factors, offsets = _constants(config.permutations)
    count = _text_signature(
        *(data, len(data), small, hashes, scratch, config.ngram, least),
        *(factors, offsets, config.permutations, smallest),
    )
    return smallest, count


@cache
def _constants(permutations: int) -> tuple[Any, ...]:
    """Addresses of what every call needs; its arrays are kept alive by the caches of their functions."""
    return compiled.pointers(small_letters(), *permutations32(permutations))


@cache
def _vocabulary() -> Vocabulary:
    """The words that this process has met."""
    return Vocabulary()


def band_keys(signature: Words32, bands: int, rows: int) -> Hashes:
    """A hash for each band of a signature, which also tells one band's number from another's; shape [bands]."""
    if compiled.available():
        keys = np.empty(bands, dtype=np.uint64)
        _band(np.ascontiguousarray(signature), bands, rows, keys)
        return keys
    keys = np.arange(1, bands + 1, dtype=np.uint64)
    for column in signature.reshape(bands, rows).T:
        keys = keys * np.uint64(STEP) + column
    return mix(keys)


# --- the probability to meet ------------------------------------------------------------------------------------------


def collision_probability(similarity: Any, bands: int, rows: int) -> Any:
    """The probability that two documents of this resemblance (a number or an array) agree in at least one band."""
    return 1.0 - (1.0 - similarity**rows) ** bands


def draw_collision_probability(
    path: Path, settings: Mapping[str, tuple[int, int]], measured: Mapping[str, NDArray[np.float64]] | None = None
) -> None:
    """Draw, as SVG, which pairs meet under each setting.

    Args:
        settings: label → (bands, rows); one curve each.
        measured: label → points to draw beside the curve of that label; shape [points, 2]: resemblance, share found.
    """
    import matplotlib
    from matplotlib.figure import Figure

    similarity = np.linspace(0.0, 1.0, 401)
    with matplotlib.rc_context({"svg.fonttype": "path", "svg.hashsalt": "groundup", "font.size": 9}):
        figure = Figure(figsize=(5.2, 3.2), layout="constrained")
        axes = figure.subplots()
        for label, (bands, rows) in settings.items():
            (line,) = axes.plot(similarity, collision_probability(similarity, bands, rows), label=label)
            points = (measured or {}).get(label)
            if points is not None:
                axes.plot(points[:, 0], points[:, 1], "o", markersize=4, color=line.get_color())
        axes.set(xlabel="resemblance of two documents", ylabel="probability to meet", xlim=(0, 1), ylim=(0, 1.02))
        axes.grid(alpha=0.3)
        axes.legend(frameon=False)
        with atomic_file(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


# --- the step ---------------------------------------------------------------------------------------------------------


class MinHash(CrossStep):
    """Keeps one of every set of documents that say nearly the same.

    Documents that resemble each other form clusters. In each the first is kept (or the longest: the first of those
    about as long) and those that resemble it leave; then the same among the rest. So every document that leaves
    resembles one that stays. Those that stay carry the fact ``cluster`` where others of theirs stay as well:
    what a split must not part.
    """

    name = "near duplicates"

    def __init__(self, config: MinHashConfig) -> None:
        self.config = config

    @cached_property
    def _needed(self) -> int:
        """At how many places signatures must agree."""
        return int(np.ceil(self.config.similarity * self.config.permutations - 1e-9))

    def sketch(self, document: Document) -> Sketch:
        signature, size = text_signature(document.text, self.config)
        bands = self.config.bands if size else 0
        keys = band_keys(signature, self.config.bands, self.config.rows)[:bands]
        places = np.arange(bands, dtype=np.uint32)
        return Sketch(keys, np.zeros_like(places), places, np.append(signature, np.uint32(size)))

    def repeated(self, workspace: Workspace, groups: Repeated) -> Integers:
        """Columns: document, an earlier one that it resembles, at how many places their signatures agree."""
        later, earlier = _pairs(groups)
        agreeing = np.full(len(later), self.config.permutations, dtype=np.int64)
        if self._needed:
            for start in range(0, len(later), _PAIRS_TOGETHER):
                chunk = slice(start, start + _PAIRS_TOGETHER)
                agreeing[chunk] = _agreeing(workspace, later[chunk], earlier[chunk])
        found = agreeing >= self._needed
        return np.stack([later[found], earlier[found], agreeing[found]])

    def settle(self, workspace: Workspace) -> None:
        """Decide which document of each cluster stays; takes memory for the pairs, not for all documents."""
        if workspace.decisions.exists():
            return
        pairs = [open_array(workspace.repetitions(bucket))[:2] for bucket in range(workspace.buckets)]
        dropped: list[tuple[int, int, int]] = []
        clusters: list[tuple[int, int]] = []
        for members in _clusters(np.concatenate(pairs, axis=1)):
            left = self._settle_cluster(workspace, members, dropped)
            clusters += [(document, int(members[0])) for document in left if len(left) > 1]
        with atomic_folder(workspace.decisions) as folder:
            np.save(folder / "dropped.npy", np.array(sorted(dropped), dtype=np.int64).reshape(-1, 3))
            np.save(folder / "clusters.npy", np.array(sorted(clusters), dtype=np.int64).reshape(-1, 2))

    def _settle_cluster(
        self, workspace: Workspace, members: Integers, dropped: list[tuple[int, int, int]]
    ) -> list[int]:
        """Add to ``dropped`` (document, the one that stays for it, places that agree); return those that stay."""
        rows = workspace.rows(members)
        stay: list[int] = []
        while len(members):
            sizes = rows[:, -1]
            about = ABOUT_AS_LONG * sizes.max() if self.config.keep == "longest" else 0
            chosen = int(np.argmax(sizes >= about))
            agreeing = np.count_nonzero(rows[:, :-1] == rows[chosen, :-1], axis=1)
            same = agreeing >= self._needed
            same[chosen] = False
            kept = int(members[chosen])
            dropped += [(int(d), kept, int(n)) for d, n in zip(members[same], agreeing[same], strict=True)]
            stay.append(kept)
            same[chosen] = True
            members, rows = members[~same], rows[~same]
        return stay

    def verdicts(self, workspace: Workspace, shard: int) -> Verdicts:
        return _MinHashVerdicts(workspace, shard, self.config.permutations)


class _MinHashVerdicts(Verdicts):
    def __init__(self, workspace: Workspace, shard: int, permutations: int) -> None:
        self._workspace = workspace
        self._permutations = permutations
        start, stop = workspace.starts[shard : shard + 2]
        dropped, clusters = (open_array(workspace.decisions / f"{name}.npy") for name in ("dropped", "clusters"))
        first, last = np.searchsorted(dropped[:, 0], (start, stop))
        self._dropped = {int(d) - start: (int(kept), int(n)) for d, kept, n in dropped[first:last]}
        first, last = np.searchsorted(clusters[:, 0], (start, stop))
        self._clusters = {int(d) - start: int(cluster) for d, cluster in clusters[first:last]}

    def __call__(self, position: int, document: Document) -> Document | Dropped:
        if position in self._dropped:
            kept, agreeing = self._dropped[position]
            detail = f"resemblance {agreeing / self._permutations:.2f}, estimated, with {self._workspace.id_of(kept)}"
            return Dropped.of(document, "near duplicate", detail)
        if position in self._clusters:
            cluster = self._workspace.id_of(self._clusters[position])
            return replace(document, facts={**document.facts, "cluster": cluster})
        return document


def _pairs(groups: Repeated) -> tuple[Integers, Integers]:
    """(later, earlier) documents of every pair to judge, each once."""
    entries = np.arange(len(groups.firsts))
    sizes = np.bincount(groups.firsts, minlength=len(entries))[groups.firsts] if len(entries) else entries
    later, earlier = [entries], [groups.firsts]
    for distance in range(1, SMALL_BUCKET):
        one = entries[distance:]
        together = groups.firsts[one] == groups.firsts[one - distance]
        if distance > 1:
            together &= sizes[one] <= SMALL_BUCKET
        later.append(one[together])
        earlier.append(one[together] - distance)
    pairs = np.stack([groups.documents[np.concatenate(later)], groups.documents[np.concatenate(earlier)]])
    pairs = np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
    return pairs[0], pairs[1]


def _agreeing(workspace: Workspace, later: Integers, earlier: Integers) -> Integers:
    """At how many places the signatures of each pair agree."""
    documents, places = np.unique(np.concatenate([later, earlier]), return_inverse=True)
    rows = workspace.rows(documents)[:, :-1]
    one, other = places[: len(later)], places[len(later) :]
    return np.count_nonzero(rows[one] == rows[other], axis=1)


def _clusters(pairs: Integers) -> list[Integers]:
    """Connected documents, in order."""
    documents, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    clusters = Clusters(len(documents))
    for later, earlier in zip(places[0].tolist(), places[1].tolist(), strict=True):
        clusters.union(later, earlier)
    return [documents[group] for group in clusters.groups()]
