"""The unigram language model as a textbook prints it: counted words → scored pieces, word → its most probable pieces.

Kudo (2018), https://arxiv.org/abs/1804.10959. Every piece has a probability, and a way to split a word has the product
of the probabilities of its pieces. Training begins with too many pieces, makes their probabilities fit the words (EM),
drops those that the words miss least, and goes on so until few enough are left. Byte-pair encoding grows its vocabulary
from below; this one shrinks it from above. Scores are natural logarithms. The 256 bytes are always pieces, so every
word can be split. ``unigram.py`` gives the same answers fast; the tests hold the two against each other.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from math import exp, inf, log

#: A substring that occurs once teaches nothing about the language.
MINIMUM_COUNT = 2
#: No piece has more bytes.
LONGEST_PIECE = 16
#: Longer words are trained on in parts of so many bytes: they are data, not language.
LONGEST_WORD = 64
#: Training begins with so many pieces for each one that shall be left.
SEEDS_PER_PIECE = 10
#: Rounds of EM before pieces are dropped, and the share of the pieces that is left then.
EM_ROUNDS, KEPT = 2, 0.75
#: A piece counts as seen at least so often, so that no probability is 0.
LEAST_SEEN = 0.5
#: Scores are rounded to so many decimals, so that equal ones are equal however they were added up.
DECIMALS = 6

Scores = Mapping[bytes, float]

_BYTES = [bytes([byte]) for byte in range(256)]


def encode(word: bytes, scores: Scores) -> list[bytes]:
    """The pieces of ``word`` whose scores have the greatest sum; of equals the one whose last piece is the longest.

    Viterbi (1967): the best way to end at a place is the best way to end at some earlier place, and one piece more.
    """
    best = [(0.0, 0)] + [(-inf, 0)] * len(word)  # at each place: the sum so far, and where the last piece begins
    for end in range(1, len(word) + 1):
        for start in range(end):
            if word[start:end] in scores:
                score = best[start][0] + scores[word[start:end]]
                if score > best[end][0]:
                    best[end] = score, start
    pieces: list[bytes] = []
    end = len(word)
    while end:
        start = best[end][1]
        pieces.insert(0, word[start:end])
        end = start
    return pieces


def expected_counts(word: bytes, scores: Scores) -> dict[bytes, float]:
    """How often each piece occurs in ``word`` on average over all ways to split it, each with its probability.

    The forward-backward algorithm (Baum, 1972): the ways through a piece are the ways to where it begins, times the
    ways from where it ends.
    """
    spans = [(i, j) for i in range(len(word)) for j in range(i + 1, len(word) + 1) if word[i:j] in scores]
    forward = [0.0] + [-inf] * len(word)
    for start, end in sorted(spans, key=lambda span: span[1]):
        forward[end] = _log_sum(forward[end], forward[start] + scores[word[start:end]])
    backward = [-inf] * len(word) + [0.0]
    for start, end in reversed(spans):
        backward[start] = _log_sum(backward[start], scores[word[start:end]] + backward[end])
    counts: defaultdict[bytes, float] = defaultdict(float)
    for start, end in spans:
        piece = word[start:end]
        counts[piece] += exp(forward[start] + scores[piece] + backward[end] - forward[-1])
    return counts


def seeds(words: Mapping[bytes, int], most: int) -> dict[bytes, float]:
    """The bytes and the ``most`` substrings that cover most of the words, with scores by how much they cover.

    A substring that is always followed by the same byte is left out: the longer one does all its work.
    """
    counts = Counter[bytes]()
    for word, count in words.items():
        for start in range(len(word)):
            for end in range(start + 1, min(len(word), start + LONGEST_PIECE) + 1):
                counts[word[start:end]] += count
    followed = {piece[:-1] for piece, count in counts.items() if count == counts[piece[:-1]]}
    covered = {
        piece: count * len(piece)
        for piece, count in counts.items()
        if len(piece) > 1 and count >= MINIMUM_COUNT and piece not in followed
    }
    chosen = sorted(covered, key=lambda piece: (-covered[piece], piece))[:most]
    return fitted({byte: counts[byte] for byte in _BYTES} | {piece: covered[piece] for piece in chosen})


def fitted(counts: Mapping[bytes, float]) -> dict[bytes, float]:
    """The scores under which pieces that occur so often are most probable: the logarithms of their shares."""
    seen = {piece: max(count, LEAST_SEEN) for piece, count in counts.items()}
    total = sum(seen.values())
    return {piece: round(log(count / total), DECIMALS) for piece, count in seen.items()}


def losses(words: Mapping[bytes, int], scores: Scores) -> dict[bytes, float]:
    """By how much the words become less probable without each piece of several bytes.

    Without it, the next best pieces of its own bytes would stand at every place where it is used.
    """
    used = Counter[bytes]()
    for word, count in words.items():
        for piece in encode(word, scores):
            used[piece] += count
    found = {}
    for piece in scores:
        if len(piece) > 1:
            others = {part: score for part, score in scores.items() if part != piece and part in piece}
            instead = sum(scores[part] for part in encode(piece, others))
            found[piece] = round(used[piece] * (scores[piece] - instead), DECIMALS)
    return found


def train(words: Mapping[bytes, int], size: int) -> dict[bytes, float]:
    """Learn ``size`` pieces, the 256 bytes among them, with their scores; fewer where the words have not so many."""
    parts = Counter[bytes]()
    for word, count in sorted(words.items()):
        for start in range(0, len(word), LONGEST_WORD):
            parts[word[start : start + LONGEST_WORD]] += count
    scores = seeds(parts, SEEDS_PER_PIECE * (size - 256))
    while True:
        for _ in range(EM_ROUNDS):
            counts = dict.fromkeys(scores, 0.0)
            for word, count in parts.items():
                for piece, often in expected_counts(word, scores).items():
                    counts[piece] += count * often
            scores = fitted(counts)
        if len(scores) <= size:
            return scores
        loss = losses(parts, scores)
        ranked = sorted(loss, key=lambda piece: (-loss[piece], -scores[piece], piece))
        kept = set(_BYTES).union(ranked[: max(size, int(KEPT * len(scores))) - 256])
        scores = {piece: score for piece, score in scores.items() if piece in kept}


def _log_sum(one: float, other: float) -> float:
    """log(exp(one) + exp(other)) without overflow."""
    larger, smaller = max(one, other), min(one, other)
    return larger if smaller == -inf else larger + log(1.0 + exp(smaller - larger))
