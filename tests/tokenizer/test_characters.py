import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.tokenizer import characters
from groundup.tokenizer.byte_level import SMALLEST_VOCABULARY
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.protocol import SPECIAL_TOKENS, Tokenizer

TEXT = "naïve café, über 日本 日本語; née"
TEXTS = st.text() | st.text(st.sampled_from(TEXT + "🦉\r\n"))


@pytest.fixture
def tokenizer() -> CharacterTokenizer:
    return CharacterTokenizer.train([TEXT])


def test_every_character_seen_is_one_id(tokenizer: CharacterTokenizer) -> None:
    assert len(tokenizer.encode(TEXT)) == len(TEXT)
    assert tokenizer.vocab_size == SMALLEST_VOCABULARY + len({c for c in TEXT if not c.isascii()})


def test_the_most_frequent_characters_come_first() -> None:
    tokenizer = CharacterTokenizer.train(["éüüßßß", "é日"], SMALLEST_VOCABULARY + 3)
    assert [tokenizer.token_bytes(256 + i).decode() for i in range(3)] == ["ß", "é", "ü"]
    assert tokenizer.encode("日é") == [*"日".encode(), 257]
    assert CharacterTokenizer.train(["éüüßßß"], 100_000).vocab_size == SMALLEST_VOCABULARY + 3


def test_ascii_characters_are_their_bytes(tokenizer: CharacterTokenizer) -> None:
    text = "".join(map(chr, range(128)))
    assert tokenizer.encode(text) == list(range(128))


def test_decodes_what_it_encodes(tokenizer: CharacterTokenizer) -> None:
    @given(TEXTS)
    def law(text: str) -> None:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.encode_bytes(text.encode()) == ids
        assert b"".join(map(tokenizer.token_bytes, ids)) == tokenizer.decode_bytes(ids) == text.encode()

    law()


def test_any_bytes_survive(tokenizer: CharacterTokenizer) -> None:
    @given(st.binary())
    def law(data: bytes) -> None:
        assert tokenizer.decode_bytes(tokenizer.encode_bytes(data)) == data

    law()


def test_surrogates_do_not_crash(tokenizer: CharacterTokenizer) -> None:
    assert tokenizer.decode(tokenizer.encode("a\ud83d\ude00b\udfff")) == "a😀b\ufffd"


def test_special_tokens_take_the_last_ids_and_never_come_from_text(tokenizer: CharacterTokenizer) -> None:
    checked: Tokenizer = tokenizer
    assert list(checked.special_tokens) == list(SPECIAL_TOKENS)
    assert max(checked.special_tokens.values()) == checked.vocab_size - 1
    assert tokenizer.decode(tokenizer.encode(SPECIAL_TOKENS[0])) == SPECIAL_TOKENS[0]
    assert not set(tokenizer.encode("".join(SPECIAL_TOKENS))) & set(checked.special_tokens.values())
    assert tokenizer.decode([*checked.special_tokens.values()]) == ""


def test_what_is_saved_is_loaded_and_read_by_hugging_face(tokenizer: CharacterTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    assert characters.load(tmp_path).fingerprint == tokenizer.fingerprint
    reference = pytest.importorskip("tokenizers").Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    reference.encode_special_tokens = True

    @given(TEXTS)
    def law(text: str) -> None:
        assert reference.encode(text).ids == tokenizer.encode(text)

    law()
    assert reference.get_vocab_size() == tokenizer.vocab_size
    assert reference.decode(tokenizer.encode(TEXT)) == TEXT


def test_fingerprints_differ_with_the_characters(tokenizer: CharacterTokenizer) -> None:
    assert tokenizer.fingerprint == CharacterTokenizer.train([TEXT]).fingerprint
    assert tokenizer.fingerprint != CharacterTokenizer.train([TEXT + "ñ"]).fingerprint


@pytest.mark.parametrize("token_id", [-1, 1000])
def test_ids_outside_the_vocabulary_are_refused(tokenizer: CharacterTokenizer, token_id: int) -> None:
    with pytest.raises(DataError, match=f"token id {token_id} is outside the vocabulary"):
        tokenizer.decode([token_id])


def test_too_small_a_vocabulary_is_refused() -> None:
    with pytest.raises(UsageError, match=f"at least {SMALLEST_VOCABULARY}"):
        CharacterTokenizer.train([TEXT], SMALLEST_VOCABULARY - 1)


def test_an_empty_corpus_is_refused() -> None:
    with pytest.raises(DataError, match="the texts are empty"):
        CharacterTokenizer.train(["", ""])


@pytest.mark.parametrize("wrong", [["a"], ["é", "é"], ["éé"], [""], ["\ud800"]])
def test_what_is_no_new_character_is_refused(wrong: list[str]) -> None:
    with pytest.raises(DataError):
        CharacterTokenizer(wrong)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content.pop("model"),
        lambda content: content["model"].update(vocab=[]),
        lambda content: content["model"].update(ignore_merges=False),
        lambda content: content["model"]["vocab"].pop("a"),
        lambda content: content["model"]["vocab"].update(ab=256),
        lambda content: content["added_tokens"].pop(),
        lambda content: content.update(pre_tokenizer=None),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(damage: object, tokenizer: CharacterTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    damage(content)  # type: ignore[operator]
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"^[^\n]*tokenizer.json[^\n]*$"):
        characters.load(tmp_path)
