import gzip
import json
import os
import pickle
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import DataError, UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, Shard, find_shards, open_records, read_shard

SMALL = ReadingConfig(max_megabytes=0.01)


def records(path: Path, config: ReadingConfig = SMALL) -> tuple[dict[str, str], dict[str, str]]:
    """Texts and reasons by id; no id occurs twice."""
    found = list(open_records(path, config))
    kept = {item.id: item.text for item in found if isinstance(item, Document)}
    dropped = {item.document.id: item.reason for item in found if isinstance(item, Dropped)}
    assert len(kept) + len(dropped) == len(found)
    return kept, dropped


def test_texts_and_lines_plain_and_gzip(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("zwei", encoding="utf-8")
    (tmp_path / "b" / "three.txt.gz").write_bytes(gzip.compress(b"drei"))
    (tmp_path / "lines.jsonl").write_text('{"text": "vier"}\n\n{"text": "fünf", "title": "5"}', encoding="utf-8")
    (tmp_path / "packed.jsonl.gz").write_bytes(gzip.compress(b'{"text": "sechs"}\n'))
    (tmp_path / ".hidden.txt").write_text("nothing", encoding="utf-8")
    documents = list(open_records(tmp_path))
    assert [(d.id, d.title, d.text) for d in documents if isinstance(d, Document)] == [
        ("b/three.txt.gz", "three", "drei"),
        ("b/two.md", "two", "zwei"),
        ("lines.jsonl:1", "lines 1", "vier"),
        ("lines.jsonl:3", "5", "fünf"),
        ("packed.jsonl.gz:1", "packed 1", "sechs"),
    ]
    assert len(documents) == 5


def test_what_a_row_says_about_its_text_becomes_facts(tmp_path: Path) -> None:
    rows = [
        {"text": "a", "url": "https://x.org/", "timestamp": "2019-04-25T12:57:54Z"},
        {"text": "b", "metadata": {"license": "CC0", "date": "2024"}, "language": "en"},
        {"content": "c", "max_stars_repo_path": "a/b.py", "lang": "Python", "max_stars_repo_licenses": ["MIT", "ISC"]},
    ]
    (tmp_path / "x.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    assert [dict(d.facts) for d in open_records(tmp_path) if isinstance(d, Document)] == [
        {"url": "https://x.org/", "date": "2019-04-25T12:57:54Z"},
        {"language": "en", "licence": "CC0", "date": "2024"},
        {"language": "Python", "licence": "MIT, ISC", "path": "a/b.py", "kind": "code"},
    ]


@settings(max_examples=60, deadline=None)
@given(
    texts=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=30), max_size=12),
    blank=st.sampled_from([b"\n", b"\n\n", b"\r\n"]),
    size=st.integers(1, 200),
)
def test_ids_and_texts_do_not_depend_on_the_division(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], blank: bytes, size: int
) -> None:
    folder = tmp_path_factory.mktemp("division")
    (folder / "a.jsonl").write_bytes(blank.join(json.dumps({"text": text}).encode() for text in texts))
    (folder / "b.txt").write_text("last", encoding="utf-8")
    whole = list(open_records(folder, ReadingConfig()))
    config = ReadingConfig(shard_megabytes=size / 2**20)
    shards = find_shards([folder], config)
    divided = [item for shard in shards for item in read_shard(shard, config)]
    assert divided == whole
    assert [shard.bytes for shard in shards if len(shard.parts) > 1 and shard.bytes > size] == []
    assert sum(shard.bytes for shard in shards) == sum(file.stat().st_size for file in folder.iterdir())
    assert [Shard.from_json(json.loads(json.dumps(shard.to_json()))) for shard in shards] == shards
    assert pickle.loads(pickle.dumps(shards)) == shards


def test_globs_and_several_paths(tmp_path: Path) -> None:
    for name in ("one/a.txt", "two/a.txt", "two/deep/b.txt", "two/deep/c.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name, encoding="utf-8")
    assert [d.id for d in open_records([tmp_path / "one", tmp_path / "two"]) if isinstance(d, Document)] == [
        "one/a.txt", "two/a.txt", "two/deep/b.txt", "two/deep/c.md",
    ]  # fmt: skip
    assert [d.text for d in open_records(f"{tmp_path}/**/*.txt") if isinstance(d, Document)] == [
        "one/a.txt", "two/a.txt", "two/deep/b.txt",
    ]  # fmt: skip
    assert len(list(open_records([tmp_path, tmp_path / "one", tmp_path / "one" / "a.txt"]))) == 4


@pytest.mark.parametrize(("name", "words"), [("absent", "does not exist"), ("empty", "no files"), ("*.x", "no file")])
def test_unusable_paths_are_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=words) as caught:
        find_shards([tmp_path / name], SMALL)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("key", "value"), [("max_megabytes", 0), ("max_ratio", -1), ("encoding", "utf-99"), ("kind", "poem")]
)
def test_unusable_settings_are_named(key: str, value: object) -> None:
    with pytest.raises(UsageError, match=f"corpus.reading.{key}"):
        ReadingConfig(**{key: value})  # type: ignore[arg-type]


