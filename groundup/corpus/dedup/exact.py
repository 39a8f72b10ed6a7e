"""Exact repetitions: whole documents, pages of one address, paragraphs and lines. The first one stays."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

import numpy as np

from groundup.core.errors import UsageError
from groundup.corpus.dedup.cross import CrossStep, Integers, Repeated, Sketch, Verdicts, Workspace
from groundup.corpus.dedup.hashing import text_hash
from groundup.corpus.document import Document, Dropped

UNITS = ("document", "url", "paragraph", "line")


@dataclass(frozen=True)
class ExactConfig:
    """What must not occur twice."""

    unit: Literal["document", "url", "paragraph", "line"] = "document"
    """Whole texts, addresses, or the paragraphs or lines of all documents."""
    min_characters: int = 40
    """Shorter paragraphs and lines may repeat: a speaker's name, a closing brace."""

    def __post_init__(self) -> None:
        if self.unit not in UNITS:
            raise UsageError(f"corpus.exact.unit is {self.unit!r}; use {', '.join(UNITS[:-1])} or {UNITS[-1]}")
        if self.min_characters < 0:
            raise UsageError(f"corpus.exact.min_characters is {self.min_characters}; it must be at least 0")


class Exact(CrossStep):
    """Texts are equal when they differ in case and white space only; addresses when ``canonical_url`` is."""

    def __init__(self, config: ExactConfig) -> None:
        self.config = config
        self.name = f"exact {config.unit}"

    def sketch(self, document: Document) -> Sketch:
        units = self._units(document)
        hashes = [text_hash(unit) for unit in units.values()]
        return Sketch(
            np.array([key for key, _ in hashes], dtype=np.uint64),
            np.array([check for _, check in hashes], dtype=np.uint32),
            np.array(list(units), dtype=np.uint32),
            np.empty(0, dtype=np.uint32),
        )

    def repeated(self, workspace: Workspace, groups: Repeated) -> Integers:
        """Columns: document, place of the repeated unit, document that has it first."""
        later = np.flatnonzero(groups.firsts != np.arange(len(groups.firsts)))
        return np.stack([groups.documents[later], groups.places[later], groups.documents[groups.firsts[later]]])

    def verdicts(self, workspace: Workspace, shard: int) -> Verdicts:
        return _ExactVerdicts(self.config, workspace, workspace.repetitions_of(shard))

    def _units(self, document: Document) -> Mapping[int, str]:
        """Place → what is compared."""
        if self.config.unit == "document":
            return {0: normalised(document.text)}
        if self.config.unit == "url":
            url = document.facts.get("url")
            return {0: canonical_url(url)} if url else {}
        units = {place: normalised(part) for place, part in enumerate(parts_of(document.text, self.config.unit)[::2])}
        return {place: unit for place, unit in units.items() if len(unit) >= max(1, self.config.min_characters)}


class _ExactVerdicts(Verdicts):
    def __init__(self, config: ExactConfig, workspace: Workspace, repetitions: Integers) -> None:
        self._unit = config.unit
        self._workspace = workspace
        self._documents, self._places, self._firsts = repetitions

    def __call__(self, position: int, document: Document) -> Document | Dropped:
        start, stop = np.searchsorted(self._documents, (position, position + 1))
        if start == stop:
            return document
        first = self._workspace.id_of(int(self._firsts[start]))
        if self._unit == "document":
            return Dropped.of(document, "exact duplicate", f"same text as {first}")
        if self._unit == "url":
            return Dropped.of(document, "same address", f"{document.facts['url']} is also that of {first}")
        text = without_parts(document.text, self._unit, set(self._places[start:stop].tolist()))
        if not text:
            what = f"{self._unit}s of {first}" if stop - start > 1 else f"{self._unit} of {first}"
            return Dropped.of(document, f"repeated {self._unit}s", f"nothing is left without {stop - start} {what}")
        key = f"{self._unit}s.removed"
        return replace(document, text=text, measures={**document.measures, key: float(stop - start)})


# --- texts ------------------------------------------------------------------------------------------------------------

_BLANK_LINES = re.compile(r"(\n[^\S\n]*\n\s*)")
_LINE_END = re.compile(r"(\n)")


def normalised(text: str) -> str:
    """The text as it is compared: without case, white space single."""
    return " ".join(text.casefold().split())


def parts_of(text: str, unit: str) -> list[str]:
    """Paragraphs or lines at even places, what separates them at odd ones; joined they are the text."""
    return (_BLANK_LINES if unit == "paragraph" else _LINE_END).split(text)


def without_parts(text: str, unit: str, removed: set[int]) -> str:
    """The text without the paragraphs or lines of these numbers, each with what separates it from the next one."""
    parts = parts_of(text, unit)
    kept = [piece for number, piece in enumerate(parts) if number // 2 not in removed]
    return "".join(kept).strip()


# --- addresses --------------------------------------------------------------------------------------------------------

#: Parameters that say where a reader came from, not what the page shows.
_TRACKING = re.compile(r"utm_\w+|gclid|fbclid|dclid|msclkid|mc_[ce]id|_ga|igshid|yclid|ref_src|phpsessid|jsessionid")
_ESCAPE = re.compile("%([0-9A-Fa-f]{2})")
_PORTS = {"http": 80, "https": 443}


def canonical_url(url: str) -> str:
    """One spelling for addresses that show the same page.

    Left out: the scheme, ``www.``, default ports, user names, fragments, a slash at the end, parameters that only
    track readers. Host in small letters, parameters sorted, percent signs only where they are needed
    (RFC 3986, section 6.2).
    """
    try:
        split = urlsplit(url.strip())
        host, port = (split.hostname or "").removeprefix("www.").rstrip("."), split.port
    except ValueError:  # no address by any standard; compared as it stands
        return url.strip()
    if port and port != _PORTS.get(split.scheme, port + 1):
        host = f"{host}:{port}"
    path = quote(_ESCAPE.sub(_unescaped, split.path), safe="/:@!$&'()*+,;=~%", errors="replace")
    pairs = parse_qsl(split.query, keep_blank_values=True)
    fields = sorted((name, value) for name, value in pairs if not _TRACKING.fullmatch(name.lower()))
    query = "?" + urlencode(fields, errors="replace") if fields else ""
    return f"{host}{path.rstrip('/')}{query}"


def _unescaped(escape: re.Match[str]) -> str:
    """``%7E`` → ``~``, ``%2f`` → ``%2F``: what means the same in a path is written in one way."""
    character = chr(int(escape[1], 16))
    return character if character.isascii() and (character.isalnum() or character in "-._~") else escape[0].upper()
