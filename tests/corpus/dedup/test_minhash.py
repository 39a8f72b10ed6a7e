import pickle
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.core.errors import UsageError
from groundup.corpus.dedup import MinHash, MinHashConfig, Workspace, collision_probability, run
from groundup.corpus.dedup import draw_collision_probability as draw
from groundup.corpus.dedup.cross import _bucket
from groundup.corpus.dedup.minhash import (
    PLACES,
    band_keys,
    fingerprint,
    permutations32,
    resemblance,
    shingle_keys,
    signature_of_keys,
    text_sketch,
)
from groundup.corpus.dedup.words import word_hashes
from groundup.corpus.document import Document, Dropped

Prose = Callable[..., str]
PLAIN = MinHashConfig()


@pytest.fixture
def uncompiled(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    def switch(off: bool) -> None:
        monkeypatch.setattr(compiled, "available", lambda: not off)

    return switch


def documents_of(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "", "test", text) for number, text in enumerate(texts)]


def reasons(results: list[Document | Dropped]) -> dict[str, str]:
    return {r.document.id: r.detail for r in results if isinstance(r, Dropped)}


# --- signatures


@pytest.mark.parametrize("config", [PLAIN, MinHashConfig(ngram=1, bands=3, rows=5, min_words=1)])
def test_compiled_sketches_equal_plain_ones(uncompiled: Callable[[bool], None], config: MinHashConfig) -> None:
    if not compiled.available():
        pytest.skip("kernels are off")
    rng = random.Random(1)
    texts = [
        "",
        "one two",
        *(" ".join(rng.choices(["ab", "cd", "é", "中", "Xy"], k=length)) for length in range(1, 60, 7)),
    ]
    fast = [text_sketch(text, config) for text in texts]
    uncompiled(True)
    for text, (keys, marks, size) in zip(texts, fast, strict=True):
        plain_keys, plain_marks, plain_size = text_sketch(text, config)
        assert (keys.tolist(), marks.tolist(), size) == (plain_keys.tolist(), plain_marks.tolist(), plain_size)


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**32 - 1), max_size=30))
def test_signature_is_the_minimum_under_each_permutation(keys: list[int]) -> None:
    factors, offsets = permutations32(6)
    plain = [
        min(((a * key + b) % 2**32 for key in keys), default=2**32 - 1)
        for a, b in zip(factors.tolist(), offsets.tolist(), strict=True)
    ]
    assert signature_of_keys(np.array(keys, dtype=np.uint32), 6).tolist() == plain


@pytest.mark.parametrize("resemblance", [0.2, 0.5, 0.8])
def test_estimates_are_unbiased_and_vary_as_the_theory_says(resemblance: float) -> None:
    rng = np.random.default_rng(5)
    size, count, pairs = 300, 128, 400
    shared = round(2 * size * resemblance / (1 + resemblance))
    exact = shared / (2 * size - shared)
    estimates = []
    for _ in range(pairs):
        keys = rng.integers(0, 2**32, size=2 * size - shared, dtype=np.uint32)
        one, other = signature_of_keys(keys[:size], count), signature_of_keys(keys[size - shared :], count)
        estimates.append(np.mean(one == other))
    spread = (exact * (1 - exact) / count) ** 0.5
    assert abs(np.mean(estimates) - exact) < 4 * spread / pairs**0.5
    assert 0.8 * spread < np.std(estimates) < 1.2 * spread


@pytest.mark.parametrize("size", [150, 1500, 20000])
@pytest.mark.parametrize("alike", [0.2, 0.5, 0.8])
def test_fingerprints_are_unbiased_and_vary_as_the_theory_says(size: int, alike: float) -> None:
    """Li, Owen & Zhang 2012, theorem 2; and what eight bits add."""
    rng = np.random.default_rng(6)
    shared, pairs = round(2 * size * alike / (1 + alike)), 300
    union = 2 * size - shared
    exact, estimates = shared / union, []
    for _ in range(pairs):
        keys = rng.integers(0, 2**32, size=union, dtype=np.uint32)
        estimates.append(resemblance(fingerprint(keys[:size]), fingerprint(keys[size - shared :])))
    occupied = PLACES * (1 - (1 - 1 / PLACES) ** union)
    variance = exact * (1 - exact) * ((1 + 1 / (union - 1)) / occupied - 1 / (union - 1)) + (1 - exact) / 255 / occupied
    assert abs(np.mean(estimates) - exact) < 4 * (variance / pairs) ** 0.5
    assert 0.8 * variance**0.5 < np.std(estimates) < 1.2 * variance**0.5


