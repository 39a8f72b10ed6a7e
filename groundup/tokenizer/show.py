"""Tokens that one can look at: a text and its tokenizer enter; pieces over their ids and bytes leave.

Spaces, line ends, control characters, invisible characters, marks without a letter and bytes that are only part of a
character are all made visible, so that nothing on the screen means two things.
"""

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import NamedTuple

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.text import Text

from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.pretokenize import utf8, well_formed
from groundup.tokenizer.protocol import Tokenizer

#: Backgrounds of neighbouring tokens, light enough for black letters, apart for colour-blind readers.
BACKGROUNDS = ("#bcd9f2", "#ffd59e", "#c9e7c3", "#e5cdea", "#fff0a3")
#: Bytes in one line of a cell, and lines before the rest is left out.
BYTES_PER_LINE, MOST_BYTE_LINES = 8, 4

_SIGNS = {" ": "·", "\n": "↵", "\t": "→"}
_ASCII_SIGNS = {" ": "_", "\n": "\\n", "\t": "\\t"}
#: Unicode's general categories of what leaves no mark on a screen, or an unwanted one.
_INVISIBLE = ("Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp", "Zs")


@dataclass(frozen=True)
class Token:
    """One token of a text."""

    id: int
    bytes: bytes
    """What it stands for; empty for a special token."""
    name: str = ""
    """The name of a special token."""


def tokens_of(tokenizer: Tokenizer, text: str) -> list[Token]:
    """The tokens of ``text``, with their bytes."""
    if isinstance(tokenizer, BytePairTokenizer):
        return named(tokenizer, tokenizer.encode_bytes(as_bytes(text)))
    return named(tokenizer, tokenizer.encode(well_formed(text)))


def as_bytes(text: str) -> bytes:
    """The bytes of a text, of which lone surrogates may stand for some that are not UTF-8 (PEP 383)."""
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return utf8(text)


def named(tokenizer: Tokenizer, ids: Iterable[int]) -> list[Token]:
    """The tokens of ``ids``: bytes, and the names of those that are special."""
    names = {token_id: name for name, token_id in tokenizer.special_tokens.items()}
    return [Token(token_id, tokenizer.token_bytes(token_id), names.get(token_id, "")) for token_id in ids]


def visible(data: bytes, encoding: str = "utf-8") -> str:
    """``data`` as characters that can all be seen, on a terminal of this ``encoding``.

    A space is ``·``, a line end ``↵``, a tab ``→``; an invisible character is ``‹U+200D›``, and bytes that are not
    UTF-8 by themselves are ``‹E2 80›``. A mark that would sit on the token before sits on a dotted circle instead.
    """
    pretty = _writable("".join(_SIGNS.values()) + "‹›◌", encoding)
    signs = _SIGNS if pretty else _ASCII_SIGNS
    opening, closing = "‹›" if pretty else "<>"
    shown = []
    text = data.decode("utf-8", "surrogateescape")
    for broken, group in groupby(text, lambda character: "\ud800" <= character <= "\udfff"):
        if broken:
            values = "".join(group).encode("utf-8", "surrogateescape")
            shown.append(f"{opening}{values.hex(' ').upper()}{closing}")
            continue
        for character in group:
            if character in signs:
                shown.append(signs[character])
            elif _unseen(character) or not _writable(character, encoding):
                shown.append(f"{opening}U+{ord(character):04X}{closing}")
            elif not shown and unicodedata.category(character).startswith("M"):
                shown.append(f"◌{character}" if pretty else character)
            else:
                shown.append(character)
    return "".join(shown)


def _unseen(character: str) -> bool:
    """Whether a character is invisible by itself; those that choose the look of the one before are, too."""
    selects = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return selects or unicodedata.category(character) in _INVISIBLE


def _writable(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def draw(tokens: Sequence[Token], console: Console, with_bytes: bool = True) -> list[Text]:
    """Lines for ``console``: the pieces, below each its id and its bytes; broken at line ends and to the width.

    In colour, neighbours have different backgrounds; without, there are bars between them.
    """
    coloured = in_colour(console)
    bar, edge = (" ", "") if coloured else ("|", "|")
    lines: list[Text] = []
    for row in _rows([_cell(token, console, with_bytes) for token in tokens], console.width - 2 * len(edge)):
        for level in range(max(len(cell.lines) for _, cell in row)):
            line = Text(edge)
            for place, (number, cell) in enumerate(row):
                content = cell.lines[level] if level < len(cell.lines) else ""
                background = f"black on {BACKGROUNDS[number % len(BACKGROUNDS)]}"
                line.append(bar if place else "")
                line.append(
                    content + " " * (cell.width - cell_len(content)),
                    (background, "", "dim")[min(level, 2)] if coloured else "",
                )
            lines.append(line.append(edge))
        lines.append(Text())
    return lines[:-1]


def in_colour(console: Console) -> bool:
    """Whether colours can be seen: a terminal that is not dumb, and no ``NO_COLOR``."""
    return console.is_terminal and not console.is_dumb_terminal and not console.no_color


class _Cell(NamedTuple):
    """A token as it is drawn: its piece, its id, its bytes."""

    lines: list[str]
    width: int
    ends_line: bool


def _cell(token: Token, console: Console, with_bytes: bool) -> _Cell:
    piece = token.name or visible(token.bytes, console.encoding)
    lines = [shortened(piece, console.width - 2, console.encoding), str(token.id)]
    if with_bytes:
        groups = [token.bytes[at : at + BYTES_PER_LINE] for at in range(0, len(token.bytes), BYTES_PER_LINE)]
        lines += [group.hex(" ").upper() for group in groups[:MOST_BYTE_LINES]]
        if len(groups) > MOST_BYTE_LINES:
            lines.append(f"({len(token.bytes)} bytes)")
    return _Cell(lines, max(map(cell_len, lines)), token.bytes.endswith(b"\n"))


def _rows(cells: Sequence[_Cell], width: int) -> Iterator[list[tuple[int, _Cell]]]:
    """Cells with their numbers, as many in a row as the width and the line ends of the text allow."""
    row: list[tuple[int, _Cell]] = []
    used = 0
    for number, cell in enumerate(cells):
        if row and (used + 1 + cell.width > width or row[-1][1].ends_line):
            yield row
            row, used = [], 0
        used += cell.width + bool(row)
        row.append((number, cell))
    if row:
        yield row


def shortened(text: str, width: int, encoding: str = "utf-8") -> str:
    """``text`` itself if it fits ``width`` columns, else its two ends."""
    if cell_len(text) <= width:
        return text
    dots = "…" if _writable("…", encoding) else "..."
    half = max(1, (width - len(dots)) // 2)
    head = set_cell_size(text, half).rstrip()
    tail = set_cell_size(text[::-1], half).rstrip()[::-1]
    return head + dots + tail
