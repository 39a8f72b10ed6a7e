"""Documents in, raw material of the tasks out: words, names, things and short passages.

A model that has read little knows only its corpus, so problems are made of the corpus's own words. What
a corpus lacks is filled from ``fallback``; with no document at all the tasks still work.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from groundup.tasks.fallback import COMMON_WORDS, NAMES, THINGS, VERSES

#: Consecutive lines of verse, or consecutive short sentences.
Passage = tuple[str, ...]

PASSAGE_LINES = 2
LINE_CHARACTERS = (12, 40)
MAX_WORDS = 3000
MAX_PASSAGES = 4000
#: Beyond this many characters a larger corpus would only add rarer words.
MAX_CHARACTERS = 20_000_000
#: Fewer than these, and ``fallback`` or the train documents fill up.
MIN_WORDS = 200
MIN_NAMES = 24
MIN_THINGS = 24
MIN_PASSAGES = 24
#: A word must occur this often to count as known.
MIN_OCCURRENCES = 3

#: Old drama is frank; these should not meet a reader in a spelling lesson.
UNWELCOME = frozenset(
    {"arse", "ass", "bastard", "bastards", "bawd", "bawds", "bitch", "breast", "breasts", "damn", "damned", "harlot"}
    | {"jew", "jews", "lewd", "lust", "murder", "rape", "rapes", "ravish", "slave", "slaves", "slut", "strumpet"}
    | {"villain", "whore", "whores", "wench"}
)

# A whole word, not a piece of "o'er" or "bed-rid".
_WORD = re.compile(r"(?<![\w'’-])[A-Za-z]+(?![\w'’-])")
_VERSE_LINE = re.compile(r"[A-Z][A-Za-z ,;:.!?'’-]+")
_LABEL = re.compile(r"(?:[A-Z][a-z]*\. |Enter\b|Exit\b|Exeunt\b|Re-enter\b|Scene\b|Act\b|Chapter\b)")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")


@dataclass(frozen=True)
class Material:
    """What the task families draw from; build it with :meth:`from_documents`."""

    words: tuple[str, ...]
    """Lower-case words of 3 to 8 letters, the most frequent first."""
    names: tuple[str, ...]
    """Given names, alphabetical."""
    things: tuple[str, ...]
    """Nouns that a person can keep, alphabetical."""
    train_verses: tuple[Passage, ...]
    """Passages for training; no line occurs twice anywhere in the material."""
    validation_verses: tuple[Passage, ...]
    """Passages for model selection, from documents that no model has been trained on (if there are enough)."""
    test_verses: tuple[Passage, ...]
    """Passages for the final evaluation, likewise."""

    @classmethod
    def from_documents(cls, train_texts: Iterable[str], validation_texts: Iterable[str] = ()) -> "Material":
        """Gather material from the corpus stage's documents.

        Words, names and training passages come from ``train_texts``. Passages for validation and test come
        from ``validation_texts``, so no problem shows the text behind the validation loss to a model in
        training; if those hold too few, a fifth of the train passages is set apart instead.
        """
        counts: Counter[str] = Counter()
        used_lines: set[str] = set()
        passages: list[Passage] = []
        for text in _first_characters(train_texts):
            counts.update(_WORD.findall(text))
            passages += _fresh_passages(text, used_lines, MAX_PASSAGES - len(passages))
        held_out: list[Passage] = []
        for text in _first_characters(validation_texts):
            held_out += _fresh_passages(text, used_lines, MAX_PASSAGES - len(held_out))

        if len(passages) < MIN_PASSAGES:
            passages += [poem[:PASSAGE_LINES] for poem in VERSES]
        passages.sort(key=_digest)
        if len(held_out) < MIN_PASSAGES:
            fifth = max(2, len(passages) // 5)
            held_out, passages = passages[:fifth], passages[fifth:]
        held_out.sort(key=_digest)
        half = len(held_out) // 2
        return cls(
            words=_frequent_words(counts),
            names=_known(NAMES, counts, MIN_NAMES),
            things=_known(THINGS, counts, MIN_THINGS),
            train_verses=tuple(passages),
            validation_verses=tuple(held_out[:half]),
            test_verses=tuple(held_out[half:]),
        )


def _first_characters(texts: Iterable[str]) -> Iterator[str]:
    """The texts, cut after ``MAX_CHARACTERS`` in all."""
    left = MAX_CHARACTERS
    for text in texts:
        yield text[:left]
        left -= len(text)
        if left <= 0:
            return


def _frequent_words(counts: Counter[str]) -> tuple[str, ...]:
    """The most frequent lower-case words; ties in alphabetical order so that the result is one."""
    candidates = [
        word
        for word, count in counts.items()
        if 3 <= len(word) <= 8 and word.islower() and count >= MIN_OCCURRENCES and word not in UNWELCOME
    ]
    words = sorted(candidates, key=lambda word: (-counts[word], word))[:MAX_WORDS]
    if not _is_varied(words):
        words += [word for word in COMMON_WORDS if word not in set(words)]
    return tuple(words)


def _is_varied(words: Sequence[str]) -> bool:
    """Enough words for lists, first letters, lengths and repeated letters; a corpus of codes may have few."""
    return (
        len(words) >= MIN_WORDS
        and len({word[0] for word in words}) >= 10
        and len({len(word) for word in words}) >= 4
        and any(len(set(word)) < len(word) for word in words)
    )


def _known(candidates: Sequence[str], counts: Counter[str], minimum: int) -> tuple[str, ...]:
    """The ``minimum`` candidates that the corpus uses most, and every other that it uses often enough."""
    by_use = sorted(candidates, key=lambda word: (-counts[word], word))
    often = sum(counts[word] >= MIN_OCCURRENCES for word in candidates)
    return tuple(sorted(by_use[: max(minimum, often)]))


def _fresh_passages(text: str, used_lines: set[str], limit: int) -> list[Passage]:
    """Up to ``limit`` passages of ``text`` made of lines not used before; marks their lines as used."""
    found = _passages(text.splitlines(), _is_verse_line) or _passages(_sentences(text), _is_short_sentence)
    fresh: list[Passage] = []
    for passage in found:
        keys = {line.casefold() for line in passage}
        if len(fresh) < limit and len(keys) == PASSAGE_LINES and not keys & used_lines:
            used_lines |= keys
            fresh.append(passage)
    return fresh


def _passages(lines: Iterable[str], accept: Callable[[str], bool]) -> list[Passage]:
    """Non-overlapping groups of ``PASSAGE_LINES`` consecutive acceptable lines."""
    found: list[Passage] = []
    run: list[str] = []
    for line in map(str.strip, lines):
        if not accept(line):
            run = []
            continue
        run.append(line)
        if len(run) == PASSAGE_LINES:
            found.append(tuple(run))
            run = []
    return found


def _is_verse_line(line: str) -> bool:
    """A capital at the start, at least three words, nothing in capitals, no heading, speaker or stage direction."""
    shortest, longest = LINE_CHARACTERS
    return (
        shortest <= len(line) <= longest
        and line.count(" ") >= 2
        and not any(word.isupper() and len(word) > 1 for word in line.split())
        and _VERSE_LINE.fullmatch(line) is not None
        and _LABEL.match(line) is None
    )


def _sentences(text: str) -> Iterator[str]:
    """Sentences of every paragraph; an empty string between paragraphs."""
    for paragraph in re.split(r"\n\s*\n", text):
        yield from _SENTENCE_END.split(" ".join(paragraph.split()))
        yield ""


def _is_short_sentence(sentence: str) -> bool:
    """Any script; no quotation mark, which would end the quotation in a question."""
    shortest, longest = LINE_CHARACTERS
    return shortest <= len(sentence) <= longest and not set(sentence) & set('"“”') and sentence[-1] in ".!?"


def _digest(passage: Passage) -> bytes:
    """An order that depends on the content alone."""
    return hashlib.sha256("\n".join(passage).encode()).digest()
