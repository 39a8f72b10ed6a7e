"""Token ids on disk: what is written is read, whatever is interrupted or damaged."""

import json
import tracemalloc
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, DataError
from groundup.dataloader import Tokens, TokenWriter, open_tokens
from groundup.dataloader.shards import SHARD_TOKENS, Shard, verify_tokens

MADE_FROM = {"tokenizer": "abc"}
MARK = 299
DOCUMENTS = st.lists(st.lists(st.integers(0, 298), max_size=9).map(lambda ids: [MARK, *ids]), min_size=1, max_size=12)


def arrays(documents: list[list[int]]) -> list[np.ndarray]:
    return [np.array(document, np.uint32) for document in documents]


def write(
    folder: Path, documents: list[list[int]], shard_tokens: int = SHARD_TOKENS, vocab_size: int = 300
) -> TokenWriter:
    with TokenWriter(folder, vocab_size, MADE_FROM, shard_tokens) as writer:
        writer.write(arrays(documents))
    return writer


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=25)
@given(documents=DOCUMENTS, size=st.integers(3, 40))
def test_documents_come_back_from_any_shards(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int
) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    write(folder, documents, size)
    tokens = open_tokens(folder)
    flat = [token for document in documents for token in document]
    assert len(tokens) == len(flat)
    assert [ids.tolist() for ids in tokens.documents] == documents
    assert tokens.documents[-1].tolist() == documents[-1]
    assert [ids.tolist() for ids in tokens.documents[1:3]] == documents[1:3]
    assert tokens.read(0, len(flat)).tolist() == flat
    lengths = [len(shard.ids) for shard in tokens.shards]
    assert all(length >= size for length in lengths[:-1])  # and none holds a part of a document
    assert all(shard.ids[0] == MARK for shard in tokens.shards)


@given(documents=DOCUMENTS, size=st.integers(1, 30), start=st.integers(0, 50), length=st.integers(0, 60))
def test_behind_the_last_token_comes_the_first(documents: list[list[int]], size: int, start: int, length: int) -> None:
    flat = np.array([token for document in documents for token in document], np.uint16)
    tokens = Tokens([Shard(flat[place : place + size]) for place in range(0, len(flat), size)])
    start %= len(flat)
    assert tokens.read(start, start + length).tolist() == [
        flat[place % len(flat)] for place in range(start, start + length)
    ]


@pytest.mark.parametrize(("vocab_size", "dtype"), [(300, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32)])
def test_two_bytes_are_enough_for_small_vocabularies(tmp_path: Path, vocab_size: int, dtype: type) -> None:
    write(tmp_path, [[vocab_size - 1, 0, 5], [vocab_size - 1], [7, 8]], vocab_size=vocab_size)
    tokens = open_tokens(tmp_path)
    assert tokens.shards[0].ids.dtype == dtype
    assert tokens.read(0, 6).tolist() == [vocab_size - 1, 0, 5, vocab_size - 1, 7, 8]


@settings(max_examples=20)
@given(documents=DOCUMENTS, size=st.integers(3, 30), ends=st.lists(st.integers(0, 12), max_size=3))
def test_an_encoding_interrupted_anywhere_ends_in_the_same_files(
    tmp_path_factory: pytest.TempPathFactory, documents: list[list[int]], size: int, ends: list[int]
) -> None:
    whole, again = tmp_path_factory.mktemp("whole"), tmp_path_factory.mktemp("again")
    write(whole, documents, size)
    written = 0
    for end in ends:
        with pytest.raises(KeyboardInterrupt), TokenWriter(again, 300, MADE_FROM, size) as writer:
            assert writer.documents >= written and not writer.complete
            written = writer.documents
            for document in arrays(documents)[written : written + end]:
                writer.write([document])
            raise KeyboardInterrupt
        if (again / "index.json").exists():
            with pytest.raises(ArtifactError, match="interrupted"):
                open_tokens(again)
    with TokenWriter(again, 300, MADE_FROM, size) as writer:
        writer.write(arrays(documents)[writer.documents :])
    assert content(again) == content(whole)
    verify_tokens(again)


