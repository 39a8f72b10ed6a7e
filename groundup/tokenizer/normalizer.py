"""Text → the normal form that a SentencePiece model splits: equal characters spelled alike, spaces made visible.

A model carries its own rules, compiled from Unicode's NFKC or a variant of it: "ﬁ" → "fi", "ｱ" → "ア", a tab → a
space. At every place the longest rule that matches applies. Then spaces are squeezed and written as "▁" (U+2581), so
that a piece may begin with the space before a word. Kudo & Richardson (2018), https://arxiv.org/abs/1808.06226.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import merge

import numpy as np

from groundup.core.errors import DataError

#: U+2581, which stands for a space in every piece.
SPACE_SYMBOL = "▁"
#: Compiled rules may have at most this many bytes; NFKC with case folding has 300,000.
LARGEST_CHARSMAP = 1 << 24
#: No side of a rule may have more bytes than this. Unicode's longest has 54.
LONGEST_RULE = 1 << 10
#: Rules are looked up for this many bytes at a time, to bound memory.
BLOCK_BYTES = 1 << 18

#: From where to where in the text, and what stands there instead.
Match = tuple[int, int, bytes]

_spaces = re.compile(b"  +")


class Charsmap:
    """The compiled rules of a model, ``precompiled_charsmap``.

    The bytes are the size of a trie (4 bytes, little endian), the trie (4 bytes a node), and the replacements, each
    ended by a zero byte. The trie is a double array (Aoe, 1989) as darts-clone lays it out: the child of node ``n`` by
    the byte ``b`` is ``n ^ offset[n] ^ b``, if its label is ``b``. The node of a whole rule has the child 0 too: a
    leaf, which holds the place of the replacement.
    """

    def __init__(self, charsmap: bytes) -> None:
        """``charsmap`` may be empty: no rules.

        Raises:
            DataError: the bytes are truncated, or lead out of the trie or of the replacements.
        """
        size = int.from_bytes(charsmap[:4], "little")
        if charsmap and (
            len(charsmap) > LARGEST_CHARSMAP or size % 1024 or not 0 < size < len(charsmap) - 4 or charsmap[-1]
        ):
            raise DataError(f"the charsmap of {len(charsmap):,} bytes is damaged: its trie would have {size:,} bytes")
        units = np.frombuffer(charsmap, "<u4", size // 4, 4 if charsmap else 0).astype(np.int64)
        self._replacements = charsmap[4 + size :]
        self._label = units & (1 << 31 | 0xFF)
        self._ends_rule = (units & 1 << 8) != 0
        #: Node → where its children begin.
        self._children = np.arange(len(units)) ^ (units >> 10 << (units >> 6 & 8))
        self._place = units & (1 << 31) - 1
        is_leaf = self._label > 0xFF
        if np.any((self._children | 0xFF >= len(units)) & ~is_leaf):
            raise DataError("the charsmap is damaged: a node points outside its trie")
        ending = self._children[self._ends_rule & ~is_leaf]
        if not np.all(is_leaf[ending]) or np.any(self._place[is_leaf] >= len(self._replacements)):
            raise DataError("the charsmap is damaged: a rule points outside its replacements")
        ends = np.flatnonzero(np.frombuffer(self._replacements, np.uint8) == 0)
        if np.any(np.diff(ends, prepend=-1) > LONGEST_RULE + 1):
            raise DataError(f"the charsmap is damaged: a replacement has more than {LONGEST_RULE:,} bytes")

    def __len__(self) -> int:
        """Number of nodes."""
        return len(self._label)

    def matches(self, text: bytes) -> Iterator[Match]:
        """The longest rule at every character where one matches, in order; matches may overlap."""
        if not len(self):
            return
        data = np.frombuffer(text, np.uint8).astype(np.int64)
        firsts = np.flatnonzero(data & 0xC0 != 0x80)
        cuts = np.searchsorted(firsts, np.arange(BLOCK_BYTES, len(text), BLOCK_BYTES))
        for starts in np.split(firsts, cuts):
            # All characters of the block walk down the trie together; few get far.
            ends, leaves = np.zeros_like(starts), np.zeros_like(starts)
            walking, children = np.arange(len(starts)), np.broadcast_to(self._children[0], len(starts))
            for depth in range(LONGEST_RULE):
                inside = starts[walking] + depth < len(data)
                walking, children = walking[inside], children[inside]
                byte = data[starts[walking] + depth]
                nodes = children ^ byte
                known = self._label[nodes] == byte
                walking, nodes = walking[known], nodes[known]
                if not len(walking):
                    break
                children = self._children[nodes]
                whole = self._ends_rule[nodes]
                ends[walking[whole]] = starts[walking[whole]] + depth + 1
                leaves[walking[whole]] = children[whole]
            matched = np.flatnonzero(ends)
            for start, end, leaf in zip(*(a[matched].tolist() for a in (starts, ends, leaves)), strict=True):
                yield start, end, self._replacement(leaf)

    def _replacement(self, leaf: int) -> bytes:
        start = int(self._place[leaf])
        return self._replacements[start : self._replacements.index(0, start)]


@dataclass(frozen=True)
class Normalizer:
    """What a SentencePiece model does to a text before it splits it."""

    rules: Charsmap
    add_dummy_prefix: bool = True
    """Begin every text with a space, so that its first word is spelled as the others."""
    remove_extra_whitespaces: bool = True
    """Drop spaces at both ends and all but one of a run."""
    escape_whitespaces: bool = True
    """Write spaces as ``SPACE_SYMBOL``."""
    symbols: Sequence[str] = ()
    """User-defined symbols: no rule touches them."""

    def normalize(self, text: str) -> str:
        """The normal form of ``text``, which has no surrogates."""
        if not text:
            return ""
        parts = []
        after_space = True
        for part, is_plain in self._parts(text.encode("utf-8")):
            if self.remove_extra_whitespaces and part:
                if after_space:
                    part = part.lstrip(b" ")
                if is_plain:
                    part = _spaces.sub(b" ", part)
                after_space = part.endswith(b" ") if part else after_space
            parts.append(part)
        # A rule could cut a character only in a file that no tool made.
        joined = b"".join(parts).decode("utf-8", "replace")
        space = SPACE_SYMBOL if self.escape_whitespaces else " "
        normal = (space if self.add_dummy_prefix else "") + joined.replace(" ", space)
        return normal.rstrip(space) if self.remove_extra_whitespaces else normal

    def _parts(self, text: bytes) -> Iterator[tuple[bytes, bool]]:
        """``text`` with the rules applied, in parts; and whether a part is plain: untouched and no symbol."""
        place = 0
        for start, end, replacement in merge(self._symbol_matches(text), self.rules.matches(text), key=_start):
            if start < place:
                continue
            if place < start:
                yield text[place:start], True
            yield replacement, False
            place = end
        if place < len(text):
            yield text[place:], True

    def _symbol_matches(self, text: bytes) -> Iterator[Match]:
        """The longest symbol wherever one begins."""
        if self.symbols:
            for found in self._symbol.finditer(text):
                yield found.start(), found.end(1), found[1]

    @cached_property
    def _symbol(self) -> re.Pattern[bytes]:
        return re.compile(b"(?=(" + one_of(self.symbols).encode("utf-8") + b"))")


def _start(match: Match) -> int:
    return match[0]


def one_of(symbols: Sequence[str], depth: int = 4) -> str:
    """A regular expression for any of ``symbols``, the longest where several match.

    Up to ``depth`` characters that several begin with are looked at only once.
    """
    if depth == 0 or len(symbols) < 2:
        return "|".join(map(re.escape, sorted(symbols, key=len, reverse=True)))
    endings: dict[str, list[str]] = {}
    for symbol in symbols:
        endings.setdefault(symbol[:1], []).append(symbol[1:])
    longer = [f"{re.escape(first)}(?:{one_of(rest, depth - 1)})" for first, rest in endings.items() if first]
    return "|".join([*longer, ""] if "" in endings else longer)
