"""What steps share that compare documents in pairs: clusters of what is alike, one of which stays.

Pairs that are alike enter, found by ``MinHash`` or ``Embedding`` in their buckets; the decision about every document
leaves. The row of a document in the sketches ends with its size, in whatever the step counts.
"""

import itertools
from abc import abstractmethod
from array import array
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
#: Pairs of a cluster that are compared beside those that were found: all, in a cluster of up to ten thousand.
COMPARISONS = 10**8

Keep = Literal["first", "longest"]


class NearStep(CrossStep):
    """Keeps one of every set of documents that say nearly the same.

    Documents that are alike form clusters. In each the first is kept (or the longest: the first of those
    about as long) and those that are like it leave; then the same among the rest. So every document that leaves
    is like one that stays. Those that stay carry the fact ``cluster`` where others of theirs stay as well:
    what a split must not part. It may name clusters of several steps, one a line.

    Those that stay in a cluster are compared with all others of it. In a very large one of which many stay, that would
    take the square of its size: after ``COMPARISONS`` pairs, the rest is judged by the pairs that were found.
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
        pairs = np.concatenate(
            [open_array(workspace.repetitions(bucket)) for bucket in range(workspace.buckets)], axis=1
        )
        dropped, clusters = array("q"), array("q")
        for members in _clusters(pairs):
            left = self._settle_cluster(workspace, members, pairs, dropped)
            for document in left if len(left) > 1 else ():
                clusters.extend((document, int(members[0])))
        with atomic_folder(workspace.decisions) as folder:
            np.save(folder / "dropped.npy", _by_document(dropped, 3))
            np.save(folder / "clusters.npy", _by_document(clusters, 2))

    def _settle_cluster(
        self, workspace: Workspace, members: Integers, pairs: Integers, dropped: "array[int]"
    ) -> list[int]:
        """Add to ``dropped`` document, the one that stays for it, percent of likeness; return those that stay."""
        sizes = _sizes(workspace, members) if self.keep == "longest" else members
        stay: list[int] = []
        left = COMPARISONS
        while len(members):
            left -= len(members)
            if left < 0:
                return stay + self._settle_linked(workspace, members, sizes, pairs, dropped)
            about = ABOUT_AS_LONG * sizes.max() if self.keep == "longest" else 0
            chosen = int(np.argmax(sizes >= about))
            kept = int(members[chosen])
            likeness = self.compare(workspace, members, np.full_like(members, kept))
            same = self.alike(likeness)
            same[chosen] = False
            for document, each in zip(members[same].tolist(), likeness[same].tolist(), strict=True):
                dropped.extend((document, kept, round(100 * each)))
            stay.append(kept)
            same[chosen] = True
            members, sizes = members[~same], sizes[~same]
        return stay

    def _settle_linked(
        self, workspace: Workspace, members: Integers, sizes: Integers, pairs: Integers, dropped: "array[int]"
    ) -> list[int]:
        """The same among the rest of a large cluster, by the pairs that were found; linear in these."""
        later, earlier = pairs[:, np.isin(pairs[0], members) & np.isin(pairs[1], members)]
        likeness = self.compare(workspace, later, earlier)
        same = self.alike(likeness)
        later, earlier, likeness = later[same], earlier[same], likeness[same]
        like: dict[int, list[tuple[int, int]]] = {}
        for one, other, each in zip(later.tolist(), earlier.tolist(), likeness.tolist(), strict=True):
            like.setdefault(one, []).append((other, round(100 * each)))
            like.setdefault(other, []).append((one, round(100 * each)))
        left = dict(zip(members.tolist(), sizes.tolist(), strict=True))
        stay: list[int] = []
        while left:
            about = ABOUT_AS_LONG * max(left.values()) if self.keep == "longest" else 0
            for kept in [document for document, size in left.items() if size >= about]:
                if left.pop(kept, None) is None:
                    continue
                stay.append(kept)
                for document, percent in like.get(kept, ()):
                    if left.pop(document, None) is not None:
                        dropped.extend((document, kept, percent))
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


def _clusters(pairs: Integers) -> Iterator[Integers]:
    """Connected documents, in order."""
    documents, inverse = np.unique(pairs, return_inverse=True)
    places: Integers = inverse.reshape(pairs.shape)
    clusters = Clusters(len(documents))
    for chunk in _chunks(places.shape[1]):
        for later, earlier in places[:, chunk].T.tolist():
            clusters.union(later, earlier)
    firsts = np.fromiter(map(clusters.find, range(len(documents))), dtype=np.int64, count=len(documents))
    order = np.argsort(firsts, kind="stable")
    borders = [0, *(np.flatnonzero(np.diff(firsts[order])) + 1).tolist(), len(order)]
    return (documents[order[start:end]] for start, end in itertools.pairwise(borders) if end > start)


def _by_document(rows: "array[int]", width: int) -> Integers:
    """Rows of so many numbers in order of the first, which is in no two of them."""
    found = np.frombuffer(rows, dtype=np.int64).reshape(-1, width)
    return found[np.argsort(found[:, 0])]
