from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError, UsageError
from groundup.tokenizer import bpe_plain
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.byte_level import SMALLEST_VOCABULARY
from groundup.tokenizer.protocol import SPECIAL_TOKENS, Tokenizer

ANY_STRING = st.text(st.characters(exclude_categories=()))
WORDS = st.lists(st.sampled_from(["the", " the", " argument", "def ", "self.", "\n    ", "2024", "é", "🦉", "''"]))
SMALL_CORPORA = st.text(st.sampled_from("aaabbc  "), max_size=200)


@given(SMALL_CORPORA, SMALL_CORPORA, st.integers(0, 30))
def test_encodes_as_the_plain_version(corpus: str, text: str, merge_count: int) -> None:
    merges = bpe_plain.train(corpus, merge_count)
    assert BytePairTokenizer.from_merges(merges).encode(text) == bpe_plain.encode(text, merges)


def test_encodes_real_text_as_the_plain_version(tokenizer: BytePairTokenizer, stdlib_text: str) -> None:
    excerpt = stdlib_text[-10_000:]
    assert tokenizer.encode(excerpt) == bpe_plain.encode(excerpt, tokenizer.merges)


def test_decodes_what_it_encodes(tokenizer: BytePairTokenizer) -> None:
    @given(st.text() | WORDS.map("".join))
    def law(text: str) -> None:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.decode_bytes(ids) == text.encode()
        assert b"".join(tokenizer.token_bytes(token) for token in ids) == text.encode()

    law()


def test_any_bytes_survive(tokenizer: BytePairTokenizer) -> None:
    @given(st.binary())
    def law(data: bytes) -> None:
        assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data

    law()


def test_bytes_of_a_text_encode_as_the_text(tokenizer: BytePairTokenizer) -> None:
    @given(st.text())
    def law(text: str) -> None:
        assert tokenizer.encode_bytes(text.encode()) == tokenizer.encode(text)

    law()


def test_surrogates_do_not_crash(tokenizer: BytePairTokenizer) -> None:
    @given(ANY_STRING)
    def law(text: str) -> None:
        tokenizer.encode(text)

    law()
    tokenizer.encode_bytes(b"\x80")  # met first as a byte, a lone surrogate is still no byte afterwards
    assert tokenizer.decode(tokenizer.encode("\udc80")) == "\ufffd"


def test_a_batch_is_its_texts(tokenizer: BytePairTokenizer) -> None:
    texts = ["one", "", "two words", "three\n"]
    assert tokenizer.encode_batch(texts).lists() == [tokenizer.encode(text) for text in texts]


@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_text_never_becomes_a_special_id(tokenizer: BytePairTokenizer, name: str) -> None:
    ids = tokenizer.encode(f"say {name}!")
    assert not set(ids) & set(tokenizer.special_tokens.values())
    assert tokenizer.decode(ids) == f"say {name}!"


def test_special_tokens_are_last_and_silent(tokenizer: BytePairTokenizer) -> None:
    assert tuple(tokenizer.special_tokens) == SPECIAL_TOKENS
    assert list(tokenizer.special_tokens.values()) == list(range(894, 900))
    end = tokenizer.special_tokens["<|end|>"]
    assert tokenizer.token_bytes(end) == b""
    assert tokenizer.decode([*tokenizer.encode("a"), end, *tokenizer.encode("b")]) == "ab"


def test_half_a_character_decodes_to_a_replacement(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer.decode(list("é".encode())[:1]) == "\ufffd"


@pytest.mark.parametrize("token", [-1, 900])
def test_an_id_outside_the_vocabulary_is_refused(tokenizer: BytePairTokenizer, token: int) -> None:
    with pytest.raises(DataError, match=f"{token} is outside the vocabulary of 900"):
        tokenizer.decode([token])


def test_the_vocabulary_has_the_size_asked_for(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer.vocab_size == 900
    assert len({tokenizer.token_bytes(token) for token in range(894)}) == 894
    assert BytePairTokenizer.train(["the the"], SMALLEST_VOCABULARY).merges == []


def test_a_small_text_gives_a_small_vocabulary() -> None:
    assert BytePairTokenizer.train(["abab abab"], 2048).vocab_size < 300


def test_a_vocabulary_too_small_is_refused() -> None:
    with pytest.raises(UsageError, match="vocab_size 261 is too small"):
        BytePairTokenizer.train(["text"], SMALLEST_VOCABULARY - 1)


def test_the_fingerprint_tells_tokenizers_apart(tokenizer: BytePairTokenizer) -> None:
    assert tokenizer.fingerprint == BytePairTokenizer.from_merges(tokenizer.merges).fingerprint
    assert tokenizer.fingerprint != BytePairTokenizer.from_merges(tokenizer.merges[:-1]).fingerprint
    assert (
        BytePairTokenizer.from_merges([(97, 98), (99, 100)]).fingerprint
        != BytePairTokenizer.from_merges([(99, 100), (97, 98)]).fingerprint
    )


@pytest.mark.parametrize(
    "make", [lambda n: "a" * n, lambda n: " " * n + "x", lambda n: "self" * (n // 4), lambda n: "\n\t" * (n // 2)]
)
def test_a_long_piece_costs_in_proportion(tokenizer: BytePairTokenizer, make: Callable[[int], str]) -> None:
    """A quadratic encoder would take hours here."""
    text = make(500_000)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_it_is_a_tokenizer(tokenizer: BytePairTokenizer) -> None:
    used_as: Tokenizer = tokenizer
    assert used_as.vocab_size == 900
