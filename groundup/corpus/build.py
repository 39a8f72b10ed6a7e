"""The corpus stage: raw text → ``train.jsonl`` and ``validation.jsonl``, and an account of everything between.

    read → the recipe's steps, by default: clean → long enough → exact duplicates → near duplicates → split

Beside the two texts it writes

    dropped.jsonl    every document that left, with its reason and its text where it could be read
    funnel.json      documents and bytes before and after each step
    evidence.json    what each step changed and measured, with examples; lengths and languages before and after
    seconds.json     processor time of each step
    sources.json     package, version, hash and licence

Which steps there are, ``pipeline.registry`` says; how they are run, ``pipeline.engine``.
"""

import functools
import hashlib
import itertools
import json
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from groundup.core.config import to_json
from groundup.core.errors import DataError, UsageError
from groundup.core.files import atomic_file, sha256_of, write_json
from groundup.corpus.decontamination import DecontaminationConfig
from groundup.corpus.dedup import ExactConfig, MinHashConfig, SubstringConfig
from groundup.corpus.document import Document, Dropped
from groundup.corpus.extraction import ExtractConfig, NormalizeConfig, RepairConfig, WikitextConfig
from groundup.corpus.language import LanguageConfig
from groundup.corpus.pipeline.engine import Outcome, Rank, cut_into_passes, run
from groundup.corpus.pipeline.executor import executor_for
from groundup.corpus.pipeline.passes import Plan, Shard
from groundup.corpus.pipeline.registry import expand, make, sections
from groundup.corpus.public import SCHEME, find_public
from groundup.corpus.quality import (
    BlocklistConfig,
    C4Config,
    CodeConfig,
    FineWebConfig,
    GopherQualityConfig,
    GopherRepetitionConfig,
    LineConfig,
)
from groundup.corpus.reading import ReadingConfig, find_shards, read_shard
from groundup.corpus.reading.files import STANDARD_INPUT, list_files
from groundup.corpus.reading.remote import is_url
from groundup.corpus.redaction import RedactionConfig
from groundup.corpus.scoring import ClassifierConfig, PerplexityConfig, WordListConfig
from groundup.corpus.sources import archive_path, get_source, read_source
from groundup.corpus.split import choose_validation, cut_longest


