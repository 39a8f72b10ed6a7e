"""Normal text → pieces: the algorithms of SentencePiece, each as plain Python and, where it pays, compiled.

What enters: an ``Inventory`` of pieces. What leaves: a function from text to ids. The plain ones use strings, heaps
and dictionaries, and the tests hold the compiled ones against them; both give the ids of the ``sentencepiece`` package.
"""

import re
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core.compiled import Kernel
from groundup.tokenizer.normalizer import SPACE_SYMBOL

Segmenter = Callable[[str], list[int]]

#: Paths that score beyond this are shifted back to 0, because single precision would lose their differences.
SHIFT_BEYOND = 100_000.0
#: The ids of so many distinct words are remembered by the plain version, if they have at most so many characters.
CACHED_WORDS, CACHED_CHARACTERS = 1 << 16, 64
#: The compiled merging takes about this many bytes at a time, to bound memory.
BLOCK_BYTES = 1 << 16
#: A piece that is not in use is split into what it was merged from, and that again, at most so often.
DEEPEST_SPLIT = 100

_word = re.compile(f"{SPACE_SYMBOL}*[^{SPACE_SYMBOL}]+|{SPACE_SYMBOL}+")
_one_space_word = re.compile(f"{SPACE_SYMBOL}?[^{SPACE_SYMBOL}]+|{SPACE_SYMBOL}")
_space = SPACE_SYMBOL.encode("utf-8")
_cut = re.compile(b"(?<!%b)%b" % (_space, _space))


@dataclass(frozen=True)
class Inventory:
    """The pieces that text may become."""

    pieces: Sequence[str]
    """Id → text; empty where no text may become it."""
    scores: npt.NDArray[np.float32]
    """Id → score; higher is better."""
    unused: frozenset[int]
    """Pieces that take part in merging but are no ids."""
    unknown_id: int | None
    """For what no piece covers; None: that becomes its bytes."""
    unknown_score: np.float32
    byte_ids: Sequence[int]
    """Byte → id, if there is no unknown id."""

    @cached_property
    def ids(self) -> dict[str, int]:
        """Text → id, those not in use included."""
        return {text: token_id for token_id, text in enumerate(self.pieces) if text}

    @cached_property
    def splits_at_spaces(self) -> bool:
        """No piece has "▁" behind another character, so that no merge reaches across such a place."""
        # Which merge made a piece that is not in use is remembered for the whole text.
        return not self.unused and not any(SPACE_SYMBOL in text.lstrip(SPACE_SYMBOL) for text in self.pieces)

    @cached_property
    def ranks(self) -> npt.NDArray[np.int32]:
        """Id → rank of its score: 0 for the best, the same for equal scores; -0.0 is below 0.0."""
        bits = self.scores.view(np.int32).astype(np.int64)
        ordered = np.where(bits < 0, -(bits & 0x7FFFFFFF) - 1, bits)
        return np.unique(-ordered, return_inverse=True)[1].astype(np.int32)

    @cached_property
    def arrays(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.int32], int]:
        """For the kernels: the bytes of all pieces in use, where each begins, byte → id or -1, and the unknown id."""
        texts = ["" if token_id in self.unused else text for token_id, text in enumerate(self.pieces)]
        encoded = [text.encode("utf-8") for text in texts]
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        byte_ids = np.array(self.byte_ids if self.unknown_id is None else [-1], np.int32)
        blob = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
        return blob, offsets, byte_ids, -1 if self.unknown_id is None else self.unknown_id

    def plainly(self, parts: Sequence[str]) -> list[int]:
        """The ids of ``parts``, each of which is a piece or unknown."""
        ids: list[int] = []
        for part in parts:
            token_id = self.ids.get(part)
            if token_id is not None and token_id not in self.unused:
                ids.append(token_id)
            else:
                ids += self.unknown(part)
        return self.once_unknown(ids)

    def unknown(self, text: str) -> list[int]:
        """The ids of a text that no piece covers."""
        if self.unknown_id is not None:
            return [self.unknown_id]
        return [self.byte_ids[byte] for byte in text.encode("utf-8")]

    def once_unknown(self, ids: list[int]) -> list[int]:
        """``ids`` with every run of the unknown id as one."""
        if self.unknown_id is None or ids.count(self.unknown_id) < 2:
            return ids
        return ids[:1] + [after for before, after in pairwise(ids) if not before == after == self.unknown_id]


