"""What a pipeline did, in numbers and examples: counts, drop reasons, measures, and a sample for human eyes.

Documents enter one by one; a bounded record leaves. Records of parts of a corpus add up to that of the whole, whoever
worked on which part: counts add, histograms add, and of the examples those with the smallest hash stay, which is a
uniform sample (bottom-k; Broder 1997) and the same one for every division of the work. Where the pipeline has a step
that removes what nobody should see, examples of all steps are shown without it.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from groundup.corpus.document import Document, Dropped

#: Examples that are kept of each reason to drop, and of what a step changed.
DROPPED_EXAMPLES, CHANGED_EXAMPLES = 4, 6
#: Characters of an example's text, and of those before the first change.
EXCERPT, CONTEXT = 700, 80
#: Characters on both sides of an example's place that are looked at to tell what must not be shown.
AROUND = 1 << 16
#: Different values of a fact (languages, licences) that are told apart, the shortest; the rest count together.
MOST_VALUES = 500
OTHER = "other"
#: Sums are counted in whole units of this size: so they are the same in whatever order their parts are added.
UNIT = 2.0**-40
#: Facts whose values are counted; of source code, ``language`` counts as the second.
FACTS = ("language", "programming language", "kind", "licence")

#: A text → the text as people may see it.
Shown = Callable[[str], str]


class Examples:
    """The ``size`` rows whose documents have the smallest hashes."""

    def __init__(self, size: int) -> None:
        self.size = size
        # The largest hash first: negative, it is heapq's smallest number.
        self._heap: list[tuple[int, str, tuple[tuple[str, str], ...]]] = []

    def wants(self, step: str, name: str) -> int | None:
        """The hash of a document's ``name`` in this ``step`` if it is among the smallest so far."""
        key = int.from_bytes(hashlib.blake2b(f"{step}\0{name}".encode(), digest_size=7).digest(), "big")
        return key if len(self._heap) < self.size or key < -self._heap[0][0] else None

    def add(self, key: int, row: dict[str, str]) -> None:
        heapq.heappush(self._heap, (-key, row["id"], tuple(row.items())))
        if len(self._heap) > self.size:
            heapq.heappop(self._heap)

    def rows(self) -> list[dict[str, str]]:
        """Smallest hash first."""
        return [row for _, row in self.to_json()]

    def merge(self, other: "Examples") -> None:
        for key, row in other.to_json():
            self.add(key, row)

    def to_json(self) -> list[tuple[int, dict[str, str]]]:
        return [(-key, dict(row)) for key, _, row in sorted(self._heap, reverse=True)]

    @classmethod
    def from_json(cls, size: int, rows: list[Any]) -> "Examples":
        examples = cls(size)
        for key, row in rows:
            examples.add(key, row)
        return examples


@dataclass
class Measure:
    """A number that documents have: how many of them, its sum, and a histogram of its first two digits."""

    count: int = 0
    units: int = 0
    histogram: Counter[float] = field(default_factory=Counter)

    @property
    def sum(self) -> float:
        return self.units * UNIT

    def add(self, value: float) -> None:
        self.count += 1
        self.units += round(value / UNIT)
        self.histogram[float(f"{value:.1e}")] += 1

    def merge(self, other: "Measure") -> None:
        self.count += other.count
        self.units += other.units
        self.histogram.update(other.histogram)

    def evidence(self) -> dict[str, Any]:
        """As ``evidence.json`` has it."""
        pairs = [list(pair) for pair in sorted(self.histogram.items())]
        return {"count": self.count, "sum": self.sum, "histogram": pairs}

    def to_json(self) -> dict[str, Any]:
        return {**self.evidence(), "sum": self.units}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Measure":
        return cls(row["count"], row["sum"], Counter({float(value): number for value, number in row["histogram"]}))


class Measures(dict[str, Measure]):
    """Measures by name."""

    def add(self, name: str, value: float) -> None:
        if name not in self:
            self[name] = Measure()
        self[name].add(value)

    def merge(self, other: "Measures") -> None:
        for name, measure in other.items():
            self.setdefault(name, Measure()).merge(measure)

    def evidence(self) -> dict[str, Any]:
        return {name: self[name].evidence() for name in sorted(self)}

    def to_json(self) -> dict[str, Any]:
        return {name: self[name].to_json() for name in sorted(self)}

    @classmethod
    def from_json(cls, rows: Mapping[str, Any]) -> "Measures":
        return cls({name: Measure.from_json(row) for name, row in rows.items()})


