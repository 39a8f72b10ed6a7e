"""What the doctor says: one finding, and checks that can fail without taking the doctor along."""

import traceback
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from groundup.core.errors import GroundupError

Severity = Literal["failure", "warning", "ok"]
#: The worst first.
SEVERITIES: tuple[Severity, ...] = ("failure", "warning", "ok")


@dataclass(frozen=True)
class Finding:
    """Something that was looked at and found healthy or not."""

    name: str
    """What was found, in a word that scripts can rely on: ``mask-not-causal``."""
    severity: Severity
    what: str
    """The statement, as a sentence without its full stop."""
    evidence: str
    """The numbers that it rests on."""
    remedy: str = ""
    """A command, or a key and its value; empty when nothing is to be done."""
    where: str = ""
    """Stage and steps, or the part of the machine."""
    numbers: Mapping[str, float] = field(default_factory=dict)
    """The evidence for scripts."""

    def to_json(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)


def worse(serious: bool) -> Severity:
    """A failure if it is serious, else a warning."""
    return "failure" if serious else "warning"


Check = Callable[[], Iterable[Finding]]


def guarded(name: str, check: Check) -> list[Finding]:
    """The findings of ``check``; if it raises, a failure that says with which line."""
    try:
        return list(check())
    except GroundupError as error:
        return [Finding("unreadable", "failure", "something the doctor needs cannot be read", str(error), where=name)]
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        said = " ".join(str(error).split()) or "without a message"
        evidence = f"{type(error).__name__}: {said} ({Path(place.filename).name}, line {place.lineno})"
        remedy = "repair what the evidence names; if that is groundup itself, report it with this line"
        return [Finding(name, "failure", f"the check of {name} broke off", evidence, remedy, name)]
