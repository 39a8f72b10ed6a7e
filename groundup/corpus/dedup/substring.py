"""Passages that stand in a corpus more than once are cut out, all but the first (Lee et al. 2022).

Every run of ``length`` tokens has a hash; equal hashes meet on disk (``cross``), whatever lies between. A run that
occurred before is cut out, except what it shares with its own first occurrence: so "la la la …" keeps ``length`` words.
Each token that is cut still stands at the same place of the same passage earlier in the corpus.

The outcome is that of a suffix array over the whole corpus, whose groups of suffixes with a common prefix of ``length``
tokens are these runs (``suffix.first_occurrences``), but memory is that of a bucket; 20 bytes of disk a token.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from groundup.core.errors import UsageError
from groundup.corpus.dedup.cross import CrossStep, Integers, Repeated, Sketch, Verdicts, Workspace
from groundup.corpus.dedup.hashing import Hashes, mix, run_hashes
from groundup.corpus.dedup.spans import without_spans
from groundup.corpus.dedup.words import located_words
from groundup.corpus.document import Document, Dropped

#: The second hash of a run is made with another step, so that the two go wrong for different texts.
_SECOND_STEP = 0xD1B54A32D192ED03


@dataclass(frozen=True)
class SubstringConfig:
    """Which repeated passages are cut out."""

    length: int = 50
    """Tokens that a passage has at least."""
    unit: Literal["words", "bytes"] = "words"
    """What a token is: a word, whatever its case and the punctuation behind it; or a byte of UTF-8."""

    def __post_init__(self) -> None:
        if self.length < 2:
            raise UsageError(f"corpus.substring.length is {self.length}; it must be at least 2")
        if self.unit not in ("words", "bytes"):
            raise UsageError(f"corpus.substring.unit is {self.unit!r}; use words or bytes")


class Substring(CrossStep):
    """Cuts repeated passages out of documents; see the module."""

    name = "repeated passages"

    def __init__(self, config: SubstringConfig) -> None:
        self.config = config

    def sketch(self, document: Document) -> Sketch:
        tokens = _tokens(document.text, self.config.unit)
        keys = run_hashes(tokens, self.config.length)
        checks = run_hashes(tokens, self.config.length, _SECOND_STEP) >> np.uint64(32)
        places = np.arange(len(keys), dtype=np.uint32)
        return Sketch(keys, checks.astype(np.uint32), places, np.empty(0, dtype=np.uint32))

    def repeated(self, workspace: Workspace, groups: Repeated) -> Integers:
        """Columns: document, first token to cut, the token behind the last one, document that has them first."""
        later = np.flatnonzero(groups.firsts != np.arange(len(groups.firsts)))
        first = groups.firsts[later]
        documents, starts = groups.documents[later], groups.places[later]
        same = documents == groups.documents[first]
        kept_until = np.where(same, groups.places[first] + self.config.length, 0)
        columns = [documents, np.maximum(starts, kept_until), starts + self.config.length, groups.documents[first]]
        return np.stack(columns)

    def verdicts(self, workspace: Workspace, shard: int) -> Verdicts:
        return _SubstringVerdicts(self.config, workspace, workspace.repetitions_of(shard))


class _SubstringVerdicts(Verdicts):
    def __init__(self, config: SubstringConfig, workspace: Workspace, repetitions: Integers) -> None:
        self._unit = config.unit
        self._workspace = workspace
        self._documents, self._starts, self._stops, self._firsts = repetitions

    def __call__(self, position: int, document: Document) -> Document | Dropped:
        first, last = np.searchsorted(self._documents, (position, position + 1))
        if first == last:
            return document
        passages = _merged(self._starts[first:last], self._stops[first:last])
        text = without_spans(document.text, _characters(document.text, passages, self._unit))
        if not any(map(str.isalnum, text)):
            detail = f"nothing is left without what {self._workspace.id_of(int(self._firsts[first]))} says"
            return Dropped.of(document, "repeated passages", detail)
        removed = float(sum(stop - start for start, stop in passages))
        measures = {"passages.removed": float(len(passages)), f"{self._unit}.removed": removed}
        return replace(document, text=text, measures={**document.measures, **measures})


def _tokens(text: str, unit: str) -> Hashes:
    """A hash for every token."""
    if unit == "words":
        return located_words(text)[0]
    return mix(_utf8(text).astype(np.uint64) + np.uint64(1))


def _merged(starts: Integers, stops: Integers) -> list[tuple[int, int]]:
    """Ranges in order of their starts, joined where they touch; a run that is kept as a whole has none."""
    merged: list[tuple[int, int]] = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged


def _characters(text: str, passages: list[tuple[int, int]], unit: str) -> list[tuple[int, int]]:
    """Ranges of tokens as ranges of characters; a character of which only some bytes are repeated stays."""
    if unit == "words":
        _, starts, ends = located_words(text)
        return [(int(starts[start]), int(ends[stop - 1])) for start, stop in passages]
    begins = _utf8(text) & 0xC0 != 0x80
    before = np.concatenate([[0], np.cumsum(begins)])  # characters that begin before each byte
    whole = np.append(begins, True)  # whether a cut before this byte parts no character
    return [(int(before[start]), int(before[stop]) - int(not whole[stop])) for start, stop in passages]


def _utf8(text: str) -> NDArray[np.uint8]:
    return np.frombuffer(text.encode("utf-8", "surrogatepass"), dtype=np.uint8)
