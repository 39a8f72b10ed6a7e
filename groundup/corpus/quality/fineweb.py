"""The filters that FineWeb added to Gopher's and C4's, chosen of fifty by training on what each would leave (Penedo et
al. 2024, "The FineWeb Datasets", section 3.6).

A document enters; it leaves unchanged but for a measure, or dropped. Source code is not judged.

The limits are those of the program (datatrove), not in all of the paper: it says 0.1 for the characters in lines that
occurred before, drops a document whose value is the limit itself, does not call a line of 30 characters short, and has
no rule of line ends. A mark that ends sentences is one of Unicode's (``Sentence_Terminal``), as in datatrove since
FineWeb 2; when FineWeb was made, it was one of . ! ? " '.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.analysis import END, FIRST, LAST, START, Analysis
from groundup.corpus.quality.rules import Broken, above, below, count, judged_prose, require_between, share


@dataclass(frozen=True)
class FineWebConfig:
    """What the lines of a text look like. Empty lines, and lines of white space, do not count."""

    min_terminated_lines: float = 0.12
    """Least share of lines that end in a mark that ends sentences, in any script."""
    max_short_lines: float = 0.67
    """Largest share of short lines."""
    short_line: int = 30
    """A line of at most so many characters is short."""
    max_duplicate_characters: float = 0.01
    """Largest share of characters (line ends not counted) in lines that occurred before."""
    max_line_ends: float = 0.3
    """Most line ends for each word (symbols counted): more are a list."""

    def __post_init__(self) -> None:
        shares = ("min_terminated_lines", "max_short_lines", "max_duplicate_characters")
        require_between(self, "fineweb", 0, 1, *shares)
        require_between(self, "fineweb", 0, float("inf"), "short_line", "max_line_ends")


class FineWeb:
    """Drops lists, menus and pages that say the same line again."""

    name = "fineweb"

    def __init__(self, config: FineWebConfig | None = None) -> None:
        self.config = config or FineWebConfig()

    def __call__(self, document: Document) -> Document | Dropped:
        return judged_prose(document, self._rules, self._measures)

    def _measures(self, analysis: Analysis) -> Mapping[str, float]:
        of = analysis.totals
        return {"terminated_lines": share(of.terminated_lines, of.filled_lines)}

    def _rules(self, analysis: Analysis) -> Iterator[Broken]:
        limits, lines, of = self.config, analysis.lines, analysis.totals
        if not of.filled_lines:
            yield "empty", "no line holds anything"
        value = share(of.terminated_lines, of.filled_lines)
        yield below("line punctuation", value, limits.min_terminated_lines, "of the lines end in a mark")
        short = (lines[:, LAST] > lines[:, FIRST]) & (lines[:, END] - lines[:, START] <= limits.short_line)
        value = share(count(short), of.filled_lines)
        yield above("short lines", value, limits.max_short_lines, f"of the lines have up to {limits.short_line} signs")
        value = share(of.repeated_text_characters, analysis.characters - of.end_characters)
        yield above("duplicate characters", value, limits.max_duplicate_characters, "of the text are repeated lines")
        value = share(of.line_ends, of.words)
        yield above("line ends", value, limits.max_line_ends, "line ends for each word")
