"""Reading texts to learn from: every kind of file, long files in parts, and one clear line for what cannot be read."""

import gzip
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.tokenizer import texts
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.texts import cut_place, find_texts, read_texts

TEXT = "Zwölf Boxkämpfer\njagen Viktor.\r\n\n  東京 🦉\n"


def lines_of(*documents: str, key: str = "text") -> bytes:
    return "".join(json.dumps({key: document, "id": 7}, ensure_ascii=False) + "\n" for document in documents).encode()


def test_a_file_is_a_document(tmp_path: Path) -> None:
    for name in ("a.txt", "b.md", "c.py", "d"):
        (tmp_path / name).write_bytes(TEXT.encode())
        assert list(read_texts([tmp_path / name])) == [TEXT]


def test_a_line_of_json_is_a_document(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + lines_of("one", TEXT) + b"\n  \n" + lines_of("three")[:-1])
    assert list(read_texts([path])) == ["one", TEXT, "three"]
    path.write_bytes(lines_of("other", key="content"))
    assert list(read_texts([path], key="content")) == ["other"]


def test_compressed_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(TEXT.encode()))
    (tmp_path / "b.JSONL.GZ").write_bytes(gzip.compress(lines_of("one", "two")))
    assert list(read_texts([tmp_path])) == [TEXT, "one", "two"]


def test_folders_are_read_in_the_order_of_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("b/2.txt", "b/1.jsonl", "a.md", "b/.hidden.txt", ".git/c.txt", "b/picture.png", "c/x.bin"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(lines_of(name) if name.endswith(".jsonl") else name.encode())
    assert list(read_texts([tmp_path])) == ["a.md", "b/1.jsonl", "b/2.txt"]
    assert "2 files are no .txt, .md, .jsonl and are passed over" in capsys.readouterr().err
    assert find_texts([tmp_path / "b", tmp_path / "a.md"]) == [
        tmp_path / "b/1.jsonl",
        tmp_path / "b/2.txt",
        tmp_path / "a.md",
    ]
    with pytest.raises(DataError, match=r"c holds no \.txt"):
        find_texts([tmp_path / "c"])


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfabc")
    assert list(read_texts([tmp_path])) == ["abc"]


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("a.txt", b"ok \xff no", r"a\.txt is not UTF-8: byte 0xff at 3"),
        ("a.txt", "東京".encode()[:-1], r"a\.txt is not UTF-8: byte 0xe4 at 3"),
        ("a.txt", b"\xff\xfea\0b\0", "UTF-16"),
        ("a.txt", b"a\0b", "zero byte"),
        ("a.txt", b"", "no text"),
        ("a.jsonl", b'{"text": ""}\n', "no text"),
        ("a.jsonl", lines_of("one") + b'{"text": "two', r"a\.jsonl is not JSON in line 2"),
        ("a.jsonl", b'{"text": "\xff"}', "not JSON in line 1: invalid start byte at byte 10"),
        ("a.jsonl", b"[" * 100_000, "not JSON in line 1"),
        ("a.jsonl", lines_of("one") + b'{"txt": "two"}', 'no text under "text" in line 2'),
        ("a.jsonl", b"[1, 2]", 'no text under "text" in line 1'),
        ("a.jsonl", b'{"text": null}', 'no text under "text" in line 1'),
        ("a.txt.gz", b"not compressed", "no gzip file"),
        ("a.txt.gz", gzip.compress(TEXT.encode() * 99)[:-9], "damaged"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, content: bytes, complaint: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError, match=complaint) as caught:
        list(read_texts([path]))
    assert "\n" not in str(caught.value)


def test_missing_files_are_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        list(read_texts([tmp_path / "nothing.txt"]))
    with pytest.raises(DataError, match="no text"):
        list(read_texts([]))


def test_a_line_without_end_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "LONGEST_LINE", 100)
    (tmp_path / "a.jsonl").write_bytes(lines_of("one", "x" * 200))
    with pytest.raises(DataError, match="more than 100 bytes in line 2"):
        list(read_texts([tmp_path]))


def pieces_of(pattern: Pattern, parts: list[str]) -> list[str]:
    return [piece for part in parts for piece in pattern.pieces(part)]


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    def set_sizes(size: int) -> None:
        monkeypatch.setattr(texts, "PART_CHARACTERS", size)
        monkeypatch.setattr(texts, "MOST_CHARACTERS", 64 * size)
        monkeypatch.setattr(texts, "READ_BYTES", size // 3)

    return set_sizes


@pytest.mark.parametrize("name", sorted(NAMED))
def test_the_parts_of_a_long_file_have_its_pieces(
    tmp_path: Path, stdlib_text: str, small_parts: Callable[[int], None], name: str
) -> None:
    text = stdlib_text[:60_000] + "Grüße, 東京! " * 500
    (tmp_path / "long.txt").write_bytes(text.encode())
    small_parts(1000)
    parts = list(read_texts([tmp_path]))
    assert "".join(parts) == text
    assert len(parts) > 50
    assert pieces_of(Pattern.named(name), parts) == list(Pattern.named(name).pieces(text))


def test_a_file_without_a_good_place_is_cut_anywhere(tmp_path: Path, small_parts: Callable[[int], None]) -> None:
    text = "東" * 100_000
    (tmp_path / "long.txt").write_bytes(text.encode())
    small_parts(1000)
    parts = list(read_texts([tmp_path]))
    assert "".join(parts) == text
    assert max(map(len, parts)) < 70_000


@given(
    st.text(st.sampled_from("aB1 \n\n\r\t/.'é中\u0301\u3000\x1c_s"), max_size=30),
    st.integers(0, 20),
    st.sampled_from(sorted(NAMED)),
)
def test_no_piece_is_cut_in_two(text: str, start: int, name: str) -> None:
    place = cut_place(text, start)
    if place is not None:
        pattern = Pattern.named(name)
        assert max(start, 1) <= place < len(text)
        assert pieces_of(pattern, [text[:place], text[place:]]) == list(pattern.pieces(text))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="nothing is closed to this user")
def test_a_folder_that_may_not_be_read_is_no_surprise(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir()
    (tmp_path / "closed").chmod(0)
    with pytest.raises(DataError, match="cannot be read"):
        list(read_texts([tmp_path]))
