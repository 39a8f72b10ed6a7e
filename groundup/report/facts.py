"""The only door between a run's files and its report.

Enters: a run directory. Leaves: numbers, texts and series, each noted in a ledger with its label, file, key and
the file's SHA-256. Whatever the report prints came through here, so "where every number comes from" is a printout
of the ledger and nothing can be left out of it.

Keys are dotted paths: ``dpo.win_rate.value``, ``tasks.3.stages.sft.n``; in a JSON-lines file the first part is
the line, counted from 0. What is absent is ``None`` and noted as missing; what is there but of the wrong kind is an
error.
"""

import json
import math
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

from groundup.core.errors import ArtifactError
from groundup.core.files import read_json, read_jsonl, read_text, sha256_of
from groundup.report.wording import clean

#: Longest text kept in the ledger; the file has the rest.
NOTED_CHARACTERS = 80


@dataclass(frozen=True)
class Entry:
    """One thing the report took from the run."""

    label: str
    """What it is, in words."""
    file: str
    """Where it was read, relative to the run directory."""
    key: str
    """Where in the file, or the formula by which it was computed from the file."""
    value: float | str
    """The number; of a series how many numbers; of a text its beginning."""
    sha256: str
    """Hash of the file."""


@dataclass(frozen=True)
class Series:
    """One column of a metrics file against the step, where it was recorded."""

    steps: list[float]
    values: list[float]

    def __len__(self) -> int:
        return len(self.values)


class Facts:
    """Reads a run's files and remembers what it handed out."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._contents: dict[str, Any] = {}
        self._hashes: dict[str, str] = {}
        self.entries: dict[Entry, None] = {}
        """What was handed out, in order, each once."""
        self.missing: dict[tuple[str, str, str], None] = {}
        """(label, file, key) asked for and not found, in order, each once."""

    # One value

    def number(self, file: str, key: str, label: str) -> float | None:
        """The number at ``key`` of ``file``, or None.

        Raises:
            ArtifactError: there is something else than a number.
        """
        value = self._at(file, key)
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            self._lack(label, file, key)
            return None
        if not _is_number(value):
            raise ArtifactError(
                f"{self._run / file}: {key} should be a number and is {json.dumps(value)[:40]}; "
                "run the stage that makes it again"
            )
        self._note(label, file, key, value)
        return value

    def text(self, file: str, key: str, label: str) -> str | None:
        """The text at ``key`` of ``file``, safe to set, or None."""
        value = self._at(file, key)
        if value is None or isinstance(value, list | dict):
            self._lack(label, file, key)
            return None
        value = clean(str(value).lower() if isinstance(value, bool) else str(value))
        self._note(label, file, key, value[:NOTED_CHARACTERS])
        return value

    def whole(self, file: str, label: str) -> str | None:
        """A complete text file, safe to set, or None."""
        if not self.has(file):
            self._lack(label, file, "")
            return None
        text = clean(read_text(self._run / file))
        self._note(label, file, "the whole file", text[:NOTED_CHARACTERS])
        return text

    # Many values

    def texts(self, file: str, key: str, label: str) -> list[str]:
        """A list of texts; of a token its text, of two pieces that merge both joined."""
        items = self._at(file, key)
        if not isinstance(items, list) or not items:
            self._lack(label, file, key)
            return []
        self._note(label, file, f"{key}.*", len(items))
        return [clean(_wording(item)) for item in items]

    def array(self, file: str, key: str, label: str) -> list[Any]:
        """Nested lists of numbers as they are; empty if absent."""
        items = self._at(file, key)
        if not isinstance(items, list) or not items:
            self._lack(label, file, key)
            return []
        self._note(label, file, f"{key}.*", _leaves(items))
        return items

    def series(self, file: str, column: str, label: str) -> Series:
        """A column of a metrics file; empty if absent."""
        points = self._column(file, column)
        if points:
            self._note(label, file, f"*.{column}", len(points))
        else:
            self._lack(label, file, f"*.{column}")
        return Series([step for _, step, _ in points], [value for _, _, value in points])

    def first(self, file: str, column: str, label: str) -> float | None:
        """The column's first number."""
        return self._pick(file, column, label, lambda points: points[0])

    def last(self, file: str, column: str, label: str) -> float | None:
        """The column's last number."""
        return self._pick(file, column, label, lambda points: points[-1])

    def lowest(self, file: str, column: str, label: str) -> float | None:
        """The column's smallest number."""
        return self._pick(file, column, label, lambda points: min(points, key=lambda point: point[2]))

    def computed(self, label: str, value: float, file: str, formula: str) -> float:
        """Note a number that the report computed from ``file`` by ``formula``, and hand it back."""
        self._note(label, file, f"computed: {formula}", round(value, 6))
        return value

    # What there is; nothing here is printed

    def has(self, file: str) -> bool:
        """Whether the run has this file."""
        return (self._run / file).is_file()

    def names(self, file: str, key: str = "") -> list[str]:
        """The names in the object at ``key``, in the file's order."""
        value = self._at(file, key)
        return list(value) if isinstance(value, dict) else []

    def length(self, file: str, key: str = "") -> int:
        """How many items the list at ``key`` has (in a JSON-lines file with key "": its lines)."""
        value = self._at(file, key)
        return len(value) if isinstance(value, list) else 0

    def is_number(self, file: str, key: str) -> bool:
        """Whether a number is at ``key``."""
        return _is_number(self._at(file, key))

    # The ledger

    def rows(self) -> list[dict[str, Any]]:
        """The ledger as JSON objects, in the order of the report."""
        return [vars(entry) for entry in self.entries]

    def summary(self) -> list[dict[str, Any]]:
        """The ledger by file, keys of one label folded together: ``[{file, sha256, rows: [{label, key, value}]}]``."""
        files: dict[str, dict[str, list[Entry]]] = {}
        for entry in self.entries:
            files.setdefault(entry.file, {}).setdefault(entry.label, []).append(entry)
        return [
            {
                "file": file,
                "sha256": self._hashes[file],
                "rows": [
                    {"label": label, "key": pattern, **_together(entries)}
                    for label, group in labels.items()
                    for pattern, entries in fold(group).items()
                ],
            }
            for file, labels in files.items()
        ]

    # Reading

    def _load(self, file: str) -> Any:
        if file not in self._contents:
            path = self._run / file
            if not path.is_file():
                self._contents[file] = None
            elif path.suffix == ".jsonl":
                self._contents[file] = list(read_jsonl(path))
            elif path.suffix == ".toml":
                try:
                    self._contents[file] = tomllib.loads(read_text(path))
                except tomllib.TOMLDecodeError as error:
                    raise ArtifactError(f"{path} is damaged (not TOML: {error}); delete it and run again") from error
            else:
                self._contents[file] = read_json(path)
        return self._contents[file]

    def _at(self, file: str, key: str) -> Any:
        value = self._load(file)
        for part in key.split(".") if key else ():
            if isinstance(value, dict):
                value = value.get(part)
            elif isinstance(value, list) and part.isdigit() and int(part) < len(value):
                value = value[int(part)]
            else:
                return None
        return value

    def _column(self, file: str, column: str) -> list[tuple[int, float, float]]:
        """(line, step, value) where the column holds a finite number."""
        points = []
        for line, row in enumerate(self._load(file) or ()):
            value = row.get(column) if isinstance(row, dict) else None
            if _is_number(value) and math.isfinite(value):
                step = row.get("step")
                points.append((line, float(step) if _is_number(step) else float(line), float(value)))
        return points

    def _pick(
        self,
        file: str,
        column: str,
        label: str,
        choose: Callable[[list[tuple[int, float, float]]], tuple[int, float, float]],
    ) -> float | None:
        points = self._column(file, column)
        return self.number(file, f"{choose(points)[0] if points else 0}.{column}", label)

    def _note(self, label: str, file: str, key: str, value: float | str) -> None:
        if file not in self._hashes:
            self._hashes[file] = sha256_of(self._run / file)
        self.entries[Entry(label, file, key, value, self._hashes[file])] = None

    def _lack(self, label: str, file: str, key: str) -> None:
        self.missing[(label, file, key)] = None


