"""Every step by its name, and the pipelines that have names.

A step's module is imported when the step is used, so that nobody needs the packages of the others.
"""

import difflib
import importlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from groundup.core.errors import UsageError


@dataclass(frozen=True)
class Entry:
    """How a step is made from the configuration of the corpus."""

    place: str
    """``module:Class``."""
    what: str
    """What it does, in a line."""
    arguments: str | Callable[[Any], tuple[Any, ...]]
    """The section of the configuration that the class is made from; or a function that chooses what it is made from."""
    across: bool = False
    """Whether it looks across documents."""
    blackens: Callable[[Any], tuple[Any, ...]] | None = None
    """Where nobody should see what the step replaces: what it is made from to blacken that in examples for people."""


#: What examples show instead of what nobody should see.
BLACKENED = "█████"

STEPS: Mapping[str, Entry] = {
    "extract": Entry(
        "groundup.corpus.extraction:Extract",
        "web pages → their main content, without navigation and advertisements",
        "extract",
    ),
    "wikitext": Entry(
        "groundup.corpus.extraction:Wikitext",
        "pages of a wiki → prose, without templates, tables and references",
        "wikitext",
    ),
    "repair": Entry(
        "groundup.corpus.extraction:Repair",
        "undoes damaged encodings, HTML entities in plain text, control characters",
        "repair",
    ),
    "normalize": Entry(
        "groundup.corpus.extraction:Normalize",
        "one Unicode form, plain spaces, no invisible characters",
        "normalize",
    ),
    "clean": Entry(
        "groundup.corpus.pipeline.basic:Clean",
        "Unicode, control characters, white space, Project Gutenberg's frame",
        lambda config: (),
    ),
    "long enough": Entry(
        "groundup.corpus.pipeline.basic:LongEnough",
        "drops texts shorter than corpus.min-characters",
        lambda config: (config.min_characters,),
    ),
    "language": Entry(
        "groundup.corpus.language:Language",
        "tells the language and drops texts in others, or of which that is not sure",
        "language",
    ),
    "blocklist": Entry(
        "groundup.corpus.quality:Blocklist",
        "drops documents by lists of sites, of words in addresses, of words in texts",
        "blocklist",
    ),
    "gopher repetition": Entry(
        "groundup.corpus.quality:GopherRepetition",
        "drops texts that repeat lines, paragraphs or runs of words (Rae et al. 2021)",
        "gopher_repetition",
    ),
    "gopher quality": Entry(
        "groundup.corpus.quality:GopherQuality",
        "drops texts that are no prose: lengths, symbols, bullets, stop words (Rae et al. 2021)",
        "gopher_quality",
    ),
    "c4": Entry(
        "groundup.corpus.quality:C4",
        "removes lines that are no sentences; drops placeholders, code, bad words (Raffel et al. 2020)",
        "c4",
    ),
    "fineweb": Entry(
        "groundup.corpus.quality:FineWeb",
        "drops lists and repeated lines (Penedo et al. 2024)",
        "fineweb",
    ),
    "lines": Entry(
        "groundup.corpus.quality:Lines",
        "removes counters, buttons and navigation; drops pages of little else (Penedo et al. 2023)",
        "lines",
    ),
    "code": Entry(
        "groundup.corpus.quality:Code",
        "drops source code that is generated, encoded or data (Kocetkov et al. 2022)",
        "code",
    ),
    "word list": Entry(
        "groundup.corpus.scoring:WordListFilter",
        "drops texts with too many words of lists, such as those for toxic content",
        "word_list",
    ),
    "classifier": Entry(
        "groundup.corpus.scoring:ClassifierFilter",
        "drops what is unlike the good examples of a classifier (`groundup corpus train-classifier`)",
        "classifier",
    ),
    "toxicity": Entry(
        "groundup.corpus.scoring:ToxicityFilter",
        "drops what is like the bad examples of one of several classifiers: insults, adult content",
        "toxicity",
    ),
    "perplexity": Entry(
        "groundup.corpus.scoring:PerplexityFilter",
        "drops what an n-gram model of good text finds too surprising or too predictable",
        "perplexity",
    ),
    "redaction": Entry(
        "groundup.corpus.redaction:Redaction",
        "replaces addresses, numbers and keys of people by typed placeholders",
        "redaction",
        blackens=lambda config: (replace(config.redaction, placeholder=BLACKENED),),
    ),
    "decontamination": Entry(
        "groundup.corpus.decontamination:Decontamination",
        "drops, cuts or marks texts that share a run of words with benchmarks: your files, or problems of our own",
        "decontamination",
    ),
    "exact duplicates": Entry(
        "groundup.corpus.dedup:Exact",
        "keeps the first of equal texts; case and white space aside",
        "exact",
        across=True,
    ),
    "url duplicates": Entry(
        "groundup.corpus.dedup:Exact",
        "keeps the first page of an address",
        lambda config: (replace(config.exact, unit="url"),),
        across=True,
    ),
    "repeated paragraphs": Entry(
        "groundup.corpus.dedup:Exact",
        "removes paragraphs that stood in the corpus before",
        lambda config: (replace(config.exact, unit="paragraph"),),
        across=True,
    ),
    "repeated lines": Entry(
        "groundup.corpus.dedup:Exact",
        "removes lines that stood in the corpus before",
        lambda config: (replace(config.exact, unit="line"),),
        across=True,
    ),
    "minhash": Entry(
        "groundup.corpus.dedup:MinHash",
        "one of each set of documents that resemble each other, in a corpus of any size",
        "minhash",
        across=True,
    ),
    "embedding": Entry(
        "groundup.corpus.dedup:Embedding",
        "one of each set of documents that say the same in other words (Abbas et al. 2023)",
        "embedding",
        across=True,
    ),
    "substring": Entry(
        "groundup.corpus.dedup:Substring",
        "cuts out passages that stood in the corpus before (Lee et al. 2022)",
        "substring",
        across=True,
    ),
    "near duplicates": Entry(
        "groundup.corpus.pipeline.whole:NearDuplicates",
        "one of each set of documents that say the same, compared in memory: for corpora of up to a gigabyte or so",
        lambda config: (config.resemblance, config.containment),
        across=True,
    ),
}

