"""The compiled encoder: a vocabulary → arrays, and UTF-8 → ids with them (``kernels/encode.py``).

Each thread works with a ``Workspace`` of its own, which remembers the ids of pieces it has met. What it remembers is
bounded: a full workspace forgets everything but the vocabulary and goes on.
"""

import ctypes
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core.compiled import Kernel, pointer, pointers
from groundup.tokenizer.pretokenize import SHAPES
from groundup.tokenizer.scanner import PADDING
from groundup.tokenizer.unicode import classes
from groundup.tokenizer.vocabulary import Vocabulary

Ids = npt.NDArray[np.uint32]
#: Of a portion: its ids, how many each of its texts has, and which of them begin a text.
_Result = tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.bool_]]

#: Pieces remembered besides the vocabulary; and the bytes of those longer than 15; and the ids of those of more than 4.
PIECES, KEY_BYTES, STORED_IDS = 1 << 18, 1 << 23, 1 << 21
#: Longer pieces are merged in windows of so many bytes; 48 bytes of memory for each.
WINDOW = 1 << 12
#: Words of 64 bits that tell most pairs that do not merge; ``pair_of`` in the kernel counts on this number.
FILTER_WORDS = 1 << 14
#: The scanner is this many pieces ahead of the encoder.
BLOCK = 256
#: Texts of up to so many bytes are encoded in memory that is ready.
SHORT_TEXT = 1 << 12
#: Texts are handed to threads in portions of about so many bytes.
PORTION = 1 << 20

_LONG = 255
_WRITTEN, _REASON = 3, 4
_DONE, _CACHE_FULL = 0, 1

_MERGING = ("u32*", "u32*", "u64*", "u64", "i32*", "i64*")
_MEMORY = ("u64*", "u64", "u8*", "u32*", "i64*", "i64*", "u64*", "u32*", "u32*", "i64", "i32*", "i32*", "i32*")
_MODULE = "groundup.tokenizer.kernels.encode"
_encode = tuple(
    Kernel(
        f"{_MODULE}:encode_{shape}", "i64",
        *("u8*", "i64*", "i64", "u8*", "i64", "i64", "i64", "i64*", "i64"), *_MERGING, *_MEMORY, "i64*",
    )
    for shape in SHAPES
)  # fmt: skip
_encode_pieces = Kernel(f"{_MODULE}:encode_pieces", "i64", "u8*", "i64", "i64*", "i64", *_MERGING, *_MEMORY)
_add_pairs = Kernel(f"{_MODULE}:add_pairs", "i64", "u64*", "u64", "i32*", "i64")
_remember_tokens = Kernel(
    f"{_MODULE}:remember_tokens", "i64",
    *("u8*", "i64*", "i64", "u8*", "u64*", "u64", "u8*", "u32*", "i64*", "u32*"),
)  # fmt: skip