def test_troubles_of_files_are_counted_and_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "loop").symlink_to(tmp_path)
    (tmp_path / "nowhere.txt").symlink_to(tmp_path / "absent.txt")
    (tmp_path / "empty.txt").touch()
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    (tmp_path / "binary.txt").write_bytes(b"ab\0cd")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    (tmp_path / "large.txt").write_bytes(b"x" * 20_000)
    (tmp_path / "wide.jsonl").write_bytes(b'{"text": "' + b"x" * 30_000 + b'"}\n{"text": "after"}')
    (tmp_path / "good.txt").write_text("good", encoding="utf-8")
    kept, dropped = records(tmp_path)
    assert kept == {"good.txt": "good", "wide.jsonl:2": "after"}
    assert dropped == {
        "nowhere.txt:rest": "missing",
        "empty.txt": "empty",
        "picture.png": "unknown format",
        "binary.txt": "binary",
        "latin.txt": "invalid UTF-8",
        "large.txt": "too large",
        "wide.jsonl:1": "too large",
    }


def test_a_file_that_disappears_between_listing_and_reading(tmp_path: Path) -> None:
    for name in ("a.txt", "b.jsonl", "c.txt"):
        (tmp_path / name).write_text('{"text": "x"}', encoding="utf-8")
    shards = find_shards([tmp_path], SMALL)
    (tmp_path / "a.txt").unlink()
    (tmp_path / "b.jsonl").unlink()
    found = [item for shard in shards for item in read_shard(shard, SMALL)]
    assert [item.reason for item in found if isinstance(item, Dropped)] == ["missing", "missing"]
    assert len(found) == 3


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may read everything")
def test_a_folder_that_may_not_be_listed(tmp_path: Path) -> None:
    (tmp_path / "good.txt").write_text("good", encoding="utf-8")
    (tmp_path / "closed").mkdir(mode=0o000)
    kept, dropped = records(tmp_path)
    assert kept == {"good.txt": "good"} and dropped == {"closed:rest": "unreadable"}


def test_texts_in_encodings_that_they_declare(tmp_path: Path) -> None:
    (tmp_path / "mark.txt").write_bytes("é".encode("utf-16"))
    (tmp_path / "gutenberg.txt").write_bytes(
        b"The Project Gutenberg EBook\r\nTitle: X\r\nCharacter set encoding: ISO-8859-1\r\n\r\ncaf\xe9"
    )
    (tmp_path / "wrong.txt").write_bytes(b"Project Gutenberg\nCharacter set encoding: ASCII\n\ncaf\xe9")
    kept, dropped = records(tmp_path)
    assert (
        kept["mark.txt"] == "é" and kept["gutenberg.txt"].endswith("café") and dropped == {"wrong.txt": "invalid UTF-8"}
    )
    kept, dropped = records(tmp_path, ReadingConfig(encoding="latin-1"))
    assert kept["wrong.txt"].endswith("café") and not dropped


def test_small_files_share_a_shard_but_not_without_end(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number}.txt").write_text("x", encoding="utf-8")
    shards = find_shards([tmp_path], ReadingConfig(shard_megabytes=1))
    assert [len(shard.parts) for shard in shards] == [256, 256, 88]


@pytest.mark.skipif(os.name != "posix", reason="names that are no text, and pipes, are POSIX's")
def test_strange_names_and_what_is_no_file(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("words", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe.txt")
    shards = find_shards([tmp_path], SMALL)
    again = [Shard.from_json(json.loads(json.dumps(shard.to_json()))) for shard in shards]
    found = [item for shard in again for item in read_shard(shard, SMALL)]
    assert [item.to_json()["id"] for item in found] == ["caf\\xe9.txt", "pipe.txt:rest"]
    assert isinstance(found[1], Dropped) and found[1].detail == "it is no regular file"
    json.dumps([item.to_json() for item in found], ensure_ascii=False).encode("utf-8")


def test_a_file_that_shrinks_between_listing_and_reading(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_text('{"text": "words"}\n' * 100, encoding="utf-8")
    config = ReadingConfig(shard_megabytes=5e-4)
    shards = find_shards([path], config)
    path.write_text('{"text": "words"}\n' * 40, encoding="utf-8")
    found = [item for shard in shards for item in read_shard(shard, config)]
    lost = [item for item in found if isinstance(item, Dropped)]
    assert len(shards) > 2 and lost and all("shorter" in item.detail for item in lost)
    assert sum(item.bytes for item in lost) + 18 * (len(found) - len(lost)) == 1800
