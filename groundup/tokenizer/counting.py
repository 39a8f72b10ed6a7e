"""Texts → distinct pieces and how often each occurs: all that learning merges needs of a corpus, however large.

``count_pieces`` is the whole idea in five lines. ``count`` gives the same counts from a stream of texts of any length:
on several threads, in bounded memory, and going on after it was killed.

**Bounded memory.** After every section of ``memory / SECTION`` characters, if the distinct pieces so far may need
more than ``memory``, the rarest are dropped until they need half of it: all pieces that occur at most so often as it
takes. What was dropped is reported (``Counted.dropped``), and no count is too low by more than ``Counted.error``, the
sum of those bounds (lossy counting: Manku & Motwani, 2002). Sections begin and end at the same places whatever the
number of threads, and sums do not depend on their order, so the result does not either.
"""

import json
import os
import time
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, Protocol
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt

from groundup.core import compiled
from groundup.core.errors import ArtifactError, UsageError
from groundup.core.files import atomic_file, remove_leftovers
from groundup.core.progress import Progress, say
from groundup.tokenizer.pretokenize import SHAPES, Pattern, Rules, well_formed
from groundup.tokenizer.scanner import PADDING
from groundup.tokenizer.texts import cut_place
from groundup.tokenizer.unicode import classes

#: Bytes that distinct pieces may take, until merges are learnt, when nobody says otherwise.
MEMORY = 1 << 30
#: What a distinct piece takes, and each of its bytes: of the two phases the learner (``kernels/learn.py``) takes more.
PIECE_COST, BYTE_COST = 100, 24
#: Less memory than this is refused: the tables have a size to begin with.
LEAST_MEMORY = 1 << 24
#: More makes no difference: the learner takes at most so many bytes of pieces (``trainer.MOST_CELLS``).
MOST_MEMORY = BYTE_COST * 700_000_000
#: More threads than any machine can use.
MOST_THREADS = 256
#: A section of the corpus has this share of the memory in characters, so that it cannot overrun it by far.
SECTION = 64
#: Threads are given texts of about this many characters at a time.
BLOCK_CHARACTERS = 1 << 18
#: Progress is kept so often.
SAVE_SECONDS = 60.0

STATE_NAME = "pieces.npz"
STATE_FORMAT = 1


def count_pieces(texts: Iterable[str], pattern: Pattern | None = None) -> Counter[bytes]:
    """How often each piece occurs in ``texts``, as UTF-8 bytes."""
    pattern = pattern or Pattern()
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pattern.pieces(well_formed(text)))
    return Counter({piece.encode(): count for piece, count in counts.items()})


@dataclass(frozen=True, eq=False)
class Pieces:
    """Distinct pieces and their counts as arrays, in no particular order."""

    text: npt.NDArray[np.uint8]
    """The bytes of all pieces; ``PADDING`` behind them may be read."""
    bounds: npt.NDArray[np.int64]
    """Piece ``i`` is ``text[bounds[i]:bounds[i + 1]]``."""
    counts: npt.NDArray[np.int64]
    """How often each occurs."""

    @classmethod
    def of(cls, counts: Mapping[bytes, int]) -> "Pieces":
        """The pieces of a dictionary."""
        bounds = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(np.fromiter(map(len, counts), np.int64, len(counts)), out=bounds[1:])
        text = np.frombuffer(b"".join(counts) + PADDING, np.uint8)
        return cls(text, bounds, np.fromiter(counts.values(), np.int64, len(counts)))

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def sizes(self) -> npt.NDArray[np.int64]:
        """Bytes of each piece."""
        return np.diff(self.bounds)

    def counter(self) -> Counter[bytes]:
        """The same as a dictionary."""
        text, places = self.text.tobytes(), self.bounds.tolist()
        slices = (text[start:end] for start, end in pairwise(places))
        return Counter(dict(zip(slices, self.counts.tolist(), strict=True)))

    def at_least(self, minimum: int) -> "Pieces":
        """Those that occur at least ``minimum`` times."""
        kept = self.counts >= minimum
        sizes = self.sizes
        bounds = np.zeros(int(kept.sum()) + 1, np.int64)
        np.cumsum(sizes[kept], out=bounds[1:])
        text = np.zeros(bounds[-1] + len(PADDING), np.uint8)
        text[: bounds[-1]] = self.text[: self.bounds[-1]][np.repeat(kept, sizes)]
        return Pieces(text, bounds, self.counts[kept])


