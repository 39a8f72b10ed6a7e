"""Clean documents → train, validation and, where it is asked for, test documents that share no text.

The unit of the split is a group of related documents, so that what one collection and another both print
never stands on two sides. Sides are drawn by bytes: a hash of each document's name would keep documents on their
sides when others come and go, but gives small corpora no side of the wanted size.
"""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from groundup.core.errors import DataError
from groundup.core.progress import say
from groundup.core.seeding import python_rng
from groundup.corpus.dedup.collection import Clusters
from groundup.corpus.document import Document

Side = Literal["train", "validation", "test"]

#: A split by document is good enough when a side has between these multiples of the wanted bytes.
TOLERANCE = (0.25, 2.0)
#: Held-out text shorter than this many bytes measures nothing.
MINIMUM_BYTES = 200


@dataclass
class Split:
    """Where every document goes."""

    held_out: dict[Side, set[int]]
    """Documents that are held out as a whole, by their numbers; the others are for training."""
    pieces: dict[int, dict[Side, Document]] = field(default_factory=dict)
    """The documents that were cut, and their pieces."""

    @property
    def sides(self) -> tuple[Side, ...]:
        return ("train", *self.held_out)

    def side_of(self, number: int) -> Side:
        """The side of a document that was not cut."""
        return next((side for side, chosen in self.held_out.items() if number in chosen), "train")


def split(
    sizes: Sequence[int],
    groups: Sequence[Sequence[int]],
    fractions: Mapping[Side, float],
    seed: int,
    document: Callable[[int], Document],
) -> Split:
    """Hold out a share of the documents for each side; a function of the arguments alone.

    Where whole documents give a side no good share, the end of a long one becomes that side, and a line on stderr says
    so.

    Args:
        sizes: bytes of every document.
        groups: numbers of related documents; every number once.
        fractions: side → share of all bytes, for the sides that are held out; none depends on those after it.
        document: gives a document by its number; asked for those that are cut.

    Raises:
        DataError: the text is too short to be split.
    """
    result = Split(draw(sizes, groups, fractions, seed))
    for side, fraction in fractions.items():
        if not result.held_out[side]:
            _cut_one(result, side, fraction, sizes, groups, document)
    return result


def draw(
    sizes: Sequence[int], groups: Sequence[Sequence[int]], fractions: Mapping[Side, float], seed: int
) -> dict[Side, set[int]]:
    """The documents of each held-out side: two or more where that fits, never all; none where whole documents give no
    good share.

    Groups are drawn in random order and taken as long as they fit into the side's share of the bytes. The order is all
    that is held of documents that are not taken: four bytes a group.
    """
    total = sum(sizes)
    order = array("I" if len(groups) < 2**32 else "Q", range(len(groups)))
    python_rng(seed, "corpus", "split").shuffle(order)
    sides: dict[Side, set[int]] = {}
    for side, fraction in fractions.items():
        wanted, got = fraction * total, 0
        chosen: set[int] = set()
        seen, left = 0, array(order.typecode)
        for place in order:
            if got >= 0.75 * wanted and len(chosen) >= 2:
                break
            seen += 1
            group_bytes = sum(sizes[number] for number in groups[place])
            if got + group_bytes <= 1.25 * wanted:
                chosen.update(groups[place])
                got += group_bytes
            else:
                left.append(place)
        good = TOLERANCE[0] * wanted <= got <= TOLERANCE[1] * wanted and got >= MINIMUM_BYTES
        sides[side] = chosen if good else set()
        if good:
            order[:seen] = left
    return sides


def _cut_one(
    result: Split,
    side: Side,
    fraction: float,
    sizes: Sequence[int],
    groups: Sequence[Sequence[int]],
    document: Callable[[int], Document],
) -> None:
    """Make the end of a train document the text of ``side``: of the longest that has no relatives and length enough;
    if there is none, of the longest."""
    wanted = max(fraction * sum(sizes), MINIMUM_BYTES)
    left = {
        number: result.pieces[number]["train"].bytes if number in result.pieces else size
        for number, size in enumerate(sizes)
        if result.side_of(number) == "train"
    }
    alone = [group[0] for group in groups if len(group) == 1 and left.get(group[0], 0) >= 2 * wanted]
    number = max(sorted(alone) or left, key=left.__getitem__)
    pieces = result.pieces.setdefault(number, {"train": document(number)})
    whole = pieces["train"]
    pieces["train"], pieces[side] = cut(whole, side, min(0.5, wanted / whole.bytes))
    name = whole.id.removesuffix("#train")
    say(f"  corpus: {len(sizes)} documents give no split; the end of {name!r} becomes the {side} text")
    related = next(len(group) for group in groups if number in group) - 1
    if related:
        say(f"  corpus: {related} documents that are related to it stay in the train text")


def cut(document: Document, side: Side, fraction: float) -> tuple[Document, Document]:
    """Cut a document near its end: about ``fraction`` of it, at least half of that, becomes the text of ``side``.

    Raises:
        DataError: it has no paragraph, line or word boundary there, or a part would be too short.
    """
    text = document.text
    name = document.id.removesuffix("#train")
    target = int(len(text) * (1 - fraction))
    lowest, highest = int(len(text) * (1 - 1.5 * fraction)), int(len(text) * (1 - 0.5 * fraction))
    for boundary in ("\n\n", "\n", " "):
        place = text.rfind(boundary, lowest, target)
        if place < 0:
            place = text.find(boundary, target, highest)
        if place >= 0:
            before = replace(document, id=f"{name}#train", text=text[:place].rstrip())
            after = replace(document, id=f"{name}#{side}", text=text[place:].strip("\n"))
            if min(before.bytes, after.bytes) >= MINIMUM_BYTES:
                return before, after
    raise DataError(
        f"{name!r} is too short to be split into train and {side} text ({document.bytes} bytes in "
        f"{document.title!r}, at least {4 * MINIMUM_BYTES} are needed); give more text with --corpus.path"
    )


# --- relatives --------------------------------------------------------------------------------------------------------


class Groups(Sequence[Sequence[int]]):
    """Groups of ``count`` documents in the order of their first members; those of one take no memory but a number.

    Args:
        larger: the members of those of more than one, in order.
    """

    def __init__(self, count: int, larger: Iterable[Sequence[int]]) -> None:
        self._larger = {group[0]: group for group in larger}
        others = sorted(number for group in self._larger.values() for number in group[1:])
        self._count = count - len(others)
        # Of members that are not the first of their group: how many firsts there are before each.
        self._before = array("q", (number - index for index, number in enumerate(others)))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Any:
        if not 0 <= place < self._count:
            raise IndexError(place)
        first = place + bisect_right(self._before, place)
        return self._larger.get(first, (first,))

    def __iter__(self) -> Iterator[Sequence[int]]:
        return (self[place] for place in range(len(self)))


def linked(links: Iterable[Sequence[int]]) -> list[list[int]]:
    """The numbers of ``links``, those together that are linked directly or through others, in order."""
    links = list(links)
    numbers = sorted({number for link in links for number in link})
    return [sorted(group) for group in joined([[number] for number in numbers], links)]


def joined(groups: Sequence[Sequence[int]], others: Iterable[Sequence[int]]) -> list[list[int]]:
    """``groups``, those that have members in one of ``others`` made one, in the place of the first."""
    place = {number: index for index, group in enumerate(groups) for number in group}
    clusters = Clusters(len(groups))
    for other in others:
        for number in other[1:]:
            clusters.union(place[other[0]], place[number])
    return [[number for index in linked for number in groups[index]] for linked in clusters.groups()]
