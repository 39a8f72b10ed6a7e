"""The tools of ``groundup corpus``: options enter; results leave on stdout, remarks on stderr."""

import itertools
import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.text import Text

from groundup.core.config import parse
from groundup.core.errors import DataError, UsageError
from groundup.core.progress import quantity, say
from groundup.corpus.build import CorpusConfig, build_rank
from groundup.corpus.document import Document, Dropped
from groundup.corpus.pipeline.passes import READ
from groundup.corpus.pipeline.ranks import Rank
from groundup.corpus.pipeline.registry import PIPELINES, STEPS, expand, listed
from groundup.corpus.pipeline.report import gather, terminal
from groundup.corpus.pipeline.trial import Trial, trials
from groundup.corpus.public import PUBLIC
from groundup.corpus.reading import open_records
from groundup.corpus.sources import SOURCES

#: Where a corpus is looked for when no directory is given.
DEFAULT_RUN = "runs/quickstart"
STANDARD_INPUT = "-"
#: What a text may still be; nothing: prose.
KINDS = ("", "html", "wikitext", "code")


@dataclass(frozen=True)
class ReportOptions:
    """What a finished corpus lost on its way and what it is like."""

    json: bool = False
    """Print everything for programs."""
    html: str | None = None
    """Write one self-contained page to this file."""


@dataclass(frozen=True)
class TryOptions:
    """What each step of a recipe would do with one document, and why."""

    text: str | None = None
    """The document; "-" or neither this nor a file: from standard input."""
    file: str | None = None
    """The file or URL that it is in; of several documents the first."""
    kind: str = ""
    """What the text still is: html, wikitext or code; without it prose, or what the file is."""
    url: str = ""
    """Where it is from, for the steps that look at addresses."""
    json: bool = False
    """Print what each step did for programs."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise UsageError(f"--kind is {self.kind!r}; it must be one of {', '.join(filter(None, KINDS))}")


@dataclass(frozen=True)
class ShardOptions:
    """One rank's share of the corpus stage; start as many as you like, on one file system."""

    rank: int = 0
    """Number of this rank, from 0 on."""
    world_size: int = 1
    """How many there are."""
    wait_minutes: float = 0.0
    """End when nothing new has come from the other ranks for so long; 0: wait as long as it takes."""
    out: Path | None = None
    """The run directory, which all ranks share."""

    def __post_init__(self) -> None:
        if self.world_size < 1:
            raise UsageError(f"--world-size is {self.world_size}; it must be at least 1")
        if not 0 <= self.rank < self.world_size:
            raise UsageError(f"--rank is {self.rank}; of {self.world_size} ranks it is from 0 to {self.world_size - 1}")
        if self.wait_minutes < 0:
            raise UsageError(f"--wait-minutes is {self.wait_minutes}; it must be at least 0")


def usage() -> str:
    """The tools, for ``--help``."""
    return """A corpus by itself:

  groundup corpus report [DIR] [--json] [--html [FILE]]
      what each step dropped and changed, with examples; lengths, languages and measures of what was kept
  groundup corpus try [RECIPE] --text TEXT | --file FILE [--json] [--corpus.key value …]
      what each step would do with one document, and why
  groundup corpus steps
      the steps, and the pipelines that have names
  groundup corpus sources
      public corpora by name: size, licence, and the command that reads a sample
  groundup corpus train-classifier --good FILE … --bad FILE … --out DIR
      learn a quality classifier, or with --ngram a model of how words follow each other, and say how good it is
  groundup corpus shard [RECIPE] --rank R --world-size N [--wait-minutes M] [--out DIR] [--corpus.key value …]
      one of N independent ranks, on one machine or many; then `groundup corpus` puts together what they made

As a stage:

  groundup corpus [RECIPE] [--out DIR] [--key value …]

"""


def report(words: list[str]) -> int:
    """``groundup corpus report``."""
    folder = Path(words.pop(0)) if words and not words[0].startswith("-") else Path(DEFAULT_RUN)
    if words[-1:] == ["--html"] or "--html --json" in " ".join(words):  # without a file
        words.insert(words.index("--html") + 1, str(folder / "corpus.html"))
    options = parse(ReportOptions, ReportOptions(), words, "groundup corpus report DIR", "command line")
    data = gather(folder)
    if options.html:
        from groundup.corpus.pipeline.report.page import write_page

        write_page(data, Path(options.html))
        print(options.html)
    if options.json:
        print(json.dumps(data, indent=1, ensure_ascii=False))
    elif not options.html:
        _show(terminal.console(), terminal.report(data))
    return 0


def steps(words: list[str]) -> int:
    """``groundup corpus steps``."""
    if words and words[0] not in ("-h", "--help"):
        raise UsageError(f"unexpected {words[0]!r}; `groundup corpus steps` takes no options")
    for name, entry in STEPS.items():
        print(f"{name.replace(' ', '-'):22}{'┊ ' if entry.across else '  '}{entry.what}")
    print("\n┊ looks across documents\n")
    for name, members in PIPELINES.items():
        print(f"{name:10}{listed(members)}")
    return 0