def test_a_fingerprint_resembles_itself_and_nothing_resembles_nothing() -> None:
    keys = np.arange(0, 2**32, 2**22, dtype=np.uint32)
    assert resemblance(fingerprint(keys), fingerprint(keys)) == 1.0
    assert resemblance(fingerprint(keys), fingerprint(keys[:0])) == 0.0
    assert resemblance(fingerprint(keys[:0]), fingerprint(keys[:0])) == 0.0


# --- bands


def planted(count: int, resemblances: list[float], words: int = 200) -> tuple[list[set[int]], list[float]]:
    """Sets of numbers in pairs of given resemblance, and that of each pair, counted."""
    rng = np.random.default_rng(11)
    sets, exact = [], []
    for number in range(count):
        shared = round(
            2 * words * resemblances[number % len(resemblances)] / (1 + resemblances[number % len(resemblances)])
        )
        keys = rng.integers(0, 2**32, size=2 * words - shared).tolist()
        one, other = set(keys[:words]), set(keys[words - shared :])
        sets += [one, other]
        exact.append(len(one & other) / len(one | other))
    return sets, exact


@pytest.mark.parametrize(("bands", "rows"), [(14, 8), (64, 2), (20, 5)])
def test_pairs_meet_as_often_as_the_theory_says(bands: int, rows: int) -> None:
    resemblances = [0.5, 0.6, 0.7, 0.8, 0.9, 0.95]
    sets, exact = planted(2400, resemblances)
    signatures = [signature_of_keys(np.array(sorted(keys), dtype=np.uint32), bands * rows) for keys in sets]
    keys = np.stack([band_keys(signature, bands, rows) for signature in signatures])
    met = (keys[::2] == keys[1::2]).any(axis=1)
    for place in range(len(resemblances)):
        expected = collision_probability(np.array(exact[place :: len(resemblances)]), bands, rows)
        found = met[place :: len(resemblances)]
        spread = np.sqrt(np.sum(expected * (1 - expected))) + 0.5
        assert abs(found.sum() - expected.sum()) < 4 * spread


def jaccard(one: set[int], other: set[int]) -> float:
    return len(one & other) / len(one | other)


def test_two_thousand_documents_against_brute_force(tmp_path: Path) -> None:
    """Planted near duplicates of resemblance 0.5 to 0.95: who meets on disk, beside all pairs compared exactly."""
    rng = random.Random(3)
    vocabulary = [f"w{number}" for number in range(4000)]
    texts: list[str] = []
    for number in range(1000):
        words = rng.choices(vocabulary, k=120)
        share = 0.002 + 0.16 * (number / 1000) ** 2
        texts += [" ".join(words), " ".join(rng.choice(vocabulary) if rng.random() < share else w for w in words)]
    config = MinHashConfig(ngram=3, similarity=0.0)
    step = MinHash(config)
    sketches = step.sketches()
    for document in documents_of(*texts):
        sketches.add(document)
    workspace = Workspace(tmp_path, 1)
    sketches.write(workspace, 0)
    later, earlier = step.repeated(workspace, _bucket(workspace, 0))
    met = set(zip(earlier.tolist(), later.tolist(), strict=True))

    sets = [set(shingle_keys(word_hashes(text), config.ngram).tolist()) for text in texts]
    owners: dict[int, list[int]] = {}
    for number, keys in enumerate(sets):
        for key in keys:
            owners.setdefault(key, []).append(number)
    overlapping = {(a, b) for group in owners.values() for a in group for b in group if a < b}
    exact = {pair: jaccard(sets[pair[0]], sets[pair[1]]) for pair in overlapping}
    assert met <= set(exact)  # nobody meets who shares nothing
    probability = {pair: collision_probability(value, config.bands, config.rows) for pair, value in exact.items()}
    for low in (0.0, 0.5, 0.6, 0.7, 0.8, 0.9):
        inside = [pair for pair, value in exact.items() if low <= value < (low + 0.1 if low else 0.5)]
        expected = np.array([probability[pair] for pair in inside])
        spread = np.sqrt(np.sum(expected * (1 - expected))) + 0.5
        assert low == 0.0 or len(inside) > 30
        assert abs(sum(pair in met for pair in inside) - expected.sum()) < 4 * spread


