"""A text → the same text in one form: Unicode normal form, line ends, invisible characters, blanks."""

import re
from dataclasses import dataclass, replace
from typing import get_args

from groundup.core.errors import UsageError
from groundup.corpus.clean import Form, normalize, tidy
from groundup.corpus.document import Document

# Every Unicode blank of about a letter's width or less; the ideographic space is as wide as its letters and stays.
_BLANKS = re.compile("[\xa0\u1680\u2000-\u200a\u202f\u205f]")
# What steers the display and shows nothing; joiners stay, for Persian, Indic scripts and emoji are spelt with them.
_STEERING = re.compile("[\u200e\u200f\u202a-\u202e\u2060-\u2069\ufff9-\ufffb]")


@dataclass(frozen=True)
class NormalizeConfig:
    """One form for what can be written in several."""

    form: Form = "NFC"
    """Unicode normal form: NFC (looks as before) or NFKC (ligatures, full-width and raised letters made plain)."""
    blanks: bool = True
    """Plain spaces for no-break and typographic ones."""

    def __post_init__(self) -> None:
        if self.form not in get_args(Form):
            raise UsageError(f"corpus.normalize.form is {self.form!r}; it must be one of {', '.join(get_args(Form))}")


@dataclass(frozen=True)
class Normalize:
    """Normalise a document's text. Doing so twice is doing so once."""

    config: NormalizeConfig = NormalizeConfig()
    name: str = "normalize"

    def __call__(self, document: Document) -> Document:
        text = document.text
        if not text.isascii():
            text = _STEERING.sub("", text)
            text = _BLANKS.sub(" ", text) if self.config.blanks else text
        text = tidy(normalize(text, self.config.form))
        return document if text == document.text else replace(document, text=text)