def fold(entries: Iterable[Entry]) -> dict[str, list[Entry]]:
    """Group entries whose keys have the same length, and describe each group by one pattern.

    ``tasks.0.chance``, ``tasks.1.chance`` → ``tasks.0–1.chance``.
    """
    groups: dict[int, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(-1 if entry.key.startswith("computed") else entry.key.count("."), []).append(entry)
    folded = {}
    for length, group in groups.items():
        if length < 0 or len(group) == 1:
            folded.update({entry.key: [entry] for entry in group})
            continue
        columns = zip(*(entry.key.split(".") for entry in group), strict=True)
        folded[".".join(_one_of(list(dict.fromkeys(column))) for column in columns)] = group
    return folded


def _together(entries: list[Entry]) -> dict[str, Any]:
    """The value of a lone entry; of several, or of series, how many values they are."""
    if any("*" in entry.key.split(".") for entry in entries):
        return {"value": sum(int(entry.value) for entry in entries), "single": False}
    if len(entries) > 1:
        return {"value": len(entries), "single": False}
    return {"value": entries[0].value, "single": True}


def _one_of(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    if all(part.isdigit() for part in parts):
        numbers = sorted(map(int, parts))
        if numbers == list(range(numbers[0], numbers[-1] + 1)):
            return f"{numbers[0]}–{numbers[-1]}"
    return "{" + ",".join(parts) + "}"


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wording(item: Any) -> str:
    """The text of a list's item: itself, a token's ``text``, or the ``left`` and ``right`` of a merge joined."""
    if isinstance(item, dict):
        return str(item["text"] if "text" in item else f"{item.get('left', '')}{item.get('right', '')}")
    return str(item)


def _leaves(value: Any) -> int:
    return sum(map(_leaves, value)) if isinstance(value, list) else 1