def test_the_curve_is_drawn(tmp_path: Path) -> None:
    points = {"14 x 8": np.array([[0.7, 0.56], [0.8, 0.92]])}
    for name in ("one.svg", "two.svg"):
        draw(tmp_path / name, {"14 x 8": (14, 8), "64 x 2": (64, 2)}, points)
    drawing = (tmp_path / "one.svg").read_bytes()
    assert b"<svg" in drawing and drawing == (tmp_path / "two.svg").read_bytes()


# --- the step


def edited(text: str, share: float, seed: int) -> str:
    rng = random.Random(seed)
    return " ".join(f"zork{rng.random():.9f}" if rng.random() < share else word for word in text.split())


def test_near_duplicates_are_dropped_however_the_work_is_divided(tmp_path: Path, prose: Prose) -> None:
    originals = [prose(seed) for seed in range(30)]
    documents = documents_of(*originals, *(edited(originals[seed], 0.005, seed) for seed in range(0, 30, 3)))
    outcomes = []
    for size, memory in ((7, 2000), (40, 1 << 28)):
        shards = [documents[start : start + size] for start in range(0, len(documents), size)]
        step: MinHash = pickle.loads(pickle.dumps(MinHash(PLAIN)))
        outcomes.append(list(run(step, shards, tmp_path / str(size), memory)))
    assert outcomes[0] == outcomes[1]
    found = reasons(outcomes[0])
    assert set(found) == {f"d{30 + number}" for number in range(10)}
    assert all(detail.endswith(f" with d{3 * (int(name[1:]) - 30)}") for name, detail in found.items())


def test_the_longest_stays_where_that_is_wanted(tmp_path: Path, prose: Prose) -> None:
    whole = prose(1, 1000)
    part = " ".join(whole.split()[:700])
    for keep, dropped in (("first", "d1"), ("longest", "d0")):
        config = MinHashConfig(similarity=0.5, bands=32, rows=4, keep=keep)  # type: ignore[arg-type]
        assert set(reasons(list(run(MinHash(config), [documents_of(part, whole)], tmp_path / keep)))) == {dropped}


def test_a_chain_drops_only_direct_neighbours_and_the_rest_share_a_cluster(tmp_path: Path, prose: Prose) -> None:
    a, b, c, d = (prose(seed, 480) for seed in (1, 2, 3, 4))
    config = MinHashConfig(similarity=0.25, bands=64, rows=2)
    results = list(run(MinHash(config), [documents_of(a + b, b + c, c + d, prose(9))], tmp_path))
    assert set(reasons(results)) == {"d1"}
    kept = {r.id: r.facts.get("cluster") for r in results if isinstance(r, Document)}
    assert kept == {"d0": "d0", "d2": "d0", "d3": None}


def test_a_thousand_copies_take_linear_work(tmp_path: Path, prose: Prose) -> None:
    text = prose(1, 60)
    results = list(run(MinHash(PLAIN), [documents_of(*[text] * 1000)], tmp_path))
    assert len(reasons(results)) == 999


def test_skeletons_see_through_old_spelling(tmp_path: Path, modern: str, folio: str) -> None:
    for words, dropped in (("plain", set()), ("skeleton", {"d1"})):
        config = MinHashConfig(words=words, ngram=4, bands=64, rows=2, similarity=0.4)  # type: ignore[arg-type]
        results = list(run(MinHash(config), [documents_of(modern, folio)], tmp_path / words))
        assert set(reasons(results)) == dropped


def test_short_documents_are_not_judged(tmp_path: Path) -> None:
    assert not reasons(list(run(MinHash(PLAIN), [documents_of("my love", "my love", "", "")], tmp_path)))


@pytest.mark.parametrize("wrong", [{"bands": 0}, {"similarity": 1.5}, {"words": "x"}, {"keep": "last"}])
def test_a_wrong_config_says_which_key(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=rf"corpus\.minhash\.{next(iter(wrong))}"):
        MinHashConfig(**wrong)  # type: ignore[arg-type]
