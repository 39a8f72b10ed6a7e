"""Text → pieces (pre-tokens) within which byte pairs may merge; joined, the pieces are the text again.

A ``Pattern`` is a regular expression, or several of which each cuts what the one before left. The named ones are
those of the tokenizers in use. All tell a word from a number from a sign; they differ in a few rules:

    gpt2     a space goes with the word, the number or the sign after it; digits of any number stay together
    cl100k   (GPT-4) any sign may lead a word, at most three digits a piece, blank lines are pieces
    llama3   the same, with one more line end here and there
    qwen2    llama3 with one digit a piece
    o200k    (GPT-4o) llama3 that also cuts where a word turns from small to capital letters: "Mc" "Donald"
    groundup qwen2 without one oddity: there ``ſ`` (U+017F) counts as an "s" after an apostrophe

The default is ours: one digit a piece spells numbers of any length alike, which arithmetic needs. It is spelled
without the case-insensitive group so that every regular expression engine reads it alike; tools that know
tokenizers by their pattern (llama.cpp calls this one ``qwen2``) therefore know ours. Its alternatives, in order:

    'll 's 've …          the tail of an English contraction
    [^\\r\\n\\p{L}\\p{N}]?\\p{L}+  a run of letters with the one space or sign before it: " word", "(word"
    \\p{N}                 one digit
     ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*  a run of signs with the space before and the line ends after it
    \\s*[\\r\\n]+           blank lines
    \\s+(?!\\S)            white space up to the last one, which belongs to the next word
    \\s+                  any other white space

Together they match every character. ``\\p{…}`` means Unicode 16.0 here: see ``unicode.py``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from math import prod
from typing import Literal, NamedTuple

import regex

from groundup.core.errors import DataError, UsageError
from groundup.tokenizer.unicode import as_of_unicode_16

#: Long texts are matched a block of about this many characters at a time, to bound memory.
BLOCK_CHARACTERS = 1 << 20
#: A user's own expression may take this long, and a second more for every so many characters.
PATIENCE_SECONDS, PATIENCE_CHARACTERS = 10, 100_000

#: A user's own expression may be so long, and its counted repetitions may multiply to so much.
LONGEST_EXPRESSION, MOST_REPETITIONS = 1 << 14, 10_000

Whitespace = Literal["runs", "single"]


class Rules(NamedTuple):
    """A known pattern, as the numbers that the compiled scanner understands (``kernels/scan.py``)."""

    shape: int
    """0: gpt2; 1: cl100k and its relatives; 2: o200k."""
    digits: int
    """At most so many digits a piece; 0: any number."""
    contractions: int
    """0: small letters; 1: and capital ones; 2: and ``ſ``; 3: there are none."""
    whitespace: int
    """0: runs, cut after the last line end; 1: the same, but a run that ends the text is one piece; 2: single."""


GPT2, CL100K, O200K = range(3)
#: Their names in the kernels.
SHAPES = ("gpt2", "cl100k", "o200k")

_ASCII_CONTRACTIONS = "(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_ANY_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_RUNS = {GPT2: r"\s+(?!\S)|\s+", CL100K: r"\s*[\r\n]+|\s+(?!\S)|\s+", O200K: r"\s*[\r\n]+|\s+(?!\S)|\s+"}
# tiktoken's newest spelling; it differs from the one above where a text ends in white space.
_TIKTOKEN_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"
_TIKTOKEN_CL100K = (
    r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
    r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
)


def _spelled(shape: int, digits: int, contractions: str, whitespace: Whitespace) -> str:
    """The regular expression of these rules, as Hugging Face's files spell it."""
    number = r"\p{N}" + {0: "+", 1: ""}.get(digits, f"{{1,{digits}}}")
    space = _RUNS[shape] if whitespace == "runs" else r"\s"
    if shape == GPT2:
        number = " ?" + number if digits == 0 else number
        return rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+|{number}| ?[^\s\p{{L}}\p{{N}}]+|{space}"
    if shape == CL100K:
        words = rf"{contractions}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+"
        return rf"{words}|{number}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{space}"
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    tail = contractions and contractions + "?"
    words = "|".join(rf"[^\r\n\p{{L}}\p{{N}}]?{word}{tail}" for word in (f"{upper}*{lower}+", f"{upper}+{lower}*"))
    return rf"{words}|{number}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{space}"


