r"""One text → its words and lines, measured once for all rules: ``analyse(text) -> Analysis``.

Every filter of this package asks the same questions in other words: how many words, how long, which of them again; how
each line begins and ends. The text is read once for all of them. Steps follow one another on the same text, so the last
analysis is remembered; it is found by the identity of the string, and nothing but the text decides it.

**A line** is what ``str.splitlines`` gives; **a paragraph** a run of lines that are not empty.

**A word** is a run of letters, marks and digits in any script. An apostrophe between two of them belongs to it
("don't"), and so does a full stop or comma between two digits ("3.14"). In scripts without spaces between words
(Chinese, Japanese, Thai, Lao, Khmer, Burmese) each letter with its marks is a word. Everything else that is not white
space is a word too, a *symbol*, but a run of one sign ("...", "-----") only once: the limits in use were set with
tokenizers that count punctuation. ``words`` cuts a text so in a few lines, which the kernel in ``kernels/scan.py`` is
tested against.

spaCy, which datatrove uses for English, cuts "don't" and "John's" in two and leaves "U.S." and addresses of web pages
whole; that changes shares by a few per cent of their value and decisions only beside a limit.

An n-gram or a line is known by a hash of 64 bits: among a million of them two different ones are taken for equal once
in 37 million texts.
"""

import re
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import groupby
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from groundup.core import compiled
from groundup.corpus.quality.characters import (
    ALONE,
    DIGIT,
    LETTER,
    SPACE,
    TERMINAL,
    UPPER,
    WORD,
    classes,
    code_points,
    encoded,
)

Hashes = NDArray[np.uint64]
Numbers = NDArray[np.int64]

#: What is known of a line, one number each; places are in characters of the text.
COLUMNS = 13
START, END, FIRST, LAST, HASH, SPACED, LONGEST, LETTERS, UPPERS, DIGITS, WORDS, SENTENCES, FLAGS = range(COLUMNS)
#: Bits of ``FLAGS``.
BULLET, ELLIPSIS, TERMINATED, CLOSED, CURLY, BRACKET = (1 << bit for bit in range(6))

#: n of the commonest n-gram, and of the n-grams that occur again.
TOP, REPEATED = range(2, 5), range(5, 11)

_KERNELS = "groundup.corpus.quality.kernels"
_measure = compiled.Kernel(
    f"{_KERNELS}.measure:measure",
    "i64",
    *("u32*", "i64", "u8*", "u64*", "i64*", "i64", "i64*", "i64", "u64*", "i64*", "i64*"),
)
_ngrams = compiled.Kernel(
    f"{_KERNELS}.repetition:ngrams", "i64", "u64*", "i64*", "i64", "u64*", "i64*", "u64*", "i64*", "i64*"
)


class Totals(NamedTuple):
    """What the words and lines of a text add up to, as the kernel counts it."""

    lines: int
    line_ends: int
    end_characters: int
    """Characters of the line ends: two for each ``\r\n``."""
    words: int
    plain: int
    """Words that are no symbols."""
    plain_characters: int
    """In these."""
    alphabetic: int
    """Words with at least one letter."""
    bullet_lines: int
    ellipsis_lines: int
    terminated_lines: int
    """Lines with these flags."""
    filled_lines: int
    """Lines that hold more than white space."""
    not_empty: int
    """Lines that hold anything."""
    repeated_lines: int
    """Of these, how many occurred before."""
    repeated_line_characters: int
    """In these."""
    repeated_text_characters: int
    """In the filled lines of these."""
    paragraphs: int
    """Of the text without white space at its ends."""
    repeated_paragraphs: int
    repeated_paragraph_characters: int


@dataclass(frozen=True, eq=False)
class Analysis:
    """What the rules ask about a text. Arrays are read-only by agreement."""

    text: str
    words: Hashes
    """One hash per word, in their order; equal words have equal ones. See ``hash_of``."""
    ends: Numbers
    """Characters in the words before word ``i``; shape (words + 1,)."""
    lines: Numbers
    """One row of ``COLUMNS`` per line:

    ``START``, ``END``         the line without its end; ``FIRST``, ``LAST`` the same without white space at either end
    ``HASH``                   equal for equal lines
    ``SPACED``, ``LONGEST``    words between white space, and the length of the longest
    ``LETTERS``, ``UPPERS``, ``DIGITS``   characters of these kinds
    ``WORDS``                  words as described above, symbols not counted
    ``SENTENCES``              runs of text up to . ! ? or the like, closing quotes, and then white space or the end;
                               behind 。 and other full-width marks no white space is needed
    ``FLAGS``                  begins with a bullet; ends (but for white space) in an ellipsis; ends in a mark that ends
                               a sentence; ends (but for white space) in . ? ! " ' and not in "..."; has a {; has a [
    """
    totals: Totals

    @property
    def characters(self) -> int:
        return len(self.text)

    @cached_property
    def repeated_ngrams(self) -> tuple[int, ...]:
        """Characters of the commonest n-gram times its occurrences, for each n of ``TOP``, then of all that occurred
        before, for each n of ``REPEATED``. Symbols count as words."""
        return ngrams(self.words, self.ends)


