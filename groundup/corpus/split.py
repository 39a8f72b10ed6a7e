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

    Groups are drawn in random order and taken as long as they fit into ``fraction`` of the bytes. Where whole
    documents are too few or too long for that, the longest document is cut at a paragraph: its end
    becomes the validation text, and a line on stderr says so.

    Args:
        groups: ids of related documents; every id once.

    Raises:
        DataError: the text is too short to be split.
    """
    total = sum(document.bytes for document in documents)
    wanted = fraction * total
    chosen = _choose_groups(documents, groups, wanted, seed)
    validation = [document for document in documents if document.id in chosen]
    got = sum(document.bytes for document in validation)
    if TOLERANCE[0] * wanted <= got <= TOLERANCE[1] * wanted and got >= MINIMUM_VALIDATION_BYTES:
        return [document for document in documents if document.id not in chosen], validation
    longest = max(documents, key=lambda document: document.bytes)
    before, after = cut(longest, fraction=min(0.5, max(wanted, MINIMUM_VALIDATION_BYTES) / longest.bytes))
    say(f"  corpus: {len(documents)} documents give no split; the end of {longest.id!r} becomes the validation text")
    return [before if document is longest else document for document in documents], [after]


def _choose_groups(documents: list[Document], groups: Sequence[Sequence[str]], wanted: float, seed: int) -> set[str]:
    """Ids of the validation documents: at least two where there are enough, never all."""
    size = {document.id: document.bytes for document in documents}
    order = [list(group) for group in groups]
    python_rng(seed, "corpus", "split").shuffle(order)
    chosen: list[str] = []
    got = 0
    for group in order:
        group_bytes = sum(size[name] for name in group)
        enough = got >= 0.75 * wanted and len(chosen) >= 2
        if not enough and got + group_bytes <= 1.25 * wanted:
            chosen += group
            got += group_bytes
    return set(chosen)


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