@cache
def _known() -> dict[str, Rules]:
    """Every spelling that the scanner knows."""
    known = {
        _TIKTOKEN_GPT2: Rules(GPT2, 0, 0, 1),
        _TIKTOKEN_CL100K: Rules(CL100K, 3, 2, 1),
        _TIKTOKEN_CL100K.replace("{1,3}+", "{1,3}"): Rules(CL100K, 3, 2, 1),  # to Oniguruma the first has no end
    }
    spellings = ((_ASCII_CONTRACTIONS, 1), (_ANY_CONTRACTIONS, 2))
    for digits in range(10):
        for code, whitespace in ((0, "runs"), (2, "single")):
            known[_spelled(GPT2, digits, "", whitespace)] = Rules(GPT2, digits, 0, code)  # type: ignore[arg-type]
            known[_spelled(O200K, digits, "", whitespace)] = Rules(O200K, digits, 3, code)  # type: ignore[arg-type]
            for shape in (CL100K, O200K):
                for contractions, kind in spellings:
                    spelling = _spelled(shape, digits, contractions, whitespace)  # type: ignore[arg-type]
                    known[spelling] = Rules(shape, digits, kind, code)
    return known


#: Name → regular expression. ``r50k`` and ``cl100k`` are tiktoken's, the others Hugging Face's.
NAMED: dict[str, str] = {
    "groundup": _spelled(CL100K, 1, _ASCII_CONTRACTIONS, "runs"),
    "gpt2": _spelled(GPT2, 0, "", "runs"),
    "r50k": _TIKTOKEN_GPT2,
    "cl100k": _TIKTOKEN_CL100K,
    "llama3": _spelled(CL100K, 3, _ANY_CONTRACTIONS, "runs"),
    "qwen2": _spelled(CL100K, 1, _ANY_CONTRACTIONS, "runs"),
    "o200k": _spelled(O200K, 3, _ANY_CONTRACTIONS, "runs"),
}

#: Our own pattern.
PATTERN = NAMED["groundup"]

# A space after something that is not white space begins a piece wherever it stands: no alternative of a known
# pattern matches across it, and none looks back. So text may be cut there without changing its pieces.
_cut = regex.compile(r"(?<=\S) ")