def sources(words: list[str]) -> int:
    """``groundup corpus sources``."""
    if words and words[0] not in ("-h", "--help"):
        raise UsageError(f"unexpected {words[0]!r}; `groundup corpus sources` takes no options")
    for source in SOURCES.values():
        print(f"{source.name}: --corpus.source {source.name}\n  {source.licence}")
    for corpus in PUBLIC.values():
        told = (f"{corpus.contents}; about {quantity(corpus.gigabytes)} GB, {corpus.licence}", corpus.home, corpus.note)
        print("\n  ".join((f"{corpus.name}: {corpus.command}", *filter(None, told))))
    return 0


def try_document(config: CorpusConfig, options: TryOptions) -> int:
    """``groundup corpus try``."""
    document = _document(config, options)
    made = [] if isinstance(document, Dropped) else list(trials(config, document))
    if options.json:
        print(json.dumps([_read(document), *(trial.to_json() for trial in made)], indent=1, ensure_ascii=False))
        return 0
    console = terminal.console()
    if isinstance(document, Dropped):
        _show(console, Text.assemble("read: ", ("dropped", "bold red"), f", {document.reason}: {document.detail}"))
        return 0
    _show(console, Text(f"read: {document.id}, {document.bytes} bytes"), *(_told(trial) for trial in made))
    _show(console, _conclusion(made))
    return 0


def _read(document: Document | Dropped) -> dict[str, Any]:
    """What reading gave, for programs."""
    if isinstance(document, Dropped):
        return {"step": READ, "outcome": "dropped", "reason": document.reason, "detail": document.detail}
    return {"step": READ, "outcome": "kept", "id": document.id, "bytes_after": document.bytes}


def _document(config: CorpusConfig, options: TryOptions) -> Document | Dropped:
    """The document that is to be tried."""
    facts = {name: value for name, value in (("kind", options.kind), ("url", options.url)) if value}
    if options.text is not None and options.file is not None:
        raise UsageError("give --text or --file, not both")
    if options.file is not None and options.file != STANDARD_INPUT:
        records = list(itertools.islice(open_records(options.file, config.reading), 2))
        if not records:
            raise DataError(f"{options.file} holds no document")
        if len(records) > 1:
            say(f"  {options.file} holds several documents; this is the first")
        first = records[0]
        if isinstance(first, Dropped):
            return first
        return Document(first.id, first.title, first.source, first.text, {**first.facts, **facts}, first.measures)
    text = options.text
    if text is None or text == STANDARD_INPUT:
        try:
            text = sys.stdin.read()
        except UnicodeDecodeError as error:
            raise DataError(f"standard input is not {error.encoding} text (byte {error.start}); use --file") from error
    return Document("text", "text", "try", text, facts)


_STYLES = {"kept": "green", "changed": "yellow", "dropped": "bold red", "across": "dim"}


def _told(trial: Trial) -> RenderableType:
    """One step in the terminal."""
    if trial.outcome == "across":
        return Text(f"{trial.step}: looks across documents ({trial.detail})", style="dim")
    head = Text.assemble(f"{trial.step}: ", (trial.outcome, _STYLES[trial.outcome]))
    if trial.outcome == "dropped":
        head.append(f", {trial.reason}: {trial.detail}" if trial.detail else f", {trial.reason}")
    elif trial.outcome == "changed":
        head.append(f", {trial.bytes_before} → {trial.bytes_after} bytes")
    known = [*trial.facts.items(), *((name, quantity(value)) for name, value in trial.measures.items())]
    if known:
        head.append("; " + ", ".join(f"{name} {value}" for name, value in known), style="dim")
    styles = {"-": "red", "+": "green", "@": "dim"}
    return Group(head, *(Text("    " + line, style=styles.get(line[:1], "")) for line in trial.diff))


def _conclusion(made: list[Trial]) -> Text:
    """What becomes of the document in the pipeline."""
    dropping = [trial.step for trial in made if trial.outcome == "dropped"]
    if not dropping:
        return Text("It stays, unless a step across documents has it already.")
    later = f"; {', '.join(dropping[1:])} would drop it, too" if dropping[1:] else ""
    return Text(f"It ends at {dropping[0]}{later}.")


def _show(console: Console, *parts: RenderableType) -> None:
    """Print without the spaces that fill up lines."""
    with console.capture() as drawn:
        console.print(*parts, sep="\n")
    print("\n".join(line.rstrip() for line in drawn.get().splitlines()))


def shard(config: CorpusConfig, options: ShardOptions, out: Path) -> int:
    """``groundup corpus shard``."""
    patience = 60 * options.wait_minutes or math.inf
    build_rank(config, out / "corpus", Rank(options.rank, options.world_size, patience))
    say(f"✓ corpus: rank {options.rank} of {options.world_size} is done with {', '.join(expand(config.steps))}")
    return 0


def run(name: str, config: Any, options: Any, out: Path) -> int:
    """The tool ``name`` that works with a recipe."""
    return try_document(config, options) if name == "try" else shard(config, options, out)


#: Tools that work with a recipe, and their options.
WITH_RECIPE = {"try": TryOptions, "shard": ShardOptions}


def train_classifier(words: list[str]) -> int:
    """``groundup corpus train-classifier``."""
    from groundup.corpus.scoring.command import main

    return main(words)


#: Tools that need none.
ALONE = {"report": report, "steps": steps, "sources": sources, "train-classifier": train_classifier}
