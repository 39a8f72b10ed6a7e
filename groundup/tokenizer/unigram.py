"""The unigram tokenizer in use: equal to ``unigram_plain``, and fast.

Ids: 0–255 the bytes, then the other pieces, the most probable first, then ``SPECIAL_TOKENS``. Text is cut by the
pattern that byte-pair encoding uses too, so the two differ in nothing but how they choose pieces.

Training works on all distinct words at once. They are one lattice: a node at every place of every word, an edge for
every substring that is a piece. What the plain version does word by word is done here level by level: first for the
places behind the first byte of all words, then for those behind the second, and so on, each as a few NumPy operations.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from groundup.core import compiled, files
from groundup.core.errors import DataError
from groundup.core.progress import Progress
from groundup.tokenizer.byte_level import ByteLevelTokenizer, own_vocabulary, room_in
from groundup.tokenizer.counting import count
from groundup.tokenizer.formats import huggingface
from groundup.tokenizer.formats.definition import reading
from groundup.tokenizer.formats.spelling import spell
from groundup.tokenizer.pretokenize import Pattern, Rules
from groundup.tokenizer.protocol import SPECIAL_TOKENS
from groundup.tokenizer.scanner import piece_ends
from groundup.tokenizer.segmenters import plant
from groundup.tokenizer.unigram_plain import (
    DECIMALS,
    EM_ROUNDS,
    KEPT,
    LEAST_SEEN,
    LONGEST_PIECE,
    LONGEST_WORD,
    MINIMUM_COUNT,
    SEEDS_PER_PIECE,
)
from groundup.tokenizer.vocabulary import Vocabulary

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

#: The pieces of this many distinct words are remembered: text repeats itself.
CACHED_WORDS, CACHED_CHARACTERS = 1 << 16, 64

_encode_words = compiled.Kernel(
    "groundup.tokenizer.kernels.viterbi:encode_words",
    "i64",
    *("u8*", "i64*", "i64", "i64*", "i32*", "i64", "i32*", "u64*", "u64*", "i32*", "i32*", "i32*"),
)


@dataclass(frozen=True)
class Lattice:
    """All ways to split many words. Edges are sorted by the level of their target, then by target, then by source."""

    source: Integers
    target: Integers
    piece: Integers
    last: Integers
    """Word → the node where it ends."""
    first: Integers
    """Word → the node where it begins."""
    levels: list[tuple[slice, Integers]]
    """For each level: its edges, and which of them is the first with its target."""

    @classmethod
    def of(cls, sizes: Integers, word: Integers, start: Integers, length: Integers, piece: Integers) -> "Lattice":
        """Words of ``sizes`` bytes, and edges: piece ``piece`` is ``length`` bytes from ``start`` on in ``word``."""
        first = np.cumsum(sizes + 1) - sizes - 1
        source = first[word] + start
        level = start + length
        order = np.lexsort((source, source + length, level))
        target = (source + length)[order]
        bounds = np.searchsorted(level[order], np.arange(1, sizes.max(initial=0) + 2))
        levels = []
        for begin, end in zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            news = np.flatnonzero(np.diff(target[begin:end], prepend=-1))
            levels.append((slice(begin, end), news))
        return cls(source[order], target, piece[order], first + sizes, first, levels)

    def expected_counts(self, scores: Floats, counts: Floats) -> Floats:
        """How often each piece occurs, if word ``w`` occurs ``counts[w]`` times; shape of ``scores``.

        Forward: the sum over all ways to each node. Backward: each node passes on its share of the count to the edges
        that lead to it, by their parts of that sum. This is the derivative of the sums, as backpropagation takes it.
        """
        forward = np.zeros(self.last[-1] + 1)
        part = scores[self.piece]
        for edges, news in self.levels:
            ways = part[edges] + forward[self.source[edges]]
            sizes = np.diff(news, append=len(ways))
            highest = np.repeat(np.maximum.reduceat(ways, news), sizes)
            ways = np.exp(ways - highest)
            sums = np.add.reduceat(ways, news)
            forward[self.target[edges][news]] = highest[news] + np.log(sums)
            part[edges] = ways / np.repeat(sums, sizes)
        share = np.zeros(len(forward))
        share[self.last] = counts
        for edges, _ in reversed(self.levels):
            part[edges] *= share[self.target[edges]]
            np.add.at(share, self.source[edges], part[edges])
        return np.bincount(self.piece, part, len(scores)).astype(np.float64)

    def best(self, scores: Floats) -> tuple[Floats, Integers]:
        """For each node the score of the best way to it, and the last edge of that way."""
        score = np.zeros(self.last[-1] + 1)
        incoming = np.zeros(len(score), np.int64)
        for edges, news in self.levels:
            ways = score[self.source[edges]] + scores[self.piece[edges]]
            highest = np.maximum.reduceat(ways, news)
            nodes = self.target[edges][news]
            score[nodes] = highest
            # Of equals the first: its source is the smallest, so its piece the longest.
            is_best = ways == np.repeat(highest, np.diff(news, append=len(ways)))
            numbers = np.where(is_best, np.arange(edges.start, edges.stop), len(self.source))
            incoming[nodes] = np.minimum.reduceat(numbers, news)
        return score, incoming

    def used_counts(self, scores: Floats, counts: Floats) -> Floats:
        """How often each piece occurs in the best ways; shape of ``scores``."""
        _, incoming = self.best(scores)
        used = np.zeros(len(scores))
        node, first = self.last, self.first
        while len(node):
            edge = incoming[node]
            used += np.bincount(self.piece[edge], counts, len(scores))
            going_on = self.source[edge] > first
            node, first, counts = self.source[edge][going_on], first[going_on], counts[going_on]
        return used


@dataclass
class _Occurrences:
    """Every place where a piece stands in the words, sorted by place and then by length."""

    place: Integers
    length: Integers
    piece: Integers

    def of(self, pieces: npt.NDArray[np.bool_]) -> "_Occurrences":
        """Those of some pieces, which are numbered anew."""
        here = pieces[self.piece]
        number = np.cumsum(pieces) - 1
        return _Occurrences(self.place[here], self.length[here], number[self.piece[here]])


class Trainer:
    """Counted words → pieces and scores, as ``unigram_plain.train`` does it.

    Memory is about 60 bytes for each place and length at which a substring that occurs twice begins: some 400 bytes
    for each byte of the distinct words.
    """

    def __init__(self, words: Mapping[bytes, int]) -> None:
        parts = Counter[bytes]()
        for word, often in sorted(words.items()):  # whoever counted them, in whatever order
            for start in range(0, len(word), LONGEST_WORD):
                parts[word[start : start + LONGEST_WORD]] += often
        self.text = b"".join(parts)
        self.sizes = np.array([len(part) for part in parts], np.int64)
        self.counts = np.array(list(parts.values()), np.float64)
        #: Place → its word, and where that begins.
        self.word = np.repeat(np.arange(len(self.sizes)), self.sizes)
        self.begin = np.repeat(np.cumsum(self.sizes) - self.sizes, self.sizes)

    def train(self, size: int) -> dict[bytes, float]:
        """The bytes and the best other pieces with their scores, at most ``size`` in all."""
        found, scores = self._seeds(SEEDS_PER_PIECE * (size - 256))
        with Progress("tokenizer: drop pieces", max(0, len(scores) - size), "piece") as progress:
            while True:
                lattice = self._lattice(found)
                for _ in range(EM_ROUNDS):
                    scores = self._fitted(lattice.expected_counts(scores, self.counts))
                if len(scores) <= size:
                    break
                target = max(size, int(KEPT * len(scores)))
                kept = self._kept(found, scores, lattice.used_counts(scores, self.counts), target)
                progress.advance(len(scores) - int(kept.sum()))
                found, scores = found.of(kept), scores[kept]
        return dict(zip(self._pieces(found, len(scores)), scores.tolist(), strict=True))

    def _seeds(self, most: int) -> tuple[_Occurrences, Floats]:
        """Where each seed stands, and its score; see ``unigram_plain.seeds``."""
        found, counts, covered = self._substrings()
        chosen = np.arange(len(counts)) < 256
        if np.count_nonzero(covered) <= most:
            chosen |= covered > 0
        elif most:
            least = np.partition(covered, -most)[-most]
            chosen |= covered > least
            # Of those that cover equally much, the ones whose bytes come first.
            here = covered[found.piece] == least
            equals, at = np.unique(found.piece[here], return_index=True)
            spans = zip(found.place[here][at].tolist(), found.length[here][at].tolist(), strict=True)
            spelled = [self.text[place : place + length] for place, length in spans]
            ranked = sorted(range(len(equals)), key=spelled.__getitem__)
            chosen[equals[ranked[: most + 256 - int(chosen.sum())]]] = True
        return found.of(chosen), self._fitted(np.where(covered, covered, counts)[chosen])

    def _substrings(self) -> tuple[_Occurrences, Floats, Floats]:
        """The bytes, and the substrings that occur often: where, how often, and how much those that may be seeds cover.

        Substrings of one length are told apart by a number each. Those that are one byte longer then differ in the
        number of all but their last byte, or in that byte. Where one occurs too seldom, so do the longer ones.
        """
        data = np.frombuffer(self.text, np.uint8).astype(np.int64)
        left = self.begin + self.sizes[self.word] - np.arange(len(data))  # bytes from a place to the end of its word
        place, number = np.arange(len(data)), data
        counts = np.bincount(data, self.counts[self.word], 256).astype(np.float64)
        covered = np.zeros(256)
        parts = [(place, np.ones(len(data), np.int64), number)]
        for length in range(2, LONGEST_PIECE + 1):
            longer = left[place] >= length
            place = place[longer]
            keys, kind = np.unique(number[longer] << 8 | data[place + length - 1], return_inverse=True)
            often = np.bincount(kind, self.counts[self.word[place]], len(keys)).astype(np.float64)
            shorter = keys >> 8
            covered[shorter[often == counts[shorter]]] = 0  # always followed by the same byte
            seen = (often >= MINIMUM_COUNT)[kind]
            place, number = place[seen], kind[seen] + len(counts)
            parts.append((place, np.full(len(place), length, np.int64), number))
            counts = np.concatenate([counts, often])
            covered = np.concatenate([covered, np.where(often >= MINIMUM_COUNT, often * length, 0)])
        places, lengths, numbers = (np.concatenate(part) for part in zip(*parts, strict=True))
        order = np.lexsort((lengths, places))
        return _Occurrences(places[order], lengths[order], numbers[order]), counts, covered

    def _lattice(self, found: _Occurrences) -> Lattice:
        place = found.place
        return Lattice.of(self.sizes, self.word[place], place - self.begin[place], found.length, found.piece)

    def _fitted(self, counts: Floats) -> Floats:
        seen = np.maximum(counts, LEAST_SEEN)
        return np.round(np.log(seen / seen.sum()), DECIMALS)

    def _kept(self, found: _Occurrences, scores: Floats, used: Floats, target: int) -> npt.NDArray[np.bool_]:
        """The ``target`` pieces, the bytes among them, that the words would miss most; see ``unigram_plain.losses``."""
        # The pieces are the words of a lattice of their own, without the edges that are a whole word. Its edges are
        # those of the text where a piece stands for the first time.
        _, at = np.unique(found.piece, return_index=True)
        at = at[found.length[at] > 1]
        sizes = found.length[at]
        word = np.repeat(np.arange(len(sizes)), sizes)
        start = _within(sizes)
        edges_from = np.searchsorted(found.place, np.arange(len(self.text) + 1))
        place = found.place[at][word] + start
        many = edges_from[place + 1] - edges_from[place]
        edge = np.repeat(edges_from[place], many) + _within(many)
        word, start = np.repeat(word, many), np.repeat(start, many)
        length = found.length[edge]
        inside = (start + length <= sizes[word]) & (length < sizes[word])
        lattice = Lattice.of(sizes, word[inside], start[inside], length[inside], found.piece[edge[inside]])
        instead = lattice.best(scores)[0][lattice.last]
        loss = np.round(used[256:] * (scores[256:] - instead), DECIMALS)
        pieces = self._pieces(found, len(scores))
        ranked = sorted(range(256, len(scores)), key=lambda one: (-loss[one - 256], -scores[one], pieces[one]))
        kept = np.zeros(len(scores), np.bool_)
        kept[:256] = kept[ranked[: target - 256]] = True
        return kept

    def _pieces(self, found: _Occurrences, count: int) -> list[bytes]:
        """Piece → its bytes."""
        pieces = [bytes([byte]) for byte in range(256)] + [b""] * (count - 256)
        numbers, at = np.unique(found.piece, return_index=True)
        for number, place, length in zip(
            numbers.tolist(), found.place[at].tolist(), found.length[at].tolist(), strict=True
        ):
            pieces[number] = self.text[place : place + length]
        return pieces


def _within(sizes: Integers) -> Integers:
    """0 … size - 1 for each size, one after the other."""
    return np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)


class UnigramTokenizer(ByteLevelTokenizer):
    """A unigram language model over bytes. Any text and any bytes encode, and decode to themselves."""

    def __init__(self, vocabulary: Vocabulary, scores: Sequence[float]) -> None:
        """``scores[id]`` is the logarithm of a piece's probability; ``vocabulary`` has no merges.

        Raises:
            DataError: a score is missing or no finite number.
        """
        super().__init__(vocabulary)
        self.scores = tuple(map(float, scores))
        if not np.all(np.isfinite(self.scores)) or len(self.scores) + len(vocabulary.special_tokens) != len(vocabulary):
            raise DataError(f"{len(self.scores)} scores for {len(vocabulary)} ids, or one that is no finite number")
        self._ids = {token: token_id for token_id, token in enumerate(vocabulary.tokens) if token}
        self._longest = max(map(len, self._ids))
        self._remembered = lru_cache(CACHED_WORDS)(self._best)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, pattern: Pattern | None = None) -> "UnigramTokenizer":
        """Train on ``texts``, each of which is read once; no piece spans two words of ``pattern``.

        ``vocab_size`` counts bytes, pieces and special tokens. The result is smaller when the texts hold too few
        substrings that occur more than once.

        Raises:
            UsageError: ``vocab_size`` has no room for the bytes and the special tokens.
            DataError: the texts are empty.
        """
        room_in(vocab_size)  # refuses what is too small
        pattern = pattern or Pattern()
        words = count(texts, pattern).pieces.counter()
        if not words:
            raise DataError("the texts are empty, so no pieces can be learnt from them; give some text")
        scores = Trainer(words).train(vocab_size - len(SPECIAL_TOKENS))
        others = sorted((piece for piece in scores if len(piece) > 1), key=lambda piece: (-scores[piece], piece))
        vocabulary = own_vocabulary(others, [], pattern)
        return cls(vocabulary, [scores[token] for token in vocabulary.tokens[: 256 + len(others)]])

    @cached_property
    def fingerprint(self) -> str:
        """Hex SHA-256 of the pieces, their scores, the pattern and the special tokens: all that decides an id."""
        return hashlib.sha256(json.dumps([self.vocabulary.fingerprint, self.scores]).encode()).hexdigest()

    def encode_batch(self, texts: Iterable[str]) -> list[list[int]]:
        """Ids of each text."""
        return [self.encode(text) for text in texts]

    def to_json(self) -> dict[str, Any]:
        """The content of ``tokenizer.json``."""
        content = super().to_json()
        vocab = [[spell(token), score] for token, score in zip(self.vocabulary.tokens, self.scores, strict=False)]
        content["model"] = {"type": "Unigram", "unk_id": None, "vocab": vocab, "byte_fallback": False}
        return content

    def encode_bytes(self, data: bytes) -> list[int]:
        """Ids of any bytes, which ``decode_bytes`` gives back; those of the text where it is UTF-8."""
        pattern = self.vocabulary.pattern
        if pattern.rules and compiled.available():
            return self._compiled(data, pattern.rules)
        ids: list[int] = []
        for word in pattern.pieces(data.decode("utf-8", "surrogateescape")):
            ids += self._remembered(word) if len(word) <= CACHED_CHARACTERS else self._best(word)
        return ids

    @cached_property
    def _compiled(self) -> Callable[[bytes, Rules], list[int]]:
        """Bytes → ids by the compiled kernels, with the same sums in the same order as ``_best``."""
        scores = np.array(self.scores)
        trie = plant(np.frombuffer(self.vocabulary.blob, np.uint8), self.vocabulary.offsets)

        def encode(data: bytes, rules: Rules) -> list[int]:
            ends = piece_ends(data, rules)
            room = int(np.diff(ends, prepend=0).max(initial=0)) + 1
            score_at = np.empty(room, np.float64)
            start_of, piece_of = np.empty(room, np.int32), np.empty(room, np.int32)
            ids = np.empty(len(data), np.int32)
            count = _encode_words(data, ends, len(ends), *trie, scores, score_at, start_of, piece_of, ids)
            return ids[:count].tolist()

        return encode

    def _best(self, text: str) -> list[int]:
        """``unigram_plain.encode``, in time that grows with the length and not with its square."""
        word = text.encode("utf-8", "surrogateescape")
        scores, ids, longest = self.scores, self._ids, self._longest
        best = [0.0] + [-np.inf] * len(word)
        last = [0] * (len(word) + 1)  # the piece that ends here on the best way
        for start in range(len(word)):
            for end in range(start + 1, min(start + longest, len(word)) + 1):
                token_id = ids.get(word[start:end])
                if token_id is not None and (score := best[start] + scores[token_id]) > best[end]:
                    best[end], last[end] = score, token_id
        found: list[int] = []
        end = len(word)
        while end:
            found.append(last[end])
            end -= len(self.vocabulary.token(last[end]))
        return found[::-1]


def load(folder: Path) -> UnigramTokenizer:
    """The tokenizer that ``save`` wrote into ``folder``.

    Raises:
        ArtifactError: the file is missing, damaged, or another kind of tokenizer.
    """
    path = folder / huggingface.FILE_NAME
    with reading(path):
        return from_json(files.read_json(path))


def from_json(content: Mapping[str, Any]) -> UnigramTokenizer:
    """The tokenizer in the content of a ``tokenizer.json`` that ``save`` wrote.

    Raises:
        DataError: it is damaged, or another kind of tokenizer.
    """
    try:
        vocab = content["model"]["vocab"]
        # All but the model is what a file of byte-level pairs has.
        pairs = {"type": "BPE", "vocab": {spelling: number for number, (spelling, _) in enumerate(vocab)}, "merges": []}
        vocabulary = huggingface.read({**content, "model": pairs}).vocabulary
        tokenizer = UnigramTokenizer(vocabulary, [float(score) for _, score in vocab])
        intact = tokenizer.to_json() == content
    except (KeyError, TypeError, ValueError, AttributeError):
        intact = False
    if not intact:
        raise DataError("it is damaged, or no unigram model that groundup wrote")
    return tokenizer
