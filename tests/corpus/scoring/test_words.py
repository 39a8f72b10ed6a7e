"""Words and their hashes: the same as splitting the text by hand."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.scoring import words
from groundup.corpus.scoring.words import ngram_hashes, word_hashes


def plain(text: str) -> list[str]:
    """Words of a Western text, with digits as 0."""
    return re.findall(r"[^\W_]+|(?:[^\w\s]|_)+", re.sub("[0-9]", "0", text.lower()))


@given(st.text(alphabet="abAB12 \n.,-_éß", max_size=60))
def test_words_are_those_that_one_splits_by_hand(text: str) -> None:
    expected, hashes = plain(text), word_hashes(text)
    assert len(hashes) == len(expected)
    known = {word: word_hashes(word)[0] for word in expected}
    assert hashes.tolist() == [known[word] for word in expected]
    assert len(set(known.values())) == len(known)


def test_case_and_digits_do_not_matter_but_order_does() -> None:
    assert np.array_equal(word_hashes("The year 1998!"), word_hashes("the YEAR 2024!"))
    assert word_hashes("12")[0] != word_hashes("123")[0]
    assert word_hashes("ab")[0] != word_hashes("ba")[0]


def test_hashes_are_those_that_models_on_disks_were_made_with() -> None:
    assert [hex(value) for value in word_hashes("The, 12 é").tolist()] == [
        "0xf0e0f33ba7a705cd",
        "0xbdbfb556329aee83",
        "0xb56d11b4c6c235e1",
        "0x72e195f23a2bfe78",
    ]


def test_characters_of_scripts_without_blanks_are_words() -> None:
    assert len(word_hashes("中文没有空格")) == 6
    assert len(word_hashes("한국어 문장")) == 2


@given(st.text(max_size=200))
def test_any_text_is_taken(text: str) -> None:
    assert word_hashes(text).dtype == np.uint64


def test_blocks_give_what_one_piece_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "word " * 100
    whole = word_hashes(text)
    monkeypatch.setattr(words, "BLOCK", 50)
    assert np.array_equal(word_hashes(text), whole)


@given(st.lists(st.integers(0, 2**64 - 1), max_size=12), st.integers(1, 5))
def test_ngrams_are_runs_of_words(values: list[int], length: int) -> None:
    stream = np.array(values, np.uint64)
    hashes = ngram_hashes(stream, length)
    assert hashes.size == max(0, len(values) - length + 1)
    alone = [ngram_hashes(stream[start : start + length], length)[0] for start in range(hashes.size)]
    assert hashes.tolist() == alone
