import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.tokenizer import streaming
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.streaming import blocks, npy_file, read_ids

#: What patterns look at: white space of every kind, signs, contractions, digits, letters of every case and script.
TELLING = " \n\t\r.,'/sSlLaBé字ह1२\u3000\u00a0🙂\udcff\udce5"


def split(pattern: Pattern, data: bytes) -> list[bytes]:
    pieces = pattern.pieces(data.decode("utf-8", "surrogateescape"))
    return [piece.encode("utf-8", "surrogateescape") for piece in pieces]


@given(
    st.sampled_from(sorted(NAMED)),
    st.sampled_from(["runs", "single"]),
    st.text(st.sampled_from(TELLING), max_size=60),
    st.integers(1, 12),
)
def test_blocks_are_cut_where_a_piece_begins(name: str, whitespace: str, text: str, size: int) -> None:
    pattern = Pattern.named(name, whitespace=whitespace)  # type: ignore[arg-type]
    data = text.encode("utf-8", "surrogateescape")
    cut = list(blocks(io.BytesIO(data), pattern, size))
    assert b"".join(cut) == data
    assert [piece for block in cut for piece in split(pattern, block)] == split(pattern, data)


@pytest.mark.parametrize("text", ["the quick brown fox " * 500, "字林。" * 4000, "word\n" * 3000])
def test_memory_is_bounded_by_a_few_blocks(text: str) -> None:
    cut = list(blocks(io.BytesIO(text.encode()), Pattern(), 1000))
    assert b"".join(cut) == text.encode()
    assert max(map(len, cut)) <= 2000


@pytest.mark.parametrize("pattern", [None, Pattern.named(r"\w+|\W+")])
def test_where_nobody_knows_the_pattern_a_text_is_whole(
    pattern: Pattern | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = b"one two three " * 100
    assert list(blocks(io.BytesIO(data), pattern, 10)) == [data]
    assert list(blocks(io.BytesIO(b""), pattern, 10)) == []
    monkeypatch.setattr(streaming, "LONGEST_WHOLE", 1000)
    with pytest.raises(DataError, match="split it"):
        list(blocks(io.BytesIO(data), pattern, 10))


@pytest.mark.parametrize(("vocab_size", "dtype"), [(1 << 16, "<u2"), ((1 << 16) + 1, "<u4")])
def test_an_array_is_written_block_by_block(vocab_size: int, dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "ids.npy"
    with npy_file(path, vocab_size) as append:
        for block in ([1, 2, 65535], [], [7]):
            append(np.array(block, np.int64))
        assert not path.exists()
    ids = np.load(path, allow_pickle=False)
    assert ids.dtype == dtype
    assert ids.tolist() == [1, 2, 65535, 7]
    assert [found.tolist() for found in read_ids(path.open("rb"), "ids", vocab_size)] == [[1, 2, 65535, 7]]


def test_no_array_is_written_when_something_fails(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="halfway"), npy_file(tmp_path / "ids.npy", 10) as append:
        append(np.array([1]))
        raise ValueError("halfway")
    assert list(tmp_path.iterdir()) == []


@given(st.lists(st.integers(0, 999), max_size=40), st.sampled_from([" ", "\n", "  \t", ", "]), st.integers(1, 9))
def test_ids_are_read_in_blocks_of_any_size(ids: list[int], between: str, size: int) -> None:
    text = between.join(map(str, ids)).encode()
    found = list(read_ids(io.BytesIO(text), "ids", 1000, size))
    assert [token for block in found for token in block.tolist()] == ids
    array = io.BytesIO()
    np.save(array, np.array(ids, np.int16))
    array.seek(0)
    found = list(read_ids(array, "ids", 1000, size * 2))
    assert [token for block in found for token in block.tolist()] == ids


def test_a_list_of_json_is_read_too() -> None:
    [ids] = read_ids(io.BytesIO(json.dumps([5, 17, 3]).encode()), "ids", 20)
    assert ids.tolist() == [5, 17, 3]


@pytest.mark.parametrize("size", [1, 2, 100])
@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1 2 x3 4", "ids: 'x3' at position 3 is no token id"),
        ("1 -2", "ids: '-2' at position 2 is no token id"),
        ("1 2.5", "ids: '2.5' at position 2 is no token id"),
        ("1 2 900 4", "ids: id 900 at position 3 is outside the vocabulary of 900"),
        ("1 ９", "at position 2 is no token id"),
        ("123456789012345", "at position 1 is no token id"),
    ],
)
def test_what_is_no_id_is_named_with_its_place(text: str, complaint: str, size: int) -> None:
    with pytest.raises(DataError) as refused:
        list(read_ids(io.BytesIO(text.encode()), "ids", 900, size))
    if size == 100:
        assert complaint in str(refused.value)
    assert "position" in str(refused.value)


@pytest.mark.parametrize(
    ("array", "complaint"),
    [
        (np.zeros(3), "float64"),
        (np.zeros((2, 2), np.uint16), r"shape \(2, 2\)"),
        (np.array([1, -1]), "id -1 at position 2"),
        (np.array([2**63], np.uint64), "outside the vocabulary"),
        (np.array(["1"]), "one row of integers"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray, complaint: str) -> None:
    file = io.BytesIO()
    np.save(file, array)
    file.seek(0)
    with pytest.raises(DataError, match=complaint):
        list(read_ids(file, "ids", 900))


@pytest.mark.parametrize("kept", [7, 30, -1, -3])
def test_a_damaged_array_is_refused(kept: int) -> None:
    file = io.BytesIO()
    np.save(file, np.arange(100, dtype=np.uint16))
    with pytest.raises(DataError, match=r"truncated|damaged"):
        list(read_ids(io.BytesIO(file.getvalue()[:kept]), "ids", 900))


def test_an_array_of_objects_is_never_unpickled() -> None:
    file = io.BytesIO()
    np.save(file, np.array([{}], object), allow_pickle=True)
    file.seek(0)
    with pytest.raises(DataError, match="object"):
        list(read_ids(file, "ids", 900))


def test_a_list_that_never_ends_is_refused() -> None:
    with pytest.raises(DataError, match="truncated"):
        list(read_ids(io.BytesIO(b"[1, 2, [3"), "ids", 300))
