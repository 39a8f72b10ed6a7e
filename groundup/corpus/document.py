"""What flows through the corpus stage: documents that stay, documents that were dropped with a reason, and the steps
that turn the former into the latter."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from groundup.core.errors import ArtifactError
from groundup.core.files import read_jsonl


@dataclass(frozen=True)
class Document:
    """One text with a name: a play, an article, a line of a JSON-lines file."""

    id: str
    title: str
    source: str
    text: str
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What is known about it: ``url``, ``language``, ``licence``, ``date``, ``path``, ``kind`` (what the text still is:
    html, wikitext, code; none: prose)."""
    measures: Mapping[str, float] = field(default_factory=dict, hash=False)
    """What steps measured on it, and counts of what they changed: ``language.score``, ``redacted.email``."""

    @property
    def bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode("utf-8"))

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {"id": self.id, "title": self.title, "source": self.source, "text": self.text}
        if self.facts:
            row["facts"] = dict(self.facts)
        if self.measures:
            row["measures"] = dict(self.measures)
        return row


@dataclass(frozen=True)
class Dropped:
    """A document that left the pipeline: why, where the evidence is, and how many bytes went with it."""

    document: Document
    reason: str
    detail: str
    bytes: int

    @classmethod
    def of(cls, document: Document, reason: str, detail: str = "") -> "Dropped":
        return cls(document, reason, detail, document.bytes)

    def to_json(self) -> dict[str, Any]:
        row = self.document.to_json()
        text = row.pop("text")
        return {**row, "reason": self.reason, "detail": self.detail, "bytes": self.bytes, "text": text}


class Step(Protocol):
    """One document → the document, changed or not; or why it leaves.

    A function of the document and the step's own configuration alone: so documents can be worked on in any order and by
    any number of processes. A step can be pickled.
    """

    @property
    def name(self) -> str:
        """As the recipe and the report call it."""
        ...

    def __call__(self, document: Document) -> Document | Dropped: ...


def read_documents(path: Path) -> Iterator[Document]:
    """Yield the documents of a ``train.jsonl`` or ``validation.jsonl`` that the corpus stage wrote.

    Raises:
        ArtifactError: the file is missing, truncated, or not one of ours.
    """
    for number, row in enumerate(read_jsonl(path), start=1):
        try:
            fields = [row[name] for name in ("id", "title", "source", "text")]
        except (KeyError, TypeError) as error:
            raise ArtifactError(f"{path} line {number} is not a document; delete the file and run again") from error
        if not all(isinstance(value, str) for value in fields):
            raise ArtifactError(f"{path} line {number} is not a document; delete the file and run again")
        name, title, source, text = fields
        yield Document(name, title, source, text, row.get("facts", {}), row.get("measures", {}))