_last: Analysis | None = None


def analyse(text: str) -> Analysis:
    """The analysis of a text; of the same string as last time, the one that was made then."""
    global _last
    last = _last
    if last is None or last.text is not text:
        last = _last = analyse_anew(text)
    return last


def analyse_anew(text: str) -> Analysis:
    """``analyse`` that neither remembers nor asks what was remembered: for a text that no other step will see."""
    return _analyse_compiled(text) if compiled.available() else analyse_plain(text)


class _Workspace(threading.local):
    """Arrays that the kernel fills, made once for each thread, and larger when a text needs it."""

    SMALL = (1 << 12, 1 << 10)
    """Words and lines to begin with."""
    LARGEST = 1 << 20
    """Words; arrays for more are not kept."""

    def __init__(self) -> None:
        self.room(*self.SMALL)

    def room(self, words: int, lines: int) -> None:
        """Make the arrays."""
        self.most_words, self.most_lines = words, lines
        self.words, self.ends = np.empty(words, np.uint64), np.empty(words + 1, np.int64)
        self.lines, self.totals = np.empty((lines, COLUMNS), np.int64), np.empty(len(Totals._fields), np.int64)
        keys, counts = _table(lines)
        self.kept = (keys, counts)
        arrays = (classes(), self.words, self.ends, self.lines, keys, counts, self.totals)
        self.pointers = compiled.pointers(*arrays)


@cache
def _workspace() -> _Workspace:
    return _Workspace()


