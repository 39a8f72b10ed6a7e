"""Files are whole or absent, and what is wrong with one is said in a line."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import filelock
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core import files
from groundup.core.errors import ArtifactError, StorageError

WRITERS: list[Callable[[Path], None]] = [
    lambda path: files.write_text(path, "new"),
    lambda path: files.write_bytes(path, b"new"),
    lambda path: files.write_json(path, {"new": 1}),
    lambda path: files.write_jsonl(path, [1, 2]),
]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_crash_inside_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    files.write_text(path, "old")
    with pytest.raises(KeyboardInterrupt), files.atomic_file(path) as temporary:
        temporary.write_text("half of the n", encoding="utf-8")
        assert path.read_text(encoding="utf-8") == "old"
        raise KeyboardInterrupt
    assert path.read_text(encoding="utf-8") == "old"
    assert names(tmp_path) == ["file.txt"]


def test_a_crash_among_the_rows_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    files.write_jsonl(path, [1])
    with pytest.raises(ZeroDivisionError):
        files.write_jsonl(path, (1 // (2 - row) for row in range(5)))
    assert list(files.read_jsonl(path)) == [1]
    assert names(tmp_path) == ["rows.jsonl"]


def test_a_crash_inside_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.atomic_folder(tmp_path / "folder") as temporary:
        (temporary / "weights").write_bytes(b"half")
        raise ZeroDivisionError
    assert names(tmp_path) == []


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with files.atomic_folder(tmp_path / "deep" / "folder") as temporary:
        (temporary / "inner").mkdir()
        (temporary / "inner" / "file").write_bytes(b"content")
        assert not (tmp_path / "deep" / "folder").exists()
    assert (tmp_path / "deep" / "folder" / "inner" / "file").read_bytes() == b"content"
    assert names(tmp_path / "deep") == ["folder"]


def test_leftovers_of_a_killed_process_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = tmp_path / "stage" / "kept.txt"
    files.write_text(kept, "kept")
    (tmp_path / "stage" / f"{files.TEMPORARY_PREFIX}123-file.txt").write_text("half", encoding="utf-8")
    folder = tmp_path / f"{files.TEMPORARY_PREFIX}123-folder"
    folder.mkdir()
    (folder / f"{files.TEMPORARY_PREFIX}123-nested").write_text("half", encoding="utf-8")
    files.remove_leftovers(tmp_path)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [kept]
    assert names(tmp_path) == ["stage"]
    files.remove_leftovers(tmp_path / "absent")


def test_what_others_are_writing_is_no_leftover(tmp_path: Path) -> None:
    """Ranks write in a folder of the run where each holds a lock."""
    half = tmp_path / "shards" / "3f0c" / "pass-0" / f"{files.TEMPORARY_PREFIX}7-000001"
    half.mkdir(parents=True)
    (half / "kept.jsonl").write_text("half", encoding="utf-8")
    with filelock.FileLock(tmp_path / "shards" / "3f0c" / "rank-2-of-4.lock"), filelock.FileLock(tmp_path / ".lock"):
        files.remove_leftovers(tmp_path)
        assert (half / "kept.jsonl").exists()
    files.remove_leftovers(tmp_path)
    assert not half.exists()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("write", WRITERS)
def test_a_full_disk_is_named_and_leaves_the_old_file(
    write: Callable[[Path], None], number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="no space left") as caught:
        write(path)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    "error",
    [
        OSError("1000000 requested and 32752 written"),  # as NumPy says it, without a number
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # as safetensors
    ],
)
def test_a_full_disk_is_understood_in_other_words(error: Exception, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no space left"), files.storage_errors(tmp_path):
        raise error


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="the system has no /dev/full")
def test_numpy_on_a_full_device() -> None:
    device = Path("/dev/full")
    with pytest.raises(StorageError, match="no space left"), files.storage_errors(device), device.open("wb") as handle:
        np.save(handle, np.zeros(100_000))


def test_other_errors_pass_unchanged(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), files.storage_errors(tmp_path):
        raise ZeroDivisionError
    with pytest.raises(FileNotFoundError), files.storage_errors(tmp_path):
        raise FileNotFoundError(errno.ENOENT, "No such file")


@pytest.mark.parametrize("write", WRITERS)
def test_a_place_below_a_file_cannot_be_written(write: Callable[[Path], None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a file", encoding="utf-8")
    with pytest.raises(StorageError, match=r"cannot write .*choose another place"):
        write(tmp_path / "file" / "below")
    with pytest.raises(StorageError, match="cannot write"):
        write(tmp_path)


def test_text_is_utf8_with_unix_line_ends(tmp_path: Path) -> None:
    files.write_text(tmp_path / "text", "é\nœ\n")
    assert (tmp_path / "text").read_bytes() == "é\nœ\n".encode()
    assert files.read_text(tmp_path / "text") == "é\nœ\n"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
).filter(lambda value: "\\ud" not in json.dumps(value))


@given(rows=st.lists(json_values, max_size=5))
def test_json_and_json_lines_read_back(tmp_path_factory: pytest.TempPathFactory, rows: list[object]) -> None:
    folder = tmp_path_factory.mktemp("rows")
    files.write_jsonl(folder / "rows.jsonl", rows)
    files.write_json(folder / "rows.json", rows)
    assert list(files.read_jsonl(folder / "rows.jsonl")) == rows == files.read_json(folder / "rows.json")


def test_numbers_that_json_lacks_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "file", float("nan"))
    with pytest.raises(ValueError):
        files.write_jsonl(tmp_path / "file", [float("inf")])
    assert names(tmp_path) == []


@pytest.mark.parametrize(
    "damage", [b'{"a": 1}\n{"a": 2', b'{"a": 1}\n\xff\xfe\n', b'{"a": 1}\n\n', b'{"a": 1}\nNone\n']
)
def test_damaged_json_lines_are_named_with_their_line(damage: bytes, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(damage)
    rows = files.read_jsonl(path)
    assert next(rows) == {"a": 1}
    with pytest.raises(ArtifactError, match="damaged at line 2") as caught:
        next(rows)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("damage", "words"), [(b'{\n"a": 1,\n"b"', "line 3"), (b"\xff{}", "not UTF-8 at byte 0"), (b"", "line 1")]
)
def test_damaged_json_is_named_with_its_place(damage: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(damage)
    with pytest.raises(ArtifactError, match=words) as caught:
        files.read_json(path)
    assert str(path) in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    for path in (tmp_path / "absent", tmp_path / "file" / "below"):
        for read in (files.read_text, files.read_json, lambda path: list(files.read_jsonl(path))):
            with pytest.raises(ArtifactError, match="does not exist"):
                read(path)


def test_hash_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-4, example of SHA-256
    assert files.sha256_of(tmp_path / "abc").startswith("ba7816bf8f01cfea414140de5dae2223")