@dataclass(frozen=True)
class CorpusConfig:
    """Which text, and what counts as clean."""

    source: str = "shakespeare"
    """A registered corpus; not used when a path is given."""
    path: Path | None = None
    """Your own text instead: a file, a folder or a glob."""
    inputs: tuple[str, ...] = ()
    """Your own text from several places: files, folders, globs, URLs, "-" for standard input."""
    steps: tuple[str, ...] = ("default",)
    """What documents go through, in this order: steps, or pipelines (default, web, books, code); docs/data-engine.md
    lists them."""
    validation_fraction: float = 0.05
    """Share of the bytes that is kept for validation, by whole documents."""
    resemblance: float = 0.4
    """Near duplicates: shared part of all shingles of two documents above which only one is kept."""
    containment: float = 0.7
    """Near duplicates: part of the smaller document found in the larger above which only one is kept."""
    min_characters: int = 100
    """Shorter documents are dropped."""
    dropped_characters: int = 0
    """Characters of each dropped text that dropped.jsonl keeps; 0: all."""
    workers: int = 0
    """Processes that work at the same time; 0: one for each core, as far as there is work for it."""
    reading: ReadingConfig = field(default_factory=ReadingConfig)
    extract: ExtractConfig = field(default_factory=ExtractConfig)
    wikitext: WikitextConfig = field(default_factory=WikitextConfig)
    repair: RepairConfig = field(default_factory=RepairConfig)
    normalize: NormalizeConfig = field(default_factory=NormalizeConfig)
    language: LanguageConfig = field(default_factory=LanguageConfig)
    blocklist: BlocklistConfig = field(default_factory=BlocklistConfig)
    gopher_repetition: GopherRepetitionConfig = field(default_factory=GopherRepetitionConfig)
    gopher_quality: GopherQualityConfig = field(default_factory=GopherQualityConfig)
    c4: C4Config = field(default_factory=C4Config)
    fineweb: FineWebConfig = field(default_factory=FineWebConfig)
    lines: LineConfig = field(default_factory=LineConfig)
    code: CodeConfig = field(default_factory=CodeConfig)
    word_list: WordListConfig = field(default_factory=WordListConfig)
    classifier: ClassifierConfig = field(default_factory=ClassifierConfig)
    perplexity: PerplexityConfig = field(default_factory=PerplexityConfig)
    redaction: RedactionConfig = field(default_factory=RedactionConfig)
    decontamination: DecontaminationConfig = field(default_factory=DecontaminationConfig)
    exact: ExactConfig = field(default_factory=ExactConfig)
    minhash: MinHashConfig = field(default_factory=MinHashConfig)
    substring: SubstringConfig = field(default_factory=SubstringConfig)

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "resemblance", "containment"):
            value = getattr(self, name)
            upper = 0.5 if name == "validation_fraction" else 1.0
            if not 0.0 < value <= upper:
                raise UsageError(f"corpus.{name} is {value}; it must be above 0 and at most {upper}")
        for name, least in (("min_characters", 1), ("dropped_characters", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"corpus.{name} is {getattr(self, name)}; it must be at least {least}")
        expand(self.steps)
        if self.path is not None and (url := re.match(r"([a-z][a-z0-9+.]+):[/\\]", str(self.path))):
            raise UsageError(f"corpus.path is a URL ({url[1]}:…); give URLs to corpus.inputs")
        if self.path is not None and self.inputs:
            raise UsageError("corpus.path and corpus.inputs are given; name every place in corpus.inputs")
        if not self.texts:
            get_source(self.source)

    @property
    def texts(self) -> tuple[str, ...]:
        """Where the user's own text is; nothing for a registered corpus."""
        return self.inputs or (() if self.path is None else (str(self.path),))


def settings(config: CorpusConfig) -> CorpusConfig:
    """The part of the configuration that the result depends on: not how many processes make it."""
    return replace(config, workers=0)


def input_files(config: CorpusConfig) -> list[Path]:
    """The user's own files that the corpus depends on: its text, and the lists and models of its steps.

    Raises:
        DataError: there is no text.
    """
    text = [file.path for file in list_files(config.texts) if not is_url(file.path)] if config.texts else []
    told = [path for _, _, paths in _step_files(config) for path in paths]
    inside = [file for path in told for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
    return [*map(Path, text), *(path for path in inside if path.is_file())]  # of one that is missing, its step tells


def with_absolute_paths(config: CorpusConfig) -> CorpusConfig:
    """The configuration with the user's paths made absolute, so that they mean the same from any folder; and with the
    copy of standard input, which can be read only once, in its place."""
    for section, key, paths in _step_files(config):
        absolute = tuple(path.expanduser().absolute() for path in paths)
        alone = isinstance(getattr(getattr(config, section), key), Path)
        changed = replace(getattr(config, section), **{key: absolute[0] if alone else absolute})
        config = replace(config, **{section: changed})
    path = config.path and config.path.expanduser().absolute()
    return replace(config, path=path, inputs=tuple(map(_absolute, config.inputs)))


def _absolute(place: str) -> str:
    if place == STANDARD_INPUT:
        return list_files([place])[0].path
    return place if is_url(place) else str(Path(place).expanduser().absolute())


def _step_files(config: CorpusConfig) -> Iterator[tuple[str, str, tuple[Path, ...]]]:
    """Section, key and value wherever a step of the pipeline is told of files."""
    for section in sorted(sections(expand(config.steps))):
        value = getattr(config, section)
        for key in fields(value):
            found = getattr(value, key.name)
            paths = found if isinstance(found, tuple) else (found,)
            if paths and all(isinstance(path, Path) for path in paths):
                yield section, key.name, paths


def build(config: CorpusConfig, out: Path, seed: int) -> dict[str, float]:
    """Run the stage and write its files into ``out``; the same input and seed give the same bytes.

    What is half done lies in a folder beside ``out`` until all is done; a call that was interrupted goes on from it.

    Returns:
        Counts: documents and bytes read, dropped and kept on each side of the split.

    Raises:
        DataError: nothing usable is left, or too little to split; the message says why.
    """
    config = with_absolute_paths(config)
    plan, shards = prepare(config, out)
    run(plan, shards, executor_for(config.workers, sum(shard.bytes for shard in shards)))
    outcome = Outcome.of(plan)
    metrics = _write(outcome, config, out, seed)
    shutil.rmtree(plan.folder.parent)
    return metrics


def build_rank(config: CorpusConfig, out: Path, rank: Rank) -> None:
    """The share of one of several ranks: every ``world_size``-th shard goes through the steps.

    The ranks share a file system. ``build`` with the same arguments then finds all shards done, and finishes.
    """
    plan, shards = prepare(config, out)
    run(plan, shards, executor_for(config.workers, sum(shard.bytes for shard in shards) // rank.world_size), rank)


@dataclass(frozen=True)
class ArchiveShard:
    """All of a registered source."""

    name: str
    bytes: int


def prepare(config: CorpusConfig, out: Path) -> tuple[Plan, Sequence[Shard]]:
    """The pipeline with its input's shards, and the folder where it works: another one whenever anything changes."""
    shards: Sequence[Any]
    if not config.texts:
        archive = archive_path(get_source(config.source))
        shards = [ArchiveShard(config.source, archive.stat().st_size if archive.is_file() else 0)]
    else:
        shards = find_shards(config.texts, config.reading)
    folder = out.with_name(f"{out.name}-shards") / _identity(config, shards)
    reader = functools.partial(_read, config.reading)
    steps = expand(config.steps)
    for name in steps:  # what is missing for one is better known before the work
        make(name, config)
    return Plan(folder, config, cut_into_passes(steps), len(shards), reader, config.dropped_characters), shards


def _read(config: ReadingConfig, shard: Any) -> Iterator[Document | Dropped]:
    if isinstance(shard, ArchiveShard):
        yield from read_source(get_source(shard.name))
    else:
        yield from read_shard(shard, config)


def _identity(config: CorpusConfig, shards: Sequence[Any]) -> str:
    """A hash of all that the documents depend on; of the files their size and time."""
    from groundup.core.run import code_version  # it imports PyTorch, which a worker does not need

    times = []
    for path in input_files(config):
        stat = path.stat() if path.exists() else None
        times.append([str(path), stat.st_size, stat.st_mtime_ns] if stat else [str(path)])
    parts = [to_json(settings(config)), code_version(__name__), times, len(shards)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _write(outcome: Outcome, config: CorpusConfig, out: Path, seed: int) -> dict[str, float]:
    """The files of the stage; its metrics."""
    accounts = outcome.accounts
    if not accounts[-1].documents_out:
        raise DataError(f"no usable text in {', '.join(config.texts) or config.source}: {_reasons(outcome)}")
    sides = _write_sides(outcome, config.validation_fraction, out, seed)
    _write_lines(out / "dropped.jsonl", outcome.dropped_lines())
    write_json(out / "funnel.json", {"steps": [account.funnel() for account in accounts], **sides})
    steps = [account.evidence() for account in accounts]
    write_json(out / "evidence.json", {"steps": steps, "read": outcome.read.to_json(), "kept": outcome.kept.to_json()})
    write_json(out / "seconds.json", {account.step: round(account.seconds, 3) for account in accounts})
    write_json(out / "sources.json", [_source_row(config, accounts[0].documents_out, accounts[0].bytes_out)])
    return {
        "documents_read": accounts[0].documents_in,
        "bytes_read": accounts[0].bytes_in,
        "documents_dropped": accounts[0].documents_in - accounts[-1].documents_out,
        **{f"{name}_{unit}": count for name, side in sides.items() for unit, count in side.items()},
    }


Side = Literal["train", "validation"]


def _write_sides(outcome: Outcome, fraction: float, out: Path, seed: int) -> dict[Side, dict[str, int]]:
    """Write the train and the validation documents; how many of each, and their bytes."""
    sizes = outcome.sizes().tolist()
    chosen = choose_validation(sizes, outcome.groups(), fraction, seed)
    if chosen:
        _write_lines(out / "train.jsonl", _lines(outcome, chosen, wanted=False))
        _write_lines(out / "validation.jsonl", _lines(outcome, chosen, wanted=True))
        validation = sum(sizes[number] for number in chosen)
        return {
            "train": {"documents": len(sizes) - len(chosen), "bytes": sum(sizes) - validation},
            "validation": {"documents": len(chosen), "bytes": validation},
        }
    place = max(range(len(sizes)), key=sizes.__getitem__)
    longest = next(itertools.islice(outcome.documents(), place, None))
    before, after = cut_longest(longest, sizes, fraction)
    lines = (_line(before) if number == place else line for number, line in enumerate(outcome.lines()))
    _write_lines(out / "train.jsonl", lines)
    _write_lines(out / "validation.jsonl", [_line(after)])
    return {
        "train": {"documents": len(sizes), "bytes": sum(sizes) - sizes[place] + before.bytes},
        "validation": {"documents": 1, "bytes": after.bytes},
    }


def _lines(outcome: Outcome, chosen: set[int], wanted: bool) -> Iterator[bytes]:
    return (line for number, line in enumerate(outcome.lines()) if (number in chosen) is wanted)


def _line(document: Document) -> bytes:
    return (json.dumps(document.to_json(), ensure_ascii=False, allow_nan=False) + "\n").encode()


def _write_lines(path: Path, lines: Iterable[bytes]) -> None:
    with atomic_file(path) as temporary, temporary.open("wb") as handle:
        handle.writelines(lines)


def _source_row(config: CorpusConfig, documents: int, size: int) -> dict[str, Any]:
    """Where the text came from, for ``sources.json``."""
    if not config.texts:
        source = get_source(config.source)
        row = {"name": source.name, "package": source.package, "version": source.version, "sha256": source.sha256}
        row["licence"] = source.licence
    else:
        names = [place if is_url(place) else Path(place).name or place for place in config.texts]
        row = {"name": ", ".join(names), "package": "", "version": "", "sha256": _digest(config)}
        public = [find_public(place)[0] for place in config.texts if place.startswith(SCHEME)]
        licences = [f"{corpus.name}: {corpus.licence}" for corpus in public]
        row["licence"] = "; ".join(licences) or "as the owner of the text says"
    return {**row, "files": documents, "bytes": size}


def _digest(config: CorpusConfig) -> str:
    """SHA-256 over the names and contents of all files that text was read from; of URLs, over their names."""
    digest = hashlib.sha256()
    for file in list_files(config.texts):
        digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0")
        try:
            digest.update(b"" if is_url(file.path) else sha256_of(Path(file.path)).encode())
        except OSError:  # it was dropped, with its reason
            digest.update(b"unreadable")
    return digest.hexdigest()


def _reasons(outcome: Outcome) -> str:
    """The first few dropped documents and why, in one line."""
    rows = [json.loads(line) for line in itertools.islice(outcome.dropped_lines(), 3)]
    shown = [f"{row['id']} is {row['reason']} ({row['detail']})" for row in rows]
    more = outcome.accounts[0].documents_in - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
