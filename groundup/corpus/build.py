"""The corpus stage: raw text → ``train.jsonl``, ``validation.jsonl``, ``test.jsonl``; an account of everything between.

    read → the recipe's steps, by default: clean → long enough → exact duplicates → near duplicates → split

Beside the texts (that of the test side only where it is asked for) it writes

    dropped.jsonl    every document that left, with its reason and its text where it could be read
    funnel.json      documents and bytes before and after each step
    evidence.json    what each step changed and measured, with examples; lengths and languages before and after
    seconds.json     processor time of each step
    sources.json     package, version, hash and licence

Which steps there are, ``pipeline.registry`` says; how they are run, ``pipeline.engine``.
"""

import contextlib
import functools
import hashlib
import itertools
import json
import re
import shutil
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

from groundup.core.config import to_json
from groundup.core.errors import DataError, UsageError
from groundup.core.files import atomic_file, sha256_of, write_json
from groundup.corpus.decontamination import DecontaminationConfig
from groundup.corpus.dedup import EmbeddingConfig, ExactConfig, MinHashConfig, SubstringConfig
from groundup.corpus.document import Document, Dropped
from groundup.corpus.extraction import ExtractConfig, NormalizeConfig, RepairConfig, WikitextConfig
from groundup.corpus.language import LanguageConfig
from groundup.corpus.pipeline.cluster import connected
from groundup.corpus.pipeline.engine import Outcome, cut_into_passes, run
from groundup.corpus.pipeline.executor import Executor, executor_for
from groundup.corpus.pipeline.passes import Plan, Shard
from groundup.corpus.pipeline.ranks import ALONE, Rank, taking_part, tell_of_others
from groundup.corpus.pipeline.registry import expand, make, sections
from groundup.corpus.pipeline.whole import WholeStep
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
from groundup.corpus.reading import ReadingConfig, find_shards, hub, read_shard
from groundup.corpus.reading.download import recorded_hash
from groundup.corpus.reading.files import STANDARD_INPUT, list_files
from groundup.corpus.reading.remote import is_readable
from groundup.corpus.reading.urls import is_url, without_secrets
from groundup.corpus.redaction import RedactionConfig
from groundup.corpus.scoring import ClassifierConfig, PerplexityConfig, ToxicityConfig, WordListConfig
from groundup.corpus.sources import archive_path, get_source, read_source
from groundup.corpus.split import Groups, Side, joined, linked, split


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
    """What documents go through, in this order: steps, or pipelines (default, web, mixed, code, wiki, books);
    docs/data-engine.md lists them."""
    validation_fraction: float = 0.05
    """Share of the bytes that is kept for validation, by whole documents."""
    test_fraction: float = 0.0
    """Share of the bytes that is kept for a test text, which decides nothing and is measured once; 0: none."""
    resemblance: float = 0.4
    """Near duplicates: shared part of all shingles of two documents above which only one is kept."""
    containment: float = 0.7
    """Near duplicates: part of the smaller document found in the larger above which only one is kept."""
    min_characters: int = 100
    """Shorter documents are dropped."""
    dropped_characters: int = 0
    """Characters of each dropped text that dropped.jsonl keeps; 0: all."""
    workers: int = 0
    """Processes that work at the same time; 0: one for each core, as far as there is work for it. On a Ray cluster:
    shards at the same time; 0: as many as it has room for."""
    executor: Literal["processes", "ray"] = "processes"
    """Where the work is done: in processes of this machine, or on a Ray cluster; docs/data-engine.md, Many machines."""
    ray_address: str = ""
    """Of the Ray cluster; empty: what RAY_ADDRESS says, else a cluster of this machine alone is started."""
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
    toxicity: ToxicityConfig = field(default_factory=ToxicityConfig)
    perplexity: PerplexityConfig = field(default_factory=PerplexityConfig)
    redaction: RedactionConfig = field(default_factory=RedactionConfig)
    decontamination: DecontaminationConfig = field(default_factory=DecontaminationConfig)
    exact: ExactConfig = field(default_factory=ExactConfig)
    minhash: MinHashConfig = field(default_factory=MinHashConfig)
    embedding: EmbeddingConfig = field(default_factory=EmbeddingConfig)
    substring: SubstringConfig = field(default_factory=SubstringConfig)

    def __post_init__(self) -> None:
        for name in ("validation_fraction", "resemblance", "containment"):
            value = getattr(self, name)
            upper = 0.5 if name == "validation_fraction" else 1.0
            if not 0.0 < value <= upper:
                raise UsageError(f"corpus.{name} is {value}; it must be above 0 and at most {upper}")
        if not (self.test_fraction >= 0.0 and self.validation_fraction + self.test_fraction <= 0.5):
            raise UsageError(
                f"corpus.test_fraction is {self.test_fraction}; it must be at least 0, and with validation_fraction at "
                "most 0.5"
            )
        for name, least in (("min_characters", 1), ("dropped_characters", 0), ("workers", 0)):
            if getattr(self, name) < least:
                raise UsageError(f"corpus.{name} is {getattr(self, name)}; it must be at least {least}")
        expand(self.steps)
        if self.path is not None and (url := re.match(r"([a-z][a-z0-9+.]+):[/\\]", str(self.path))):
            raise UsageError(f"corpus.path is a URL ({url[1]}:…); give URLs to corpus.inputs")
        if not all(place.strip() for place in self.inputs):
            raise UsageError("corpus.inputs has an empty place; give files, folders, globs or URLs")
        if self.path is not None and self.inputs:
            raise UsageError("corpus.path and corpus.inputs are given; name every place in corpus.inputs")
        if not self.texts:
            get_source(self.source)

    @property
    def texts(self) -> tuple[str, ...]:
        """Where the user's own text is; nothing for a registered corpus."""
        return self.inputs or (() if self.path is None else (str(self.path),))


