"""The Kneser-Ney model is a probability distribution, and the one that the papers define."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError, UsageError
from groundup.core.seeding import numpy_rng
from groundup.evaluation.ngram import FALLBACK_DISCOUNTS, KneserNey, estimate_discounts
from groundup.evaluation.ngram_plain import PlainKneserNey


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[list[int]], list[list[int]], int, int]:
    """(train documents, test documents, vocabulary size, order); few symbols, so that n-grams repeat."""
    vocab_size = draw(st.integers(1, 5))
    documents = st.lists(st.lists(st.integers(0, vocab_size - 1), max_size=25), min_size=1, max_size=5)
    return draw(documents.filter(any)), draw(documents), vocab_size, draw(st.integers(1, 6))


def skewed(tokens: int, vocab_size: int, *names: object) -> list[int]:
    """Tokens of Zipf-like frequencies, each depending on the one before it."""
    steps = (numpy_rng(0, *names).pareto(0.8, tokens) * 2).astype(np.int64)
    return (np.cumsum(steps) % vocab_size).tolist()


def probability(model: KneserNey, before: list[int], token: int) -> float:
    return float(2 ** model.log2_probabilities([[*before, token]])[-1])


def test_hand_computed_bigrams() -> None:
    # Bigrams: boundary 0 once, 0 1 twice, 1 0 once. Token 0 follows two distinct tokens, token 1 one, token 2 none.
    model = KneserNey.fit([[0, 1, 0, 1]], vocab_size=3, order=2)
    unigram = {0: (2 - 1) / 3 + 1.5 / 3 / 3, 1: (1 - 0.5) / 3 + 1.5 / 3 / 3, 2: 1.5 / 3 / 3}
    assert probability(model, [], 0) == pytest.approx(0.5 + 0.5 * unigram[0])
    assert probability(model, [0], 1) == pytest.approx((2 - 1) / 2 + 1 / 2 * unigram[1])
    assert probability(model, [1], 2) == pytest.approx(0.5 * unigram[2])
    for token in range(3):
        assert probability(model, [2], token) == pytest.approx(unigram[token])


def test_discounts_in_closed_form() -> None:
    counts = np.repeat([1, 2, 3, 4, 9], [100, 40, 20, 12, 5])
    assert estimate_discounts(counts) == pytest.approx([0, 5 / 9, 7 / 6, 5 / 3])


@pytest.mark.parametrize("counts", [[], [7, 9], [1, 2, 3], [1, 2, 3, 3, 3, 4], [1, 1, 2, 3, 4, 4, 4, 4]])
def test_discounts_fall_back_when_they_cannot_be_estimated(counts: list[int]) -> None:
    assert estimate_discounts(np.array(counts, dtype=np.int64)) == pytest.approx([0, *FALLBACK_DISCOUNTS])


@given(corpora())
def test_equals_the_plain_version(corpus: tuple[list[list[int]], list[list[int]], int, int]) -> None:
    train, test, vocab_size, order = corpus
    fast, plain = KneserNey.fit(train, vocab_size, order), PlainKneserNey(train, vocab_size, order)
    expected = [plain.probability(token, text[:place]) for text in test for place, token in enumerate(text)]
    np.testing.assert_allclose(2 ** fast.log2_probabilities(test), expected, rtol=1e-12)


@given(corpora())
def test_sums_to_one_in_every_context(corpus: tuple[list[list[int]], list[list[int]], int, int]) -> None:
    train, test, vocab_size, order = corpus
    model = KneserNey.fit(train, vocab_size, order)
    for before in test[0][:8], train[0][:3], []:
        assert sum(probability(model, before, token) for token in range(vocab_size)) == pytest.approx(1, abs=1e-12)


def test_equals_the_plain_version_where_discounts_are_estimated() -> None:
    train = [skewed(700, 60, "train", number) for number in range(6)]
    test = [skewed(300, 60, "test")]
    fast, plain = KneserNey.fit(train, 60, order=4), PlainKneserNey(train, 60, order=4)
    estimated = {length for length, found in plain.discounts.items() if tuple(found[1:]) != FALLBACK_DISCOUNTS}
    assert estimated == {2, 3, 4}, "this test is about estimated discounts"
    expected = [plain.probability(token, test[0][:place]) for place, token in enumerate(test[0])]
    np.testing.assert_allclose(2 ** fast.log2_probabilities(test), expected, rtol=1e-12)
    assert sum(probability(fast, test[0][:50], token) for token in range(60)) == pytest.approx(1, abs=1e-12)


def test_large_ids_do_not_collide() -> None:
    # Five tokens of 16 bits do not fit one 64-bit key: an n-gram that was packed would alias another.
    train = [[65_535 - (number % 3) * 4_096 for number in range(40)], [0, 1, 2, 3, 4, 5, 65_535]]
    test = [[65_535, 61_439, 57_343, 65_535, 0, 1, 2, 3, 4, 65_535, 5]]
    fast, plain = KneserNey.fit(train, 65_536), PlainKneserNey(train, 65_536)
    expected = [plain.probability(token, test[0][:place]) for place, token in enumerate(test[0])]
    np.testing.assert_allclose(2 ** fast.log2_probabilities(test), expected, rtol=1e-12)


def test_a_token_of_one_context_is_a_poor_guess_in_another() -> None:
    # 1 ("Francisco") always follows 0 ("San"); 2 is rarer, but follows many.
    model = KneserNey.fit([[0, 1] * 20, [3, 2, 4, 2, 5, 2, 6, 2]], vocab_size=8, order=2)
    assert probability(model, [0], 1) > 0.9
    assert probability(model, [7], 2) > 2 * probability(model, [7], 1)


def test_repetition_is_cheap_and_surprise_is_finite() -> None:
    model = KneserNey.fit([[0, 1, 2, 3] * 200], vocab_size=16)
    assert model.bits([[0, 1, 2, 3] * 10]) / 40 < 0.1
    surprise = model.bits([[9, 9, 9]]) / 3
    assert 4 < surprise < np.inf  # worse than a uniform guess among 16


def test_a_higher_order_helps_where_the_context_is_long() -> None:
    train, test = [[0, 0, 0, 1, 1, 0, 1] * 60], [[0, 0, 0, 1, 1, 0, 1] * 5]
    bits = [KneserNey.fit(train, 2, order).bits(test) for order in (1, 2, 3, 4)]
    assert bits == sorted(bits, reverse=True) and bits[3] < bits[0] / 4


def test_documents_do_not_see_each_other() -> None:
    first, second = skewed(80, 9, "first"), skewed(50, 9, "second")
    model = KneserNey.fit([second, first, []], 9)
    apart = np.concatenate([model.log2_probabilities([first]), model.log2_probabilities([second])])
    np.testing.assert_array_equal(model.log2_probabilities([np.array(first), [], second]), apart)
    assert model.bits([first, second]) == pytest.approx(-apart.sum())
    np.testing.assert_array_equal(KneserNey.fit([first, second], 9).log2_probabilities([first, [], second]), apart)


def test_nothing_to_score() -> None:
    model = KneserNey.fit([[0]], 1)
    assert model.log2_probabilities([]).shape == (0,) and model.bits([[], []]) == 0


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="no token"):
        KneserNey.fit([[], []], 4)
    with pytest.raises(DataError, match="document 1 holds token 4, outside the vocabulary of 4"):
        KneserNey.fit([[0], [3, 4]], 4)
    with pytest.raises(DataError, match="document 0 holds token -1"):
        KneserNey.fit([[0]], 4).bits([[-1]])
    with pytest.raises(UsageError, match="order 0"):
        KneserNey.fit([[0]], 4, order=0)
    with pytest.raises(UsageError, match="over 0 tokens"):
        KneserNey.fit([[0]], 0)
