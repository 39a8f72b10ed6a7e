"""``groundup doctor``: a machine, and a run if one is named, enter; a report leaves on stdout."""

import json
import shutil
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.core.config import parse
from groundup.core.errors import UsageError
from groundup.core.files import write_json
from groundup.diagnosis.bands import record
from groundup.diagnosis.finding import SEVERITIES, Finding
from groundup.diagnosis.machine import examine_machine
from groundup.diagnosis.run import by_severity, diagnose

MARKS = {"failure": "✗", "warning": "!", "ok": "✓"}
#: Columns of the report: those of the terminal, but a text that is too wide is hard to read.
WIDEST, NARROWEST = 100, 30
PROGRAM = "groundup doctor [DIR]"
#: Where the findings of a run are kept in its directory.
NAME = "doctor.json"


@dataclass(frozen=True)
class DoctorOptions:
    """Check this machine and, given a run directory, the folder of a stage or a checkpoint, say what is wrong with the
    run: each finding with its evidence and a remedy. The exit code is 1 if one of them is a failure."""

    json: bool = False
    """Print the findings as JSON."""
    machine: bool = True
    """Check this machine; with --no-machine only the run is looked at."""
    record: tuple[Path, ...] = ()
    """Instead: print the reference bands of these runs, which are of one recipe and of different seeds."""


def run(words: list[str]) -> int:
    """Do what the words of the command line ask; 1 if a finding is a failure.

    Raises:
        UsageError: an option is unknown, or the directory holds no run.
        DataError: the runs to record are too few or of different recipes.
    """
    place = Path(words[0]) if words and not words[0].startswith("-") else None
    options = parse(DoctorOptions, DoctorOptions(), words[place is not None :], PROGRAM, "command line")
    if options.record:
        print(_bands_text(options.record))
        return 0
    if place is None and not options.machine:
        raise UsageError("there is nothing to check; give a run directory, or leave out --no-machine")
    sections: dict[str, list[Finding]] = {}
    if place is not None:
        sections[str(place)] = diagnose(place)
    if options.machine:
        sections["this machine"] = by_severity(examine_machine(place or Path.cwd()))
    findings = [finding for found in sections.values() for finding in found]
    if place is not None and (place / "recipe.toml").is_file():  # the page of `groundup status` shows them
        write_json(place / NAME, [finding.to_json() for finding in sections[str(place)]])
    if options.json:
        print(json.dumps([finding.to_json() for finding in findings], ensure_ascii=False, allow_nan=False))
    else:
        print(report(sections, shutil.get_terminal_size().columns))
    return int(any(finding.severity == "failure" for finding in findings))


def report(sections: dict[str, list[Finding]], columns: int) -> str:
    """The findings of each section, the worst first, and a line that sums up.

    Args:
        sections: heading → findings.
        columns: width of the terminal.
    """
    width = max(NARROWEST, min(WIDEST, columns - 1))
    parts = []
    for heading, findings in sections.items():
        told = "\n".join(_told(finding, width) for finding in findings)
        parts.append(f"{heading}\n{told or '  ✓ nothing wrong was found'}")
    everything = [finding for findings in sections.values() for finding in findings]
    return "\n\n".join([*parts, _summary(everything)])


def _told(finding: Finding, width: int) -> str:
    """What, evidence and remedy, each from a line of its own; what is healthy in one."""
    mark = MARKS[finding.severity]
    if finding.severity == "ok":
        return _wrapped(f"  {mark} ", f"{finding.what}: {finding.evidence}", width)
    where = f" [{finding.where}]" if finding.where else ""
    lines = [_wrapped(f"  {mark} ", f"{finding.severity}: {finding.what}{where}", width)]
    lines.append(_wrapped("      why  ", finding.evidence, width))
    if finding.remedy:
        lines.append(_wrapped("      do   ", finding.remedy, width))
    return "\n".join(lines)


def _wrapped(begin: str, text: str, width: int) -> str:
    return textwrap.fill(text, width, initial_indent=begin, subsequent_indent=" " * len(begin), break_on_hyphens=False)


def _summary(findings: Sequence[Finding]) -> str:
    counts = {severity: sum(finding.severity == severity for finding in findings) for severity in SEVERITIES}
    if not counts["failure"] and not counts["warning"]:
        return "everything that was checked is healthy"
    told = [
        f"{count} {severity}{'s' * (count > 1)}" for severity, count in counts.items() if count and severity != "ok"
    ]
    if healthy := counts["ok"]:
        return " and ".join(told) + (f"; {healthy} checks are healthy" if healthy > 1 else "; 1 check is healthy")
    return " and ".join(told)


def _bands_text(runs: Sequence[Path]) -> str:
    """A file of reference bands: JSON with a point a line."""
    bands = record(runs)
    stages = []
    for name, band in bands.items():
        points = ",\n   ".join(json.dumps(point) for point in band["points"])
        head = {key: value for key, value in band.items() if key != "points"}
        stages.append(f' "{name}": {json.dumps(head)[:-1]}, "points": [\n   {points}\n ]}}')
    return "{\n" + ",\n".join(stages) + "\n}"
