import json
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from math import exp, log
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core import compiled
from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.tokenizer import unigram, unigram_plain
from groundup.tokenizer.byte_level import SMALLEST_VOCABULARY
from groundup.tokenizer.counting import count_pieces
from groundup.tokenizer.pretokenize import Pattern, pieces
from groundup.tokenizer.protocol import SPECIAL_TOKENS, Tokenizer
from groundup.tokenizer.unigram import Trainer, UnigramTokenizer

TEXT = "the cat sat on the mat, and the other cats that sat there chatted with the rats; naïve café über 日本 日本語 "
ANY_STRING = st.text(st.characters(exclude_categories=()))
WORDS = st.lists(st.sampled_from(["the", " cat", " sat", "\n    ", "2024", "é", "日本", "🦉", "''", "z" * 100])).map(
    "".join
)
#: A few letters, so that there is something to learn.
SMALL_WORDS = st.dictionaries(st.text("abc", min_size=1, max_size=9).map(str.encode), st.integers(1, 9), max_size=12)
TOY_SCORES = {b"a": -2.0, b"b": -2.5, b"c": -3.0, b"ab": -3.0, b"bc": -4.5, b"abc": -6.0, b"ca": -3.5, b"aa": -4.0}


@cache
def trained() -> UnigramTokenizer:
    return UnigramTokenizer.train([TEXT] * 3, 340)


