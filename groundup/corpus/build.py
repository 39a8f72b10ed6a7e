"""The corpus stage: raw text → ``train.jsonl`` and ``validation.jsonl``, and an account of everything between.

    read → clean → long enough → exact duplicates → near duplicates → split

Beside the two texts it writes ``dropped.jsonl`` (every document that left, with its reason and its text where it could
be read), ``funnel.json`` (documents and bytes before and after each step) and ``sources.json``
(package, version, hash and licence).
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from groundup.core.errors import DataError, UsageError
from groundup.core.files import write_json, write_jsonl
from groundup.core.progress import track
from groundup.corpus.clean import clean
from groundup.corpus.dedup import drop_exact_duplicates, drop_near_duplicates
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import read_files
from groundup.corpus.sources import get_source, read_source
from groundup.corpus.split import split


@dataclass(frozen=True)
class CorpusConfig:
    """Which text, and what counts as clean."""

    source: str = "shakespeare"
    """A registered corpus; not used when a path is given."""
    path: Path | None = None
    """Your own text instead: a .txt, .md or .jsonl file ("text" field), or a folder of them."""
    validation_fraction: float = 0.05
    """Share of the bytes that is kept for validation, by whole documents."""
    resemblance: float = 0.4
    """Near duplicates: shared part of all shingles of two documents above which only one is kept."""
    containment: float = 0.7
    """Near duplicates: part of the smaller document found in the larger above which only one is kept."""
    min_characters: int = 100
    """Shorter documents are dropped."""
    max_megabytes: float = 256.0
    """Larger documents are dropped unread."""

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "resemblance", "containment"):
            value = getattr(self, name)
            upper = 0.5 if name == "validation_fraction" else 1.0
            if not 0.0 < value <= upper:
                raise UsageError(f"corpus.{name} is {value}; it must be above 0 and at most {upper}")
        if self.min_characters < 1:
            raise UsageError(f"corpus.min_characters is {self.min_characters}; it must be at least 1")
        if not self.max_megabytes > 0:
            raise UsageError(f"corpus.max_megabytes is {self.max_megabytes}; it must be above 0")
        if self.path is None:
            get_source(self.source)


Step = Callable[[list[Document]], tuple[list[Document], list[Dropped]]]


@dataclass
class Funnel:
    """Counts documents and bytes from step to step, and keeps what was dropped."""

    steps: list[dict[str, Any]] = field(default_factory=list)
    dropped: list[Dropped] = field(default_factory=list)

    def count(self, step: str, before: tuple[int, int], kept: list[Document], dropped: list[Dropped]) -> None:
        """Record one step; ``before`` is (documents, bytes). Bytes lost by kept documents count as "trimmed"."""
        removed: defaultdict[str, list[int]] = defaultdict(lambda: [0, 0])
        for item in dropped:
            removed[item.reason][0] += 1
            removed[item.reason][1] += item.bytes
        after = total(kept)
        if trimmed := before[1] - after[1] - sum(size for _, size in removed.values()):
            removed["trimmed"][1] = trimmed
        self.steps.append(
            {"step": step, "documents_in": before[0], "documents_out": after[0]}
            | {"bytes_in": before[1], "bytes_out": after[1]}
            | {"removed": [{"reason": r, "documents": n, "bytes": size} for r, (n, size) in sorted(removed.items())]}
        )
        self.dropped += dropped


def total(documents: list[Document]) -> tuple[int, int]:
    """(documents, bytes)."""
    return len(documents), sum(document.bytes for document in documents)


def build(config: CorpusConfig, out: Path, seed: int) -> dict[str, float]:
    """Run the stage and write its files into ``out``; the same input and seed give the same bytes.

    Returns:
        Counts: documents and bytes read, dropped and kept on each side of the split.

    Raises:
        DataError: nothing usable is left, or too little to split; the message says why.
    """
    documents, dropped, sources = _read(config)
    funnel = Funnel()
    everything = (len(documents) + len(dropped), total(documents)[1] + sum(item.bytes for item in dropped))
    funnel.count("read", everything, documents, dropped)

    groups: list[list[str]] = []

    def near_duplicates(documents: list[Document]) -> tuple[list[Document], list[Dropped]]:
        kept, dropped, related = drop_near_duplicates(documents, config.resemblance, config.containment)
        groups.extend(related)
        return kept, dropped

    steps: list[tuple[str, Step]] = [
        ("clean", clean_documents),
        ("long enough", lambda documents: drop_short(documents, config.min_characters)),
        ("exact duplicates", drop_exact_duplicates),
        ("near duplicates", near_duplicates),
    ]
    for name, step in steps:
        before = total(documents)
        documents, dropped = step(documents)
        funnel.count(name, before, documents, dropped)
    if not documents:
        raise DataError(f"no usable text in {config.path or config.source}: {_reasons(funnel.dropped)}")
    train, validation = split(documents, groups, config.validation_fraction, seed)

    sides = {
        name: dict(zip(("documents", "bytes"), total(side), strict=True))
        for name, side in (("train", train), ("validation", validation))
    }
    write_jsonl(out / "train.jsonl", (document.to_json() for document in train))
    write_jsonl(out / "validation.jsonl", (document.to_json() for document in validation))
    write_jsonl(out / "dropped.jsonl", (item.to_json() for item in funnel.dropped))
    write_json(out / "funnel.json", {"steps": funnel.steps, **sides})
    write_json(out / "sources.json", sources)
    return {
        "documents_read": everything[0],
        "bytes_read": everything[1],
        "documents_dropped": len(funnel.dropped),
        **{f"{name}_{unit}": count for name, side in sides.items() for unit, count in side.items()},
    }


def clean_documents(documents: list[Document]) -> tuple[list[Document], list[Dropped]]:
    """Clean every text; what is empty afterwards is dropped."""
    kept, dropped = [], []
    for document in track(documents, "clean", total=len(documents), unit="document"):
        text = clean(document.text)
        if text:
            kept.append(replace(document, text=text))
        else:
            dropped.append(Dropped.of(document, "empty", "nothing is left after cleaning"))
    return kept, dropped


def drop_short(documents: list[Document], min_characters: int) -> tuple[list[Document], list[Dropped]]:
    """Drop texts of fewer than ``min_characters`` characters."""
    dropped = [
        Dropped.of(document, "too short", f"{len(document.text)} characters, the limit is {min_characters}")
        for document in documents
        if len(document.text) < min_characters
    ]
    return [document for document in documents if len(document.text) >= min_characters], dropped


def _read(config: CorpusConfig) -> tuple[list[Document], list[Dropped], list[dict[str, Any]]]:
    """Documents, unreadable ones, and the row of ``sources.json``."""
    dropped: list[Dropped] = []
    if config.path is None:
        source = get_source(config.source)
        documents = read_source(source)
        row = {"name": source.name, "package": source.package, "version": source.version, "sha256": source.sha256}
        row["licence"] = source.licence
    else:
        documents, dropped, sha256 = read_files(config.path, int(config.max_megabytes * 2**20))
        row = {"name": config.path.name or str(config.path), "package": "", "version": "", "sha256": sha256}
        row["licence"] = "as the owner of the text says"
    count, size = total(documents)
    return documents, dropped, [{**row, "files": count, "bytes": size}]


def _reasons(dropped: list[Dropped]) -> str:
    """The first few dropped documents and why, in one line."""
    shown = [f"{item.document.id} is {item.reason} ({item.detail})" for item in dropped[:3]]
    more = len(dropped) - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
