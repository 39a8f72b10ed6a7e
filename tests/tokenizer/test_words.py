import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.tokenizer import words
from groundup.tokenizer.pretokenize import Pattern, pieces
from groundup.tokenizer.protocol import SPECIAL_TOKENS, Tokenizer
from groundup.tokenizer.words import SMALLEST_VOCABULARY, UNKNOWN, WordTokenizer

TEXT = "the cat sat on the mat; the cats sat, too.\n\nIn 2024 the café was über 日本.\n"
PARTS = ["the", " the", " cat", " dog", ".", "\n\n", "2", " 日本", "é", UNKNOWN, "  "]
TEXTS = st.text() | st.lists(st.sampled_from(PARTS)).map("".join)


@pytest.fixture
def tokenizer() -> WordTokenizer:
    return WordTokenizer.train([TEXT], 1000)


def test_every_word_seen_is_one_id(tokenizer: WordTokenizer) -> None:
    ids = tokenizer.encode(TEXT)
    assert [tokenizer.token_bytes(token_id).decode() for token_id in ids] == list(pieces(TEXT))
    assert tokenizer.decode(ids) == TEXT
    assert tokenizer.unknown_id not in ids


def test_known_words_come_back_and_others_are_unknown(tokenizer: WordTokenizer) -> None:
    @given(TEXTS)
    def law(text: str) -> None:
        expected = [word if word in tokenizer.words else "\ufffd" for word in pieces(text)]
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == "".join(expected)
        assert ids.count(0) == sum(word not in tokenizer.words for word in pieces(text))
        assert tokenizer.decode_bytes(ids) == "".join(expected).encode()

    law()


def test_the_most_frequent_words_are_kept() -> None:
    tokenizer = WordTokenizer.train(["b b b", " a a", " c a"], SMALLEST_VOCABULARY + 1)
    assert tokenizer.words == (" a", " b")
    assert tokenizer.encode(" a b c") == [1, 2, 0]
    assert tokenizer.vocab_size == SMALLEST_VOCABULARY + 1


def test_special_tokens_take_the_last_ids_and_never_come_from_text(tokenizer: WordTokenizer) -> None:
    checked: Tokenizer = tokenizer
    assert list(checked.special_tokens) == list(SPECIAL_TOKENS)
    assert max(checked.special_tokens.values()) == checked.vocab_size - 1
    assert not set(tokenizer.encode("".join(SPECIAL_TOKENS))) & set(checked.special_tokens.values())
    assert tokenizer.decode([*checked.special_tokens.values()]) == ""


@pytest.mark.parametrize("pattern", [None, Pattern.named("gpt2"), Pattern.named("llama3"), Pattern.named(r"\S+|\s+")])
def test_what_is_saved_is_loaded_and_read_by_hugging_face(pattern: Pattern | None, tmp_path: Path) -> None:
    tokenizer = WordTokenizer.train([TEXT], 1000, pattern)
    tokenizer.save(tmp_path)
    again = words.load(tmp_path)
    assert (again.fingerprint, again.words, again.pattern) == (
        tokenizer.fingerprint,
        tokenizer.words,
        tokenizer.pattern,
    )
    reference = pytest.importorskip("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    reference.encode_special_tokens = True

    @given(st.text(st.characters(exclude_categories=("Cs", "Cn"))) | st.lists(st.sampled_from(PARTS)).map("".join))
    def law(text: str) -> None:
        assert reference.encode(text).ids == tokenizer.encode(text)

    law()
    assert reference.get_vocab_size() == tokenizer.vocab_size
    assert reference.decode(tokenizer.encode(TEXT)) == TEXT


def test_the_name_of_the_unknown_id_is_no_word() -> None:
    tokenizer = WordTokenizer.train([f"{UNKNOWN} a"], 100, Pattern.named(r"\S+|\s+"))
    assert tokenizer.words == (" ", "a")
    with pytest.raises(DataError):
        WordTokenizer(["a", UNKNOWN])


@pytest.mark.parametrize("wrong", [["a", "a"], [""]])
def test_words_that_are_none_are_refused(wrong: list[str]) -> None:
    with pytest.raises(DataError, match="empty, there twice"):
        WordTokenizer(wrong)


@pytest.mark.parametrize("token_id", [-1, 1000])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: WordTokenizer, token_id: int) -> None:
    with pytest.raises(DataError, match=f"token id {token_id} is outside the vocabulary"):
        tokenizer.decode([token_id])


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(UsageError, match=f"at least {SMALLEST_VOCABULARY}"):
        WordTokenizer.train([TEXT], SMALLEST_VOCABULARY - 1)


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(DataError, match="the texts are empty"):
        WordTokenizer.train([""], 100)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("model"),
        lambda content: content["model"].update(vocab=["a"]),
        lambda content: content["model"].update(vocab={}),
        lambda content: content["model"].update(unk_token="[UNK]"),
        lambda content: content["model"]["vocab"].update({" the": 2}),
        lambda content: content["model"]["vocab"].update({" the": "1"}),
        lambda content: content["added_tokens"].pop(),
        lambda content: content.pop("pre_tokenizer"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(damage: object, tokenizer: WordTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    damage(content)  # type: ignore[operator]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"^[^\n]*tokenizer.json[^\n]*$"):
        words.load(tmp_path)
