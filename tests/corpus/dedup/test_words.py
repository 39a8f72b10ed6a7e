import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.corpus.dedup.words import located_words, located_words_plain, word_hashes

LETTERS = st.text(alphabet=st.characters() | st.sampled_from(" aA_'’İΣςเ中か가é\n"), max_size=60)


@given(LETTERS)
def test_compiled_words_equal_plain_ones(text: str) -> None:
    if not compiled.available():
        pytest.skip("kernels are off")
    for fast, plain in zip(located_words(text), located_words_plain(text), strict=True):
        assert fast.dtype == plain.dtype
        assert fast.tolist() == plain.tolist()


def test_words_stand_where_they_are_said_to() -> None:
    text = "Ein Wörtchen, don't: İ中文 x_1"
    _, starts, ends = located_words(text)
    found = [text[start:end] for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    assert found == ["Ein", "Wörtchen", "don", "t", "İ", "中", "文", "x", "1"]


def test_case_and_punctuation_do_not_count() -> None:
    assert np.array_equal(word_hashes("To be, or NOT to be!"), word_hashes("to be or not — to BE"))
    assert len(set(word_hashes("to be or not to be").tolist())) == 4


def test_a_lone_surrogate_is_no_word() -> None:
    assert len(word_hashes("a\ud800b")) == 2
