"""The steps: drop what a classifier, an n-gram model or a list of words speaks against."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from groundup.core.errors import UsageError
from groundup.core.files import read_text
from groundup.corpus.document import Document, Dropped
from groundup.corpus.scoring.classifier import Classifier
from groundup.corpus.scoring.ngram import NgramModel
from groundup.corpus.scoring.words import Hashes, ngram_hashes, word_hashes


@dataclass(frozen=True)
class ClassifierConfig:
    """Keep what is like the good examples of a classifier that `groundup corpus train-classifier` made.

    Quality is one use; toxicity and adult content another: good are examples of what to keep, bad of what to drop.
    """

    model: Path = Path("classifier")
    """Folder of the classifier."""
    threshold: float = 0.5
    """Drop below this score, from 0 to 1; the table that training prints says what that costs."""
    minimum_characters: int = 50
    """Shorter texts are kept and not judged: there is too little to judge."""

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UsageError(f"corpus.classifier.threshold is {self.threshold}; use 0 to 1")
        if self.minimum_characters < 0:
            raise UsageError(f"corpus.classifier.minimum_characters is {self.minimum_characters}; use 0 or more")


@dataclass(frozen=True)
class ClassifierFilter:
    """Measures ``quality.score`` and drops what scores below the threshold."""

    config: ClassifierConfig
    name: str = "classifier"

    def __post_init__(self) -> None:
        _classifier(self.config.model)  # rather now than in the middle of the work

    def __call__(self, document: Document) -> Document | Dropped:
        if len(document.text) < self.config.minimum_characters:
            return document
        score = _classifier(self.config.model).score(document.text)
        measured = replace(document, measures={**document.measures, "quality.score": score})
        if score < self.config.threshold:
            return Dropped.of(measured, "quality score", f"score {score:.3f}, the limit is {self.config.threshold:g}")
        return measured


@dataclass(frozen=True)
class PerplexityConfig:
    """Keep what an n-gram model of good text finds neither too surprising nor too predictable."""

    model: Path = Path("ngram")
    """Folder of the model that `groundup corpus train-classifier --ngram` made."""
    maximum: float = 0.0
    """Drop above this perplexity; 0: no limit. Training prints how the perplexities of good text are spread."""
    minimum: float = 0.0
    """Drop below this perplexity: text that repeats itself or stock phrases."""
    minimum_characters: int = 50
    """Shorter texts are kept and not judged."""
    characters: int = 100_000
    """How much of the beginning of a text is judged; 0: all."""

    def __post_init__(self) -> None:
        for name in ("maximum", "minimum", "minimum_characters", "characters"):
            if getattr(self, name) < 0:
                raise UsageError(f"corpus.perplexity.{name} is {getattr(self, name)}; use 0 or more")
        if 0 < self.maximum <= self.minimum:
            raise UsageError(
                f"corpus.perplexity.maximum is {self.maximum:g}, not above the minimum of {self.minimum:g}"
            )


@dataclass(frozen=True)
class PerplexityFilter:
    """Measures ``perplexity`` (per word) and drops what lies outside the limits."""

    config: PerplexityConfig
    name: str = "perplexity"

    def __post_init__(self) -> None:
        _ngram_model(self.config.model)

    def __call__(self, document: Document) -> Document | Dropped:
        text = document.text[: self.config.characters or None]
        if len(text) < self.config.minimum_characters or not text.strip():
            return document
        perplexity = _ngram_model(self.config.model).perplexity(text)
        measured = replace(document, measures={**document.measures, "perplexity": perplexity})
        if 0 < self.config.maximum < perplexity:
            return Dropped.of(
                measured, "high perplexity", f"perplexity {perplexity:.0f}, the limit is {self.config.maximum:g}"
            )
        if perplexity < self.config.minimum:
            return Dropped.of(
                measured, "low perplexity", f"perplexity {perplexity:.1f}, the limit is {self.config.minimum:g}"
            )
        return measured


@dataclass(frozen=True)
class WordListConfig:
    """Drop texts with too many words of a list, such as one for toxic or adult content. No list is shipped."""

    file: Path = Path("words.txt")
    """A word or a phrase per line, in any case; lines that begin with # are comments."""
    most: float = 0.001
    """Drop where listed words and phrases are more than this share of the words."""
    fewest: int = 2
    """But keep a text with fewer listed words and phrases than this: one may be a quotation or a name."""

    def __post_init__(self) -> None:
        if not 0 <= self.most <= 1:
            raise UsageError(f"corpus.word_list.most is {self.most}; use a share from 0 to 1")
        if self.fewest < 1:
            raise UsageError(f"corpus.word_list.fewest is {self.fewest}; use 1 or more")


@dataclass(frozen=True)
class WordListFilter:
    """Measures ``listed.share`` and drops what has too many words of the list. Details never quote them."""

    config: WordListConfig
    name: str = "word list"

    def __post_init__(self) -> None:
        _phrases(self.config.file)

    def __call__(self, document: Document) -> Document | Dropped:
        words = word_hashes(document.text)
        listed = sum(
            int(np.isin(ngram_hashes(words, length), phrases).sum())
            for length, phrases in _phrases(self.config.file).items()
        )
        if not listed:
            return document
        share = listed / words.size
        measured = replace(document, measures={**document.measures, "listed.share": share})
        if listed >= self.config.fewest and share > self.config.most:
            return Dropped.of(
                measured, "listed words", f"{listed} of {words.size} words listed, the limit is {self.config.most:g}"
            )
        return measured


# One of each per process, however many documents and copies of a step there are.


@cache
def _classifier(path: Path) -> Classifier:
    return Classifier.open(path)


@cache
def _ngram_model(path: Path) -> NgramModel:
    return NgramModel.open(path)


@cache
def _phrases(path: Path) -> dict[int, Hashes]:
    """The list's phrases by how many words they have, as hashes."""
    lines = [line.strip() for line in read_text(path).splitlines()]
    hashed = [word_hashes(line) for line in lines if line and not line.startswith("#")]
    lengths = {words.size for words in hashed if words.size}
    if not lengths:
        raise UsageError(f"corpus.word_list.file: {path} lists no word")
    return {
        length: np.unique(np.concatenate([ngram_hashes(words, length) for words in hashed if words.size == length]))
        for length in sorted(lengths)
    }