def settings(config: CorpusConfig) -> CorpusConfig:
    """The part of the configuration that the result depends on: not who makes it. Of URLs without their secrets."""
    return replace(config, workers=0, executor="processes", ray_address="", inputs=tuple(map(_recorded, config.inputs)))


def _recorded(place: str) -> str:
    """A place as it may be written down; where a secret is left out, a digest tells it from others."""
    shown = without_secrets(place)
    digest = hashlib.sha256(place.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    return place if shown == place else f"{shown} ({digest})"


def input_files(config: CorpusConfig) -> list[Path]:
    """The user's own files that the corpus depends on: its text, and the lists and models of its steps.

    Raises:
        DataError: there is no text.
    """
    local = [place for place in config.texts if not is_url(place)]
    text = [file.path for file in list_files(local) if is_readable(file.path)] if local else []
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
    with taking_part(plan, ALONE):
        tell_of_others(plan)
        with _executor(config, sum(shard.bytes for shard in shards)) as executor:
            run(plan, shards, executor)
        metrics = _write(Outcome.of(plan), config, out, seed)
    shutil.rmtree(plan.folder.parent)
    return metrics


def build_rank(config: CorpusConfig, out: Path, rank: Rank) -> None:
    """The share of one of several ranks: every ``world_size``-th shard goes through the steps.

    The ranks share a file system. ``build`` with the same arguments then finds all shards done, and finishes.
    """
    config = with_absolute_paths(config)
    plan, shards = prepare(config, out)
    size = sum(shard.bytes for shard in shards) // rank.world_size
    with taking_part(plan, rank), _executor(config, size) as executor:
        run(plan, shards, executor, rank)


@contextlib.contextmanager
def _executor(config: CorpusConfig, size: int) -> Iterator[Executor]:
    """Where ``size`` bytes of work are done."""
    if config.executor == "ray":
        with connected(config.ray_address, config.workers) as cluster:
            yield cluster
    else:
        yield executor_for(config.workers, size)


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
    made_from = _made_from(config, shards)
    identity = json.dumps(made_from, sort_keys=True).encode("utf-8", "surrogatepass")
    folder = out.with_name(f"{out.name}-shards") / hashlib.sha256(identity).hexdigest()[:16]
    reader = functools.partial(_read, config.reading)
    steps = expand(config.steps)
    for name in steps:  # what is missing for one is better known before the work
        make(name, config)
    plan = Plan(folder, made_from, config, cut_into_passes(steps), len(shards), reader, config.dropped_characters)
    return plan, shards


def _read(config: ReadingConfig, shard: Any) -> Iterator[Document | Dropped]:
    if isinstance(shard, ArchiveShard):
        yield from read_source(get_source(shard.name))
    else:
        yield from read_shard(shard, config)


def _made_from(config: CorpusConfig, shards: Sequence[Any]) -> dict[str, Any]:
    """All that the documents depend on; of the files their size and time."""
    from groundup.core.run import code_version  # it imports PyTorch, which a worker does not need

    times = []
    for path in input_files(config):
        stat = path.stat() if path.exists() else None
        times.append([str(path), stat.st_size, stat.st_mtime_ns] if stat else [str(path)])
    told = json.dumps([times, [asdict(shard) for shard in shards]])  # of a data set in a store its commit, too
    files = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return {
        "corpus": to_json(settings(config)),
        "the program": code_version(__name__),
        "the input (names, sizes and times of its files)": files,
        "the number of shards": len(shards),
    }


def _write(outcome: Outcome, config: CorpusConfig, out: Path, seed: int) -> dict[str, float]:
    """The files of the stage; its metrics."""
    accounts = outcome.accounts
    if not accounts[-1].documents_out:
        places = ", ".join(map(without_secrets, config.texts)) or config.source
        raise DataError(f"no usable text in {places}: {_reasons(outcome)}")
    sides = _write_sides(outcome, config, out, seed)
    _write_lines(out / "dropped.jsonl", outcome.dropped_lines())
    write_json(out / "funnel.json", {"steps": [account.funnel() for account in accounts], **sides})
    steps = [account.evidence() for account in accounts]
    profiles = {"read": outcome.read.evidence(), "kept": outcome.kept.evidence()}
    write_json(out / "evidence.json", {"steps": steps, **profiles})
    write_json(out / "seconds.json", {account.step: round(account.seconds, 3) for account in accounts})
    write_json(out / "sources.json", [_source_row(config, accounts[0].documents_out, accounts[0].bytes_out)])
    return {
        "documents_read": accounts[0].documents_in,
        "bytes_read": accounts[0].bytes_in,
        "documents_dropped": accounts[0].documents_in - accounts[-1].documents_out,
        **{f"{name}_{unit}": count for name, side in sides.items() for unit, count in side.items()},
    }


def _write_sides(outcome: Outcome, config: CorpusConfig, out: Path, seed: int) -> dict[Side, dict[str, int]]:
    """Write the documents of each side; how many of each, and their bytes."""
    fractions: dict[Side, float] = {"validation": config.validation_fraction, "test": config.test_fraction}
    fractions = {side: fraction for side, fraction in fractions.items() if fraction}
    sizes = outcome.sizes()
    parted = split(
        sizes,
        related(outcome),
        fractions,
        seed,
        lambda number: next(itertools.islice(outcome.documents(), number, None)),
    )
    counts: dict[Side, dict[str, int]] = {side: {"documents": 0, "bytes": 0} for side in parted.sides}
    with contextlib.ExitStack() as stack:
        files = {
            side: stack.enter_context(stack.enter_context(atomic_file(out / f"{side}.jsonl")).open("wb"))
            for side in parted.sides
        }
        for number, line in enumerate(outcome.lines()):
            if number in parted.pieces:
                parts = [(side, _line(piece), piece.bytes) for side, piece in parted.pieces[number].items()]
            else:
                parts = [(parted.side_of(number), line, sizes[number])]
            for side, written, size in parts:
                files[side].write(written)
                counts[side]["documents"] += 1
                counts[side]["bytes"] += size
    return counts


def related(outcome: Outcome) -> Sequence[Sequence[int]]:
    """Numbers of documents that are relatives, as the steps say that compare; every number once.

    A step that holds the corpus in memory leaves the ids of relatives, others mark them with the fact ``cluster``: the
    names of the clusters that a document belongs to, one a line.
    """
    plan = outcome.plan
    whole = [this for this in plan.passes if this.lead and isinstance(make(this.lead, plan.config), WholeStep)]
    named = WholeStep.groups(plan.workspace(whole[-1].number)) if whole else []
    numbers: dict[str, int] = {}
    clusters: defaultdict[str, list[int]] = defaultdict(list)
    for number, line in enumerate(outcome.lines()):
        if named or b'"cluster"' in line:
            row = json.loads(line)
            if named:
                numbers[row["id"]] = number
            for cluster in row.get("facts", {}).get("cluster", "").splitlines():
                clusters[cluster].append(number)
    if not named:
        return Groups(outcome.accounts[-1].documents_out, linked(clusters.values()))
    groups = [[numbers[name] for name in group if name in numbers] for group in named]
    return joined([group for group in groups if group], clusters.values())


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
        names = [
            without_secrets(hub.pinned(place)) if is_url(place) else Path(place).name or place for place in config.texts
        ]
        row = {"name": ", ".join(names), "package": "", "version": "", "sha256": _digest(config)}
        public = [find_public(place)[0] for place in config.texts if place.startswith(SCHEME)]
        licences = [f"{corpus.name}: {corpus.licence}" for corpus in public]
        licences += [f"{found.name}: {found.licence}" for found in map(hub.data_set, config.texts) if found]
        row["licence"] = "; ".join(licences) or "as the owner of the text says"
    return {**row, "files": documents, "bytes": size}


def _digest(config: CorpusConfig) -> str:
    """SHA-256 over the names and contents of all files that text was read from; of what stays in a store, over its
    names."""
    digest = hashlib.sha256()
    for file in list_files(config.texts):
        digest.update(file.name.encode("utf-8", "surrogateescape") + b"\0")
        if is_url(file.path):
            digest.update((recorded_hash(file.path) or without_secrets(file.path)).encode())
        else:  # what is not readable was dropped, with its reason
            digest.update(sha256_of(Path(file.path)).encode() if is_readable(file.path) else b"unreadable")
    return digest.hexdigest()


def _reasons(outcome: Outcome) -> str:
    """The first few dropped documents and why, in one line."""
    rows = [json.loads(line) for line in itertools.islice(outcome.dropped_lines(), 3)]
    shown = [f"{row['id']} is {row['reason']} ({row['detail']})" for row in rows]
    more = outcome.accounts[0].documents_in - len(shown)
    return "; ".join(shown) + (f"; and {more} more" if more > 0 else "")
