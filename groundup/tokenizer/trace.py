"""How byte-pair encoding finds the tokens of a text, step by step: a vocabulary and a text enter, the steps leave.

Sennrich, Haddow & Birch (2016): a piece begins as single bytes; of all neighbours that the vocabulary can merge, the
pair that was learnt first merges, until there is none. This is ``bpe_plain.encode`` told slowly.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from groundup.core.errors import UsageError
from groundup.tokenizer.show import BACKGROUNDS, as_bytes, in_colour, visible
from groundup.tokenizer.vocabulary import Pair, Vocabulary

#: A trace is for reading; a longer text would fill many screens.
LONGEST_TEXT = 2000


@dataclass(frozen=True)
class Step:
    """One merge."""

    place: int
    """Where in the tokens before the merge the pair stands."""
    pair: Pair
    rank: int
    """Which merge of the vocabulary it is; the lowest rank goes first."""
    new_id: int
    tokens: tuple[int, ...]
    """The tokens after the merge."""


@dataclass(frozen=True)
class Trace:
    """One piece of a text, from its bytes to its tokens."""

    piece: bytes
    start: tuple[int, ...]
    """The ids of the single bytes."""
    steps: tuple[Step, ...]
    whole: int | None
    """The id of the piece where the vocabulary takes it as a whole and the merges would not have built it."""

    @property
    def tokens(self) -> tuple[int, ...]:
        """The ids that the piece encodes to."""
        if self.whole is not None:
            return (self.whole,)
        return self.steps[-1].tokens if self.steps else self.start


class Tracer:
    """Traces texts with one vocabulary."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary

    @cached_property
    def _merges(self) -> Mapping[Pair, tuple[int, int]]:
        """Pair → its rank and the id that it becomes."""
        return {(left, right): (rank, new) for rank, (left, right, new) in enumerate(self.vocabulary.merges.tolist())}

    @cached_property
    def _ids(self) -> Mapping[bytes, int]:
        """Bytes → id, for every ordinary token."""
        tokens = ((self.vocabulary.token(token_id), token_id) for token_id in range(len(self.vocabulary)))
        return {token: token_id for token, token_id in tokens if token}

    def pieces(self, text: str) -> Iterator[Trace]:
        """The trace of each piece of ``text``, in order.

        Raises:
            UsageError: the text is longer than ``LONGEST_TEXT``.
        """
        if len(text) > LONGEST_TEXT:
            raise UsageError(f"a trace of {len(text):,} characters is no reading; give at most {LONGEST_TEXT:,}")
        for piece in self.vocabulary.pattern.pieces(as_bytes(text).decode("utf-8", "surrogateescape")):
            yield self.trace(as_bytes(piece))

    def trace(self, piece: bytes) -> Trace:
        """How the tokens of one piece come about."""
        start = tokens = tuple(self._ids[piece[at : at + 1]] for at in range(len(piece)))
        steps: list[Step] = []
        while step := self._next(tokens):
            steps.append(step)
            tokens = step.tokens
        whole = self._ids.get(piece) if self.vocabulary.whole_pieces else None
        return Trace(piece, start, tuple(steps), whole if (whole,) != tokens else None)

    def _next(self, tokens: Sequence[int]) -> Step | None:
        """The merge of the lowest rank; of several places of its pair, the first."""
        known = [(self._merges[pair][0], place) for place, pair in enumerate(pairwise(tokens)) if pair in self._merges]
        if not known:
            return None
        rank, place = min(known)
        pair = (tokens[place], tokens[place + 1])
        new = self._merges[pair][1]
        return Step(place, pair, rank, new, (*tokens[:place], new, *tokens[place + 2 :]))


def draw(traces: Sequence[Trace], vocabulary: Vocabulary, console: Console) -> list[Text]:
    """Lines for ``console``: for each piece its bytes, a line for each merge, and the ids at the end.

    What a merge has made is coloured, or in brackets where there are no colours. A piece that was there before is
    only named.
    """
    sheet = _Sheet(traces, vocabulary, console)
    lines = list(sheet.line("rank", "merge", [Text("tokens", sheet.dim)]))
    seen: dict[bytes, int] = {}
    for number, trace in enumerate(traces, start=1):
        first = seen.setdefault(trace.piece, number)
        if first == number:
            lines += sheet.piece(number, trace)
        else:
            lines += sheet.row(f"piece {number}", f"as piece {first}", trace.tokens)
    return lines


class _Sheet:
    """Columns for the rank, the merge and the tokens; on a narrow terminal the tokens are below the merge."""

    def __init__(self, traces: Sequence[Trace], vocabulary: Vocabulary, console: Console) -> None:
        self.vocabulary, self.console = vocabulary, console
        self.coloured = in_colour(console)
        self.dim = "dim" if self.coloured else ""
        self.arrow = "→" if visible("→".encode(), console.encoding) == "→" else "->"
        steps = [step for trace in traces for step in trace.steps]
        self.label_width = max([len(f"piece {len(traces)}"), *(len(str(step.rank)) for step in steps)])
        self.merge_width = 4 + max([len("as piece 99"), *(cell_len(self.merge(step)) for step in steps)])
        longest = max([0, *(cell_len(visible(trace.piece, console.encoding)) for trace in traces)])
        if self.label_width + self.merge_width + min(2 * longest, 24) > console.width:
            self.merge_width = 0

    def spelled(self, token_id: int) -> str:
        return visible(self.vocabulary.token(token_id), self.console.encoding)

    def merge(self, step: Step) -> str:
        left, right, new = map(self.spelled, (*step.pair, step.new_id))
        return f"{left} + {right} {self.arrow} {new}"

    def piece(self, number: int, trace: Trace) -> Iterator[Text]:
        """All lines of one piece."""
        yield from self.row(f"piece {number}", "", trace.start)
        for step in trace.steps:
            yield from self.row(str(step.rank), self.merge(step), step.tokens, step.place)
        if trace.whole is not None:
            yield from self.row("", "a token itself", trace.tokens, 0)
        yield from self.line("ids", "", [Text(str(token), self.dim) for token in trace.tokens])

    def row(self, label: str, merge: str, tokens: Sequence[int], made: int | None = None) -> Iterator[Text]:
        """A line with these tokens, of which the one at ``made`` is new."""
        words = [Text(self.spelled(token)) for token in tokens]
        if made is not None and self.coloured:
            words[made].stylize(f"black on {BACKGROUNDS[1]}")
        elif made is not None:
            words[made] = Text(f"[{words[made]}]")
        yield from self.line(label, merge, words)

    def line(self, label: str, merge: str, words: Sequence[Text]) -> Iterator[Text]:
        """A label, what is merged, and words that go on below each other where the width ends."""
        line = Text(label.ljust(self.label_width) if label.startswith("p") else label.rjust(self.label_width), self.dim)
        indent = self.label_width + self.merge_width
        if self.merge_width or merge:
            line.append(f"  {merge}".ljust(self.merge_width - cell_len(merge) + len(merge)))
        if merge and not self.merge_width:
            yield line
            line = Text(" " * indent)
        for word in words:
            if line.cell_len > indent and line.cell_len + 1 + word.cell_len > self.console.width:
                yield line
                line = Text(" " * indent)
            line.append(" ").append(word)
        yield line
