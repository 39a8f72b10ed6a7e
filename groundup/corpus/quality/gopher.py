"""The filters of Gopher: text that repeats itself, and text that is no prose (Rae et al. 2021, "Scaling Language
Models: Methods, Analysis & Insights from Training Gopher", section A.1.1 and table A1).

A document enters; it leaves unchanged but for some measures, or dropped by the first rule that it breaks. The
limits are the paper's. Source code is not judged.

Where the paper leaves a choice, this is datatrove's: a line, paragraph or n-gram is repeated where it occurred before,
so its first occurrence does not count (in Dolma it does); the commonest n-gram counts even if it occurs once, which
drops texts of a few words; stop words are *different* ones (in Dolma, occurrences); a bullet is "•" or "-" (in Dolma,
"*" or "-"); empty lines count among those that do not begin with one.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.analysis import (
    REPEATED,
    TOP,
    Analysis,
    hash_of,
)
from groundup.corpus.quality.rules import (
    Broken,
    above,
    below,
    judged_prose,
    require_between,
    require_order,
    share,
)

#: In prose the first so many words have stop words enough.
_BEGINNING = 128


@dataclass(frozen=True)
class GopherRepetitionConfig:
    """How much of a text may repeat what it said before."""

    duplicate_lines: float = 0.30
    """Largest share of lines that occurred before."""
    duplicate_paragraphs: float = 0.30
    """Largest share of paragraphs that occurred before."""
    duplicate_line_characters: float = 0.20
    """Largest share of characters in lines that occurred before."""
    duplicate_paragraph_characters: float = 0.20
    """Largest share of characters in paragraphs that occurred before."""
    top_ngrams: tuple[float, float, float] = (0.20, 0.18, 0.16)
    """Largest share of characters in all occurrences of the commonest 2-gram, 3-gram and 4-gram of words."""
    duplicate_ngrams: tuple[float, float, float, float, float, float] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
    """Largest share of characters in 5-grams to 10-grams of words that occurred before."""

    def __post_init__(self) -> None:
        names = ("duplicate_lines", "duplicate_paragraphs", "duplicate_line_characters")
        more = ("duplicate_paragraph_characters", "top_ngrams", "duplicate_ngrams")
        require_between(self, "gopher_repetition", 0, 1, *names, *more)


class GopherRepetition:
    """Drops documents that repeat their lines, paragraphs or phrases."""

    name = "gopher repetition"

    def __init__(self, config: GopherRepetitionConfig | None = None) -> None:
        self.config = config or GopherRepetitionConfig()

    def __call__(self, document: Document) -> Document | Dropped:
        return judged_prose(document, self._rules, self._measures)

    def _measures(self, analysis: Analysis) -> Mapping[str, float]:
        fivefold = analysis.repeated_ngrams[len(TOP)]
        return {"repetition.5_grams": share(fivefold, analysis.characters)}

    def _rules(self, analysis: Analysis) -> Iterator[Broken]:
        limits, size, of = self.config, analysis.characters, analysis.totals
        if not size:
            yield "empty", "no text"
        value = share(of.repeated_paragraphs, of.paragraphs)
        yield above("duplicate paragraphs", value, limits.duplicate_paragraphs, "of the paragraphs are repeated")
        value, limit = share(of.repeated_paragraph_characters, size), limits.duplicate_paragraph_characters
        yield above("duplicate paragraph characters", value, limit, "of the text are repeated paragraphs")
        value = share(of.repeated_lines, of.not_empty)
        yield above("duplicate lines", value, limits.duplicate_lines, "of the lines are repeated")
        value, limit = share(of.repeated_line_characters, size), limits.duplicate_line_characters
        yield above("duplicate line characters", value, limit, "of the text are repeated lines")
        found = analysis.repeated_ngrams
        for n, characters, limit in zip(TOP, found, limits.top_ngrams, strict=False):
            yield above(f"top {n}-gram", share(characters, size), limit, f"of the text are its commonest {n} words")
        for n, characters, limit in zip(REPEATED, found[len(TOP) :], limits.duplicate_ngrams, strict=True):
            value = share(characters, size)
            yield above(f"duplicate {n}-grams", value, limit, f"of the text are repeated runs of {n} words")


@dataclass(frozen=True)
class GopherQualityConfig:
    """What prose looks like."""

    min_words: int = 50
    """Fewest words, symbols not counted."""
    max_words: int = 100_000
    """Most words, symbols not counted."""
    min_word_length: float = 3.0
    """Least mean length of these words, in characters; set it to 1 for scripts that have no spaces between words."""
    max_word_length: float = 10.0
    """Greatest mean length of these words, in characters."""
    max_symbols: float = 0.1
    """Most hash signs, and most ellipses, for each word (symbols counted)."""
    max_bullet_lines: float = 0.9
    """Largest share of lines that begin with a bullet or a hyphen."""
    max_ellipsis_lines: float = 0.3
    """Largest share of lines that end in an ellipsis."""
    min_alphabetic: float = 0.8
    """Least share of words that have a letter."""
    count_symbols: bool = False
    """Count punctuation marks and lone symbols as words there, as datatrove does, and so FineWeb did. The paper's words
    end at spaces. With it, plays and mails, whose sentences are short, are dropped."""
    min_stop_words: int = 2
    """Fewest different stop words that must occur; 0 for other languages than that of the list."""
    stop_words: tuple[str, ...] = ("the", "be", "to", "of", "and", "that", "have", "with")
    """The stop words, as they are spelled inside a sentence."""

    def __post_init__(self) -> None:
        section = "gopher_quality"
        most = float("inf")
        require_between(self, section, 0, most, "min_words", "max_words", "min_word_length", "max_word_length")
        require_between(self, section, 0, most, "max_symbols", "min_stop_words")
        require_between(self, section, 0, 1, "max_bullet_lines", "max_ellipsis_lines", "min_alphabetic")
        require_order(self, section, "min_words", "max_words")
        require_order(self, section, "min_word_length", "max_word_length")


class GopherQuality:
    """Drops documents that are too short or long, or whose words and lines are not those of prose."""

    name = "gopher quality"

    def __init__(self, config: GopherQualityConfig | None = None) -> None:
        self.config = config or GopherQualityConfig()
        self._stop_words = frozenset(map(hash_of, self.config.stop_words))

    def __call__(self, document: Document) -> Document | Dropped:
        return judged_prose(document, self._rules, self._measures)

    def _measures(self, analysis: Analysis) -> Mapping[str, float]:
        of = analysis.totals
        return {"words": float(of.plain), "word_length": share(of.plain_characters, of.plain)}

    def _rules(self, analysis: Analysis) -> Iterator[Broken]:
        limits, text, of = self.config, analysis.text, analysis.totals
        yield below("too few words", of.plain, limits.min_words, "words")
        yield above("too many words", of.plain, limits.max_words, "words")
        length = share(of.plain_characters, of.plain)
        yield below("mean word length", length, limits.min_word_length, "characters in a word")
        yield above("mean word length", length, limits.max_word_length, "characters in a word")
        yield above("hash signs", share(text.count("#"), of.words), limits.max_symbols, "hash signs for each word")
        ellipses = text.count("...") + text.count("…")
        yield above("ellipses", share(ellipses, of.words), limits.max_symbols, "ellipses for each word")
        value = share(of.bullet_lines, of.lines)
        yield above("bullet lines", value, limits.max_bullet_lines, "of the lines begin with a bullet")
        value = share(of.ellipsis_lines, of.lines)
        yield above("ellipsis lines", value, limits.max_ellipsis_lines, "of the lines end in an ellipsis")
        value = share(of.alphabetic, of.words if limits.count_symbols else of.plain)
        yield below("alphabetic words", value, limits.min_alphabetic, "of the words have a letter")
        yield below("stop words", self._found(analysis), limits.min_stop_words, "of the stop words")

    def _found(self, analysis: Analysis) -> int:
        """How many different stop words occur; in the beginning alone if these are enough."""
        for words in (analysis.words[:_BEGINNING], analysis.words):
            found = len(self._stop_words.intersection(words.tolist()))
            if found >= self.config.min_stop_words:
                break
        return found