def characters(inventory: Inventory) -> Segmenter:
    """Every character is a piece."""
    return inventory.plainly


def words(inventory: Inventory) -> Segmenter:
    """What stands between spaces is a piece, with the space before it."""
    return lambda text: inventory.plainly(_one_space_word.findall(text))


class PlainUnigram:
    """The path through all pieces of a text whose scores have the greatest sum (Viterbi, 1967), in single precision."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._trie: dict[str, Any] = {}  # character → the same again; "" → the piece that ends here
        for text, token_id in inventory.ids.items():
            if token_id not in inventory.unused:
                node = self._trie
                for character in text:
                    node = node.setdefault(character, {})
                node[""] = token_id
        self._scores: list[float] = inventory.scores.tolist()

    def __call__(self, text: str) -> list[int]:
        # The best path that ends at each place: its score, where its last piece begins, and which that is.
        score_at = array("f", [0.0]) * (len(text) + 1)
        start_of = [-1] * (len(text) + 1)
        piece_of: list[int | None] = [None] * (len(text) + 1)
        rounded = array("f", [0.0])
        farthest = 0

        def offer(start: int, end: int, piece: int | None, score: float) -> None:
            rounded[0] = score_at[start] + score
            if start_of[end] < 0 or rounded[0] > score_at[end]:
                score_at[end], start_of[end], piece_of[end] = rounded[0], start, piece

        for start in range(len(text)):
            if abs(shift := score_at[start]) > SHIFT_BEYOND:
                for place in range(start, farthest + 1):
                    if place == start or start_of[place] >= 0:
                        score_at[place] -= shift
            node = self._trie
            end = start
            while end < len(text) and (node := node.get(text[end], {})):
                end += 1
                if "" in node:
                    offer(start, end, node[""], self._scores[node[""]])
                    farthest = max(farthest, end)
            if "" not in self._trie.get(text[start], {}):
                offer(start, start + 1, None, float(self.inventory.unknown_score))
                farthest = max(farthest, start + 1)
        ids: list[int] = []
        end = len(text)
        while end > 0:
            piece, start = piece_of[end], start_of[end]
            ids += [piece] if piece is not None else reversed(self.inventory.unknown(text[start:end]))
            end = start
        return self.inventory.once_unknown(ids[::-1])


class PlainPairs:
    """Merge the two neighbours that make the piece of the highest score, the first such in the text; until none do."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._ranks: list[int] = inventory.ranks.tolist()
        self._remembered = lru_cache(CACHED_WORDS)(self._encode)

    def __call__(self, text: str) -> list[int]:
        ids: list[int] = []
        for word in _word.findall(text) if self.inventory.splits_at_spaces else [text]:
            ids += self._remembered(word) if len(word) <= CACHED_CHARACTERS else self._encode(word)
        return self.inventory.once_unknown(ids)

    def _encode(self, word: str) -> list[int]:
        inventory = self.inventory
        symbols = list(word)  # a symbol stands where it begins; what was merged into it is empty
        following = list(range(1, len(word) + 1))
        previous = list(range(-1, len(word) - 1))
        merged_from: dict[str, tuple[str, str]] = {}  # for pieces not in use
        waiting: list[tuple[int, int, int]] = []  # rank, place, length

        def candidate(left: int, right: int) -> tuple[int, int, int] | None:
            if left < 0 or right >= len(word):
                return None
            text = symbols[left] + symbols[right]
            piece = inventory.ids.get(text)
            if piece is None:
                return None
            if piece in inventory.unused:
                merged_from[text] = symbols[left], symbols[right]
            return self._ranks[piece], left, len(text)

        waiting = [found for place in range(len(word)) if (found := candidate(place, place + 1))]
        heapify(waiting)
        while waiting:
            _, place, length = heappop(waiting)
            swallowed = following[place]
            if not symbols[place] or swallowed >= len(word) or len(symbols[place]) + len(symbols[swallowed]) != length:
                continue  # one of the two merged otherwise since
            symbols[place] += symbols[swallowed]
            symbols[swallowed] = ""
            following[place] = after = following[swallowed]
            if after < len(word):
                previous[after] = place
            for left, right in ((previous[place], place), (place, after)):
                if found := candidate(left, right):
                    heappush(waiting, found)

        parts: list[str] = []
        unfinished = [(symbol, 0) for symbol in reversed(symbols) if symbol]
        while unfinished:
            symbol, depth = unfinished.pop()
            if symbol in merged_from and depth < DEEPEST_SPLIT:
                left_part, right_part = merged_from[symbol]
                unfinished += [(right_part, depth + 1), (left_part, depth + 1)]
            else:
                parts.append(symbol)
        return inventory.plainly(parts)


