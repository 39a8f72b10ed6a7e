import bz2
import gzip
import io
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, compression, open_records
from groundup.corpus.reading.compression import unpack


def zstd(data: bytes) -> bytes:
    return pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": zstd,
}
suffixes = pytest.mark.parametrize("suffix", PACKERS)


@suffixes
@settings(max_examples=10, deadline=None)
@given(members=st.lists(st.binary(max_size=3000), min_size=1, max_size=4), size=st.integers(1, 5000))
def test_contents_of_one_member_or_many_come_back(suffix: str, members: list[bytes], size: int) -> None:
    handle, unpacked = unpack(io.BytesIO(b"".join(map(PACKERS[suffix], members))), ReadingConfig())
    found = b"".join(iter(lambda: handle.read(size), b""))
    assert found == b"".join(members) and unpacked.trouble is None


@given(data=st.binary(max_size=200))
def test_what_is_not_compressed_comes_back_as_it_is(data: bytes) -> None:
    handle, unpacked = unpack(io.BytesIO(data), ReadingConfig(), plain=True)
    assert handle.read() == data and unpacked.trouble is None


@suffixes
def test_the_bytes_tell_not_the_suffix(tmp_path: Path, suffix: str) -> None:
    (tmp_path / f"plain.txt{suffix}").write_text("plain", encoding="utf-8")
    (tmp_path / "packed.txt").write_bytes(PACKERS[suffix](b"packed"))
    assert [item.text for item in open_records(tmp_path) if isinstance(item, Document)] == ["packed", "plain"]


def test_zeros_between_members_are_padding() -> None:
    raw = gzip.compress(b"one") + b"\0" * 100_000 + gzip.compress(b"two") + b"\0" * 7
    handle, unpacked = unpack(io.BytesIO(raw), ReadingConfig())
    assert handle.read() == b"onetwo" and unpacked.trouble is None


@suffixes
def test_a_truncated_archive_keeps_what_was_readable(tmp_path: Path, suffix: str) -> None:
    lines = [f'{{"text": "{number} {number * 7919 % 10007}"}}\n'.encode() for number in range(6_000)]
    whole = b"".join(PACKERS[suffix](b"".join(lines[first : first + 2_000])) for first in (0, 2_000, 4_000))
    cut = len(whole) * 5 // 6
    (tmp_path / f"x.jsonl{suffix}").write_bytes(whole[:cut])
    found = list(open_records(tmp_path))
    kept = [item.text for item in found if isinstance(item, Document)]
    drops = [item for item in found if isinstance(item, Dropped)]
    assert 4_000 <= len(kept) < 6_000 and kept == [f"{number} {number * 7919 % 10007}" for number in range(len(kept))]
    assert {item.reason for item in drops} == {"truncated archive"} and len(drops) in (1, 2)
    assert drops[-1].document.id == f"x.jsonl{suffix}:rest"
    assert f"byte {cut}" in drops[-1].detail


@suffixes
def test_a_damaged_archive_is_one_drop_and_the_rest_goes_on(tmp_path: Path, suffix: str) -> None:
    raw = bytearray(PACKERS[suffix](b"".join(b"%d " % (number * 7919 % 10007) for number in range(5_000))))
    raw[len(raw) // 2 : len(raw) // 2 + 40] = b"\xa5" * 40
    (tmp_path / f"a.txt{suffix}").write_bytes(raw)
    (tmp_path / f"b.txt{suffix}").write_bytes(PACKERS[suffix](b"member") + b"rubbish")
    (tmp_path / "c.txt").write_text("good", encoding="utf-8")
    found = list(open_records(tmp_path))
    assert [item.text for item in found if isinstance(item, Document)][-2:] == ["member", "good"]
    assert [item.reason for item in found if isinstance(item, Dropped)].count("damaged archive") == 2


@suffixes
def test_a_bomb_is_stopped_by_its_ratio_and_by_its_size(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compression, "RATIO_FROM", 2**17)
    row = b'{"text": "' + b"a" * 100 + b'"}\n'
    (tmp_path / f"bomb.jsonl{suffix}").write_bytes(PACKERS[suffix](row * 3_000))
    (tmp_path / "good.txt").write_text("good", encoding="utf-8")
    for config, words in (
        (ReadingConfig(max_ratio=20), "20 times"),
        (ReadingConfig(max_ratio=1e9, max_unpacked_gigabytes=0.0002), "0.0002 GiB"),
    ):
        found = list(open_records(tmp_path, config))
        drops = [item for item in found if isinstance(item, Dropped)]
        assert {item.reason for item in drops} == {"decompression bomb"} and words in drops[-1].detail
        kept = [item.text for item in found if isinstance(item, Document)]
        assert kept[-1] == "good" and 1_000 < len(kept) < 2_500


def test_a_bomb_in_one_text_is_no_document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compression, "RATIO_FROM", 2**17)
    (tmp_path / "bomb.txt.gz").write_bytes(gzip.compress(b" " * 10**6))
    (found,) = open_records(tmp_path)
    assert isinstance(found, Dropped) and found.reason == "decompression bomb"


def test_blocks_of_zstandard_that_stand_for_much_stay_in_bounds() -> None:
    # A frame without a size, then blocks of 4 bytes that each repeat one byte 128 KiB times.
    block = (2**17 << 3 | 1 << 1).to_bytes(3, "little") + b"x"
    frame = b"\x28\xb5\x2f\xfd\x00\x58" + block * 2_000
    handle, unpacked = unpack(io.BytesIO(frame), ReadingConfig())
    total = sum(len(piece) for piece in iter(lambda: handle.read(2**20), b""))
    assert total < 2**27 and unpacked.trouble is not None and unpacked.trouble.reason == "decompression bomb"


@pytest.mark.parametrize("packed", [False, True])
def test_frames_with_a_dictionary_before_them(packed: bool) -> None:
    """As web archives have them: a skippable frame of its own magic number, then a frame for each record."""
    zstandard = pytest.importorskip("zstandard")
    records = [f"WARC/1.1 record {number} and what all of them say".encode() * 3 for number in range(300)]
    dictionary = zstandard.train_dictionary(2000, records)
    packer = zstandard.ZstdCompressor(dict_data=dictionary)
    content = zstd(dictionary.as_bytes()) if packed else dictionary.as_bytes()
    head = b"\x5d\x2a\x4d\x18" + len(content).to_bytes(4, "little") + content
    raw = head + b"".join(map(packer.compress, records))
    handle, unpacked = unpack(io.BytesIO(raw), ReadingConfig())
    assert handle.read() == b"".join(records) and unpacked.trouble is None
    for damaged in (
        raw[len(head) :],
        head[:4] + b"\xff\xff\xff\x7f" + raw[8:],
        raw[: len(head) // 2],
        raw[: len(head) + 9],
    ):
        handle, unpacked = unpack(io.BytesIO(damaged), ReadingConfig())
        assert handle.read() == b"" and unpacked.trouble is not None
