"""What the steps of this package have in common: a measure beside its limit, and the checks of a configuration."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.analysis import Analysis, analyse

#: A rule that a document broke: its short name, and the evidence; None: it is kept.
Broken = tuple[str, str] | None


def above(reason: str, value: float, limit: float, what: str) -> Broken:
    """Broken if ``value`` is above ``limit``."""
    return (reason, f"{_shown(value)} {what}, at most {_shown(limit)} allowed") if value > limit else None


def below(reason: str, value: float, limit: float, what: str) -> Broken:
    """Broken if ``value`` is below ``limit``."""
    return (reason, f"{_shown(value)} {what}, at least {_shown(limit)} wanted") if value < limit else None


def judged(document: Document, rules: Iterable[Broken]) -> Document | Dropped:
    """The document; dropped by the first of the rules that it breaks. The rules behind it are not computed."""
    broken = next(filter(None, rules), None)
    return document if broken is None else Dropped.of(document, *broken)


def measured(document: Document, measures: Mapping[str, float], text: str | None = None) -> Document:
    """The document with more measures, and with a new text if there is one."""
    return replace(document, text=document.text if text is None else text, measures={**document.measures, **measures})


def judged_prose(
    document: Document,
    rules: Callable[[Analysis], Iterable[Broken]],
    measures: Callable[[Analysis], Mapping[str, float]],
) -> Document | Dropped:
    """The document with ``measures``; dropped by the first of the rules that it breaks. Source code is not judged."""
    if document.facts.get("kind") == "code":
        return document
    analysis = analyse(document.text)
    result = judged(document, rules(analysis))
    return result if isinstance(result, Dropped) else measured(result, measures(analysis))


def count(holds: NDArray[Any]) -> int:
    """How many are true, or not zero."""
    return int(np.count_nonzero(holds))


def share(part: int, whole: int) -> float:
    """``part / whole``; of nothing, 0."""
    return part / whole if whole else 0.0


def require_between(config: Any, section: str, low: float, high: float, *names: str) -> None:
    """Refuse a configuration in which one of the numbers ``names`` lies outside ``low`` … ``high``."""
    for name in names:
        value = getattr(config, name)
        for number in value if isinstance(value, tuple) else (value,):
            if not low <= number <= high:
                upper = "" if high == float("inf") else f" and at most {_shown(high)}"
                wanted = f"it must be at least {_shown(low)}{upper}"
                raise UsageError(f"corpus.{section}.{name} is {_shown(number)}; {wanted}")


def require_order(config: Any, section: str, low: str, high: str) -> None:
    """Refuse a configuration whose lower limit is above its upper one."""
    if getattr(config, low) > getattr(config, high):
        raise UsageError(
            f"corpus.{section}.{low} is {getattr(config, low)}, above corpus.{section}.{high}, {getattr(config, high)}"
        )


def _shown(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:.4g}"
