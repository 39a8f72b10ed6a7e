"""Documents → sides (train, validation, test), one at a time and without parting near duplicates.

The side follows from the name of a document's cluster alone: no list of all documents is needed, processes agree
without talking, and a document stays on its side when others come or go.
"""

import hashlib
from collections.abc import Mapping

from groundup.core.errors import UsageError
from groundup.corpus.document import Document

#: Parts of one that a side can be told from another by.
_RESOLUTION = 2**53


def side_of(document: Document, fractions: Mapping[str, float], seed: int) -> str:
    """The side of a document, drawn with these probabilities by the hash of its cluster and the seed.

    Its cluster is the fact ``cluster``, which ``MinHash`` leaves on documents that resemble each other; else itself.

    Args:
        fractions: side → share of the clusters, such as ``{"train": 0.98, "validation": 0.01, "test": 0.01}``.

    Raises:
        UsageError: the shares are not positive or do not add up to 1.
    """
    check_fractions(fractions)
    cluster = document.facts.get("cluster", document.id)
    digest = hashlib.blake2b(f"{seed}/{cluster}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    place = (int.from_bytes(digest, "little") % _RESOLUTION) / _RESOLUTION
    for side, fraction in fractions.items():
        if place < fraction:
            return side
        place -= fraction
    return list(fractions)[-1]  # what rounding left over


def check_fractions(fractions: Mapping[str, float]) -> None:
    """Raise ``UsageError`` unless the shares are positive and add up to 1."""
    if not fractions or min(fractions.values()) <= 0 or abs(sum(fractions.values()) - 1) > 1e-9:
        told = ", ".join(f"{side} {fraction:g}" for side, fraction in fractions.items()) or "none"
        raise UsageError(f"the shares of a split must be above 0 and add up to 1, not {told}")
