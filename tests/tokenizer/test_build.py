import json
from pathlib import Path
from typing import Any

import pytest

from groundup.core import files
from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.corpus.sources import archive_path
from groundup.tokenizer.bpe import BytePairTokenizer, load
from groundup.tokenizer.build import TokenizerConfig, build
from groundup.tokenizer.vocabularies import VOCABULARIES


def _corpus(folder: Path, train: list[str], validation: list[str]) -> Path:
    for name, texts in (("train", train), ("validation", validation)):
        rows = [{"id": f"{name}-{n}", "title": "", "source": "test", "text": text} for n, text in enumerate(texts)]
        files.write_jsonl(folder / f"{name}.jsonl", rows)
    return folder


@pytest.fixture
def corpus(tmp_path: Path, stdlib_text: str) -> Path:
    third = len(stdlib_text) // 3
    return _corpus(
        tmp_path / "corpus", [stdlib_text[:third], stdlib_text[third : 2 * third]], [stdlib_text[2 * third :]]
    )


@pytest.fixture(autouse=True)
def nothing_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in the cache changes no test, and costs no time."""
    monkeypatch.setattr("groundup.tokenizer.build.OTHERS", ())


def _facts(out: Path) -> dict[str, Any]:
    return json.loads((out / "facts.json").read_text(encoding="utf-8"))


def test_it_learns_from_the_train_split_only(corpus: Path, tmp_path: Path) -> None:
    metrics = build(TokenizerConfig(400), corpus, tmp_path / "out", seed=1)
    train = [json.loads(line)["text"] for line in (corpus / "train.jsonl").read_text(encoding="utf-8").splitlines()]
    assert load(tmp_path / "out").merges == BytePairTokenizer.train(train, 400).merges
    assert metrics["vocab_size"] == 400


def test_the_facts_agree_with_the_tokenizer(corpus: Path, tmp_path: Path, stdlib_text: str) -> None:
    metrics = build(TokenizerConfig(400), corpus, tmp_path / "out", seed=1)
    tokenizer, facts = load(tmp_path / "out"), _facts(tmp_path / "out")
    validation = stdlib_text[2 * (len(stdlib_text) // 3) :]
    ids = tokenizer.encode(validation)
    measured = facts["validation"]
    assert measured["bytes"] == len(validation.encode())
    assert measured["tokens"] == len(ids)
    assert measured["bytes_per_token"] == metrics["bytes_per_token"] == len(validation.encode()) / len(ids)
    assert measured["tokens_per_word"] == metrics["tokens_per_word"] == len(ids) / len(validation.split())
    assert measured["single_byte_share"] == sum(token < 256 for token in ids) / len(ids)
    assert facts["merges"] == 400 - 262
    assert facts["fingerprint"] == tokenizer.fingerprint
    assert len(facts["first_merges"]) == len(facts["longest_tokens"]) == 20
    lengths = [len(token["text"]) for token in facts["longest_tokens"]]
    assert lengths == sorted(lengths, reverse=True)
    example = facts["example"]
    assert example["text"] in validation
    assert [piece["id"] for piece in example["pieces"]] == tokenizer.encode(example["text"])


def test_it_is_compared_with_the_vocabularies_of_the_cache(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """None there; then one that is damaged. Two builds leave the same bytes: no speed is kept."""
    monkeypatch.setattr("groundup.tokenizer.build.OTHERS", ("gpt2",))
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path / "cache"))
    build(TokenizerConfig(300), corpus, tmp_path / "out", seed=1)
    comparison = files.read_json(tmp_path / "out" / "comparison.json")
    assert [one["name"] for one in comparison["tokenizers"]] == ["ours"]
    assert comparison["tokenizers"][0]["fingerprint"] == load(tmp_path / "out").fingerprint
    assert {text["name"] for text in comparison["texts"]} >= {"English", "Thai", "Python"}
    assert not {"seconds", "megabytes_per_second"} & {name for text in comparison["texts"] for name in text}

    archive = archive_path(VOCABULARIES["gpt2"])
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(b"half an archive")
    build(TokenizerConfig(300), corpus, tmp_path / "again", seed=1)
    assert "not compared with gpt2" in capsys.readouterr().err
    first, again = ((tmp_path / name / "comparison.json").read_bytes() for name in ("out", "again"))
    assert first == again


def test_a_sample_is_drawn_by_seed_and_kept_to_its_size(tmp_path: Path) -> None:
    corpus = _corpus(tmp_path / "corpus", [f"word{letter} é" * 50 for letter in "abcdefgh"], ["some text"])
    drawn = {}
    for name, seed in (("first", 1), ("again", 1), ("other", 5)):
        build(TokenizerConfig(300, sample_bytes=1001), corpus, tmp_path / name, seed)
        assert 998 <= _facts(tmp_path / name)["train"]["bytes"] <= 1001
        drawn[name] = (tmp_path / name / "tokenizer.json").read_bytes()
    assert drawn["first"] == drawn["again"] != drawn["other"]


def test_too_little_text_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    corpus = _corpus(tmp_path / "corpus", ["to be or not to be"], ["that is the question"])
    metrics = build(TokenizerConfig(2048), corpus, tmp_path / "out", seed=1)
    assert metrics["vocab_size"] == load(tmp_path / "out").vocab_size < 2048
    assert _facts(tmp_path / "out")["vocab_size_asked_for"] == 2048
    assert "not for the 2048 asked for" in capsys.readouterr().err


def test_surrogates_in_a_corpus_are_read_as_replacements(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    for name in ("train", "validation"):
        (folder / f"{name}.jsonl").write_text('{"text": "broken \\ud800 text"}\n', encoding="utf-8")
    build(TokenizerConfig(270), folder, tmp_path / "out", seed=1)
    assert _facts(tmp_path / "out")["validation"]["bytes"] == len("broken \ufffd text".encode())


@pytest.mark.parametrize(("train", "validation"), [([], ["text"]), (["text"], []), ([""], ["text"])])
def test_a_split_without_text_is_refused(tmp_path: Path, train: list[str], validation: list[str]) -> None:
    corpus = _corpus(tmp_path / "corpus", train, validation)
    with pytest.raises(DataError, match=r"(train|validation)\.jsonl holds no text"):
        build(TokenizerConfig(300), corpus, tmp_path / "out", seed=1)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("line", ['{"id": 1}', "[]", '{"text": 3}', "{"])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    corpus = _corpus(tmp_path / "corpus", ["text"], ["text"])
    (corpus / "train.jsonl").write_text('{"text": "fine"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"train\.jsonl .*line 2"):
        build(TokenizerConfig(300), corpus, tmp_path / "out", seed=1)


def test_a_missing_corpus_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"train\.jsonl does not exist"):
        build(TokenizerConfig(300), tmp_path, tmp_path / "out", seed=1)


@pytest.mark.parametrize("setting", [{"vocab_size": 261}, {"sample_bytes": 0}])
def test_an_impossible_configuration_is_refused(setting: dict[str, int]) -> None:
    with pytest.raises(UsageError, match=next(iter(setting))):
        TokenizerConfig(**setting)


def test_a_run_goes_on_with_the_tokenizer_of_another(corpus: Path, tmp_path: Path) -> None:
    build(TokenizerConfig(300), corpus, tmp_path / "run" / "tokenizer", seed=1)
    first = load(tmp_path / "run" / "tokenizer")
    for start in (tmp_path / "run", tmp_path / "run" / "tokenizer", tmp_path / "run" / "tokenizer" / "tokenizer.json"):
        metrics = build(TokenizerConfig(400, start=start), corpus, tmp_path / "other", seed=2)
        assert load(tmp_path / "other").fingerprint == first.fingerprint
        assert metrics["vocab_size"] == 300
    with pytest.raises(UsageError, match="no file of a tokenizer"):
        build(TokenizerConfig(400, start=corpus), corpus, tmp_path / "none", seed=2)
