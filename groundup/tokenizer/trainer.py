"""Learn byte-pair merges fast: counted pieces → merges, equal to ``bpe_plain.train``.

Three ideas make the textbook loop fast. Each distinct piece is kept once, with its count. Pair counts are
updated at the places a merge touches instead of counted anew. And a heap finds the most frequent pair.
Every merge of two neighbours costs O(log n), whatever the length of a piece.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from heapq import heapify, heappop, heappush

from groundup.core.progress import Progress
from groundup.tokenizer.bpe_plain import MINIMUM_COUNT, Pair
from groundup.tokenizer.pretokenize import pieces, well_formed

#: Stands before, between and after the pieces, and where a token was swallowed by its left neighbour.
NOTHING = -1


def count_pieces(texts: Iterable[str]) -> Counter[bytes]:
    """How often each piece occurs in ``texts``, as UTF-8 bytes."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(pieces(well_formed(text)))
    return Counter({piece.encode(): count for piece, count in counts.items()})


def learn_merges(piece_counts: Mapping[bytes, int], merge_count: int) -> list[Pair]:
    """Learn at most ``merge_count`` merges; fewer when no pair occurs ``MINIMUM_COUNT`` times any more.

    The most frequent pair merges first; of equally frequent ones, the one with the lowest (left, right) ids.
    """
    # All pieces lie in one array, as a doubly linked list: following[i] is the place of the next token.
    tokens, weights = [NOTHING], [0]
    for piece, count in piece_counts.items():
        tokens += [*piece, NOTHING]
        weights += [count] * (len(piece) + 1)
    following = list(range(1, len(tokens) + 1))
    previous = list(range(-1, len(tokens) - 1))

    # places[pair] is always in ascending order, because every sweep below runs from left to right and a
    # pair with a new token is found in one sweep only. It may hold places that merged otherwise since.
    counts: defaultdict[Pair, int] = defaultdict(int)
    places: defaultdict[Pair, list[int]] = defaultdict(list)
    for place in range(1, len(tokens) - 1):
        pair = (tokens[place], tokens[place + 1])
        if NOTHING not in pair:
            counts[pair] += weights[place]
            places[pair].append(place)

    # After a pair was pushed its count can only fall, so the top of the heap is never too low.
    heap = [(-count, pair) for pair, count in counts.items()]
    heapify(heap)
    merges: list[Pair] = []
    with Progress("tokenizer: learn merges", merge_count, "merge") as progress:
        while heap and len(merges) < merge_count:
            negative_count, pair = heappop(heap)
            count = counts[pair]
            if count < MINIMUM_COUNT:
                continue
            if count != -negative_count:
                heappush(heap, (-count, pair))
                continue
            left, right = pair
            new = 256 + len(merges)
            merges.append(pair)
            fresh: set[Pair] = set()
            for place in places.pop(pair):
                swallowed = following[place]
                if tokens[place] != left or tokens[swallowed] != right:
                    continue
                before, after = previous[place], following[swallowed]
                weight = weights[place]
                tokens[place], tokens[swallowed] = new, NOTHING
                following[place], previous[after] = after, place
                neighbour = tokens[before]
                if neighbour != NOTHING:
                    counts[neighbour, left] -= weight
                    counts[neighbour, new] += weight
                    places[neighbour, new].append(before)
                    fresh.add((neighbour, new))
                neighbour = tokens[after]
                if neighbour != NOTHING:
                    counts[right, neighbour] -= weight
                    counts[new, neighbour] += weight
                    places[new, neighbour].append(place)
                    fresh.add((new, neighbour))
            del counts[pair]
            for pair in fresh:
                heappush(heap, (-counts[pair], pair))
            progress.advance()
    return merges
