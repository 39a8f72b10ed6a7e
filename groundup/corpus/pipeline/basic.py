"""The two steps that every corpus needs: a document → its clean text; a document → the document, if it is long enough.

A step that needs nothing else is here; the others have folders of their own beside this one.
"""

from dataclasses import dataclass, replace

from groundup.corpus.clean import clean
from groundup.corpus.document import Document, Dropped


@dataclass(frozen=True)
class Clean:
    """Unicode, white space, Project Gutenberg's frame; what is empty afterwards is dropped."""

    name = "clean"

    def __call__(self, document: Document) -> Document | Dropped:
        text = clean(document.text)
        if not text:
            return Dropped.of(document, "empty", "nothing is left after cleaning")
        return document if text == document.text else replace(document, text=text)


@dataclass(frozen=True)
class LongEnough:
    """Drops texts of fewer than ``min_characters`` characters."""

    min_characters: int
    name = "long enough"

    def __call__(self, document: Document) -> Document | Dropped:
        if (length := len(document.text)) < self.min_characters:
            return Dropped.of(document, "too short", f"{length} characters, the limit is {self.min_characters}")
        return document
