"""Good and bad texts → a linear classifier over hashed words and pairs of words.

The model is that of fastText (Joulin et al., "Bag of tricks for efficient text classification", 2017) with its two
layers folded into one, which for two classes loses nothing: the mean of its n-grams' weights, plus a bias, is the
log-odds that a text is good. An n-gram's weight is found by its hash (Weinberger et al., "Feature hashing for large
scale multitask learning", 2009). Training minimises the mean logistic loss plus ``l2``/2 · Σ w² by AdaGrad (Duchi et
al. 2011) over shuffled batches: a convex problem, so what comes out does not hang on luck.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.core.files import atomic_folder, read_json, write_json
from groundup.core.progress import track
from groundup.core.seeding import numpy_rng
from groundup.corpus.scoring.judging import Report
from groundup.corpus.scoring.words import ngram_hashes, word_hashes

Features: TypeAlias = NDArray[np.int32]
Floats: TypeAlias = NDArray[np.float64]

FORMAT = "groundup text classifier 1"
_WEIGHTS, _ABOUT = "weights.safetensors", "classifier.json"
#: A class has at least so many texts, or nothing can be learnt and held out.
FEWEST_TEXTS = 10


@dataclass(frozen=True)
class TrainingConfig:
    """How a classifier is made from examples."""

    order: int = 2
    """Words in the longest n-gram; 1 to 4."""
    buckets: int = 1 << 20
    """Weights, which n-grams share by their hash; a power of two."""
    characters: int = 20_000
    """How much of the beginning of a text is read; 0: all."""
    epochs: int = 10
    """How often each example is seen."""
    batch: int = 128
    """Examples per step."""
    learning_rate: float = 8.0
    """Step size of AdaGrad at the beginning; it falls to zero."""
    l2: float = 2e-8
    """Strength of the pull of all weights to zero."""
    held_out: float = 0.1
    """Share of the examples that is kept for the report."""

    def __post_init__(self) -> None:
        limits = {"order": (1, 4), "epochs": (1, 10_000), "batch": (1, 1 << 20), "characters": (0, 1 << 40)}
        for name, (least, most) in limits.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"{name} is {getattr(self, name)}; use {least} to {most}")
        if not 16 <= self.buckets <= 1 << 28 or self.buckets & (self.buckets - 1):
            raise UsageError(f"buckets is {self.buckets}; use a power of two from 16 to {1 << 28}")
        if self.learning_rate <= 0 or self.l2 < 0:
            raise UsageError("learning_rate must be above 0, and l2 not below")
        if not 0 < self.held_out < 1:
            raise UsageError(f"held_out is {self.held_out}; use a share between 0 and 1")


class Classifier:
    """A trained classifier: text → how probably it is one of the good ones."""

    def __init__(self, weights: NDArray[np.float32], bias: float, order: int, characters: int) -> None:
        """
        Args:
            weights: [buckets], a power of two of them.
        """
        self.weights = weights
        self.bias = bias
        self.order = order
        self.characters = characters

    def score(self, text: str) -> float:
        """The probability, from 0 to 1, that ``text`` is good, if as many are good as among the examples."""
        return float(_sigmoid(np.array([self.log_odds(text)]))[0])

    def log_odds(self, text: str) -> float:
        """The mean weight of the text's n-grams, plus the bias; the bias alone for a text without words."""
        found = features(text, self.order, len(self.weights), self.characters)
        return self.bias + (float(self.weights[found].mean(dtype=np.float64)) if found.size else 0.0)

    def save(self, path: Path, report: Report | None = None) -> None:
        """Write the folder ``path``: weights as safetensors, the rest as JSON, and what was measured, if given."""
        with atomic_folder(path) as folder:
            save_file({"weights": self.weights}, folder / _WEIGHTS)
            about = {"format": FORMAT, "bias": self.bias, "order": self.order, "characters": self.characters}
            write_json(folder / _ABOUT, about)
            if report:
                write_json(folder / "report.json", report.to_json())

    @classmethod
    def open(cls, path: Path) -> "Classifier":
        """Read what ``save`` wrote.

        Raises:
            ArtifactError: the folder is missing or holds something else.
        """
        about = read_json(path / _ABOUT) if (path / _ABOUT).is_file() else None
        if not isinstance(about, dict) or about.get("format") != FORMAT:
            raise ArtifactError(f"{path} holds no text classifier; make one with `groundup corpus train-classifier`")
        try:
            weights = load_file(path / _WEIGHTS)["weights"]
            return cls(weights, float(about["bias"]), int(about["order"]), int(about["characters"]))
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise ArtifactError(f"the classifier {path} is damaged ({error}); train it again") from error


