import json
from pathlib import Path

import pytest

from groundup.core.errors import DataError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import read_files

LIMIT = 10_000


def read(path: Path) -> tuple[dict[str, str], dict[str, tuple[str, str]]]:
    documents, dropped, _ = read_files(path, LIMIT)
    return {d.id: d.text for d in documents}, {d.document.id: (d.reason, d.detail) for d in dropped}


def test_folder_of_all_kinds_in_order_with_relative_ids(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.md").write_text("zwei", encoding="utf-8")
    (tmp_path / "one.TXT").write_text("eins", encoding="utf-8")
    (tmp_path / "lines.jsonl").write_text('{"text": "drei", "title": "Three"}\n\n{"text": "vier"}', encoding="utf-8")
    (tmp_path / ".hidden.txt").write_text("nothing", encoding="utf-8")
    documents, dropped, _ = read_files(tmp_path, LIMIT)
    assert not dropped
    assert [(d.id, d.title, d.text) for d in documents] == [
        ("b/two.md", "two", "zwei"),
        ("lines.jsonl:1", "Three", "drei"),
        ("lines.jsonl:3", "lines 3", "vier"),
        ("one.TXT", "one", "eins"),
    ]


def test_single_file(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("text", encoding="utf-8")
    assert read(tmp_path / "one.txt") == ({"one.txt": "text"}, {})


@pytest.mark.parametrize(
    ("name", "words"), [("absent", "does not exist"), ("empty", "empty folder"), ("a.pdf", "not a")]
)
def test_unusable_paths_are_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    with pytest.raises(DataError, match=words) as caught:
        read(tmp_path / name)
    assert name in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "raw", "reason", "evidence"),
    [
        ("x.txt", b"", "empty", "0 bytes"),
        ("x.txt", b"ab\0cd", "binary", "position 2"),
        ("x.txt", "text".encode("utf-16"), "binary", "UTF-16"),
        ("x.txt", b"caf\xe9 au lait", "invalid UTF-8", "0xe9 at position 3"),
        ("x.md", b"x" * (LIMIT + 1), "too large", str(LIMIT)),
        ("x.png", b"\x89PNG", "not a text file", ".jsonl"),
    ],
)
def test_unusable_files_are_dropped_with_reason_and_place(
    tmp_path: Path, name: str, raw: bytes, reason: str, evidence: str
) -> None:
    (tmp_path / name).write_bytes(raw)
    documents, dropped, _ = read_files(tmp_path, LIMIT)
    assert documents == []
    assert [(d.document.id, d.reason, d.bytes) for d in dropped] == [(name, reason, len(raw))]
    assert evidence in dropped[0].detail


def test_broken_lines_are_dropped_one_by_one_with_their_number(tmp_path: Path) -> None:
    good = json.dumps({"text": "fine"}).encode()
    lines = [
        b"\xef\xbb\xbf" + good,
        b'{"text": "cut',
        b'{"body": "no text"}',
        b'{"text": 5}',
        b'["text"]',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b"[" * 5000 + b"1",
        b'{"text": ' + b"9" * 5000 + b"}",
        b'{"text": "' + b"x" * (3 * LIMIT) + b'"}',
        good,
    ]
    (tmp_path / "x.jsonl").write_bytes(b"\n".join(lines))
    documents, dropped = read(tmp_path)
    assert documents == {"x.jsonl:1": "fine", "x.jsonl:11": "fine"}
    reasons = [reason for reason, _ in dropped.values()]
    assert reasons == (
        ["broken JSON"] + ["no text"] * 3 + ["invalid UTF-8", "invalid Unicode", "broken JSON", "no text", "too large"]
    )
    for name, (_, detail) in dropped.items():
        assert f"line {name.rpartition(':')[2]}" in detail and "\n" not in detail


def test_hash_changes_with_names_and_contents_only(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("one", encoding="utf-8")
    first = read_files(tmp_path, LIMIT)[2]
    assert read_files(tmp_path, LIMIT)[2] == first
    file.write_text("two", encoding="utf-8")
    second = read_files(tmp_path, LIMIT)[2]
    file.rename(tmp_path / "b.txt")
    assert len({first, second, read_files(tmp_path, LIMIT)[2]}) == 3


def test_bytes_are_utf8_bytes() -> None:
    document = Document("i", "t", "s", "é!")
    assert document.bytes == 3
    assert Dropped.of(document, "why").to_json()["bytes"] == 3
