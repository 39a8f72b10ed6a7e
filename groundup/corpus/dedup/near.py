"""What steps share that compare documents in pairs: clusters of what is alike, one of which stays.

Pairs that are alike enter, found by ``MinHash`` or ``Embedding`` in their buckets; the decision about every document
leaves. The row of a document in the sketches ends with its size, in whatever the step counts.
"""

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundup.core.files import atomic_folder
from groundup.corpus.dedup.collection import Clusters
from groundup.corpus.dedup.cross import CrossStep, Integers, Verdicts, Words32, Workspace, open_array
from groundup.corpus.document import Document, Dropped

#: Of documents at least this share as long as the longest, the first is kept: order tells preference.
ABOUT_AS_LONG = 0.8
_PAIRS_TOGETHER = 1 << 13

Keep = Literal["first", "longest"]


class NearStep(CrossStep):
    """Keeps one of every set of documents that say nearly the same.

    Documents that are alike form clusters. In each the first is kept (or the longest: the first of those
    about as long) and those that are like it leave; then the same among the rest. So every document that leaves
    is like one that stays. Those that stay carry the fact ``cluster`` where others of theirs stay as well:
    what a split must not part. It may name clusters of several steps, one a line.
    """

    reason: str
    """Why documents leave."""
    scale: str
    """What ``likeness`` is called."""

    def __init__(self, least: float, keep: Keep) -> None:
        self.least = least
        self.keep = keep

    @abstractmethod
    def likeness(self, workspace: Workspace, rows: Words32, one: Integers, other: Integers) -> NDArray[np.float64]:
        """How much pairs of documents are alike, 1 at most; ``one`` and ``other`` are places in ``rows``."""

    def alike(self, likeness: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether that is enough."""
        return likeness >= self.least - 1e-9

    def compare(self, workspace: Workspace, later: Integers, earlier: Integers) -> NDArray[np.float64]:
        """The likeness of each pair of documents; holds the rows of a few thousand pairs at a time."""
        found = np.empty(len(later))
        for chunk in _chunks(len(later)):
            documents, places = np.unique(np.stack([later[chunk], earlier[chunk]]), return_inverse=True)
            rows = workspace.rows(documents)
            one, other = places.reshape(2, -1)
            found[chunk] = self.likeness(workspace, rows, one, other)
        return found

    def settle(self, workspace: Workspace) -> None:
        """Decide which document of each cluster stays; takes memory for the pairs, not for all documents."""
        if workspace.decisions.exists():
            return
        pairs = [open_array(workspace.repetitions(bucket)) for bucket in range(workspace.buckets)]
        dropped: list[tuple[int, int, int]] = []
        clusters: list[tuple[int, int]] = []
        for members in _clusters(np.concatenate(pairs, axis=1)):
            left = self._settle_cluster(workspace, members, dropped)
            clusters += [(document, int(members[0])) for document in left if len(left) > 1]
        with atomic_folder(workspace.decisions) as folder:
            np.save(folder / "dropped.npy", np.array(sorted(dropped), dtype=np.int64).reshape(-1, 3))
            np.save(folder / "clusters.npy", np.array(sorted(clusters), dtype=np.int64).reshape(-1, 2))

    def _settle_cluster(
        self, workspace: Workspace, members: Integers, dropped: list[tuple[int, int, int]]
    ) -> list[int]:
        """Add to ``dropped`` (document, the one that stays for it, percent of likeness); return those that stay."""
        sizes = _sizes(workspace, members) if self.keep == "longest" else members
        stay: list[int] = []
        while len(members):
            about = ABOUT_AS_LONG * sizes.max() if self.keep == "longest" else 0
            chosen = int(np.argmax(sizes >= about))
            kept = int(members[chosen])
            likeness = self.compare(workspace, members, np.full_like(members, kept))
            same = self.alike(likeness)
            same[chosen] = False
            percent = np.rint(100 * likeness[same]).astype(np.int64)
            dropped += [(int(d), kept, int(p)) for d, p in zip(members[same], percent, strict=True)]
            stay.append(kept)
            same[chosen] = True
            members, sizes = members[~same], sizes[~same]
        return stay

    def verdicts(self, workspace: Workspace, shard: int) -> Verdicts:
        return _NearVerdicts(workspace, shard, self.reason, self.scale)


class _NearVerdicts(Verdicts):
    def __init__(self, workspace: Workspace, shard: int, reason: str, scale: str) -> None:
        self._workspace, self._reason, self._scale = workspace, reason, scale
        start, stop = workspace.starts[shard : shard + 2]
        dropped, clusters = (open_array(workspace.decisions / f"{name}.npy") for name in ("dropped", "clusters"))
        first, last = np.searchsorted(dropped[:, 0], (start, stop))
        self._dropped = {int(d) - start: (int(kept), int(percent)) for d, kept, percent in dropped[first:last]}
        first, last = np.searchsorted(clusters[:, 0], (start, stop))
        self._clusters = {int(d) - start: int(cluster) for d, cluster in clusters[first:last]}

    def __call__(self, position: int, document: Document) -> Document | Dropped:
        if position in self._dropped:
            kept, percent = self._dropped[position]
            detail = f"{self._scale} {percent / 100:.2f} with {self._workspace.id_of(kept)}"
            return Dropped.of(document, self._reason, detail)
        if position in self._clusters:
            clusters = {
                *document.facts.get("cluster", "").splitlines(),
                self._workspace.id_of(self._clusters[position]),
            }
            return replace(document, facts={**document.facts, "cluster": "\n".join(sorted(clusters))})
        return document


def _sizes(workspace: Workspace, documents: Integers) -> Integers:
    """What the rows of the documents end with."""
    sizes = np.empty(len(documents), dtype=np.int64)
    for chunk in _chunks(len(documents)):
        sizes[chunk] = workspace.rows(documents[chunk])[:, -1]
    return sizes


def _chunks(count: int) -> Iterator[slice]:
    return (slice(start, start + _PAIRS_TOGETHER) for start in range(0, count, _PAIRS_TOGETHER))


def _clusters(pairs: Integers) -> list[Integers]:
    """Connected documents, in order."""
    documents, places = np.unique(pairs, return_inverse=True)
    places = places.reshape(pairs.shape)
    clusters = Clusters(len(documents))
    for later, earlier in zip(places[0].tolist(), places[1].tolist(), strict=True):
        clusters.union(later, earlier)
    return [documents[group] for group in clusters.groups()]