@dataclass(frozen=True)
class Encoded:
    """The ids of several texts, one after the other."""

    ids: Ids
    offsets: npt.NDArray[np.int64]
    """Text ``i`` is ``ids[offsets[i]:offsets[i + 1]]``."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> Ids:
        return self.ids[self.offsets[index] : self.offsets[index + 1]]

    def lists(self) -> list[list[int]]:
        """The ids of each text as a Python list."""
        ids, places = self.ids.tolist(), self.offsets.tolist()
        return [ids[start:end] for start, end in pairwise(places)]


class Encoder:
    """Encodes with one vocabulary, from any number of threads at once."""

    def __init__(self, vocabulary: Vocabulary, window: int = WINDOW) -> None:
        self.pattern = vocabulary.pattern
        merges = vocabulary.merges
        lengths = np.diff(vocabulary.offsets)
        self._blob = vocabulary.blob + PADDING
        self._offsets = vocabulary.offsets
        self._wanted = (lengths > 0 if vocabulary.whole_pieces else lengths == 1).astype(np.uint8)
        self._wanted[merges[:, 2]] = 1  # what the merges build out of its own bytes
        single = np.flatnonzero(lengths == 1)
        bytes_of = np.frombuffer(vocabulary.blob, np.uint8)[vocabulary.offsets[single]]
        self._ids = np.empty(256 + len(merges), np.uint32)
        self._ids[bytes_of] = single
        self._ids[256:] = merges[:, 2]
        inner = np.zeros(len(vocabulary), np.int32)
        inner[self._ids] = np.arange(len(self._ids))
        self._merges = np.ascontiguousarray(inner[merges[:, :2]])
        left, right = self._merges.T.astype(np.int64)
        both = np.flatnonzero((left < 256) & (right < 256))
        self._lengths = lengths[self._ids]
        self._byte_pairs = np.full(1 << 16, 0xFFFFFFFF, np.uint32)
        self._byte_pairs[(left << 8 | right)[both]] = both
        slots = 1 << max(4, (2 * len(merges)).bit_length())
        self._pairs = np.full(slots + FILTER_WORDS, 0xFFFFFFFFFFFFFFFF, np.uint64)
        self._pairs[slots:] = 0
        self._pair_mask = slots - 1
        _add_pairs(self._pairs, self._pair_mask, self._merges, len(merges))
        self._merging = (
            *pointers(self._ids, self._byte_pairs, self._pairs),
            self._pair_mask,
            *pointers(self._merges, self._lengths),
        )
        rules = self.pattern.rules
        self._call = _encode[rules.shape] if rules else None
        self._rules = (pointer(classes()), *rules[1:]) if rules else ()
        self._window = window
        self._idle = deque[_Workspace]()

    def encode(self, data: bytes) -> Ids:
        """Ids of one text in UTF-8; a byte that is not part of valid UTF-8 is a sign of its own."""
        return self._portion(data + PADDING, len(data), None)[0]

    def encode_batch(self, texts: Iterable[bytes], threads: int = 1) -> Encoded:
        """Ids of many texts; ``threads`` of them work at once."""
        portions = _portions(texts, PORTION, split=threads > 1 and self._call is not None)
        ids, counts, begins = [], [], []
        for portion_ids, portion_counts, portion_begins in self._results(portions, threads):
            ids.append(portion_ids)
            counts.append(portion_counts)
            begins.append(portion_begins)
        if not ids:
            return Encoded(np.empty(0, np.uint32), np.zeros(1, np.int64))
        ends = np.cumsum(np.concatenate(counts))
        first = np.concatenate(begins)
        offsets = np.append(np.concatenate([[0], ends[:-1]])[first], ends[-1])
        return Encoded(np.concatenate(ids) if len(ids) > 1 else ids[0], offsets)

    def _results(self, portions: Iterable["_Portion"], threads: int) -> Iterator["_Result"]:
        """What becomes of each portion, in order; no more of them are read than there is work for."""
        if threads == 1:
            yield from map(self._work, portions)
            return
        waiting = deque[Future[_Result]]()
        pool = ThreadPoolExecutor(threads)
        try:
            for portion in portions:
                waiting.append(pool.submit(self._work, portion))
                if len(waiting) > 2 * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)

    def _work(self, portion: "_Portion") -> "_Result":
        ids, bounds = self._portion(portion.padded, int(portion.bounds[-1]), portion.bounds)
        return ids, np.diff(bounds), portion.begins

    def _portion(
        self, padded: bytes, size: int, bounds: npt.NDArray[np.int64] | None
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Ids of the texts in ``padded[:size]``, and where each ends; it is one text when there are no bounds."""
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = _Workspace(self)
        result = workspace.encode(padded, size, bounds)
        self._idle.append(workspace)  # one that was interrupted may be half made, and is never used again
        return result


