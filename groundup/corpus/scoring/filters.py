"""The steps: drop what a classifier, an n-gram model or a list of words speaks against."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.phrases import Phrases
from groundup.corpus.scoring.classifier import Classifier
from groundup.corpus.scoring.ngram import NgramModel


@dataclass(frozen=True)
class ClassifierConfig:
    """Keep what is like the good examples of a classifier that `groundup corpus train-classifier` made."""

    model: Path = Path("classifier")
    """Folder of the classifier."""
    threshold: float = 0.5
    """Drop below this score, from 0 to 1; the table that training prints says what that costs."""
    minimum_characters: int = 50
    """Shorter texts are kept and not judged: there is too little to judge."""

    def __post_init__(self) -> None:
        _require_score("classifier", self.threshold, self.minimum_characters)


def _require_score(section: str, threshold: float, minimum_characters: int) -> None:
    if not 0 <= threshold <= 1:
        raise UsageError(f"corpus.{section}.threshold is {threshold}; use 0 to 1")
    if minimum_characters < 0:
        raise UsageError(f"corpus.{section}.minimum_characters is {minimum_characters}; use 0 or more")


class ClassifierFilter:
    """Measures ``quality.score`` and drops what scores below the threshold.

    Raises (at its making):
        ArtifactError: the folder holds no classifier.
    """

    name = "classifier"

    def __init__(self, config: ClassifierConfig) -> None:
        self.config = config
        self._classifier = Classifier.open(config.model)

    def __call__(self, document: Document) -> Document | Dropped:
        if len(document.text) < self.config.minimum_characters:
            return document
        score, limit = self._classifier.score(document.text), self.config.threshold
        measured = _with(document, {"quality.score": score})
        if score < limit:
            return Dropped.of(measured, "quality score", f"score {score:.3f}, the limit is {limit:g}")
        return measured


@dataclass(frozen=True)
class ToxicityConfig:
    """Drop what is like the bad examples of one of several classifiers, such as one for insults and one for adult
    content. `groundup corpus train-classifier` makes them, of good examples of what to keep and bad ones of what to
    drop."""

    models: tuple[Path, ...] = ()
    """Folders of the classifiers."""
    threshold: float = 0.5
    """Drop above this score, from 0 to 1: the probability that a text is like the bad examples."""
    minimum_characters: int = 50
    """Shorter texts are kept and not judged."""

    def __post_init__(self) -> None:
        _require_score("toxicity", self.threshold, self.minimum_characters)


class ToxicityFilter:
    """Measures ``toxicity.score``, the highest that a classifier gives, and drops what scores above the threshold.

    Raises (at its making):
        UsageError: no classifier is named.
        ArtifactError: a folder holds none.
    """

    name = "toxicity"

    def __init__(self, config: ToxicityConfig) -> None:
        if not config.models:
            raise UsageError("corpus.toxicity.models names no classifier; `groundup corpus train-classifier` makes one")
        self.config = config
        self._classifiers = [(path.name, Classifier.open(path)) for path in config.models]

    def __call__(self, document: Document) -> Document | Dropped:
        if len(document.text) < self.config.minimum_characters:
            return document
        limit = self.config.threshold
        score, name = max((1 - classifier.score(document.text), name) for name, classifier in self._classifiers)
        measured = _with(document, {"toxicity.score": score})
        if score > limit:
            return Dropped.of(measured, f"toxicity: {name}", f"score {score:.3f}, the limit is {limit:g}")
        return measured


@dataclass(frozen=True)
class PerplexityConfig:
    """Keep what an n-gram model of good text finds neither too surprising nor too predictable."""

    model: Path = Path("ngram")
    """Folder of the model that `groundup corpus train-classifier --ngram` made."""
    maximum: float = 0.0
    """Drop above this perplexity; 0: no limit."""
    minimum: float = 0.0
    """Drop below this perplexity: text that repeats itself or stock phrases."""
    maximum_percentile: float = 0.0
    """Instead of maximum: drop above the perplexity that so many per cent of texts stay below; 0: no limit."""
    minimum_percentile: float = 0.0
    """Instead of minimum, likewise."""
    percentiles_of: Literal["good", "bad"] = "good"
    """Of which texts: of the good ones that training held out; or of those given as --bad, such as a sample of the
    crawl: below its 33 and 67 per cent lie the head and the middle of CCNet."""
    minimum_characters: int = 50
    """Shorter texts are kept and not judged."""
    characters: int = 100_000
    """How much of the beginning of a text is judged; 0: all."""

    def __post_init__(self) -> None:
        for name in ("maximum", "minimum", "minimum_characters", "characters"):
            if getattr(self, name) < 0:
                raise UsageError(f"corpus.perplexity.{name} is {getattr(self, name)}; use 0 or more")
        for name in ("maximum", "minimum"):
            percentile = getattr(self, f"{name}_percentile")
            if percentile and not 1 <= percentile <= 99:
                raise UsageError(f"corpus.perplexity.{name}_percentile is {percentile:g}; use 1 to 99, or 0 for none")
            if percentile and getattr(self, name):
                raise UsageError(f"corpus.perplexity.{name} and {name}_percentile are both given; choose one")
        for unit in ("", "_percentile"):
            low, high = getattr(self, f"minimum{unit}"), getattr(self, f"maximum{unit}")
            if 0 < high <= low:
                raise UsageError(f"corpus.perplexity.maximum{unit} is {high:g}, not above the minimum of {low:g}")


class PerplexityFilter:
    """Measures ``perplexity`` (per word) and drops what lies outside the limits.

    Raises (at its making):
        ArtifactError: the folder holds no n-gram model, or one without the percentiles that are asked for.
    """

    name = "perplexity"

    def __init__(self, config: PerplexityConfig) -> None:
        self.config = config
        self._model = NgramModel.open(config.model)
        self._high = self._limit(config.maximum_percentile) or config.maximum
        self._low = self._limit(config.minimum_percentile) or config.minimum

    def _limit(self, percentile: float) -> float:
        return self._model.at_percentile(self.config.percentiles_of, percentile) if percentile else 0.0

    def __call__(self, document: Document) -> Document | Dropped:
        text = document.text[: self.config.characters or None]
        if len(text) < self.config.minimum_characters or not text.strip():
            return document
        perplexity = self._model.perplexity(text)
        measured = _with(document, {"perplexity": perplexity})
        if 0 < self._high < perplexity:
            return Dropped.of(
                measured, "high perplexity", f"perplexity {perplexity:.0f}, the limit is {self._high:.6g}"
            )
        if perplexity < self._low:
            return Dropped.of(measured, "low perplexity", f"perplexity {perplexity:.1f}, the limit is {self._low:.6g}")
        return measured


@dataclass(frozen=True)
class WordListConfig:
    """Drop texts with too many words of lists, such as those for toxic or adult content. No list is shipped."""

    files: tuple[Path, ...] = ()
    """A word or a phrase per line (.gz too), or a JSON list of them; in any case. Lines that begin with # are
    comments."""
    most: float = 0.001
    """Drop where listed words and phrases are more than this share of the words."""
    fewest: int = 2
    """But keep a text with fewer listed words and phrases than this: one may be a quotation or a name."""

    def __post_init__(self) -> None:
        if not 0 <= self.most <= 1:
            raise UsageError(f"corpus.word_list.most is {self.most}; use a share from 0 to 1")
        if self.fewest < 1:
            raise UsageError(f"corpus.word_list.fewest is {self.fewest}; use 1 or more")


class WordListFilter:
    """Measures ``listed.share`` and drops what has too many words of the lists. Details never quote them.

    Raises (at its making):
        UsageError: no list is named, or one cannot be read or is empty.
    """

    name = "word list"

    def __init__(self, config: WordListConfig) -> None:
        if not config.files:
            raise UsageError("corpus.word_list.files names no list; docs/data-engine.md says where some are")
        self.config = config
        self._phrases = Phrases(config.files, "corpus.word_list.files")
        if not len(self._phrases):
            raise UsageError(f"corpus.word_list.files: {', '.join(map(str, config.files))} lists no word")

    def __call__(self, document: Document) -> Document | Dropped:
        listed, words = self._phrases.count(document.text)
        if not listed:
            return document
        share, limit = listed / words, self.config.most
        measured = _with(document, {"listed.share": share})
        if listed >= self.config.fewest and share > limit:
            return Dropped.of(measured, "listed words", f"{listed} of {words} words listed, the limit is {limit:g}")
        return measured


def _with(document: Document, measures: Mapping[str, float]) -> Document:
    return replace(document, measures={**document.measures, **measures})
