"""The fast trainer learns what the plain one learns."""

from hypothesis import given
from hypothesis import strategies as st

from groundup.tokenizer import bpe_plain
from groundup.tokenizer.trainer import count_pieces, learn_merges

# Few letters make many ties, overlaps ("aaaa") and long merges.
SMALL_CORPORA = st.text(st.sampled_from("aaabbc  '\n1é"), max_size=300)


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
