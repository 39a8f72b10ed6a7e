"""Near duplicates in a corpus of any size: MinHash signatures whose bands meet on disk.

Two documents resemble each other as far as their sets of shingles (runs of words) overlap: J = |A ∩ B| / |A ∪ B|.
Their MinHash signatures agree at any one place with probability J (Broder 1997). Cut into ``bands`` of ``rows`` places,
two signatures agree in at least one whole band with probability 1 - (1 - J^rows)^bands: nearly never for a small J,
nearly always for a large one (Indyk & Motwani 1998; Leskovec, Rajaraman & Ullman, "Mining of Massive Datasets", ch. 3;
``collision_probability``). So bands that let nearly all resembling pairs meet, and others too, come first; pairs that
met are then judged by their *fingerprints*, which tell resemblance apart far more finely than the signatures could.

A fingerprint is a MinHash of one permutation (Li, Owen & Zhang 2012, "One permutation hashing"): the numbers are
divided into ``PLACES`` ranges, and the smallest shingle of each is kept, of which eight bits are enough (Li & König
2010, "b-bit minwise hashing"). It takes the bytes of 128 places of a signature and a fraction of their time, and draws
shingles without putting them back, so that documents of a few hundred are compared nearly exactly.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from groundup.core import compiled
from groundup.core.errors import UsageError
from groundup.core.files import atomic_file
from groundup.core.seeding import numpy_rng
from groundup.corpus.dedup.collection import Vocabulary, skeleton_hashes
from groundup.corpus.dedup.cross import Integers, Repeated, Sketch, Words32, Workspace
from groundup.corpus.dedup.hashing import STEP, Hashes, mix, run_hashes
from groundup.corpus.dedup.near import Keep, NearStep
from groundup.corpus.dedup.words import small_letters, word_hashes
from groundup.corpus.document import Document

#: In a bucket of at most so many documents all pairs are judged; in a larger one each with the first and the one before
#: it.
SMALL_BUCKET = 16
#: Places of a fingerprint, of a byte each; a power of two.
PLACES = 512
_KERNELS = "groundup.corpus.dedup.kernels.minhash"
_NOTHING = np.uint32(2**32 - 1)

Marks = NDArray[np.uint8]


@dataclass(frozen=True)
class MinHashConfig:
    """What counts as a near duplicate, and how surely it is found."""

    words: Literal["plain", "skeleton"] = "plain"
    """What shingles are made of: words in small letters, or their skeletons, which see through old spelling."""
    ngram: int = 5
    """Words per shingle."""
    bands: int = 20
    """Chances to meet; see rows."""
    rows: int = 6
    """Places that must agree for documents to meet in a band: 20 x 6 lets pairs of resemblance 0.8 meet with
    probability 0.998, 0.7 with 0.92, 0.5 with 0.27; 14 x 8, as in FineWeb, 0.92, 0.56, 0.05; 64 x 2 0.3 with 0.998."""
    similarity: float = 0.7
    """Of documents that met, those resemble each other that share this part of their shingles, as their fingerprints
    say; with 0 it suffices that they met, as in FineWeb."""
    keep: Keep = "first"
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

_text_sketch = compiled.Kernel(
    f"{_KERNELS}:text_sketch",
    "i64",
    *("u8*", "i64", "u32*", "u64*", "u32*", "i64", "i64", "u32*", "u32*"),
    *("i64", "i64", "u32*", "u64*", "u32*", "i64", "u8*"),
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


def fingerprint(keys: Words32) -> Marks:
    """Of the smallest key of each range a number from 1 to 255, and 0 where there is none; shape [PLACES]."""
    smallest = np.full(PLACES, _NOTHING, dtype=np.uint32)
    np.minimum.at(smallest, keys // np.uint32(2**32 // PLACES), keys)
    return np.where(smallest == _NOTHING, 0, smallest % np.uint32(255) + np.uint32(1)).astype(np.uint8)


def resemblance(one: Marks, other: Marks) -> NDArray[np.float64]:
    """The resemblance of documents by their fingerprints, estimated without bias; the last dimension is the places.

    Of the places at which somebody has a key, the share at which both have the same one; one in 255 of those at which
    they have different ones looks the same.
    """
    both = np.count_nonzero((one != 0) & (other != 0), axis=-1)
    either = np.count_nonzero((one != 0) | (other != 0), axis=-1)
    agreeing = np.count_nonzero((one == other) & (one != 0), axis=-1)
    return np.maximum(255 * agreeing - both, 0) / 254 / np.maximum(either, 1)


def text_sketch(text: str, config: MinHashConfig) -> tuple[Hashes, Marks, int]:
    """(keys of a text's bands, fingerprint, number of its shingles); one that is too short to be judged has none."""
    least = max(config.min_words, config.ngram)
    if config.words == "plain" and compiled.available():
        return _compiled_sketch(text, config, least)
    hashes = word_hashes(text) if config.words == "plain" else skeleton_hashes(text, _vocabulary())
    keys = shingle_keys(hashes if len(hashes) >= least else hashes[:0], config.ngram)
    bands = band_keys(signature_of_keys(keys, config.permutations), config.bands, config.rows)
    return bands[: config.bands if len(keys) else 0], fingerprint(keys), len(keys)


def _compiled_sketch(text: str, config: MinHashConfig, least: int) -> tuple[Hashes, Marks, int]:
    """From the text to its sketch in one call."""
    data = text.encode("utf-8", "surrogatepass")
    most = len(data) // 2 + 2
    hashes, scratch = np.empty(most, dtype=np.uint64), np.empty(most, dtype=np.uint32)
    smallest, lowest = (np.full(count, _NOTHING, dtype=np.uint32) for count in (config.permutations, PLACES))
    keys, marks = np.empty(config.bands, dtype=np.uint64), np.zeros(PLACES, dtype=np.uint8)
    small, factors, offsets = _constants(config.permutations)
    count = _text_sketch(
        *(data, len(data), small, hashes, scratch, config.ngram, least, factors, offsets),
        *(config.bands, config.rows, smallest, keys, lowest, PLACES, marks),
    )
    return keys[: config.bands if count else 0], marks, count


@cache
def _constants(permutations: int) -> tuple[Any, ...]:
    """Addresses of what every call needs; its arrays are kept alive by the caches of their functions."""
    return compiled.pointers(small_letters(), *permutations32(permutations))


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


class MinHash(NearStep):
    """Keeps one of every set of documents that resemble each other; see ``NearStep``."""

    name = "near duplicates"
    reason = "near duplicate"
    scale = "estimated resemblance"

    def __init__(self, config: MinHashConfig) -> None:
        super().__init__(config.similarity, config.keep)
        self.config = config

    def sketch(self, document: Document) -> Sketch:
        keys, marks, shingles = text_sketch(document.text, self.config)
        places = np.arange(len(keys), dtype=np.uint32)
        row = np.append(marks.view(np.uint32), np.uint32(shingles))
        return Sketch(keys, np.zeros_like(places), places, row)

    def repeated(self, workspace: Workspace, groups: Repeated) -> Integers:
        """Columns: document, an earlier one that it resembles."""
        pairs = _pairs(groups)
        return pairs[:, self.alike(self.compare(workspace, *pairs))] if self.least else pairs

    def likeness(self, workspace: Workspace, rows: Words32, one: Integers, other: Integers) -> NDArray[np.float64]:
        fingerprints = np.ascontiguousarray(rows[:, :-1]).view(np.uint8)
        return resemblance(fingerprints[one], fingerprints[other])


def _pairs(groups: Repeated) -> Integers:
    """(later, earlier) documents of every pair to judge, each once; shape [2, pairs]."""
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
    return np.unique(pairs[:, pairs[0] != pairs[1]], axis=1)
