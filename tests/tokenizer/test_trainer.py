"""The plain trainer, the fast one and the compiled one learn the same."""

from collections import Counter
from itertools import islice

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.core.errors import DataError, UsageError
from groundup.tokenizer import bpe_plain
from groundup.tokenizer.counting import Pieces
from groundup.tokenizer.pretokenize import Pattern
from groundup.tokenizer.trainer import count_pieces, learn, learn_compiled, learn_merges, merges_of

needs_kernels = pytest.mark.skipif(not compiled.available(), reason="kernels cannot be compiled here")

# Few letters make many ties, overlaps ("aaaa") and long merges.
SMALL_CORPORA = st.text(st.sampled_from("aaabbc  '\n1é"), max_size=300)
SMALL_PIECES = st.binary(min_size=1, max_size=40).map(lambda data: bytes(b"abc\xff"[byte % 4] for byte in data))
PIECE_COUNTS = st.dictionaries(SMALL_PIECES | st.binary(min_size=1, max_size=20), st.integers(1, 6), max_size=40)


@given(SMALL_CORPORA | st.text(max_size=100).map(lambda text: text * 3), st.integers(0, 40))
def test_equal_to_the_plain_trainer(corpus: str, merge_count: int) -> None:
    assert learn_merges(count_pieces([corpus]), merge_count) == bpe_plain.train(corpus, merge_count)


def test_equal_to_the_plain_trainer_on_real_text(stdlib_text: str) -> None:
    excerpt = stdlib_text[:15_000]
    assert learn_merges(count_pieces([excerpt]), 120) == bpe_plain.train(excerpt, 120)


@given(st.lists(SMALL_CORPORA, max_size=4))
def test_the_order_of_the_texts_does_not_matter(texts: list[str]) -> None:
    assert learn_merges(count_pieces(texts), 20) == learn_merges(count_pieces(reversed(texts)), 20)


def test_one_enormous_piece() -> None:
    """Overlapping pairs in one piece of 2¹⁷ letters double with every merge."""
    merges = learn_merges(count_pieces(["a" * 2**17]), 100)
    assert merges == [(97, 97)] + [(id_, id_) for id_ in range(256, 271)]


def test_counts_are_weighted() -> None:
    assert count_pieces(["hm hm", " hm"]) == {b"hm": 1, b" hm": 2}
    assert learn_merges({b"ab": 2, b"cd": 3}, 1) == [(99, 100)]


@needs_kernels
@given(PIECE_COUNTS, st.integers(0, 60))
def test_the_kernels_learn_the_same(piece_counts: dict[bytes, int], merge_count: int) -> None:
    expected = list(islice(merges_of(piece_counts), merge_count))
    merges, counts = learn_compiled(Pieces.of(piece_counts), merge_count)
    assert [(tuple(pair), count) for pair, count in zip(merges.tolist(), counts.tolist(), strict=True)] == expected


@needs_kernels
def test_the_kernels_learn_the_same_from_real_text(stdlib_text: str) -> None:
    """To the last merge: thousands of ties, and arrays that must grow."""
    counts = count_pieces([stdlib_text])
    expected = list(merges_of(counts))
    merges, merge_counts = learn_compiled(Pieces.of(counts), 100_000)
    assert [tuple(pair) for pair in merges.tolist()] == [pair for pair, _ in expected]
    assert merge_counts.tolist() == [count for _, count in expected]
    assert len(expected) > 2500


@needs_kernels
@given(st.integers(0, 2**32 - 1))
def test_the_kernels_learn_the_same_from_many_pieces(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [bytes(rng.integers(97, 97 + 4, rng.integers(1, 12)).tolist()) for _ in range(400)]
    piece_counts = Counter(dict(zip(words, (rng.zipf(1.5, 400) % 2**40).tolist(), strict=True)))
    merges, _ = learn_compiled(Pieces.of(piece_counts), 500)
    assert [tuple(pair) for pair in merges.tolist()] == learn_merges(piece_counts, 500)


@needs_kernels
def test_the_kernels_take_a_piece_of_a_million_letters() -> None:
    merges, counts = learn_compiled(Pieces.of({b"a" * 2**20: 1}), 100)
    assert merges.tolist() == [[97, 97]] + [[id_, id_] for id_ in range(256, 274)]
    assert counts.tolist() == [2**power - 1 for power in range(20, 1, -1)]


@needs_kernels
def test_the_kernels_take_many_kinds_of_pairs_and_ties() -> None:
    """Every pair of bytes occurs equally often: 65,536 ties, more pairs than there is room for at first."""
    everything = {bytes([left, right]): 2 for left in range(256) for right in range(256)}
    everything |= {bytes([left, right, left]): 1 for left in range(256) for right in range(0, 256, 5)}
    merges, counts = learn_compiled(Pieces.of(everything), 2000)
    expected = list(islice(merges_of(everything), 2000))
    assert [(tuple(pair), count) for pair, count in zip(merges.tolist(), counts.tolist(), strict=True)] == expected


@needs_kernels
def test_counts_may_be_enormous() -> None:
    merges, counts = learn_compiled(Pieces.of({b"ab": 2**40, b"abc": 2**41, b"de": 2**41}), 9)
    assert merges.tolist() == [[97, 98], [100, 101], [256, 99]]
    assert counts.tolist() == [3 * 2**40, 2**41, 2**41]


@pytest.fixture(params=["compiled", "plain"])
def either(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the kernels, and without."""
    if request.param == "plain":
        monkeypatch.setattr(compiled, "available", lambda: False)
    elif not compiled.available():
        pytest.skip("kernels cannot be compiled here")


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("pattern", [None, Pattern.named("gpt2"), Pattern((r"\w+|\W",))])
def test_learn_is_counting_and_merging(stdlib_text: str, pattern: Pattern | None) -> None:
    texts = stdlib_text.split("\n\n")[:300]
    learnt = learn(texts, 150, pattern, threads=2)
    counts = count_pieces(texts, pattern)
    assert learnt.merges == learn_merges(counts, 150)
    assert learnt.counts.tolist() == [count for _, count in islice(merges_of(counts), 150)]
    assert (learnt.pieces, learnt.occurrences, learnt.documents) == (len(counts), counts.total(), 300)
    assert learnt.bytes == sum(len(text.encode()) for text in texts)
    assert learnt.dropped == learnt.error == 0


@pytest.mark.usefixtures("either")
def test_a_corpus_may_have_fewer_pairs_than_asked_for() -> None:
    learnt = learn(["abab abab"], 10_000)
    assert learnt.merges == [(97, 98), (256, 256)]


@pytest.mark.usefixtures("either")
@pytest.mark.parametrize("texts", [[], [""], ["", ""]])
def test_no_text_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no text"):
        learn(texts, 10)


def test_impossible_sizes_are_refused() -> None:
    with pytest.raises(UsageError, match="256 bytes"):
        learn(["text"], -1)
    with pytest.raises(UsageError, match="threads"):
        learn(["text"], 1, threads=0)
    with pytest.raises(UsageError, match="memory"):
        learn(["text"], 1, memory=1000)


def test_no_merges_may_be_asked_for() -> None:
    assert learn(["text text"], 0).merges == []
