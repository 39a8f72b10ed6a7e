"""One raw text → one clean text: Unicode, boilerplate, white space. Every step takes linear time.

``clean(clean(text)) == clean(text)`` for every text.
"""

import re
import unicodedata
from typing import Literal

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
# Control characters, and three that show nothing: soft hyphen, zero-width space, byte order mark.
_INVISIBLE = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x9f\xad\u200b\ufeff]+")
_BLANK_LINES = re.compile("\n{4,}")

Form = Literal["NFC", "NFKC"]


def clean(text: str) -> str:
    """Normalise Unicode, remove Project Gutenberg's boilerplate, tidy white space."""
    return tidy(remove_boilerplate(tidy(normalize(text))))


def normalize(text: str, form: Form = "NFC") -> str:
    r"""Unicode normal form C, ``\n`` for every line end, no control characters except tab.

    NFKC also makes one of what differs in looks only: ``ﬁ`` becomes ``fi``, ``Ａ`` becomes ``A``, but ``x²`` ``x2``.
    """
    text = _INVISIBLE.sub("", _LINE_ENDS.sub("\n", text))
    return unicodedata.normalize(form, text)


def tidy(text: str) -> str:
    """No blanks at line ends, at most two blank lines in a row, none at either end."""
    lines = "\n".join(line.rstrip() for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n\n", lines).strip("\n")


# Project Gutenberg has framed its texts in three ways since 1991:
#   1991-2003  a header, "the small print", and a line "*END*THE SMALL PRINT! …*END*" before the text
#   2003-      "*** START OF THIS PROJECT GUTENBERG EBOOK …" and "*** END OF …" around it
#   always     "End of (the) Project Gutenberg('s) Etext of …" after the text
_TEXT_BEGINS = re.compile(
    r"\*\*\* ?START OF (THE|THIS) PROJECT GUTENBERG|\*END ?\*? ?THE SMALL PRINT|\*+END\*+THE SMALL PRINT", re.I
)
_TEXT_ENDS = re.compile(
    r"\*\*\* ?END OF (THE|THIS) PROJECT GUTENBERG|\*{0,3} ?END OF (THE )?PROJECT GUTENBERG"
    r"|\*+START\*+ ?THE SMALL PRINT",
    re.I,
)
_HEADER = re.compile(
    r"\*{0,3} ?(THE |THIS IS THE )?PROJECT GUTENBERG('S)? (E-?TEXT|E-?BOOK|EDITION)"
    r"|\*+ ?WELCOME TO THE WORLD OF FREE PLAIN VANILLA",
    re.I,
)
# Between the frame and the text stands who typed it; before a First Folio text, two pages of notes.
_CREDIT = re.compile(
    r"(this |the )?(e-?text|e-?book|file) (was )?(prepared|produced|scanned|transcribed|created)\b"
    r"|(produced|scanned|transcribed|digitized|proofread) (by|from)\b|html (version|file) by",
    re.I,
)
_NOTES_BEGIN = re.compile(r"executive director's notes", re.I)
_NOTES_END = re.compile(r"david reed$", re.I)
_LEGAL = re.compile(
    r"project gutenberg|gutenberg-tm|gutenberg literary archive|the small print!|plain vanilla electronic text",
    re.I,
)
#: What belongs to the frame's header is looked for in this many paragraphs, and credits in this many.
HEADER_PARAGRAPHS = 60
CREDIT_PARAGRAPHS = 10


def remove_boilerplate(text: str) -> str:
    """Cut the frame that Project Gutenberg puts around a text, or around each of several in one file.

    A text without such a frame comes back as it is, even where it speaks *about* Project Gutenberg. In a
    framed text, every paragraph that names the project or its licence is removed too.

    Args:
        text: tidy text, lines separated by ``\n``.
    """
    lines = text.split("\n")
    marks = [(number, _mark(line)) for number, line in enumerate(lines) if _mark(line)]
    if not marks:
        return text
    bodies = [lines[first:last] for first, last in _bodies(marks, len(lines))] or [lines]
    paragraphs = [
        paragraph
        for body in bodies
        for paragraph in _without_front_matter("\n".join(body).split("\n\n"))
        if not _is_frame(paragraph)
    ]
    return "\n\n".join(paragraphs)


def _mark(line: str) -> str:
    """``begin``, ``end`` or ``header`` for a line of the frame, nothing for any other line."""
    line = line.lstrip()
    patterns = {"begin": _TEXT_BEGINS, "end": _TEXT_ENDS, "header": _HEADER}
    return next((name for name, pattern in patterns.items() if pattern.match(line)), "")


def _bodies(marks: list[tuple[int, str]], length: int) -> list[tuple[int, int]]:
    """Line ranges that hold text: from an opening mark to a closing mark or the end of the file.

    What stands between two opening marks is a header. What stands before every mark is text only if no
    opening mark follows it (a file that has lost its header, or has the small print at its end).
    """
    frame = [(number, kind) for number, kind in marks if kind != "header"]
    closes = [*frame[1:], (length, "end")]
    bodies = [
        (number + 1, close)
        for (number, kind), (close, next_kind) in zip(frame, closes, strict=False)
        if kind == "begin" and next_kind == "end"
    ]
    starts_with_header = marks[0][1] == "header" and any(kind == "begin" for _, kind in frame)
    if frame and frame[0][1] == "end" and not starts_with_header:
        bodies.insert(0, (0, frame[0][0]))
    return bodies


def _without_front_matter(paragraphs: list[str]) -> list[str]:
    """Drop what stands before a framed text: a header that no line closes, notes, credits."""
    begin = 0
    beginning = [
        [line.strip() for line in paragraph.strip().split("\n")] for paragraph in paragraphs[:HEADER_PARAGRAPHS]
    ]
    if _HEADER.match(beginning[0][0]):
        begin = 1 + max(number for number in range(len(beginning)) if _is_frame(paragraphs[number]))
        # In a short text the last such paragraph may be the footer: then only the paragraphs themselves go.
        if sum(map(len, paragraphs[begin:])) < sum(map(len, paragraphs[:begin])) / 4:
            begin = 0
    starts = [number for number, lines in enumerate(beginning) if any(map(_NOTES_BEGIN.match, lines))]
    if starts:
        ends = [number for number, lines in enumerate(beginning) if any(map(_NOTES_END.match, lines))]
        begin = max([begin, *(number + 1 for number in ends if number >= starts[0])])
    kept = paragraphs[begin:]
    first = [paragraph for paragraph in kept[:CREDIT_PARAGRAPHS] if not _CREDIT.match(paragraph.strip())]
    return first + kept[CREDIT_PARAGRAPHS:]


def _is_frame(paragraph: str) -> bool:
    if any(_mark(line) for line in paragraph.split("\n")):
        return True
    return bool(_LEGAL.search(" ".join(paragraph.split())))
