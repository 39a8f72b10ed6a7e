import json
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import ArtifactError
from groundup.tokenizer.bpe import BytePairTokenizer, load
from groundup.tokenizer.formats.spelling import byte_alphabet


def test_the_byte_alphabet_is_visible_and_unique() -> None:
    alphabet = byte_alphabet()
    assert len(set(alphabet)) == 256
    assert all(character.isprintable() and not character.isspace() for character in alphabet)
    assert [alphabet[byte] for byte in b"a \n"] == ["a", "Ġ", "Ċ"]


def test_saving_and_loading_gives_the_same_tokenizer(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    again = load(tmp_path)
    assert again.merges == tokenizer.merges
    assert again.fingerprint == tokenizer.fingerprint
    assert again.special_tokens == tokenizer.special_tokens


def test_a_tokenizer_without_merges_survives(tmp_path: Path) -> None:
    BytePairTokenizer.from_merges([]).save(tmp_path)
    assert load(tmp_path).encode("é") == list("é".encode())


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"tokenizer\.json does not exist"):
        load(tmp_path)


def _drop_a_token(content: dict[str, Any]) -> None:
    content["model"]["vocab"].popitem()


def _swap_two_merges(content: dict[str, Any]) -> None:
    merges = content["model"]["merges"]
    merges[0], merges[1] = merges[1], merges[0]


def _drop_the_last_merge(content: dict[str, Any]) -> None:
    content["model"]["merges"].pop()


def _name_an_unknown_token(content: dict[str, Any]) -> None:
    content["model"]["merges"][0] = "a ☃"


def _break_a_merge(content: dict[str, Any]) -> None:
    content["model"]["merges"][0] = "a"


def _move_a_special_token(content: dict[str, Any]) -> None:
    content["added_tokens"][0]["id"] += 1


def _make_it_another_model(content: dict[str, Any]) -> None:
    content["model"] = {"type": "WordLevel", "vocab": {}}


@pytest.mark.parametrize(
    "damage",
    [
        _drop_a_token,
        _swap_two_merges,
        _drop_the_last_merge,
        _name_an_unknown_token,
        _break_a_merge,
        _move_a_special_token,
        _make_it_another_model,
    ],
)
def test_a_damaged_file_is_refused(tokenizer: BytePairTokenizer, tmp_path: Path, damage: Any) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    damage(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is damaged or not a groundup tokenizer"):
        load(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{}", b"null", b'{"model": 3}', b"\xff\xfe", b'{"model": {"merges": ["']
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "tokenizer.json").write_bytes(content)
    with pytest.raises(ArtifactError, match=r"tokenizer\.json"):
        load(tmp_path)


def test_a_truncated_file_is_refused(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ArtifactError, match=r"tokenizer\.json is damaged"):
        load(tmp_path)
