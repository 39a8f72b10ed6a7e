"""The rules of C4, line by line (Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified
Text-to-Text Transformer", section 2.2, and the program that made the corpus).

A document enters; it leaves with the lines that are sentences, each without white space at its ends and without
Wikipedia's marks of citation; or dropped. For each line the first of these rules that it breaks decides:

    a word of more than max_word_length characters    the line goes
    no . ? ! " ' at its end, or "..."                  the line goes
    fewer than min_words words                         the line goes
    "lorem ipsum"                                      the document goes
    "javascript"                                       the line goes
    a curly bracket {                                  the document goes
    "privacy policy", "uses cookies" and the like      the line goes

Then the document goes if it has too few sentences, or a word of the user's list. Source code is not judged.

The paper's first versions say 3 words and 5 sentences, the later ones and the program 5 words and 3 sentences; the
defaults are the former, as in datatrove, from which the mark ' is too. Typographic quotation marks (”) end no line,
here as there. What C4 did before and after are steps of their own: ``language`` (with a threshold of 0.99) and
``repeated-lines``.

All of this is for English. The lines of other scripts seldom pass: see "Other languages" in ``docs/data-engine.md``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.analysis import (
    CLOSED,
    CURLY,
    FIRST,
    FLAGS,
    LAST,
    LONGEST,
    SENTENCES,
    SPACED,
    Analysis,
    analyse,
)
from groundup.corpus.quality.phrases import Phrases
from groundup.corpus.quality.rules import count, measured, require_between

CITATION = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
LOREM_IPSUM, JAVASCRIPT = "lorem ipsum", "javascript"
POLICY = ("terms of use", "privacy policy", "cookie policy", "uses cookies", "use of cookies", "use cookies")


@dataclass(frozen=True)
class C4Config:
    """Which lines are sentences, and how many a document needs."""

    terminal_punctuation: bool = True
    """Whether lines without . ? ! or a quotation mark at their end go. Later corpora keep them: they cost much text."""
    min_words: int = 3
    """Fewest words, between white space, of a line."""
    max_word_length: int = 1000
    """Characters of the longest word that a line may have."""
    min_sentences: int = 5
    """Fewest sentences that must be left."""
    curly_brackets: bool = True
    """Whether a curly bracket drops the document, as a sign of code."""
    badwords: Path | None = None
    """A file of words and phrases, one a line (.gz too) or a JSON list: a document with one of them goes. None comes
    with us."""

    def __post_init__(self) -> None:
        require_between(self, "c4", 0, float("inf"), "min_words", "min_sentences")
        require_between(self, "c4", 1, float("inf"), "max_word_length")


class C4:
    """Keeps the sentences of a page.

    Raises (at its making):
        UsageError: the file of ``badwords`` cannot be read.
    """

    name = "c4"

    def __init__(self, config: C4Config | None = None) -> None:
        self.config = config or C4Config()
        path = self.config.badwords
        self._badwords = Phrases([path], "corpus.c4.badwords") if path else None

    def __call__(self, document: Document) -> Document | Dropped:
        if document.facts.get("kind") == "code":
            return document
        text = CITATION.sub("", document.text) if "[" in document.text else document.text
        analysis = analyse(text)
        kept = self._sentences(analysis)
        lowered = text.lower()
        if any(phrase in lowered for phrase in (JAVASCRIPT, *POLICY)):
            self._remove_notices(analysis, kept)
        if broken := self._broken(analysis, kept, LOREM_IPSUM in lowered):
            return Dropped.of(document, *broken)
        left = joined(analysis, kept)
        if self._badwords and (found := self._badwords.occurrences(left)):
            return Dropped.of(document, "bad word", f"{len(found)} of the words of the list")
        removed = float(count(~kept))
        return measured(document, {"c4.lines_removed": removed}, document.text if left == document.text else left)

    def _sentences(self, analysis: Analysis) -> NDArray[np.bool_]:
        """Which lines pass the rules of form."""
        lines, limits = analysis.lines, self.config
        kept = (lines[:, LONGEST] <= limits.max_word_length) & (lines[:, SPACED] >= limits.min_words)
        if limits.terminal_punctuation:
            kept &= lines[:, FLAGS] & CLOSED > 0
        return kept

    def _remove_notices(self, analysis: Analysis, kept: NDArray[np.bool_]) -> None:
        """Take lines about JavaScript and policies out of ``kept``.

        A notice with a curly bracket stays if it is about a policy, for there the bracket is asked first.
        """
        for number, line in _kept_lines(analysis, kept):
            lowered = line.lower()
            if LOREM_IPSUM in lowered:
                continue
            bracket = self.config.curly_brackets and "{" in line
            if JAVASCRIPT in lowered or (not bracket and any(phrase in lowered for phrase in POLICY)):
                kept[number] = False

    def _broken(self, analysis: Analysis, kept: NDArray[np.bool_], lorem: bool) -> tuple[str, str] | None:
        """Why the document goes, if it does; ``lorem``: the phrase stands somewhere, perhaps in a line that went."""
        lines, limits = analysis.lines, self.config
        if lorem:
            for number, line in _kept_lines(analysis, kept):
                if LOREM_IPSUM in line.lower():
                    return "lorem ipsum", f"in line {number + 1}"
        if limits.curly_brackets:
            curly = kept & (lines[:, FLAGS] & CURLY > 0)
            if curly.any():
                return "curly bracket", f"in line {int(curly.argmax()) + 1}"
        sentences = int(lines[kept, SENTENCES].sum())
        if sentences < limits.min_sentences:
            return "too few sentences", f"{sentences} left, at least {limits.min_sentences} wanted"
        return None


def joined(analysis: Analysis, kept: NDArray[np.bool_]) -> str:
    """The lines that are kept, without white space at their ends."""
    text, places = analysis.text, analysis.lines[kept, FIRST : LAST + 1].tolist()
    return "\n".join([text[first:last] for first, last in places]).strip()


def _kept_lines(analysis: Analysis, kept: NDArray[np.bool_]) -> Iterator[tuple[int, str]]:
    """Number and text of each."""
    for number in np.flatnonzero(kept).tolist():
        first, last = analysis.lines[number, FIRST : LAST + 1].tolist()
        yield number, analysis.text[first:last]
