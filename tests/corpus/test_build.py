import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.corpus.build import CorpusConfig, build
from groundup.corpus.document import Document, read_documents

Prose = Callable[..., str]


def rows(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path: Path, prose: Prose) -> Path:
    """Forty texts, and one of each thing that has to go."""
    folder = tmp_path / "texts"
    folder.mkdir()
    for number in range(40):
        (folder / f"text{number:02}.txt").write_text(prose(number), encoding="utf-8", newline="\r\n")
    (folder / "copy.txt").write_text(prose(3).upper(), encoding="utf-8")
    (folder / "near.md").write_text(prose(4).replace("ba", "be", 2) + " And so on.", encoding="utf-8")
    (folder / "binary.txt").write_bytes(bytes(range(256)))
    (folder / "blank.txt").write_text(" \n\x07\n ", encoding="utf-8")
    (folder / "latin.txt").write_bytes("naïve".encode("latin-1"))
    (folder / "short.txt").write_text("short", encoding="utf-8")
    (folder / "zero.txt").write_bytes(b"")
    return folder


def test_pipeline_keeps_and_counts_everything(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    metrics = build(CorpusConfig(path=folder), out, seed=1)
    train, validation = list(read_documents(out / "train.jsonl")), list(read_documents(out / "validation.jsonl"))
    dropped = rows(out / "dropped.jsonl")
    assert {row["id"]: row["reason"] for row in dropped} == {
        "binary.txt": "binary",
        "blank.txt": "empty",
        "latin.txt": "invalid UTF-8",
        "short.txt": "too short",
        "zero.txt": "empty",
        "text03.txt": "exact duplicate",
        "text04.txt": "near duplicate",
    }
    assert all(set(row) == {"id", "title", "source", "reason", "detail", "bytes", "text"} for row in dropped)
    assert len(train) + len(validation) + len(dropped) == metrics["documents_read"] == 47
    assert metrics["train_documents"] == len(train) and metrics["validation_documents"] == len(validation) >= 2
    assert metrics["train_bytes"] == sum(d.bytes for d in train)
    assert not {d.text for d in train} & {d.text for d in validation}
    assert not any("\r" in d.text for d in train + validation)


def test_funnel_adds_up(folder: Path, tmp_path: Path) -> None:
    build(CorpusConfig(path=folder), tmp_path / "out", seed=1)
    funnel = json.loads((tmp_path / "out" / "funnel.json").read_text(encoding="utf-8"))
    steps = funnel["steps"]
    assert [step["step"] for step in steps] == ["read", "clean", "long enough", "exact duplicates", "near duplicates"]
    for before, after in itertools.pairwise(steps):
        assert before["documents_out"] == after["documents_in"] and before["bytes_out"] == after["bytes_in"]
    for step in steps:
        for unit in ("documents", "bytes"):
            assert step[f"{unit}_in"] - step[f"{unit}_out"] == sum(row[unit] for row in step["removed"])
    for unit in ("documents", "bytes"):
        assert steps[-1][f"{unit}_out"] == funnel["train"][unit] + funnel["validation"][unit]
    assert steps[0]["bytes_in"] == sum(file.stat().st_size for file in folder.iterdir())


def test_same_input_and_seed_give_the_same_bytes_and_other_seeds_another_split(folder: Path, tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        build(CorpusConfig(path=folder), tmp_path / name, seed)
    contents = [
        {file.name: file.read_bytes() for file in sorted((tmp_path / name).iterdir()) if file.name != "seconds.json"}
        for name in ("a", "b", "c")
    ]
    assert contents[0] == contents[1]
    assert contents[0]["validation.jsonl"] != contents[2]["validation.jsonl"]
    assert sorted(contents[0]) == sorted(
        ["dropped.jsonl", "evidence.json", "funnel.json", "sources.json", "train.jsonl", "validation.jsonl"]
    )
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "b", "c", "texts"]


def test_sources_say_where_the_text_came_from(folder: Path, tmp_path: Path) -> None:
    build(CorpusConfig(path=folder), tmp_path / "out", seed=1)
    (source,) = json.loads((tmp_path / "out" / "sources.json").read_text(encoding="utf-8"))
    assert {"name", "package", "version", "sha256", "licence", "files", "bytes"} == set(source)
    assert source["name"] == "texts" and str(tmp_path) not in json.dumps(source)


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        (b"\0" * 500, "binary"),
        (b"", "empty"),
        (b"\xff" * 500, "invalid UTF-8"),
        (b"tiny", "too short"),
        (b"word " * 60, "too short to be split"),
    ],
)
def test_nothing_usable_is_one_line_that_says_why(tmp_path: Path, raw: bytes, words: str) -> None:
    (tmp_path / "only.txt").write_bytes(raw)
    with pytest.raises(DataError, match=words) as caught:
        build(CorpusConfig(path=tmp_path / "only.txt"), tmp_path / "out", seed=1)
    assert "only.txt" in str(caught.value) and "\n" not in str(caught.value)


def test_one_document_of_many_megabytes_works(tmp_path: Path, prose: Prose) -> None:
    file = tmp_path / "big.txt"
    file.write_text((prose(1, 20_000) + "\n\n") * 20, encoding="utf-8")
    metrics = build(CorpusConfig(path=file), tmp_path / "out", seed=1)
    assert metrics["train_bytes"] + metrics["validation_bytes"] > 0.99 * file.stat().st_size
    assert 0.02 < metrics["validation_bytes"] / file.stat().st_size < 0.08


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("validation_fraction", 0.0),
        ("validation_fraction", 0.9),
        ("resemblance", -1.0),
        ("resemblance", float("nan")),
        ("containment", 1.5),
        ("min_characters", 0),
        ("dropped_characters", -1),
        ("workers", -2),
        ("source", "nowhere"),
    ],
)
def test_impossible_settings_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(UsageError, match=str(value)):
        CorpusConfig(**{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("url", ["http://host/a.jsonl", "public://c4/sample", "s3://bucket/a"])
def test_a_url_is_no_path(url: str) -> None:
    with pytest.raises(UsageError, match=r"corpus\.path is a URL .*; give URLs to corpus\.inputs"):
        CorpusConfig(path=Path(url))


@pytest.mark.parametrize("line", ['{"id": "a"}', "[]", '{"id": "a", "title": "b", "source": "c", "text": 4}', "{"])
def test_damaged_document_files_are_named(tmp_path: Path, line: str) -> None:
    file = tmp_path / "train.jsonl"
    file.write_text(line + "\n", encoding="utf-8")
    with pytest.raises(ArtifactError, match=r"train\.jsonl"):
        list(read_documents(file))


def test_documents_survive_the_file(tmp_path: Path) -> None:
    document = Document("i", "t", "s", 'line\n"quoted" \u2028 é')
    file = tmp_path / "d.jsonl"
    file.write_text(json.dumps(document.to_json()) + "\n", encoding="utf-8")
    assert list(read_documents(file)) == [document]


def test_the_real_corpus(archive: Path, tmp_path: Path) -> None:
    metrics = build(CorpusConfig(), tmp_path, seed=1)
    validation = list(read_documents(tmp_path / "validation.jsonl"))
    train = list(read_documents(tmp_path / "train.jsonl"))
    assert metrics["documents_dropped"] == 43 and len(train) + len(validation) == 48
    total = metrics["train_bytes"] + metrics["validation_bytes"]
    assert len(validation) >= 2 and 0.03 < metrics["validation_bytes"] / total < 0.07
    assert not any("Gutenberg" in document.text for document in train + validation)