def test_a_complete_folder_is_only_read(tmp_path: Path) -> None:
    write(tmp_path, [[MARK, 1], [MARK, 2]])
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    with TokenWriter(tmp_path, 300, MADE_FROM) as writer:
        assert writer.complete
        assert writer.documents == 2
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_what_was_made_from_something_else_is_not_continued(tmp_path: Path) -> None:
    write(tmp_path, [[MARK, 1]])
    with pytest.raises(ArtifactError, match="another text or tokenizer"):
        TokenWriter(tmp_path, 300, {"tokenizer": "def"})
    with pytest.raises(ArtifactError, match="vocab_size is 300, not 301"):
        TokenWriter(tmp_path, 301, MADE_FROM)


def test_an_id_outside_the_vocabulary_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="id 300 is outside the vocabulary of 300"):
        write(tmp_path, [[MARK, 300]])
    assert list(tmp_path.iterdir()) == []


def test_a_changed_shard_is_not_built_upon(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), TokenWriter(tmp_path, 300, MADE_FROM, 2) as writer:
        writer.write(arrays([[MARK, 1, 2], [MARK, 3, 4]]))
        raise KeyboardInterrupt
    path = tmp_path / "00001.tokens.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ArtifactError, match=r"00001\.tokens\.npy is missing or was changed"):
        TokenWriter(tmp_path, 300, MADE_FROM, 2)


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.3, 0.5, 0.99])
@pytest.mark.parametrize("kind", ["tokens", "documents"])
def test_a_truncated_shard_is_named(tmp_path: Path, kept: float, kind: str) -> None:
    write(tmp_path, [[MARK, *range(50)]] * 40)
    path = tmp_path / f"00000.{kind}.npy"
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ArtifactError, match=rf"{kind}\.npy is damaged") as caught:
        open_tokens(tmp_path)
    assert "\n" not in str(caught.value)
    with pytest.raises(ArtifactError, match=rf"{kind}\.npy is missing or was changed"):
        verify_tokens(tmp_path)


def test_a_shard_of_another_length_is_named(tmp_path: Path) -> None:
    write(tmp_path, [[MARK, 1, 2]])
    np.save(tmp_path / "00000.tokens.npy", np.zeros(5, np.uint16))
    with pytest.raises(ArtifactError, match="5 tokens, not 3"):
        open_tokens(tmp_path)


def test_what_is_no_folder_of_tokens_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_tokens(tmp_path / "missing")
    (tmp_path / "index.json").write_text(json.dumps({"tokens": 3}), encoding="utf-8")
    with pytest.raises(ArtifactError, match="is not the index of token ids"):
        open_tokens(tmp_path)


def test_single_files_and_folders_join(tmp_path: Path) -> None:
    np.save(tmp_path / "more.npy", np.array([7, 1, 2, 7, 3], np.uint16))
    write(tmp_path / "first", [[7, 9], [7]])
    tokens = open_tokens(tmp_path / "first", tmp_path / "more.npy")
    assert [ids.tolist() for ids in tokens.documents] == [[7, 9], [7], [7, 1, 2], [7, 3]]


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        open_tokens(tmp_path / "missing.npy")
    for name, value in (("floats", np.zeros(3)), ("matrix", np.zeros((2, 2), np.uint16)), ("text", "no array")):
        path = tmp_path / f"{name}.npy"
        if isinstance(value, str):
            path.write_text(value, encoding="utf-8")
        else:
            np.save(path, value)
        with pytest.raises(ArtifactError, match=f"{name}.npy"):
            open_tokens(path)


def test_memory_does_not_grow_with_what_is_written(tmp_path: Path) -> None:
    document = np.concatenate([np.array([MARK]), np.arange(20_000) % 299]).astype(np.uint32)
    tracemalloc.start()
    peaks = []
    for count in (20, 200):
        tracemalloc.reset_peak()
        with TokenWriter(tmp_path / str(count), 300, MADE_FROM) as writer:
            for _ in range(count):
                writer.write([document])
        peaks.append(tracemalloc.get_traced_memory()[1])
    tracemalloc.stop()
    assert max(b - a for a, b in pairwise(peaks)) < document.nbytes
    assert len(open_tokens(tmp_path / "200")) == 200 * len(document)
