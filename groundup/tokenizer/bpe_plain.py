"""Byte-pair encoding as a textbook prints it: text → merges, text → ids, ids → text.

Sennrich, Haddow & Birch (2016), on bytes as in GPT-2 (Radford et al., 2019): ids 0–255 are the bytes, and
every merge makes the next id out of the pair of neighbours that is most frequent so far. ``bpe.py`` gives
the same answers fast; the tests hold the two against each other.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

from groundup.tokenizer.pretokenize import pieces, well_formed

Pair = tuple[int, int]

#: A pair that occurs once teaches nothing about the language, so training ends there.
MINIMUM_COUNT = 2


def merge(ids: Sequence[int], pair: Pair, new_id: int) -> list[int]:
    """Replace every ``pair`` in ``ids`` by ``new_id``, from left to right."""
    merged: list[int] = []
    for token in ids:
        if merged and (merged[-1], token) == pair:
            merged[-1] = new_id
        else:
            merged.append(token)
    return merged


def train(text: str, merge_count: int) -> list[Pair]:
    """Learn at most ``merge_count`` merges; of equally frequent pairs the one with the lowest ids wins."""
    words = [list(piece.encode()) for piece in pieces(well_formed(text))]
    merges: list[Pair] = []
    while len(merges) < merge_count:
        counts = Counter(pair for word in words for pair in pairwise(word))
        best = min(counts, key=lambda pair: (-counts[pair], pair), default=None)
        if best is None or counts[best] < MINIMUM_COUNT:
            break
        words = [merge(word, best, 256 + len(merges)) for word in words]
        merges.append(best)
    return merges


def encode(text: str, merges: Sequence[Pair]) -> list[int]:
    """Apply the merges to each piece of ``text`` in the order in which they were learnt."""
    ids: list[int] = []
    for piece in pieces(well_formed(text)):
        word = list(piece.encode())
        for rank, pair in enumerate(merges):
            word = merge(word, pair, 256 + rank)
        ids += word
    return ids


def decode(ids: Sequence[int], merges: Sequence[Pair]) -> str:
    """Join the bytes the ids stand for; bytes that are not UTF-8 become U+FFFD."""
    token_bytes = [bytes([byte]) for byte in range(256)]
    for left, right in merges:
        token_bytes.append(token_bytes[left] + token_bytes[right])
    return b"".join(token_bytes[token] for token in ids).decode("utf-8", "replace")
