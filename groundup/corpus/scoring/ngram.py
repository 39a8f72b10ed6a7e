"""How words follow each other in good text → how surprising another text is.

An interpolated Kneser-Ney model (Kneser & Ney 1995) over the hashed words of ``words``, with one discount per order by
Ney, Essen & Kneser (1994), D = n1 / (n1 + 2 n2). It is what CCNet (Wenzek et al. 2020) filters by: text whose words
rarely follow each other that way (menus, lists, broken encodings, another language) has a high perplexity; text that
says the same again and again has a low one.

Each level k = 1 … order adds to what the level below says after one word less of context::

    p_k(w | h) = max(c(h w) - D, 0) / c(h) + D · t(h) / c(h) · p_{k-1}(w | h without its oldest word)

where t(h) is how many distinct words followed h; p_0 = 1 / (vocabulary + 1), whose one more is every unknown word. At
the highest level c counts occurrences, below it distinct words before the n-gram. N-grams are told apart by 64-bit
hashes, so that the model is three sorted tables per level, and two n-grams are mixed up once in 10^19 pairs.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.core.files import atomic_folder, read_json, write_json
from groundup.core.progress import track
from groundup.corpus.scoring.words import Hashes, ngram_hashes, word_hashes

Floats = NDArray[np.float64]
FORMAT = "groundup n-gram model 1"
_TABLES, _ABOUT = "tables.safetensors", "ngram.json"
#: A text begins after this word, which is a context and never predicted.
_BEGINNING = np.uint64(0x6A09E667F3BCC908)
#: Where counts are too few to estimate a discount.
_FALLBACK = 0.5


@dataclass(frozen=True)
class _Level:
    """The n-grams of one length, sorted by hash, and the contexts that they follow."""

    grams: Hashes
    """[n-grams]"""
    probability: NDArray[np.float32]
    """[n-grams]: (c(h w) - D) / c(h)."""
    contexts: Hashes
    """[contexts]"""
    backoff: NDArray[np.float32]
    """[contexts]: the share that discounting took away."""

    @classmethod
    def of(cls, grams: Hashes, counts: Floats, contexts: Hashes) -> "_Level":
        """
        Args:
            grams: [n-grams], sorted and distinct.
            contexts: [n-grams]: the hash of each one without its last word.
        """
        once, twice = int((counts == 1).sum()), int((counts == 2).sum())
        discount = once / (once + 2 * twice) if once and twice else _FALLBACK
        distinct, place, followers = np.unique(contexts, return_inverse=True, return_counts=True)
        totals = np.bincount(place, counts)
        probability = (counts - discount) / totals[place]
        return cls(grams, probability.astype(np.float32), distinct, (discount * followers / totals).astype(np.float32))


class NgramModel:
    """A fitted model; ``fit`` makes one."""

    def __init__(self, levels: tuple[_Level, ...], percentiles: Mapping[str, Sequence[float]] | None = None) -> None:
        """
        Args:
            percentiles: of the perplexities of "good" texts that were held out and of "bad" ones, 1 to 99 per cent.
        """
        self._levels = levels
        self.percentiles = percentiles or {}

    @property
    def order(self) -> int:
        return len(self._levels)

    @property
    def vocabulary(self) -> int:
        """How many distinct words it has seen."""
        return int(self._levels[0].grams.size)

    @classmethod
    def fit(cls, texts: Iterable[str], order: int = 3) -> "NgramModel":
        """Count the n-grams of ``texts``, all of which are held in memory as hashes (8 bytes a word).

        Raises:
            DataError: there is no word.
            UsageError: an impossible order.
        """
        if not 1 <= order <= 5:
            raise UsageError(f"an n-gram model of order {order} is not offered; use 1 to 5")
        streams = [_stream(text) for text in track(texts, "reading", unit="texts")]
        if not any(stream.size > 1 for stream in streams):
            raise DataError("no word to fit an n-gram model on; give it at least one text with words")
        levels: list[_Level] = []
        above: tuple[Hashes, Hashes] | None = None  # n-grams of one word more, and each without its oldest word
        for length in range(order, 0, -1):
            levels.insert(0, _level(streams, length, above))
            above = _distinct_suffixes(streams, length)
        return cls(tuple(levels))

    def log2_probabilities(self, text: str) -> Floats:
        """log2 p(word | the words before it) of each word: shape [words]."""
        stream = _stream(text)
        probability = np.full(stream.size - 1, 1 / (self.vocabulary + 1))
        for length, level in enumerate(self._levels, start=1):
            grams, contexts = _ends(stream, length), _contexts(stream, length)
            skipped = stream.size - 1 - grams.size  # the first words have not so long a context
            seen = _look_up(level.grams, level.probability, grams, 0.0)
            taken = _look_up(level.contexts, level.backoff, contexts, 1.0)
            probability[skipped:] = seen + taken * probability[skipped:]
        return np.log2(probability)

    def perplexity(self, text: str) -> float:
        """2 to the mean surprise of a word in bits; infinite for a text without words."""
        bits = self.log2_probabilities(text)
        return float(2.0 ** -bits.mean()) if bits.size else float("inf")

    def with_percentiles(self, of: Mapping[str, Iterable[str]]) -> "NgramModel":
        """The model, with the percentiles of the perplexities of each class of texts, which it has not seen."""
        spread = {}
        for name, texts in of.items():
            values = [value for value in map(self.perplexity, texts) if np.isfinite(value)]
            if values:
                spread[name] = np.round(np.percentile(values, np.arange(1, 100)), 3).tolist()
        return NgramModel(self._levels, spread)

    def at_percentile(self, name: str, percentile: float) -> float:
        """The perplexity that so many per cent, 1 to 99, of the texts of a class stay below.

        Raises:
            ArtifactError: the model was made without such texts.
        """
        if name not in self.percentiles:
            raise ArtifactError(f"the n-gram model was made without {name} texts to compare; train it again with some")
        return float(np.interp(percentile, np.arange(1, 100), self.percentiles[name]))

    def save(self, path: Path) -> None:
        """Write the folder ``path``: tables as safetensors, the rest as JSON."""
        tables = {
            f"{length}.{name}": getattr(level, name)
            for length, level in enumerate(self._levels, start=1)
            for name in ("grams", "probability", "contexts", "backoff")
        }
        with atomic_folder(path) as folder:
            save_file(tables, folder / _TABLES)
            about = {"format": FORMAT, "order": self.order, "percentiles": self.percentiles}
            write_json(folder / _ABOUT, about)

    @classmethod
    def open(cls, path: Path) -> "NgramModel":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: the folder is missing or holds something else.
        """
        about = read_json(path / _ABOUT) if (path / _ABOUT).is_file() else None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ArtifactError(
                f"{path} holds no n-gram model; make one with `groundup corpus train-classifier --ngram`"
            )
        try:
            tables = load_file(path / _TABLES)
            return cls(
                tuple(
                    _Level(*(tables[f"{length}.{name}"] for name in ("grams", "probability", "contexts", "backoff")))
                    for length in range(1, int(about["order"]) + 1)
                ),
                _percentiles(about),
            )
        except (SafetensorError, OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArtifactError(f"the n-gram model {path} is damaged ({error}); train it again") from error


def _percentiles(about: Mapping[str, Any]) -> dict[str, list[float]]:
    found = {str(name): [float(value) for value in values] for name, values in about.get("percentiles", {}).items()}
    if any(len(values) != 99 for values in found.values()):
        raise ValueError("of the percentiles some are missing")
    return found


def _stream(text: str) -> Hashes:
    """The words of a text behind its beginning: shape [words + 1]."""
    return np.concatenate([np.array([_BEGINNING]), word_hashes(text)])


def _ends(stream: Hashes, length: int) -> Hashes:
    """The n-grams that end in a word; the beginning is none."""
    return ngram_hashes(stream, length)[1 if length == 1 else 0 :]


def _contexts(stream: Hashes, length: int) -> Hashes:
    """Each such n-gram without its last word; that of a single word is 0."""
    if length == 1:
        return np.zeros(stream.size - 1, np.uint64)
    return ngram_hashes(stream, length - 1)[:-1]


def _level(streams: list[Hashes], length: int, above: tuple[Hashes, Hashes] | None) -> _Level:
    """Count the n-grams of ``length`` words: occurrences, or distinct words before them where there is a level above.

    What begins a text has no word before it, and keeps its occurrences.
    """
    ends = np.concatenate([_ends(stream, length) for stream in streams])
    contexts = np.concatenate([_contexts(stream, length) for stream in streams])
    grams, first, occurrences = np.unique(ends, return_index=True, return_counts=True)
    counts = occurrences.astype(np.float64)
    if above is not None:
        suffixes, preceded = np.unique(above[1], return_counts=True)
        place = np.minimum(np.searchsorted(suffixes, grams), max(0, suffixes.size - 1))
        if suffixes.size:
            counts = np.where(suffixes[place] == grams, preceded[place], counts)
    return _Level.of(grams, counts, contexts[first])


def _distinct_suffixes(streams: list[Hashes], length: int) -> tuple[Hashes, Hashes]:
    """The distinct n-grams of ``length`` words, and each one without its oldest word."""
    if length == 1:
        return np.zeros(0, np.uint64), np.zeros(0, np.uint64)
    ends = np.concatenate([_ends(stream, length) for stream in streams])
    suffixes = np.concatenate([ngram_hashes(stream[1:], length - 1) for stream in streams])
    grams, first = np.unique(ends, return_index=True)
    return grams, suffixes[first]


def _look_up(keys: Hashes, values: NDArray[np.float32], wanted: Hashes, missing: float) -> Floats:
    """The value of each wanted key, ``missing`` where it is none: shape [wanted]."""
    place = np.minimum(np.searchsorted(keys, wanted), keys.size - 1)
    return np.where(keys[place] == wanted, values[place], missing).astype(np.float64)