@dataclass(frozen=True)
class Counted:
    """A corpus as the learner sees it."""

    pieces: Pieces
    documents: int
    """Texts read."""
    bytes: int
    """Their length in UTF-8."""
    occurrences: int
    """Pieces, each as often as it occurs; dropped ones too."""
    dropped: int
    """Occurrences of pieces that were dropped to stay within the memory."""
    error: int
    """No count of a piece is too low by more than this; 0 when nothing was dropped."""


class Table(Protocol):
    """Counts pieces. One thread at a time may use it."""

    def count(self, texts: list[str]) -> int:
        """Count the pieces of texts; returns the length of these in bytes."""

    def add(self, pieces: Pieces) -> None:
        """Add counts."""

    def pieces(self) -> Pieces:
        """All counted so far."""

    def clear(self) -> None:
        """Forget everything."""

    @property
    def cost(self) -> int:
        """Bytes that the distinct pieces will take at most."""


class PlainTable:
    """A dictionary, and ``Pattern`` for the pieces: for patterns that only ``regex`` knows, and without numba."""

    def __init__(self, pattern: Pattern) -> None:
        self._pattern = pattern
        self._counts: Counter[str] = Counter()

    def count(self, texts: list[str]) -> int:
        size = 0
        for text in texts:
            text = well_formed(text)
            size += len(text.encode())
            self._counts.update(self._pattern.pieces(text))
        return size

    def add(self, pieces: Pieces) -> None:
        for piece, count in pieces.counter().items():
            self._counts[piece.decode()] += count

    def pieces(self) -> Pieces:
        return Pieces.of({piece.encode(): count for piece, count in self._counts.items()})

    def clear(self) -> None:
        self._counts.clear()

    @property
    def cost(self) -> int:
        return PIECE_COST * len(self._counts) + BYTE_COST * sum(len(piece.encode()) for piece in self._counts)


# The numbers that ``kernels/count.py`` shares with us.
WORDS, BATCH, FULL = 3, 256, 1
PIECES, BYTES, KEY_WORDS, MOST_PIECES, MOST_KEY_WORDS, DOCUMENT, PLACE, WANTED = range(8)

_KERNELS = "groundup.tokenizer.kernels.count"
_TABLE = ("u64*", "i64", "u64*", "i64*")  # slots, mask, keys, state
_TEXTS = ("u8*", "i64*", "i64")
_count = tuple(
    compiled.Kernel(
        f"{_KERNELS}:count_{shape}",
        *("i64", *_TEXTS, "u8*", "i64", "i64", "i64", "i64*", "u64*", "u64*", *_TABLE),
    )
    for shape in SHAPES
)
_add_pieces = compiled.Kernel(f"{_KERNELS}:add_pieces", "i64", "u8*", "i64*", "i64*", "i64", "i64", *_TABLE)
_take_pieces = compiled.Kernel(
    f"{_KERNELS}:take_pieces", "i64", "u64*", "i64", "u64*", "u8*", "u8*", "u8*", "i64*", "i64*"
)


