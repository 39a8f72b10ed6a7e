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
from groundup.tokenizer.pretokenize import well_formed
from groundup.tokenizer.show import BACKGROUNDS, in_colour, visible
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
        for piece in self.vocabulary.pattern.pieces(well_formed(text)):
            yield self.trace(piece.encode())

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


def draw(trace: Trace, vocabulary: Vocabulary, console: Console) -> list[Text]:
    """Lines for ``console``: a header, a line for each step, and the ids at the end.

    The token that a step has made is coloured, or in brackets where there are no colours.
    """
    coloured = in_colour(console)

    def seen(token_id: int) -> str:
        return visible(vocabulary.token(token_id), console.encoding)

    def row(label: str, tokens: Sequence[int], made: int | None) -> list[Text]:
        """``label``, then the tokens, broken to the width with the label's room left free."""
        lines = [Text(label, "dim" if coloured else "")]
        used = indent = cell_len(label)
        for place, token in enumerate(tokens):
            word = Text(seen(token))
            if place == made:
                word = Text(seen(token), f"black on {BACKGROUNDS[1]}") if coloured else Text(f"[{seen(token)}]")
            if used > indent and used + word.cell_len > console.width:
                lines.append(Text(" " * indent))
                used = indent
            lines[-1].append(word).append(" ")
            used += word.cell_len + 1
        return lines

    arrow = "→" if visible("→".encode(), console.encoding) == "→" else "->"
    merges = [f"{seen(step.pair[0])} + {seen(step.pair[1])} {arrow} {seen(step.new_id)}" for step in trace.steps]
    digits = max([4, *(len(str(step.rank)) for step in trace.steps)])
    room = max(map(cell_len, ["bytes", *merges]))
    if wide := digits + room + 20 <= console.width:  # else the tokens go below what was merged
        room = min(room, console.width // 3)
    lines = row(f"  {'':{digits}}  {_padded('bytes', room if wide else 0)}  ", trace.start, None)
    for merge, step in zip(merges, trace.steps, strict=True):
        label = f"  {step.rank:{digits}}  {_padded(merge, room if wide else 0)}  "
        if not wide:
            lines.append(Text(label))
            label = " " * (digits + 4)
        lines += row(label, step.tokens, step.place)
    if trace.whole is not None:
        lines += row(f"  {'':{digits}}  {_padded('the piece is a token itself', room if wide else 0)}  ", trace.tokens, 0)
    return lines


def _padded(text: str, width: int) -> str:
    return text + " " * (width - cell_len(text))
