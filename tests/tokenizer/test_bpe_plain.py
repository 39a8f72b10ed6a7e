"""The oracle itself, against answers worked out by hand."""

from hypothesis import given
from hypothesis import strategies as st

from groundup.tokenizer import bpe_plain

A, B, C, D = b"abcd"


def test_merging_goes_from_left_to_right() -> None:
    assert bpe_plain.merge([A, A, A], (A, A), 256) == [256, A]
    assert bpe_plain.merge([A, B, A, B, C], (A, B), 256) == [256, 256, C]
    assert bpe_plain.merge([], (A, B), 256) == []


def test_the_classic_example() -> None:
    """``aaabdaaabac``: aa, then ab, then their join; after that every pair is alone."""
    merges = bpe_plain.train("aaabdaaabac", 10)
    assert merges == [(A, A), (A, B), (256, 257)]
    assert bpe_plain.encode("aaabdaaabac", merges) == [258, D, 258, A, C]


def test_ties_go_to_the_lowest_ids() -> None:
    assert bpe_plain.train("zy\nzy\nab\nab", 1) == [(A, B)]


def test_no_merge_crosses_a_piece() -> None:
    assert bpe_plain.train("1212121212", 5) == []


def test_a_pair_that_occurs_once_is_not_learnt() -> None:
    assert bpe_plain.train("ab", 5) == []
    assert bpe_plain.train("", 5) == []


@given(st.text(), st.text(max_size=200))
def test_decoding_undoes_encoding(text: str, corpus: str) -> None:
    merges = bpe_plain.train(corpus * 2, 20)
    assert bpe_plain.decode(bpe_plain.encode(text, merges), merges) == text