#: What a recipe does that says nothing else.
DEFAULT = ("clean", "long enough", "exact duplicates", "near duplicates")

#: A name that stands for several steps.
PIPELINES: Mapping[str, tuple[str, ...]] = {
    "default": DEFAULT,
    "web": (
        *("blocklist", "extract", "repair", "normalize", "language"),
        *("gopher repetition", "gopher quality", "c4", "fineweb", "redaction"),
        *("url duplicates", "exact duplicates", "minhash"),
    ),
    "mixed": (
        *("blocklist", "extract", "wikitext", "repair", "normalize", "language"),
        *("gopher repetition", "gopher quality", "c4", "fineweb"),
        *("code", "redaction", "clean", "long enough"),
        *("url duplicates", "exact duplicates", "minhash"),
    ),
    "code": ("repair", "code", "redaction", "clean", "long enough", "exact duplicates", "minhash"),
    "wiki": ("wikitext", "normalize", "clean", "long enough", "language", "exact duplicates", "minhash"),
    "books": ("repair", "normalize", "clean", "long enough", "language", "exact duplicates", "minhash"),
}


def spelled(name: str) -> str:
    """A step's name as this file spells it: ``exact-duplicates`` is ``exact duplicates``."""
    return " ".join(name.replace("-", " ").replace("_", " ").split()).lower()


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """The steps that ``names``, of steps or pipelines, stand for.

    Raises:
        UsageError: one is unknown (with a suggestion), or a step stands there twice.
    """
    steps: list[str] = []
    for given in names:
        name = spelled(given)
        if name not in PIPELINES and name not in STEPS:
            known = [*PIPELINES, *STEPS]
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0].replace(' ', '-')}?" if close else f"use one of: {listed(known)}"
            raise UsageError(f"corpus.steps: {given!r} is no step; {hint}")
        steps += PIPELINES.get(name, (name,))
    for place, name in enumerate(steps):
        if name in steps[:place]:
            raise UsageError(f"corpus.steps: {name.replace(' ', '-')} stands there twice; leave one out")
    return tuple(steps)


def sections(steps: Iterable[str]) -> set[str]:
    """The sections of the configuration that these steps are made from."""
    return {place for name in steps if isinstance(place := STEPS[name].arguments, str)}


def listed(names: Iterable[str]) -> str:
    """Names as a command line takes them."""
    return ", ".join(name.replace(" ", "-") for name in names)


def make(name: str, config: Any) -> Any:
    """The step called ``name``, made from its section of the configuration: a ``Step``, or one across documents.

    Raises:
        UsageError: it needs a package that is not installed, or its section is wrong.
    """
    given = STEPS[name].arguments
    return _made(name, (getattr(config, given),) if isinstance(given, str) else given(config))


def blackening(steps: Iterable[str], config: Any) -> list[Any]:
    """Steps that make a text fit to be seen, where one of ``steps`` removes something for people's sake."""
    return [_made(name, blackens(config)) for name in steps if (blackens := STEPS[name].blackens)]


def _made(name: str, arguments: tuple[Any, ...]) -> Any:
    module, _, kind = STEPS[name].place.partition(":")
    return getattr(importlib.import_module(module), kind)(*arguments)
