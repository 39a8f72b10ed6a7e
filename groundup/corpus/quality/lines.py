"""RefinedWeb's corrections line by line: what a page says around its text (Penedo et al. 2023, "The RefinedWeb Dataset
for Falcon LLM", section G.2).

A document enters; it leaves without lines that are

    mostly in capitals              SUBSCRIBE TO OUR NEWSLETTER
    numbers and signs alone         12:30
    counters                        3 likes
    one word                        Home
    short and about the page        at their beginning (sign-in), at their end (Read more...), anywhere (items in cart)

or dropped, if these lines hold more than a small share of its words: then it is a page of such lines, not a text with
some. Lines that are empty stay. Source code is not judged.

Of the last kind the paper edits the lines, and does not say how. Here a sentence before "Read more..." stays; any other
rest of such a line is a fragment ("to your account"), and goes with it. The paper gives one example of each pattern:
the lists are ours, and English.
"""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.analysis import (
    DIGITS,
    END,
    FIRST,
    LAST,
    LETTERS,
    SPACED,
    START,
    UPPERS,
    WORDS,
    Analysis,
    analyse,
)
from groundup.corpus.quality.rules import count, measured, require_between, share

_COUNTED = (
    "likes?|shares?|comments?|retweets?|reposts?|quotes?|bookmarks?|upvotes?|downvotes?|points?|votes?|views?|replies|reply"
    "|followers?|following|subscribers?|posts?|reviews?|ratings?|downloads?|members?|photos?|results?|answers?|reads?"
)
COUNTER = re.compile(rf"\W*\d[\d.,]*\s*[km]?\+?\s+(?:{_COUNTED})\W*", re.I)
BEGINNING = re.compile(
    r"(?:sign[ -]?(?:in|up|out)|log[ -]?(?:in|out|on)|register now|subscribe|share (?:this|on)|follow us|tweet this"
    r"|skip to|jump to|back to|click (?:here|to)|posted (?:in|by|on)|filed under|tagged (?:as|with)|copyright|©"
    r"|all rights reserved|related (?:posts|articles)|leave a (?:comment|reply)|advertisement)\b",
    re.I,
)
ENDING = re.compile(
    r"\b(?:read more|continue reading|learn more|see more|show more|load more|view all|see all|more info)\W*\Z", re.I
)
ANYWHERE = re.compile(
    r"\b(?:items? in (?:your )?(?:cart|basket|bag)|add to (?:cart|basket|bag|wishlist)|shopping cart"
    r"|all rights reserved|forgot (?:your )?password|accept (?:all )?cookies)\b",
    re.I,
)


@dataclass(frozen=True)
class LineConfig:
    """What makes a line part of the page instead of the text."""

    max_upper: float = 0.5
    """Largest share of capitals among the letters of a line; of a line of several words."""
    short: int = 10
    """Only lines of at most so many words, between white space, are looked at for phrases of navigation."""
    max_removed: float = 0.05
    """Largest share of the words that removed lines may hold; with more the document goes."""

    def __post_init__(self) -> None:
        require_between(self, "lines", 0, 1, "max_upper", "max_removed")
        require_between(self, "lines", 0, float("inf"), "short")


class Lines:
    """Removes the lines of a page that are not its text."""

    name = "lines"

    def __init__(self, config: LineConfig | None = None) -> None:
        self.config = config or LineConfig()

    def __call__(self, document: Document) -> Document | Dropped:
        if document.facts.get("kind") == "code":
            return document
        analysis = analyse(document.text)
        places = analysis.lines[:, (START, END)]
        ends = self._ends(analysis)
        found = ends < places[:, 1]
        number = count(found)
        if not number:
            return document
        words = analysis.lines[:, WORDS]
        value = share(int(words[found].sum()), int(words.sum()))
        if value > self.config.max_removed:
            evidence = f"{value:.4g} of the words are in {number} such lines, at most {self.config.max_removed:.4g}"
            return Dropped.of(document, "page furniture", f"{evidence} allowed")
        kept = ~found | (ends > places[:, 0])
        rows = np.stack([places[:, 0], ends], axis=1)[kept].tolist()
        left = "\n".join(analysis.text[start:end] for start, end in rows).strip("\n")
        measures = {"lines.removed": float(count(~kept)), "lines.shortened": float(count(found & kept))}
        return measured(document, {name: value for name, value in measures.items() if value}, left)

    def _ends(self, analysis: Analysis) -> NDArray[np.int64]:
        """Where each line ends that is to be shortened or, at its ``START``, removed; its ``END`` if it stays."""
        lines = analysis.lines
        filled = lines[:, SPACED] > 0
        capitals = lines[:, UPPERS] > self.config.max_upper * lines[:, LETTERS]
        numbers = (lines[:, LETTERS] == 0) & (lines[:, DIGITS] > 0)
        lonely = lines[:, WORDS] == 1
        removed: NDArray[np.bool_] = filled & (capitals | numbers | lonely)
        ends: NDArray[np.int64] = np.where(removed, lines[:, START], lines[:, END])
        looked_at = np.flatnonzero(filled & ~removed & (lines[:, SPACED] <= self.config.short))
        for number in looked_at.tolist():
            start, end, first, last = lines[number, [START, END, FIRST, LAST]].tolist()
            left = without_furniture(analysis.text[first:last])
            ends[number] = end if left == last - first else first + left if left else start
        return ends


_SENTENCE = re.compile(r"""[.!?…]["'”’)]*\Z""")


def without_furniture(line: str) -> int:
    """How much is left of a short line, without white space at its ends: nothing of one that counts something or
    navigates, the sentence before "Read more...", all of any other."""
    if COUNTER.fullmatch(line) or BEGINNING.match(line) or ANYWHERE.search(line):
        return 0
    if found := ENDING.search(line):
        before = line[: found.start()].rstrip(" \t([|-–—»>·•")
        return len(before) if _SENTENCE.search(before) else 0
    return len(line)