def _analyse_compiled(text: str) -> Analysis:
    space, characters, codes = _workspace(), len(text), encoded(text)
    while True:
        kinds, words, ends, rows, keys, counts, totals = space.pointers
        room = (words, ends, space.most_words, rows, space.most_lines, keys, counts, totals)
        if not _measure.bind()(codes, characters, kinds, *room):
            break
        # Half as many words and a sixteenth as many lines as characters are enough for all but odd texts.
        narrow = space.most_words < characters // 2 or space.most_lines < characters // 16
        space.room(*((characters // 2 + 1, characters // 16 + 1) if narrow else (characters, characters)))
    found = Totals(*space.totals.tolist())
    kept = (space.words[: found.words].copy(), space.ends[: found.words + 1].copy(), space.lines[: found.lines].copy())
    if space.most_words > space.LARGEST:
        space.room(*space.SMALL)
    return Analysis(text, *kept, found)


# --- n-grams ----------------------------------------------------------------------------------------------------------


def ngrams(words: Hashes, ends: Numbers) -> tuple[int, ...]:
    """See ``Analysis.repeated_ngrams``."""
    if not compiled.available():
        return ngrams_plain(words.tolist(), ends.tolist())
    number = len(words)
    keys, counts = _table(number)
    grams, places = np.empty(number, np.uint64), np.empty(number, np.int64)
    results = np.empty(len(TOP) + len(REPEATED), np.int64)
    _ngrams(words, ends, number, grams, places, keys, counts, results)
    return tuple(results.tolist())


def _table(number: int) -> tuple[Hashes, Numbers]:
    """Room for so many keys, at least half of it free."""
    slots = max(16, 1 << (2 * number).bit_length())
    return np.empty(slots, np.uint64), np.empty(slots, np.int64)


def ngrams_plain(words: Sequence[int], ends: Sequence[int]) -> tuple[int, ...]:
    """``ngrams`` as the papers put it."""

    def grams(n: int) -> list[tuple[int, ...]]:
        return [tuple(words[place : place + n]) for place in range(len(words) - n + 1)]

    results = []
    for n in TOP:
        every = grams(n)
        best, most = max(Counter(every).items(), key=itemgetter(1), default=((), 0))
        place = every.index(best) if every else 0
        results.append((ends[place + n] - ends[place] + n - 1) * most if every else 0)
    for n in REPEATED:
        seen: set[tuple[int, ...]] = set()
        characters = free = 0
        for place, gram in enumerate(grams(n)):
            if place < free:
                continue
            if gram in seen:
                characters += ends[place + n] - ends[place]
                free = place + n
            seen.add(gram)
        results.append(characters)
    return tuple(results)


# --- plain Python -----------------------------------------------------------------------------------------------------

_MASK = (1 << 64) - 1
_FACTOR, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def hash_of(word: str) -> int:
    """64 bits for a run of characters: a polynomial of its code points, and SplitMix64's finaliser."""
    value = 0
    for character in word:
        value = (value + ord(character) + 1) * _FACTOR & _MASK
    value = (value ^ (value >> 30)) * _MIX_1 & _MASK
    value = (value ^ (value >> 27)) * _MIX_2 & _MASK
    return value ^ (value >> 31)


_KINDS = str.maketrans({"'": "q", "’": "q", ".": "p", ",": "p"})
# On a text of kinds: l a letter, m a mark, d a digit, c a letter that is a word, q and p as above, s any other sign.
_WORD_KINDS = re.compile(r"cm*|[lmd](?:[lmd]|(?<=[lmd])q(?=[lmd])|(?<=d)p(?=d))*|[qps]")
_SENTENCE_END = "\"')]”’»〉》」』】）"
_UNSPACED = 0x3000


def words(text: str) -> list[str]:
    """The words of a text, symbols among them, as described above."""
    found: list[str] = []
    stop = -1
    kinds = _kinds(text)
    for match in _WORD_KINDS.finditer(kinds):
        start, end = match.span()
        if kinds[start] in "qps" and start == stop and found and found[-1][0] == text[start]:
            found[-1] += text[start]
        else:
            found.append(text[start:end])
        stop = end
    return found


def _kinds(text: str) -> str:
    """One letter for each character: see ``_WORD_KINDS``; a blank for white space."""
    table = classes()[code_points(text)]
    letters = np.select(
        [table & ALONE > 0, table & DIGIT > 0, table & LETTER > 0, table & WORD > 0, table & SPACE > 0],
        [*map(ord, "cdlm ")],
        ord("s"),
    )
    marks = code_points(text.translate(_KINDS))
    marked = (marks != code_points(text)) if len(marks) else np.zeros(0, bool)
    return np.where(marked, marks, letters).astype(np.uint8).tobytes().decode("ascii")


def is_plain(word: str) -> bool:
    """Whether a word is no symbol."""
    return bool(classes()[ord(word[0])] & WORD)


def analyse_plain(text: str) -> Analysis:
    """``analyse`` in plain Python: slow, and the measure of the kernel."""
    found = words(text)
    known = {word: hash_of(word) for word in set(found)}
    plain = [word for word in found if is_plain(word)]
    lines, ended = text.splitlines(), text.splitlines(keepends=True)
    rows = np.array(list(_line_rows(text)), np.uint64).astype(np.int64).reshape(-1, COLUMNS)
    flagged = [sum(bool(row & flag) for row in rows[:, FLAGS].tolist()) for flag in (BULLET, ELLIPSIS, TERMINATED)]
    not_empty = [line for line in lines if line]
    filled = [line for line in lines if line.strip()]
    paragraphs = _paragraphs(text)
    counted = [
        *(len(lines), sum(line != whole for line, whole in zip(lines, ended, strict=True))),
        *(len(text) - sum(map(len, lines)), len(found), len(plain), sum(map(len, plain))),
        sum(any(map(str.isalpha, word)) for word in plain),
        *(*flagged, len(filled), len(not_empty), *_repeated(not_empty), _repeated(filled)[1]),
        *(len(paragraphs), *_repeated(paragraphs)),
    ]
    ends = np.concatenate([[0], np.cumsum([len(word) for word in found], dtype=np.int64)]).astype(np.int64)
    return Analysis(text, np.array([known[word] for word in found], np.uint64), ends, rows, Totals(*counted))


def _paragraphs(text: str) -> list[str]:
    """Runs of lines that are not empty, of the text without white space at its ends."""
    runs = groupby(text.strip().splitlines(), key=bool)
    return ["\n".join(lines) for filled, lines in runs if filled]


def _repeated(elements: Sequence[str]) -> tuple[int, int]:
    """How many of the elements occurred before, and how many characters these have."""
    different = set(elements)
    return len(elements) - len(different), sum(map(len, elements)) - sum(map(len, different))


def _line_rows(text: str) -> Iterator[list[int]]:
    start = 0
    for ended in text.splitlines(keepends=True):
        line = ended.splitlines()[0]
        inner = line.strip()
        first = start + len(line) - len(line.lstrip()) if inner else start + len(line)
        kinds = classes()[code_points(line)]
        spaced = line.split()
        yield [
            *(start, start + len(line), first, first + len(inner), hash_of(line)),
            *(len(spaced), max(map(len, spaced), default=0)),
            *(int((kinds & bit > 0).sum()) for bit in (LETTER, UPPER, DIGIT)),
            *(sum(map(is_plain, words(line))), _sentences(spaced), _flags(line, inner)),
        ]
        start += len(ended)


def _sentences(spaced: Sequence[str]) -> int:
    """Sentences of a line: as many as marks that end one, and one for what follows the last of them."""
    kinds = classes()
    number, opened = 0, False
    for word in spaced:
        ended = unspaced = False
        for character in word:
            if kinds[ord(character)] & TERMINAL:
                ended, unspaced = True, ord(character) >= _UNSPACED or (ended and unspaced)
            elif ended and character not in _SENTENCE_END:
                number += unspaced
                ended = False
        number += ended
        opened = not ended
    return number + opened


def _flags(line: str, inner: str) -> int:
    return sum(
        flag
        for flag, holds in (
            (BULLET, inner.startswith(("•", "-"))),
            (ELLIPSIS, inner.endswith(("...", "…"))),
            (TERMINATED, bool(inner) and bool(classes()[ord(line[-1])] & TERMINAL)),
            (CLOSED, inner.endswith((".", "?", "!", '"', "'")) and not inner.endswith("...")),
            (CURLY, "{" in line),
            (BRACKET, "[" in line),
        )
        if holds
    )
