"""A proposed vocabulary follows the corpus and the model, and says why."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.tokenizer.autosize import Body, propose
from groundup.tokenizer.trainer import learn

SIZES = st.integers(1, 10**14)


def test_a_large_corpus_leaves_the_choice_to_the_model() -> None:
    """The predictions that Tao et al. print for models of 7, 13 and 70 billion weights."""
    for body, width, printed in ((7e9, 4096, 67_000), (13e9, 5120, 91_000), (70e9, 8192, 231_000)):
        proposal = propose(10**14, Body(int(body), width))
        assert abs(proposal.vocab_size / printed - 1) < 0.03
        assert "by the model" in proposal.why[-1]


def test_a_small_corpus_bounds_a_large_model() -> None:
    proposal = propose(1_000_000, Body(7 * 10**9, 4096))
    assert 1000 < proposal.vocab_size < 1500
    assert "by the corpus" in proposal.why[-1]


@given(SIZES, SIZES, st.integers(1, 20_000))
def test_any_sizes_give_a_vocabulary(corpus_bytes: int, body: int, width: int) -> None:
    proposal = propose(corpus_bytes, Body(body, width))
    assert proposal.vocab_size % 64 == 0
    assert proposal.vocab_size >= 320
    assert propose(2 * corpus_bytes, Body(body, width)).vocab_size >= proposal.vocab_size
    assert propose(corpus_bytes, Body(2 * body, width)).vocab_size >= proposal.vocab_size
    assert all("\n" not in reason for reason in proposal.why)


def test_a_sample_tells_more_than_experience(stdlib_text: str) -> None:
    sample = learn([stdlib_text], 3000)
    proposal = propose(sample.bytes, Body(10**12, 64), sample)
    enough = sum(count >= 100 for count in sample.counts)
    assert proposal.vocab_size == int(256 + enough / 0.95) // 64 * 64
    assert "sample" in proposal.why[0]
    assert propose(3 * sample.bytes, Body(10**12, 64), sample).vocab_size > proposal.vocab_size
    assert "more merges could tell more" in propose(10**9, Body(10**12, 64), learn([stdlib_text], 300)).why[0]


def test_the_share_of_the_weights_is_told() -> None:
    assert "50% of all weights" in propose(10, Body(320 * 100, 100)).why[-1]
    assert "67% of all weights" in propose(10, Body(320 * 100, 100, tied=False)).why[-1]


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1), (1, 1, -5)])
def test_impossible_sizes_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(UsageError, match="at least 1"):
        propose(sizes[0], Body(*sizes[1:]))


def test_without_a_model_the_corpus_decides() -> None:
    proposal = propose(10**9)
    assert proposal.vocab_size == propose(10**9, Body(10**14, 64)).vocab_size
    assert "no model" in proposal.why[-1]
