"""Clean documents → train and validation documents that share no text.

The unit of the split is a group of related documents, so that what one collection and another both print
never stands on both sides.
"""

from collections.abc import Sequence
from dataclasses import replace

from groundup.core.errors import DataError
from groundup.core.progress import say
from groundup.core.seeding import python_rng
from groundup.corpus.document import Document

#: A split by document is good enough when validation has between these multiples of the wanted bytes.
TOLERANCE = (0.25, 2.0)
#: Validation text shorter than this many bytes measures nothing.
MINIMUM_VALIDATION_BYTES = 200


def split(
    documents: list[Document], groups: Sequence[Sequence[str]], fraction: float, seed: int
) -> tuple[list[Document], list[Document]]:
    """Train and validation documents, in their order; a function of the documents and the seed alone.

    Args:
        groups: ids of related documents; every id once.

    Raises:
        DataError: the text is too short to be split.
    """
    numbers = {document.id: number for number, document in enumerate(documents)}
    sizes = [document.bytes for document in documents]
    chosen = choose_validation(sizes, [[numbers[name] for name in group] for group in groups], fraction, seed)
    if chosen:
        sides: tuple[list[Document], list[Document]] = ([], [])
        for number, document in enumerate(documents):
            sides[number in chosen].append(document)
        return sides
    longest = max(range(len(documents)), key=sizes.__getitem__)
    before, after = cut_longest(documents[longest], sizes, fraction)
    return [*documents[:longest], before, *documents[longest + 1 :]], [after]


def choose_validation(sizes: Sequence[int], groups: Sequence[Sequence[int]], fraction: float, seed: int) -> set[int]:
    """The documents for validation: at least two, never all; none where whole documents give no good split.

    Groups are drawn in random order and taken as long as they fit into ``fraction`` of the bytes.

    Args:
        sizes: bytes of every document.
        groups: numbers of related documents; every number once.
    """
    wanted = fraction * sum(sizes)
    order = list(range(len(groups)))
    python_rng(seed, "corpus", "split").shuffle(order)
    chosen: set[int] = set()
    got = 0
    for place in order:
        if got >= 0.75 * wanted and len(chosen) >= 2:
            break
        group_bytes = sum(sizes[number] for number in groups[place])
        if got + group_bytes <= 1.25 * wanted:
            chosen.update(groups[place])
            got += group_bytes
    enough = TOLERANCE[0] * wanted <= got <= TOLERANCE[1] * wanted and got >= MINIMUM_VALIDATION_BYTES
    return chosen if enough else set()


def cut_longest(longest: Document, sizes: Sequence[int], fraction: float) -> tuple[Document, Document]:
    """Where whole documents are too few or too long: the end of the longest becomes the validation text, and a line
    on stderr says so.

    Args:
        longest: the longest document.
        sizes: bytes of every document.

    Raises:
        DataError: the text is too short to be split.
    """
    wanted = fraction * sum(sizes)
    parts = cut(longest, fraction=min(0.5, max(wanted, MINIMUM_VALIDATION_BYTES) / longest.bytes))
    say(f"  corpus: {len(sizes)} documents give no split; the end of {longest.id!r} becomes the validation text")
    return parts


def cut(document: Document, fraction: float) -> tuple[Document, Document]:
    """Cut a document near its end: about ``fraction`` of it, at least half of that, goes into the second part.

    Raises:
        DataError: it has no paragraph, line or word boundary there, or a part would be too short.
    """
    text = document.text
    target = int(len(text) * (1 - fraction))
    lowest, highest = int(len(text) * (1 - 1.5 * fraction)), int(len(text) * (1 - 0.5 * fraction))
    for boundary in ("\n\n", "\n", " "):
        place = text.rfind(boundary, lowest, target)
        if place < 0:
            place = text.find(boundary, target, highest)
        if place >= 0:
            before = replace(document, id=f"{document.id}#train", text=text[:place].rstrip())
            after = replace(document, id=f"{document.id}#validation", text=text[place:].strip("\n"))
            if min(before.bytes, after.bytes) >= MINIMUM_VALIDATION_BYTES:
                return before, after
    raise DataError(
        f"{document.id!r} is too short to be split into train and validation text ({document.bytes} bytes in "
        f"{document.title!r}, at least {4 * MINIMUM_VALIDATION_BYTES} are needed); give more text with --corpus.path"
    )
