"""What flows through the corpus stage: documents that stay, and documents that were dropped with a reason."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.core.errors import ArtifactError
from groundup.core.files import read_jsonl


@dataclass(frozen=True)
class Document:
    """One text with a name: a play, an article, a line of a JSON-lines file."""

    id: str
    title: str
    source: str
    text: str

    @property
    def bytes(self) -> int:
        """Length of the text in UTF-8."""
        return len(self.text) if self.text.isascii() else len(self.text.encode("utf-8"))

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "title": self.title, "source": self.source, "text": self.text}


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
        if not all(isinstance(field, str) for field in fields):
            raise ArtifactError(f"{path} line {number} is not a document; delete the file and run again")
        yield Document(*fields)