def features(text: str, order: int, buckets: int, characters: int) -> Features:
    """The bucket of each n-gram of ``text``, repeated as often as it occurs: shape [n-grams]."""
    words = word_hashes(text[:characters] if characters else text)
    hashes = np.concatenate([ngram_hashes(words, length) for length in range(1, order + 1)])
    return (hashes & np.uint64(buckets - 1)).astype(np.int32)


def train(good: Iterable[str], bad: Iterable[str], config: TrainingConfig, seed: int) -> tuple[Classifier, Report]:
    """Learn to tell ``good`` from ``bad`` texts, and measure it on those held out.

    All examples are held in memory as n-grams of four bytes each.

    The same texts, in any order and number of copies, are held out for the same seed: a text that occurs twice is never
    on both sides. The same input and seed give the same weights to the last bit.

    Raises:
        DataError: a class has too few texts.
    """
    learnt: list[Features] = []
    kept: list[Features] = []
    labels: dict[bool, list[bool]] = {True: [], False: []}
    for label, texts, name in ((True, good, "good"), (False, bad, "bad")):
        count = 0
        for text in track(texts, f"reading {name}", unit="texts"):
            held_out = is_held_out(text, config.held_out, seed)
            (kept if held_out else learnt).append(features(text, config.order, config.buckets, config.characters))
            labels[held_out].append(label)
            count += 1
        if count < FEWEST_TEXTS:
            raise DataError(f"{count} {name} texts are too few to learn from; give at least {FEWEST_TEXTS}")
    if len(set(labels[True])) < 2 or len(set(labels[False])) < 2:
        raise DataError(
            "by chance all texts of a class fell on one side of the held-out ones; give more, or another seed"
        )
    weights, bias = fit(learnt, np.array(labels[False], np.float64), config, seed)
    classifier = Classifier(weights.astype(np.float32), bias, config.order, config.characters)
    scores = _sigmoid(_means(kept, classifier.weights) + bias)
    return classifier, Report.of(scores, np.array(labels[True]), trained_on=len(learnt))


def fit(documents: Sequence[Features], labels: Floats, config: TrainingConfig, seed: int) -> tuple[Floats, float]:
    """The weights, shape [buckets], and the bias that minimise the loss on ``documents``.

    Args:
        documents: the n-grams of each text, as buckets.
        labels: [documents], 1 for good and 0 for bad.
    """
    # A bucket that no text has keeps its weight of 0, so that only the others are worked on.
    used, places = np.unique(np.concatenate(documents), return_inverse=True)
    documents = np.split(places, np.cumsum([document.size for document in documents])[:-1])
    weights, squares = np.zeros(used.size), np.full(used.size, 1e-10)
    bias, bias_squares = 0.0, 1e-10
    steps_each = -(-len(documents) // config.batch)
    for epoch in track(range(config.epochs), "training", total=config.epochs, unit="epochs"):
        order = numpy_rng(seed, "classifier", epoch).permutation(len(documents))
        for step in range(steps_each):
            chosen = order[step * config.batch : (step + 1) * config.batch]
            batch = [documents[number] for number in chosen]
            errors = (_sigmoid(_means(batch, weights) + bias) - labels[chosen]) / len(chosen)
            gradient = config.l2 * weights
            gradient += np.bincount(np.concatenate(batch), _spread(batch, errors), used.size)
            bias_gradient = float(errors.sum())
            squares += gradient * gradient
            bias_squares += bias_gradient**2
            rate = config.learning_rate * (1 - (epoch * steps_each + step) / (config.epochs * steps_each))
            weights -= rate * gradient / np.sqrt(squares)
            bias -= rate * bias_gradient / bias_squares**0.5
    every = np.zeros(config.buckets)
    every[used] = weights
    return every, bias


def _means(documents: Sequence[Features], weights: NDArray[np.floating]) -> Floats:
    """The mean weight of each document's n-grams, 0 for one without: shape [documents]."""
    sizes = np.array([document.size for document in documents])
    rows = np.repeat(np.arange(sizes.size), sizes)
    return np.bincount(rows, weights[np.concatenate(documents)], sizes.size) / np.maximum(sizes, 1)


def _spread(documents: Sequence[Features], errors: Floats) -> Floats:
    """Each document's error, shared evenly among its n-grams: shape [n-grams]."""
    sizes = np.array([document.size for document in documents])
    return np.repeat(errors / np.maximum(sizes, 1), sizes)


def _sigmoid(values: Floats) -> Floats:
    return np.exp(-np.logaddexp(0.0, -values))


def is_held_out(text: str, share: float, seed: int) -> bool:
    """Whether a text is kept for measuring: a function of the text and the seed alone."""
    digest = hashlib.sha256(f"{seed}/".encode() + text.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "little") < share * 2**64