class Values(dict[str, Counter[str]]):
    """How many documents have each value of the facts that are counted."""

    def __init__(self, rows: Mapping[str, Mapping[str, int]] | None = None) -> None:
        super().__init__({name: Counter((rows or {}).get(name, {})) for name in FACTS})

    def add(self, facts: Mapping[str, str]) -> None:
        """Count the facts of a document."""
        for name, value in facts.items():
            if name == "language" and facts.get("kind") == "code":
                name = "programming language"
            if name in FACTS and value:
                self._count(name, value, 1)

    def _count(self, name: str, value: str, times: int) -> None:
        counter = self[name]
        counter[value] += times
        if len(counter) - (OTHER in counter) > MOST_VALUES:
            longest = max(counter.keys() - {OTHER}, key=lambda name: (len(name), name))
            counter[OTHER] += counter.pop(longest)

    def merge(self, other: "Values") -> None:
        for name, counter in other.items():
            for value, number in counter.items():
                self._count(name, value, number)

    def to_json(self) -> dict[str, dict[str, int]]:
        return {name: dict(sorted(counter.items())) for name, counter in self.items()}


@dataclass
class Profile:
    """What a set of documents is like: their lengths, languages, kinds and measures."""

    bytes: Measure = field(default_factory=Measure)
    facts: Values = field(default_factory=Values)
    measures: Measures = field(default_factory=Measures)

    def add(self, document: Document, size: int) -> None:
        """Count a document of ``size`` bytes."""
        self.bytes.add(size)
        self.facts.add(document.facts)
        for name, number in document.measures.items():
            self.measures.add(name, number)

    def merge(self, other: "Profile") -> None:
        self.bytes.merge(other.bytes)
        self.measures.merge(other.measures)
        self.facts.merge(other.facts)

    def evidence(self) -> dict[str, Any]:
        """As ``evidence.json`` has it."""
        return {**self.to_json(), "bytes": self.bytes.evidence(), "measures": self.measures.evidence()}

    def to_json(self) -> dict[str, Any]:
        return {"bytes": self.bytes.to_json(), "facts": self.facts.to_json(), "measures": self.measures.to_json()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Profile":
        return cls(Measure.from_json(row["bytes"]), Values(row["facts"]), Measures.from_json(row["measures"]))


@dataclass
class Account:
    """What one step did to the documents that came to it."""

    step: str
    documents_in: int = 0
    bytes_in: int = 0
    documents_out: int = 0
    bytes_out: int = 0
    changed: int = 0
    seconds: float = 0.0
    """Of processor time, over all workers; the only part that differs from run to run."""
    removed: dict[str, list[int]] = field(default_factory=dict)
    """Reason → documents, bytes."""
    measures: Measures = field(default_factory=Measures)
    """What the step measured, on documents that it kept and on those that it dropped."""
    facts: Values = field(default_factory=Values)
    """What it found out about them."""
    dropped: dict[str, Examples] = field(default_factory=dict)
    rewritten: Examples = field(default_factory=lambda: Examples(CHANGED_EXAMPLES))
    shown: Shown = field(default=str, compare=False)
    """What examples go through before they are kept."""

    def enter(self, size: int) -> None:
        """A document of ``size`` bytes comes to the step."""
        self.documents_in += 1
        self.bytes_in += size

    def keep(self, size: int) -> None:
        """It leaves with ``size`` bytes."""
        self.documents_out += 1
        self.bytes_out += size

    def change(self, before: Document, after: Document) -> None:
        """Its text is another one now."""
        self.changed += 1
        if (key := self.rewritten.wants(self.step, before.id)) is not None:
            place = _difference(before.text, after.text)
            near = slice(max(0, place - AROUND), place + AROUND)
            old, new = self.shown(before.text[near]), self.shown(after.text[near])
            start = max(0, _difference(old, new) - CONTEXT) if old != new else 0
            texts = {"before": excerpt(old, start), "after": excerpt(new, start)}
            self.rewritten.add(key, {"id": before.id, "title": self.shown(before.title), **texts})

    def drop(self, item: Dropped) -> None:
        """It ends here."""
        count = self.removed.setdefault(item.reason, [0, 0])
        count[0] += 1
        count[1] += item.bytes
        examples = self.dropped.setdefault(item.reason, Examples(DROPPED_EXAMPLES))
        document = item.document
        if (key := examples.wants(self.step, document.id)) is not None:
            told = {"title": document.title, "detail": item.detail, "text": document.text[:AROUND]}
            row = {name: self.shown(text) for name, text in told.items()}
            examples.add(key, {"id": document.id, **row, "text": excerpt(row["text"])})

    def measure(self, before: Mapping[str, float], after: Mapping[str, float]) -> None:
        """Count what the step measured: names that are new or have another value."""
        for name, value in after.items():
            if before.get(name) != value:
                self.measures.add(name, value)

    def find_out(self, before: Mapping[str, str], after: Mapping[str, str]) -> None:
        """Count what the step found out about a document: facts that are new or have another value."""
        if after is not before:
            self.facts.add({name: value for name, value in after.items() if before.get(name) != value})

    def merge(self, other: "Account") -> None:
        for name in ("documents_in", "bytes_in", "documents_out", "bytes_out", "changed", "seconds"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for reason, (documents, size) in other.removed.items():
            count = self.removed.setdefault(reason, [0, 0])
            count[0] += documents
            count[1] += size
        self.measures.merge(other.measures)
        self.facts.merge(other.facts)
        self.rewritten.merge(other.rewritten)
        for reason, examples in other.dropped.items():
            self.dropped.setdefault(reason, Examples(DROPPED_EXAMPLES)).merge(examples)

    def funnel(self) -> dict[str, Any]:
        """Its row of ``funnel.json``; bytes that kept documents lost count as "trimmed"."""
        removed = dict(self.removed)
        if trimmed := self.bytes_in - self.bytes_out - sum(size for _, size in removed.values()):
            removed["trimmed"] = [0, trimmed]
        return {
            **{"step": self.step, "documents_in": self.documents_in, "documents_out": self.documents_out},
            **{"bytes_in": self.bytes_in, "bytes_out": self.bytes_out},
            "removed": [{"reason": r, "documents": n, "bytes": size} for r, (n, size) in sorted(removed.items())],
        }

    def evidence(self) -> dict[str, Any]:
        """Its row of ``evidence.json``: what it changed and measured, and examples of what it dropped and changed."""
        return {
            **{"step": self.step, "changed": self.changed, "measures": self.measures.evidence()},
            "facts": {name: counts for name, counts in self.facts.to_json().items() if counts},
            "dropped": {reason: self.dropped[reason].rows() for reason in sorted(self.dropped)},
            "rewritten": self.rewritten.rows(),
        }

    def to_json(self) -> dict[str, Any]:
        row = {name: value for name, value in vars(self).items() if isinstance(value, str | int | float)}
        return {
            **row,
            "removed": self.removed,
            "measures": self.measures.to_json(),
            "facts": self.facts.to_json(),
            "dropped": {reason: examples.to_json() for reason, examples in self.dropped.items()},
            "rewritten": self.rewritten.to_json(),
        }

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Account":
        dropped = {reason: Examples.from_json(DROPPED_EXAMPLES, rows) for reason, rows in row["dropped"].items()}
        rewritten = Examples.from_json(CHANGED_EXAMPLES, row["rewritten"])
        measures, facts = Measures.from_json(row["measures"]), Values(row["facts"])
        return cls(**{**row, "measures": measures, "facts": facts, "dropped": dropped, "rewritten": rewritten})


def _difference(before: str, after: str) -> int:
    """The first place where two texts differ."""
    signs = enumerate(zip(before, after, strict=False))
    return next((place for place, (old, new) in signs if old != new), min(len(before), len(after)))


def excerpt(text: str, start: int = 0) -> str:
    """At most ``EXCERPT`` characters from ``start`` on, with an ellipsis where something is left out."""
    end = start + EXCERPT
    return ("…" if start else "") + text[start:end] + ("…" if end < len(text) else "")