class _Workspace:
    """What one thread needs to encode, and what it remembers."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        tokens = int(encoder._wanted.sum())
        slots = 1 << int(1.25 * (tokens + PIECES)).bit_length()
        long = np.diff(encoder._offsets)
        long_bytes = int(long[long > 15].sum())
        self._table = np.zeros(4 * slots, np.uint64)
        self._keys = np.empty(long_bytes + KEY_BYTES + _LONG + 8, np.uint8)
        self._stored = np.empty(STORED_IDS + _LONG, np.uint32)
        self._state = np.zeros(7, np.int64)
        self._limits = np.array([tokens + PIECES, long_bytes + KEY_BYTES, STORED_IDS, encoder._window], np.int64)
        self._best = np.empty(32, np.uint32)
        self._queues = np.full(2 * max(1, len(encoder._merges)), -1, np.int32)
        self._ends = np.empty(BLOCK, np.int64)
        self._found = np.empty(4 * BLOCK, np.uint64)
        self._fixed = (
            pointer(self._table),
            slots - 1,
            *pointers(self._keys, self._stored, self._state, self._limits, self._found),
        )
        self._short_out = np.empty(SHORT_TEXT + 4, np.uint32)
        self._short_bounds, self._short_out_bounds = np.zeros(2, np.int64), np.zeros(2, np.int64)
        self._short = pointers(self._short_bounds, self._short_out, self._short_out_bounds)
        self._ends_pointer = pointer(self._ends)
        self._make_room(max(encoder._window, _LONG))
        self._forget()

    def _make_room(self, size: int) -> None:
        """Memory to merge a piece of ``size`` bytes."""
        self._room = size
        self._work = np.empty(9 * size, np.int32)
        self._heap = np.empty(3 * size, np.int32)
        self._merging = (
            pointer(self._best), size, *pointers(self._work, self._heap, self._queues),
        )  # fmt: skip

    def _forget(self) -> None:
        """Remember nothing but the vocabulary."""
        encoder = self._encoder
        self._table.fill(0)
        self._state[:3] = 0
        ids = np.empty(4, np.uint32)
        _remember_tokens(
            encoder._blob, encoder._offsets, len(encoder._wanted), encoder._wanted, *self._fixed[:5], ids
        )  # fmt: skip

    def encode(
        self, padded: bytes, size: int, bounds: npt.NDArray[np.int64] | None
    ) -> tuple[Ids, npt.NDArray[np.int64]]:
        """Ids of the texts ``padded[bounds[i]:bounds[i + 1]]``, and where those of each begin and end."""
        state = self._state
        state[_WRITTEN:] = 0
        short = bounds is None and size <= SHORT_TEXT
        if short:  # its arrays and their addresses are ready, which takes longer than the work
            out, bounds, out_bounds = self._short_out, self._short_bounds, self._short_out_bounds
            addresses = self._short
            bounds[1] = size
        else:
            # No id is shorter than a byte. Memory that nothing is written to is never used.
            out = np.empty(size + 4, np.uint32)
            bounds = np.array([0, size], np.int64) if bounds is None else bounds
            out_bounds = np.zeros(len(bounds), np.int64)
            addresses = pointers(bounds, out, out_bounds)
        self._run(padded, bounds, out, out_bounds, addresses)
        written = int(state[_WRITTEN])
        if self._room > WINDOW:
            self._make_room(WINDOW)
        if short:
            return out[:written].copy(), out_bounds
        out.resize(written, refcheck=False)
        return out, out_bounds

    def _run(self, padded: bytes, bounds: Any, out: Ids, out_bounds: Any, addresses: Sequence[ctypes.c_void_p]) -> None:
        """Encode, and make room whenever the kernel lacks it."""
        encoder = self._encoder
        if encoder._call is None:
            self._encode_found(padded, bounds, out, out_bounds)
            return
        call = encoder._call.bind()
        texts, ids, ends = addresses
        while True:
            call(
                padded, texts, len(bounds) - 1, *encoder._rules, self._ends_pointer, BLOCK,
                *encoder._merging, *self._fixed, ids, *self._merging, ends,
            )  # fmt: skip
            if self._state[_REASON] == _DONE:
                break
            self._remedy()

    def _encode_found(self, padded: bytes, bounds: Any, out: Ids, out_bounds: npt.NDArray[np.int64]) -> None:
        """The same where only ``regex`` finds the pieces."""
        encoder, state = self._encoder, self._state
        for document, (start, end) in enumerate(pairwise(bounds.tolist())):
            pieces = encoder.pattern.pieces(padded[start:end].decode("utf-8", "surrogateescape"))
            lengths = [len(piece.encode("utf-8", "surrogateescape")) for piece in pieces]
            ends = np.fromiter(accumulate(lengths, initial=start), np.int64)[1:]
            done = 0
            while done < len(ends):
                state[_REASON] = 0
                done += _encode_pieces(
                    padded,
                    start,
                    ends[done:],
                    min(BLOCK, len(ends) - done),
                    *encoder._merging,
                    *self._fixed,
                    out,
                    *self._merging,
                )
                start = int(ends[done - 1]) if done else start
                if state[_REASON]:
                    self._remedy()
            out_bounds[document + 1] = state[_WRITTEN]

    def _remedy(self) -> None:
        """Make the room that the kernel lacked."""
        if self._state[_REASON] == _CACHE_FULL:
            self._forget()
        else:
            self._make_room(2 * self._room)


@dataclass(frozen=True)
class _Portion:
    """Texts, or parts of one, that one thread encodes in one go."""

    padded: bytes
    bounds: npt.NDArray[np.int64]
    begins: npt.NDArray[np.bool_]
    """Whether each begins a text; the others go on with the one before."""


def _portions(texts: Iterable[bytes], size: int, split: bool) -> Iterator[_Portion]:
    """Gather ``texts`` to about ``size`` bytes; with ``split``, a longer one is cut where a piece surely begins."""
    parts: list[bytes] = []
    begins: list[bool] = []
    held = 0
    for text in texts:
        for number, part in enumerate(_parts(text, size) if split else (text,)):
            parts.append(part)
            begins.append(number == 0)
            held += len(part)
            if held >= size:
                yield _portion(parts, begins)
                parts, begins, held = [], [], 0
    if parts:
        yield _portion(parts, begins)


def _portion(parts: Sequence[bytes], begins: Sequence[bool]) -> _Portion:
    bounds = np.fromiter(accumulate(map(len, parts), initial=0), np.int64, len(parts) + 1)
    return _Portion(b"".join([*parts, PADDING]), bounds, np.array(begins, np.bool_))


def _parts(text: bytes, size: int) -> Iterator[bytes]:
    """Cut before a space behind an ASCII sign or letter: a piece begins there by every known pattern."""
    start = 0
    while len(text) - start > 2 * size:
        cut = text.find(b" ", start + size)
        while cut >= 0 and not 0x20 < text[cut - 1] < 0x7F:
            cut = text.find(b" ", cut + 1)
        if cut < 0:
            break
        yield text[start:cut]
        start = cut
    yield text[start:] if start else text