@pytest.fixture(params=["compiled", "plain"])
def tokenizer(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> UnigramTokenizer:
    """One that encodes in machine code, and one that does so in Python."""
    if request.param == "plain":
        monkeypatch.setattr(compiled, "available", lambda: False)
    elif not compiled.available():
        pytest.skip("numba is not installed")
    return trained()


def ways(word: bytes) -> Iterator[list[bytes]]:
    """Every way to split ``word`` into toy pieces."""
    if not word:
        yield []
    for end in range(1, len(word) + 1):
        if word[:end] in TOY_SCORES:
            yield from ([word[:end], *rest] for rest in ways(word[end:]))


@given(st.text("abc", min_size=1, max_size=8).map(str.encode))
def test_the_best_way_is_the_best_of_all_ways(word: bytes) -> None:
    found = unigram_plain.encode(word, TOY_SCORES)
    assert b"".join(found) == word
    best = max(sum(TOY_SCORES[piece] for piece in way) for way in ways(word))
    assert sum(TOY_SCORES[piece] for piece in found) == pytest.approx(best)


@given(st.text("abc", min_size=1, max_size=8).map(str.encode))
def test_expected_counts_are_those_of_all_ways(word: bytes) -> None:
    expected: Counter[bytes] = Counter()
    total = sum(exp(sum(TOY_SCORES[piece] for piece in way)) for way in ways(word))
    for way in ways(word):
        for piece in way:
            expected[piece] += exp(sum(TOY_SCORES[part] for part in way)) / total  # type: ignore[assignment]
    assert unigram_plain.expected_counts(word, TOY_SCORES) == pytest.approx(dict(expected))


@settings(max_examples=60)
@given(SMALL_WORDS, st.integers(256, 270))
def test_trains_as_the_plain_version(words: dict[bytes, int], size: int) -> None:
    if words:
        assert Trainer(words).train(size) == pytest.approx(unigram_plain.train(words, size), abs=1e-5)


def test_trains_on_text_as_the_plain_version() -> None:
    words = count_pieces([TEXT, "=" * 150 + "\n" + "-" * 70, "the cats " * 3])
    for size in (256, 290):
        assert Trainer(words).train(size) == pytest.approx(unigram_plain.train(words, size), abs=1e-5)


def test_training_makes_the_text_more_probable() -> None:
    words = count_pieces([TEXT * 2])

    def surprise(scores: dict[bytes, float]) -> float:
        return -sum(
            count * sum(scores[piece] for piece in unigram_plain.encode(word, scores)) for word, count in words.items()
        )

    surprises = [surprise(Trainer(words).train(size)) for size in (256, 270, 300)]
    assert all(larger > smaller for larger, smaller in pairwise(surprises))


def test_probabilities_sum_to_one() -> None:
    scores = unigram_plain.fitted({b"a": 3.0, b"b": 1.0, b"c": 0.0})
    assert sum(map(exp, scores.values())) == pytest.approx(1, abs=1e-5)
    assert scores[b"a"] == pytest.approx(log(3 / 4.5), abs=1e-6)


def test_encodes_as_the_plain_version(tokenizer: UnigramTokenizer) -> None:
    scores = dict(zip(tokenizer.vocabulary.tokens, tokenizer.scores, strict=False))

    @given(st.text() | WORDS)
    def law(text: str) -> None:
        found = [tokenizer.token_bytes(token_id) for token_id in tokenizer.encode(text)]
        assert found == [part for word in pieces(text) for part in unigram_plain.encode(word.encode(), scores)]

    law()


def test_decodes_what_it_encodes(tokenizer: UnigramTokenizer) -> None:
    @given(st.text() | WORDS)
    def law(text: str) -> None:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert b"".join(map(tokenizer.token_bytes, ids)) == tokenizer.decode_bytes(ids) == text.encode()
        assert tokenizer.encode_bytes(text.encode()) == ids

    law()


def test_any_bytes_survive(tokenizer: UnigramTokenizer) -> None:
    @given(st.binary())
    def law(data: bytes) -> None:
        assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data

    law()


def test_surrogates_do_not_crash(tokenizer: UnigramTokenizer) -> None:
    @given(ANY_STRING)
    def law(text: str) -> None:
        tokenizer.encode(text)

    law()


def test_a_pattern_of_ones_own_encodes_too() -> None:
    tokenizer = UnigramTokenizer.train(["a-b-c-" * 9], 270, Pattern.named("[a-z]-|[a-z]"))
    assert tokenizer.decode(tokenizer.encode("a-b-x é")) == "a-b-x é"
    assert b"a-" in map(tokenizer.token_bytes, tokenizer.encode("a-b-"))


def test_the_vocabulary_has_the_size_asked_for_and_ends_in_special_tokens() -> None:
    tokenizer: Tokenizer = trained()
    assert tokenizer.vocab_size == 340
    assert list(tokenizer.special_tokens.items()) == [(name, 334 + i) for i, name in enumerate(SPECIAL_TOKENS)]
    assert not set(tokenizer.special_tokens.values()) & set(tokenizer.encode("".join(SPECIAL_TOKENS)))
    assert tokenizer.decode([*tokenizer.special_tokens.values()]) == ""


def test_the_most_probable_pieces_come_first() -> None:
    scores = trained().scores[256:]
    assert list(scores) == sorted(scores, reverse=True)
    assert len(trained().encode(TEXT)) < len(TEXT) / 2


def test_a_text_that_teaches_nothing_leaves_the_bytes() -> None:
    tokenizer = UnigramTokenizer.train(["ab"], 300)
    assert tokenizer.vocab_size == SMALLEST_VOCABULARY
    assert tokenizer.decode(tokenizer.encode("abc")) == "abc"


def test_what_is_saved_is_loaded_and_read_by_hugging_face(tmp_path: Path) -> None:
    tokenizer = trained()
    tokenizer.save(tmp_path)
    again = unigram.load(tmp_path)
    assert (again.fingerprint, again.scores, again.special_tokens) == (
        tokenizer.fingerprint,
        tokenizer.scores,
        tokenizer.special_tokens,
    )
    reference = pytest.importorskip("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    reference.encode_special_tokens = True

    @given(st.text(st.characters(exclude_categories=("Cs", "Cn"))) | WORDS)
    def law(text: str) -> None:
        assert reference.encode(text).ids == tokenizer.encode(text)

    law()
    assert reference.get_vocab_size() == tokenizer.vocab_size
    assert reference.decode(tokenizer.encode(TEXT)) == TEXT


def test_the_fingerprint_follows_the_scores() -> None:
    tokenizer = trained()
    other = UnigramTokenizer(tokenizer.vocabulary, [score - 1 for score in tokenizer.scores])
    assert other.fingerprint != tokenizer.fingerprint


@pytest.mark.parametrize("size", [-1, 0, SMALLEST_VOCABULARY - 1])
def test_too_small_a_vocabulary_is_refused(size: int) -> None:
    with pytest.raises(UsageError, match=rf"vocab_size {size} is too small.*at least {SMALLEST_VOCABULARY}"):
        UnigramTokenizer.train([TEXT], size)


@pytest.mark.parametrize("texts", [[], ["", ""]])
def test_an_empty_corpus_is_refused(texts: list[str]) -> None:
    with pytest.raises(DataError, match="the texts are empty"):
        UnigramTokenizer.train(texts, 300)


@pytest.mark.parametrize("token_id", [-1, 340, 1 << 40])
def test_ids_outside_the_vocabulary_are_refused(token_id: int) -> None:
    with pytest.raises(DataError, match=f"token id {token_id} is outside the vocabulary of 340"):
        trained().decode([token_id])


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("model"),
        lambda content: content["model"].update(vocab={"a": 1}),
        lambda content: content["model"]["vocab"].pop(),
        lambda content: content["model"]["vocab"].pop(3),
        lambda content: content["model"]["vocab"][300].pop(),
        lambda content: content["model"]["vocab"][300].insert(0, content["model"]["vocab"][299][0]),
        lambda content: content["model"]["vocab"].__setitem__(300, [content["model"]["vocab"][299][0], -1.0]),
        lambda content: content["model"]["vocab"].__setitem__(300, ["ab", float("nan")]),
        lambda content: content["model"]["vocab"].__setitem__(300, ["ab", "much"]),
        lambda content: content.pop("pre_tokenizer"),
        lambda content: content.update(model=[]),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(damage: object, tmp_path: Path) -> None:
    trained().save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    damage(content)  # type: ignore[operator]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"^[^\n]*tokenizer.json[^\n]*$"):
        unigram.load(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer.json does not exist"):
        unigram.load(tmp_path)
