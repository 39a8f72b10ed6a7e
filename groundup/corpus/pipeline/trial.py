"""One document through a pipeline, for people: what each step would do with it, and why.

A document and the configuration of a corpus enter; one ``Trial`` per step leaves. After a step that drops the document
the others are tried all the same, with the document as it was, so that one look shows everything that is wrong with it.
"""

import difflib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from groundup.corpus.document import Document, Dropped
from groundup.corpus.pipeline.passes import attempt
from groundup.corpus.pipeline.registry import STEPS, expand, make

Outcome = Literal["kept", "changed", "dropped", "across"]

#: Lines of a difference that are shown, and characters of each.
DIFF_LINES, DIFF_WIDTH = 40, 240
#: Longer texts are not compared line by line.
MOST_COMPARED = 1 << 20


@dataclass(frozen=True)
class Trial:
    """What one step did."""

    step: str
    outcome: Outcome
    """``across``: the step compares documents with each other, which one alone cannot show."""
    reason: str = ""
    detail: str = ""
    bytes_before: int = 0
    bytes_after: int = 0
    measures: dict[str, float] = field(default_factory=dict)
    """What it measured."""
    facts: dict[str, str] = field(default_factory=dict)
    """What it found out."""
    diff: tuple[str, ...] = ()
    """Lines that went (``-``), came (``+``) or stand beside them."""

    def to_json(self) -> dict[str, Any]:
        return {name: list(value) if isinstance(value, tuple) else value for name, value in vars(self).items()}


def trials(config: Any, document: Document) -> Iterator[Trial]:
    """Bring a document through the steps of ``config`` (a ``CorpusConfig``).

    Raises:
        UsageError: a step needs a package that is not installed.
    """
    for name in expand(config.steps):
        if STEPS[name].across:
            yield Trial(name, "across", detail=STEPS[name].what)
            continue
        after = attempt(make(name, config), document)
        yield _trial(name, document, after)
        if isinstance(after, Document):
            document = after


def _trial(name: str, before: Document, after: Document | Dropped) -> Trial:
    dropped = after if isinstance(after, Dropped) else None
    document = after.document if isinstance(after, Dropped) else after
    changed = document.text != before.text
    outcome: Outcome = "dropped" if dropped else "changed" if changed else "kept"
    return Trial(
        name,
        outcome,
        dropped.reason if dropped else "",
        dropped.detail if dropped else "",
        before.bytes,
        document.bytes,
        {key: value for key, value in document.measures.items() if before.measures.get(key) != value},
        {key: value for key, value in document.facts.items() if before.facts.get(key) != value},
        tuple(difference(before.text, document.text)) if changed and not dropped else (),
    )


def difference(before: str, after: str) -> list[str]:
    """Changed lines, each with the one before and after it; control characters shown as Python spells them."""
    if max(len(before), len(after)) > MOST_COMPARED:
        return [f"(longer than {MOST_COMPARED} characters: not compared)"]
    lines = difflib.unified_diff(before.split("\n"), after.split("\n"), n=1, lineterm="")
    shown = [_visible(line) for line in list(lines)[2:]]
    more = len(shown) - DIFF_LINES
    return shown[:DIFF_LINES] + ([f"… and {more} more lines"] if more > 0 else [])


def _visible(line: str) -> str:
    safe = "".join(sign if sign.isprintable() or sign == "\t" else repr(sign)[1:-1] for sign in line[:DIFF_WIDTH])
    return safe + ("…" if len(line) > DIFF_WIDTH else "")
