"""One thing that was found in a text."""

from typing import NamedTuple


class Found(NamedTuple):
    """Where it stands, what kind it is, and by which rule it was found. The value itself is not kept."""

    start: int
    end: int
    kind: str
    rule: str
