"""Cutting passages out of a text."""

from collections.abc import Iterable


def without_spans(text: str, spans: Iterable[tuple[int, int]]) -> str:
    """The text without these ranges of characters, which are sorted and may overlap.

    White space around a cut becomes one space, or one blank line where there was a line end.
    """
    kept = ""
    place = 0
    for start, stop in spans:
        if start > place or not kept:
            kept = _joined(kept, text[place:start])
        place = max(place, stop)
    return _joined(kept, text[place:]).strip()


def _joined(before: str, after: str) -> str:
    left, right = before.rstrip(), after.lstrip()
    if not left:
        return after
    space = before[len(left) :] + after[: len(after) - len(right)]
    return left + ("\n\n" if "\n" in space else " ") + right