_plant = Kernel(
    "groundup.tokenizer.kernels.viterbi:plant", "i64", *("u8*", "i64*", "i64", "i64*", "i32*", "i64", "i32*")
)
_best_path = Kernel(
    "groundup.tokenizer.kernels.viterbi:encode",
    "i64",
    *("u8*", "i64", "i64*", "i32*", "i64", "i32*", "u32*", "u64", "i64", "i32*", "u32*", "i32*", "i32*", "i32*"),
)


#: A trie for the kernels: keys, children, mask and pieces; see ``kernels/viterbi.py``.
Trie = tuple[npt.NDArray[np.int64], npt.NDArray[np.int32], int, npt.NDArray[np.int32]]


def plant(blob: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> Trie:
    """The trie of the pieces ``blob[offsets[piece]:offsets[piece + 1]]``; empty ones are none."""
    room = int(offsets[-1]) + 1
    for _ in range(2):  # once to count the nodes, once into a table of the right size
        slots = 1 << (2 * room).bit_length()
        trie = (np.zeros(slots, np.int64), np.empty(slots, np.int32), slots - 1, np.full(room, -1, np.int32))
        room = _plant(blob, offsets, len(offsets) - 1, *trie)
    return trie


class CompiledUnigram:
    """``PlainUnigram`` in machine code."""

    def __init__(self, inventory: Inventory) -> None:
        blob, offsets, self._byte_ids, self._unknown = inventory.arrays
        self._trie = plant(blob, offsets)
        self._scores = inventory.scores
        self._unknown_score = int(inventory.unknown_score.view(np.uint32))

    def __call__(self, text: str) -> list[int]:
        data = text.encode("utf-8")
        start_of = np.full(len(data) + 1, -1, np.int32)
        piece_of, ids = np.empty(len(data) + 1, np.int32), np.empty(len(data), np.int32)
        scores = (self._scores, self._unknown_score, self._unknown, self._byte_ids)
        room = np.empty(len(data) + 1, np.float32)
        count = _best_path(data, len(data), *self._trie, *scores, room, start_of, piece_of, ids)
        return ids[:count][::-1].tolist()


_fill = Kernel("groundup.tokenizer.kernels.scored:fill", "i64", *("u8*", "i64*", "i64", "i32*", "i64"))
_merge = Kernel(
    "groundup.tokenizer.kernels.scored:encode",
    "i64",
    *("u8*", "i64", "i64", "i64", "u8*", "i64*", "i32*", "i32*", "i64", "i64", "i32*"),
    *("i64*", "i64*", "i64*", "i64*", "i32*"),
)


class CompiledPairs:
    """``PlainPairs`` in machine code; only for inventories without unused pieces."""

    def __init__(self, inventory: Inventory) -> None:
        self.inventory = inventory
        self._blob, self._offsets, self._byte_ids, self._unknown = inventory.arrays
        count = len(self._offsets) - 1
        self._longest = int(np.diff(self._offsets).max(initial=0))
        self._table = np.zeros(1 << (2 * count).bit_length(), np.int32)
        _fill(self._blob, self._offsets, count, self._table, len(self._table) - 1)

    def __call__(self, text: str) -> list[int]:
        data = text.encode("utf-8")
        ids: list[int] = []
        start = 0
        while start < len(data):
            end = len(data)
            if self.inventory.splits_at_spaces and (cut := _cut.search(data, start + BLOCK_BYTES)):
                end = cut.start()
            ids += self._block(data[start:end])
            start = end
        return self.inventory.once_unknown(ids) if len(data) > BLOCK_BYTES else ids

    def _block(self, data: bytes) -> list[int]:
        size = len(data)
        vocabulary = (self._blob, self._offsets, self.inventory.ranks, self._table, len(self._table) - 1)
        symbols, before = np.empty(size + 1, np.int64), np.empty(size + 1, np.int64)
        heap = np.empty(3 * size, np.int64), np.empty(3 * size, np.int64)
        ids = np.empty(size, np.int32)
        limits = (int(self.inventory.splits_at_spaces), self._longest)
        count = _merge(data, size, *limits, *vocabulary, self._unknown, self._byte_ids, symbols, before, *heap, ids)
        return ids[:count].tolist()
