"""MinHash against datasketch on the same shingles: signatures of equal accuracy, LSH of equal answers."""

import random

import numpy as np
import pytest

from groundup.corpus.dedup import collision_probability
from groundup.corpus.dedup.minhash import band_keys, shingle_keys, signature_of_keys
from groundup.corpus.dedup.words import word_hashes

datasketch = pytest.importorskip("datasketch")

BANDS, ROWS = 16, 8
COUNT = BANDS * ROWS


@pytest.fixture(scope="module")
def shingle_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """240 documents and an edited copy of each, of resemblance 0.3 to 1."""
    rng = random.Random(8)
    vocabulary = [f"w{number}" for number in range(3000)]
    pairs = []
    for number in range(240):
        words = rng.choices(vocabulary, k=150)
        share = 0.12 * number / 240
        copy = [rng.choice(vocabulary) if rng.random() < share else word for word in words]
        pairs.append(tuple(np.unique(shingle_keys(word_hashes(" ".join(text)), 5)) for text in (words, copy)))
    return pairs  # type: ignore[return-value]


def theirs(keys: np.ndarray) -> "datasketch.MinHash":
    sketch = datasketch.MinHash(num_perm=COUNT, seed=1)
    sketch.update_batch([key.tobytes() for key in keys])
    return sketch


def exact(one: np.ndarray, other: np.ndarray) -> float:
    shared = len(np.intersect1d(one, other))
    return shared / (len(one) + len(other) - shared)


def test_estimates_are_as_accurate(shingle_pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    errors = []
    for one, other in shingle_pairs:
        truth = exact(one, other)
        ours = float(np.mean(signature_of_keys(one, COUNT) == signature_of_keys(other, COUNT)))
        errors.append((ours - truth, theirs(one).jaccard(theirs(other)) - truth, truth * (1 - truth) / COUNT))
    ours, reference, variance = (np.array(column) for column in zip(*errors, strict=True))
    expected = np.sqrt(np.mean(variance))
    for found in (ours, reference):
        assert abs(np.mean(found)) < 4 * expected / len(errors) ** 0.5
        assert 0.8 * expected < np.sqrt(np.mean(found**2)) < 1.2 * expected


def test_as_many_pairs_meet(shingle_pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    index = datasketch.MinHashLSH(num_perm=COUNT, params=(BANDS, ROWS))
    for number, (one, _) in enumerate(shingle_pairs):
        index.insert(number, theirs(one))
    reference = np.array([number in index.query(theirs(other)) for number, (_, other) in enumerate(shingle_pairs)])
    keys = [[band_keys(signature_of_keys(side, COUNT), BANDS, ROWS) for side in pair] for pair in shingle_pairs]
    ours = np.array([bool((one == other).any()) for one, other in keys])
    probability = collision_probability(np.array([exact(*pair) for pair in shingle_pairs]), BANDS, ROWS)
    spread = np.sqrt(np.sum(probability * (1 - probability)))
    for found in (ours, reference):
        assert abs(found.sum() - probability.sum()) < 4 * spread
    assert np.mean(ours == reference) > 0.75