@dataclass(frozen=True)
class Pattern:
    """How text is cut into pieces."""

    splits: tuple[str, ...] = (PATTERN,)
    """Regular expressions; each cuts what the one before left. What one does not match is a piece too."""

    @cached_property
    def rules(self) -> Rules | None:
        """For the compiled scanner; None where only ``regex`` knows the pattern."""
        return _known().get(self.splits[0]) if len(self.splits) == 1 else None

    @cached_property
    def _compiled(self) -> tuple[regex.Pattern[str], ...]:
        for split in self.splits:
            _check_size(split)
        try:
            return tuple(regex.compile(split) for split in self.splits)
        except regex.error as error:
            raise UsageError(f"the pattern {error.pattern!r} is no regular expression: {error.msg}") from error

    @classmethod
    def named(cls, name: str, digits: int | None = None, whitespace: Whitespace = "runs") -> "Pattern":
        """A pattern of ``NAMED``, or the user's own regular expression.

        Args:
            digits: at most so many digits a piece instead of the pattern's own; 0: any number.
            whitespace: ``single`` makes every white space that leads no word a piece of its own.

        Raises:
            UsageError: not a regular expression, or an option for one that is the user's own.
        """
        changed = digits is not None or whitespace != "runs"
        if name not in NAMED:
            if not name or name.isidentifier():  # would cut nowhere
                raise UsageError(f"unknown pattern {name!r}; use {', '.join(NAMED)}, or a regular expression")
            if changed:
                raise UsageError("digits and whitespace change a named pattern; write them into your own expression")
            pattern = cls((name,))
            assert pattern._compiled  # refuses what is no regular expression
            return pattern
        if not changed:
            return cls((NAMED[name],))
        rules = _known()[NAMED[name]]
        digits = rules.digits if digits is None else digits
        if not 0 <= digits <= 9:
            raise UsageError(f"digits is {digits}; use 1 to 9, or 0 for numbers of any length")
        contractions = _ANY_CONTRACTIONS if rules.contractions == 2 else _ASCII_CONTRACTIONS
        return cls((_spelled(rules.shape, digits, contractions, whitespace),))

    def pieces(self, text: str, block: int = BLOCK_CHARACTERS) -> Iterator[str]:
        """The pieces of ``text`` in order; ``"".join(pieces(text)) == text``. The same for any ``block`` ≥ 1.

        Raises:
            DataError: the user's own expression takes too long.
        """
        seen = as_of_unicode_16(text)
        start = 0
        while self.rules and len(text) - start > block:
            cut = _cut.search(text, start + block)
            if cut is None:
                break
            yield from self._cut(text, seen, start, cut.start(), 0)
            start = cut.start()
        yield from self._cut(text, seen, start, len(text), 0)

    def _cut(self, text: str, seen: str, start: int, end: int, level: int) -> Iterator[str]:
        """Pieces of ``text[start:end]`` by the expressions from ``level`` on, which look at ``seen``."""
        if level == len(self.splits):
            yield text[start:end]
            return
        # Without end positions of the whole text, so that a look ahead ends where the piece ends.
        part = seen if start == 0 and end == len(seen) else seen[start:end]
        patience = None if self.rules else PATIENCE_SECONDS + len(part) / PATIENCE_CHARACTERS
        place = 0
        try:
            for found in self._compiled[level].finditer(part, timeout=patience):
                for begin, stop in ((place, found.start()), found.span()):
                    if begin < stop:
                        yield from self._cut(text, seen, start + begin, start + stop, level + 1)
                place = found.end()
        except TimeoutError as error:
            raise DataError(
                f"the pattern {self.splits[level]!r} took more than {patience:.0f} s on {len(part):,} characters; "
                "make it simpler (nested repetitions are the usual cause)"
            ) from error
        if place < len(part):
            yield from self._cut(text, seen, start + place, start + len(part), level + 1)


def _check_size(expression: str) -> None:
    """Refuse what ``regex`` would need gigabytes for: it writes counted repetitions out, nested ones many times.

    Raises:
        UsageError: the expression is too long, or its counts multiply to too much.
    """
    if len(expression) > LONGEST_EXPRESSION:
        raise UsageError(
            f"the pattern {expression[:40]!r}… has {len(expression):,} characters; "
            f"at most {LONGEST_EXPRESSION:,} are supported"
        )
    counts = [int(number) for number in regex.findall(r"[{,](\d+)\}", expression)]
    if prod(max(1, count) for count in counts) > MOST_REPETITIONS:
        raise UsageError(
            f"the pattern {expression[:40]!r} repeats too often: its counts {counts} multiply to more than "
            f"{MOST_REPETITIONS:,}; use * or + instead"
        )


_ours = Pattern()


def pieces(text: str, block: int = BLOCK_CHARACTERS) -> Iterator[str]:
    """The pieces of ``text`` by our own pattern."""
    return _ours.pieces(text, block)


def well_formed(text: str) -> str:
    """``text`` itself when it can be written as UTF-8, else with its surrogates resolved.

    A Python string may hold surrogates (U+D800–U+DFFF), which are no characters. A high and a low one in a
    row become the character they stand for in UTF-16; any other becomes U+FFFD.
    """
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def utf8(text: str) -> bytes:
    """``well_formed(text)`` in UTF-8."""
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        return well_formed(text).encode("utf-8")
