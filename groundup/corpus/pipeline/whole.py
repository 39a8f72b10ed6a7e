"""Steps that hold a whole corpus in memory: for one that fits, they compare every pair exactly.

All documents enter; which ones leave, and which of the others are relatives, is written to one file.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path

from groundup.core.files import read_json, write_json
from groundup.corpus.dedup import Workspace, drop_near_duplicates
from groundup.corpus.document import Document, Dropped

Groups = list[list[str]]


class WholeStep(ABC):
    """A step across documents that sees all of them at once."""

    name: str

    @abstractmethod
    def judge(self, documents: list[Document]) -> tuple[list[Dropped], Groups]:
        """The documents that leave; ids of related ones among the others, which a split must not part."""

    def settle(self, workspace: Workspace, documents: list[Document]) -> None:
        """Decide, unless that is done."""
        if _decisions(workspace).exists():
            return
        dropped, groups = self.judge(documents)
        reasons = {item.document.id: [item.reason, item.detail] for item in dropped}
        write_json(_decisions(workspace), {"dropped": reasons, "groups": groups})

    def verdicts(self, workspace: Workspace, shard: int) -> "WholeVerdicts":
        """What becomes of each document of a shard."""
        return WholeVerdicts(read_json(_decisions(workspace))["dropped"])

    @staticmethod
    def groups(workspace: Workspace) -> Groups:
        """Ids of related documents; every one once."""
        groups: Groups = read_json(_decisions(workspace))["groups"]
        return groups


class WholeVerdicts:
    """What becomes of a document, which its id decides."""

    def __init__(self, reasons: dict[str, Sequence[str]]) -> None:
        self._reasons = reasons

    def __call__(self, position: int, document: Document) -> Document | Dropped:
        if document.id not in self._reasons:
            return document
        reason, detail = self._reasons[document.id]
        return Dropped.of(document, reason, detail)


class NearDuplicates(WholeStep):
    """One of every set of documents that say the same, in whatever spelling; see ``dedup.collection``."""

    name = "near duplicates"

    def __init__(self, resemblance: float, containment: float) -> None:
        self.resemblance = resemblance
        self.containment = containment

    def judge(self, documents: list[Document]) -> tuple[list[Dropped], Groups]:
        _, dropped, groups = drop_near_duplicates(documents, self.resemblance, self.containment)
        return dropped, groups


def _decisions(workspace: Workspace) -> Path:
    return workspace.folder / "decisions.json"