class CompiledTable:
    """The hash table of ``kernels/count.py``."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._batch = np.empty(BATCH, np.int64), np.empty(BATCH, np.uint64), np.empty(BATCH, np.uint64)
        self.clear()

    def clear(self) -> None:
        self._keys = np.empty(1 << 12, np.uint64)
        self._state = np.zeros(8, np.int64)
        self._state[MOST_KEY_WORDS] = len(self._keys)
        self._resize(1 << 14)

    def count(self, texts: list[str]) -> int:
        encoded = [_encoded(text) for text in texts]
        bounds = np.zeros(len(encoded) + 1, np.int64)
        np.cumsum([len(text) for text in encoded], out=bounds[1:])
        encoded.append(PADDING)
        data = b"".join(encoded)
        del encoded
        self._state[[DOCUMENT, PLACE]] = 0
        scan_and_count = _count[self._rules.shape]
        while scan_and_count(data, bounds, len(texts), classes(), *self._rules[1:], *self._batch, *self._table) == FULL:
            self._make_room(BATCH)
        return int(bounds[-1])

    def add(self, pieces: Pieces) -> None:
        done = 0
        while done < len(pieces):
            done = _add_pieces(pieces.text, pieces.bounds, pieces.counts, done, len(pieces), *self._table)
            if done < len(pieces):
                self._make_room(1)

    def pieces(self) -> Pieces:
        count, size = int(self._state[PIECES]), int(self._state[BYTES])
        found = Pieces(
            np.zeros(size + len(PADDING), np.uint8), np.empty(count + 1, np.int64), np.empty(count, np.int64)
        )
        slots, keys = self._slots, self._keys
        places = len(slots) // WORDS
        _take_pieces(
            slots, places, keys, keys.view(np.uint8), slots.view(np.uint8), found.text, found.bounds, found.counts
        )
        return found

    @property
    def cost(self) -> int:
        return PIECE_COST * int(self._state[PIECES]) + BYTE_COST * int(self._state[BYTES])

    @property
    def _table(self) -> tuple[Any, ...]:
        return self._slots, len(self._slots) // WORDS - 1, self._keys, self._state

    def _make_room(self, pieces: int) -> None:
        """For so many more pieces, and for the words in ``keys`` that the kernel asked for."""
        state = self._state
        if (needed := int(state[KEY_WORDS] + state[WANTED])) > len(self._keys):
            keys = np.empty(max(2 * len(self._keys), needed), np.uint64)
            keys[: state[KEY_WORDS]] = self._keys[: state[KEY_WORDS]]
            self._keys = keys
            state[MOST_KEY_WORDS] = len(keys)
        if state[PIECES] + pieces > state[MOST_PIECES]:
            held, places = self.pieces(), len(self._slots) // WORDS
            del self._slots
            state[[PIECES, BYTES, KEY_WORDS]] = 0
            self._resize(2 * places)
            self.add(held)

    def _resize(self, places: int) -> None:
        self._slots = np.zeros(WORDS * places, np.uint64)
        self._state[MOST_PIECES] = places * 5 // 8


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        return well_formed(text).encode()


@dataclass
class _Block:
    """Texts, or parts of them, that follow each other in the corpus."""

    texts: list[str] = field(default_factory=list)
    characters: int = 0
    documents: int = 0
    """How many texts end in it."""
    whole: bool = True
    """It ends where a text ends."""


def _blocks(texts: Iterable[str], splits: bool) -> Iterator[_Block]:
    """The corpus in blocks, long texts cut where every named pattern allows it if ``splits``."""
    block = _Block()
    for text in texts:
        for start, end in _cuts(text, splits):
            block.texts.append(text[start:end])
            block.characters += end - start
            block.whole = end == len(text)
            block.documents += block.whole
            if block.characters >= BLOCK_CHARACTERS or start > 0:  # so that blocks often end where a text does
                yield block
                block = _Block()
    if block.texts:
        yield block


def _cuts(text: str, splits: bool) -> Iterator[tuple[int, int]]:
    """Start and end of each part of a text."""
    start = 0
    while splits and len(text) - start > 2 * BLOCK_CHARACTERS and (end := cut_place(text, start + BLOCK_CHARACTERS)):
        yield start, end
        start = end
    yield start, len(text)


class _Crew:
    """Tables that count blocks, each in one thread at a time."""

    def __init__(self, tables: list[Table], size: int) -> None:
        self._tables = tables
        self._idle = list(tables)
        self._pool = ThreadPoolExecutor(len(tables)) if len(tables) > 1 else None
        self._running: deque[Future[int]] = deque()
        self.bytes = size
        """Length of the texts counted, and of those before."""

    def __enter__(self) -> "_Crew":
        return self

    def __exit__(self, *exception: object) -> None:
        if self._pool:
            self._pool.shutdown(cancel_futures=True)

    def count(self, texts: list[str]) -> None:
        """Count texts, now or soon."""
        if self._pool is None:
            self.bytes += self._tables[0].count(texts)
            return
        if len(self._running) == 2 * len(self._tables):
            self.bytes += self._running.popleft().result()
        self._running.append(self._pool.submit(self._work, texts))

    def _work(self, texts: list[str]) -> int:
        table = self._idle.pop()
        try:
            return table.count(texts)
        finally:
            self._idle.append(table)

    def settle(self) -> int:
        """Wait until all is counted; returns what the tables cost."""
        while self._running:
            self.bytes += self._running.popleft().result()
        return sum(table.cost for table in self._tables)

    def merge(self) -> Table:
        """Bring all counts, which are settled, into one table, which the next texts are counted with too."""
        first, *others = self._tables
        for table in others:
            first.add(table.pieces())
            table.clear()
        return first


def count(
    texts: Iterable[str],
    pattern: Pattern | None = None,
    *,
    threads: int | None = None,
    memory: int = MEMORY,
    state: Path | None = None,
    total_bytes: int | None = None,
) -> Counted:
    """Count the pieces of a corpus. The result does not depend on ``threads`` nor on interruptions.

    Args:
        texts: each is read once; no piece spans two of them.
        pattern: how texts are cut into pieces; our own when not given.
        threads: as many as there are processors when not given. Patterns that only ``regex`` knows are cut by one.
        memory: bytes that the distinct pieces may take, from here until merges are learnt.
        state: a folder where progress is kept. A run that was killed goes on from there when it gets the same texts,
            which are read again up to that place, but not counted. What was counted to the end is not read again.
        total_bytes: the length of all texts if it is known, to tell when counting will be done.

    Raises:
        UsageError: ``threads`` or ``memory`` is too small.
        ArtifactError: ``state`` is damaged, or belongs to other texts or settings.
    """
    if threads is not None and not 1 <= threads <= MOST_THREADS:
        raise UsageError(f"threads is {threads}; use 1 to {MOST_THREADS}")
    if memory < LEAST_MEMORY:
        raise UsageError(f"memory is {memory:,} bytes; use at least {LEAST_MEMORY:,}")
    pattern, memory = pattern or Pattern(), min(memory, MOST_MEMORY)
    make: Callable[[], Table] = partial(PlainTable, pattern)
    if pattern.rules and compiled.available():
        make = partial(CompiledTable, pattern.rules)
        threads = threads or _processors()
    else:
        threads = 1
    store = _Store(state, {"pattern": list(pattern.splits), "memory": memory}) if state else None
    standing, held = store.load() if store else (_Standing(), None)
    texts = iter(texts)
    if held:
        _skip(texts, standing, state)
        if standing.finished:
            return _counted(standing, held)
    elif store:
        first = next(texts, "")
        standing.first = _checked([first], 0)
        texts = chain([first], texts)
    with (
        _Crew([make() for _ in range(threads)], standing.bytes) as crew,
        Progress("tokenizer: count pieces", total_bytes, "byte", standing.bytes) as progress,
    ):
        if held:
            crew.merge().add(held)
            del held
        saved = time.monotonic()
        for block in _blocks(texts, splits=pattern.rules is not None):
            crew.count(block.texts)
            standing.documents += block.documents
            standing.section += block.characters
            if store:
                standing.check = _checked(block.texts, standing.check)
            if standing.section >= memory // SECTION:
                standing.section = 0
                _keep_within(memory, crew, standing)
            progress.advance(crew.bytes - progress.done)
            if store and block.whole and time.monotonic() - saved >= SAVE_SECONDS:
                crew.settle()
                standing.bytes = crew.bytes
                store.save(standing, crew.merge().pieces())
                saved = time.monotonic()
        _keep_within(memory, crew, standing)
        standing.bytes, standing.finished = crew.bytes, True
        pieces = crew.merge().pieces()
    if store:
        store.save(standing, pieces)
    return _counted(standing, pieces)


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _keep_within(memory: int, crew: _Crew, standing: "_Standing") -> None:
    """At the end of a section: drop the rarest pieces if all cost more than ``memory``, until half of it is free."""
    if crew.settle() <= memory or crew.merge().cost <= memory:  # the first counts pieces of several tables repeatedly
        return
    table = crew.merge()
    pieces = table.pieces()
    values, which = np.unique(pieces.counts, return_inverse=True)
    costs = np.bincount(which, PIECE_COST + BYTE_COST * pieces.sizes)
    costs_from = np.append(np.cumsum(costs[::-1])[::-1], 0)  # of all pieces that occur at least so often
    minimum = int(np.append(values, values[-1] + 1)[np.argmax(costs_from <= memory // 2)])
    standing.dropped += int(pieces.counts[pieces.counts < minimum].sum())
    standing.error += minimum - 1
    table.clear()
    table.add(pieces.at_least(minimum))


@dataclass
class _Standing:
    """How far counting has come."""

    documents: int = 0
    bytes: int = 0
    section: int = 0
    """Characters of the section that is being counted."""
    dropped: int = 0
    error: int = 0
    first: int = 0
    check: int = 0
    """CRC-32 of the first text, and of all so far, where progress is kept."""
    finished: bool = False


def _counted(standing: _Standing, pieces: Pieces) -> Counted:
    occurrences = int(pieces.counts.sum()) + standing.dropped
    return Counted(pieces, standing.documents, standing.bytes, occurrences, standing.dropped, standing.error)


def _checked(texts: list[str], check: int) -> int:
    for text in texts:
        check = zlib.crc32(_encoded(text), check)
    return check


def _skip(texts: Iterator[str], standing: _Standing, state: Path | None) -> None:
    """Pass over the texts that are counted; only look at the first one if all are.

    Raises:
        ArtifactError: those that are counted were others.
    """
    check = 0
    with Progress("tokenizer: find the place again", standing.documents, "text") as progress:
        for text in islice(texts, 1 if standing.finished else standing.documents):
            check = _checked([text], check)
            progress.advance()
    if check != (standing.first if standing.finished else standing.check):
        raise ArtifactError(f"{state} was made from other texts; delete it, or give another folder")
    say(f"  tokenizer: {standing.documents:,} texts were counted before")


class _Store:
    """Counts on the disk, as one file that is whole or the one before."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self._path = folder / STATE_NAME
        self._settings = {"format": STATE_FORMAT, **settings}

    def save(self, standing: _Standing, pieces: Pieces) -> None:
        about = json.dumps({"settings": self._settings, "standing": asdict(standing)}).encode()
        with atomic_file(self._path) as temporary, temporary.open("wb") as handle:
            np.savez(
                handle,
                about=np.frombuffer(about, np.uint8),
                text=pieces.text[: pieces.bounds[-1]],
                bounds=pieces.bounds,
                counts=pieces.counts,
            )

    def load(self) -> tuple[_Standing, Pieces | None]:
        """What was kept; a beginning if nothing was.

        Raises:
            ArtifactError: damaged, or of other settings.
        """
        remove_leftovers(self._path.parent)
        if not self._path.exists():
            return _Standing(), None
        try:
            with np.load(self._path) as arrays:
                about = json.loads(arrays["about"].tobytes())
                text = np.concatenate([arrays["text"], np.frombuffer(PADDING, np.uint8)])
                pieces = Pieces(text, arrays["bounds"], arrays["counts"])
            standing = _Standing(**about["standing"])
            _check(pieces)
        except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile) as error:
            raise ArtifactError(f"{self._path} is damaged; delete it and start again") from error
        if about["settings"] != self._settings:
            raise ArtifactError(f"{self._path} was made with other settings; delete it, or give another folder")
        return standing, pieces


def _check(pieces: Pieces) -> None:
    """Refuse what a kernel would read beyond its end.

    Raises:
        ValueError: the arrays do not fit each other.
    """
    text, bounds, counts = pieces.text, pieces.bounds, pieces.counts
    if (text.dtype, bounds.dtype, counts.dtype) != (np.uint8, np.int64, np.int64):
        raise ValueError("not the numbers that pieces are made of")
    if len(bounds) != len(counts) + 1 or bounds[0] != 0 or bounds[-1] + len(PADDING) != len(text):
        raise ValueError("not the sizes that pieces have")
    if (pieces.sizes < 1).any() or (counts < 1).any():
        raise ValueError("pieces without a byte or an occurrence")
