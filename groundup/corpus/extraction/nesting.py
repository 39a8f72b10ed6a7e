"""A page → how many of its elements are open at once, before a parser sees it.

A parser looks through all open elements at nearly every tag, so a page of a hundred thousand unclosed ones takes it
minutes. Looking first takes a few per cent of the time of reading a page; two quick counts spare most pages even that.
"""

import re
from functools import cache
from typing import Any

import numpy as np

from groundup.core import compiled
from groundup.corpus.extraction.names import VOID, names

#: Browsers stop nesting here too (Blink and WebKit: 512).
MAX_DEPTH = 512
#: Up to this many tags a parser takes a second or two, whatever the depth.
MANY_TAGS = 10_000

# Such an element ends where its next sibling begins, unless a container has begun in between.
_SIBLING = names("p li dt dd tr td th option a nobr")
_CONTAINER = names("ul ol dl table select div")
# An open one of these is opened again in every paragraph after it (HTML standard, "active formatting elements").
_FORMATTING = names("b big code em font i s small strike strong tt u")
_TAG = re.compile(rb"<(/?)([a-zA-Z][^ \t\n\r\f\v/>]*)")


def is_nested_too_deeply(html: str) -> bool:
    """Whether more than ``MAX_DEPTH`` elements are open at once."""
    tags = html.count("<")
    may_be = tags > MANY_TAGS or tags - 2 * html.count("</") > MAX_DEPTH
    return may_be and nesting(html) > MAX_DEPTH


def nesting(html: str, limit: int = MAX_DEPTH) -> int:
    """How many elements are open at once, at most; open formatting that a parser repeats counts too.

    Counting ends as soon as there are more than ``limit``.
    """
    page = html.encode("utf-8", "surrogatepass")
    return _nesting_compiled(page, limit) if compiled.available() else nesting_plain(page, limit)


def nesting_plain(page: bytes, limit: int) -> int:
    """The same in plain Python."""
    stack: list[bytes] = []
    deepest = formatting = 0
    for closing, name in _TAG.findall(page):
        tag = name.lower()
        kind = tag.decode("latin-1")
        if kind in VOID:
            continue
        if kind in _FORMATTING:
            formatting = max(0, formatting + (-1 if closing else 1))
        else:
            if closing or kind in _SIBLING:
                _close(tag, stack, reach=() if closing else _CONTAINER)
            if not closing:
                stack.append(tag)
        deepest = max(deepest, len(stack) + formatting)
        if deepest > limit:
            break
    return deepest


def _close(tag: bytes, stack: list[bytes], reach: frozenset[str] | tuple[str, ...]) -> None:
    """Take the last open ``tag`` off the stack with everything inside it; a stray end tag closes nothing."""
    for height in range(len(stack) - 1, -1, -1):
        if stack[height] == tag:
            del stack[height:]
            return
        if stack[height].decode("latin-1") in reach:
            return


_depth = compiled.Kernel(
    "groundup.corpus.extraction.kernels.depth:depth", "i64", "u8*", "i64", "i64", "u64*", "u8*", "i64", "u64*"
)


def _nesting_compiled(page: bytes, limit: int) -> int:
    hashes, kinds = _special_tags()
    return _depth(page, len(page), limit, hashes, kinds, len(hashes), np.empty(limit + 2, dtype=np.uint64))


@cache
def _special_tags() -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Hashes (FNV-1a, 64 bits) and kinds of the tags that do not simply nest, as the kernel numbers them."""
    kinds = {tag: kind for kind, tags in enumerate((VOID, _SIBLING, _CONTAINER, _FORMATTING), start=1) for tag in tags}
    hashes = []
    for tag in kinds:
        value = 0xCBF29CE484222325
        for byte in tag.encode():
            value = (value ^ byte) * 0x100000001B3 % 2**64
        hashes.append(value)
    return np.array(hashes, dtype=np.uint64), np.array(list(kinds.values()), dtype=np.uint8)
