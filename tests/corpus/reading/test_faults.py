"""Whatever the bytes of a file are, it is read or dropped with a reason, in bounded memory, and the next file too."""

import bz2
import codecs
import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from groundup.corpus.build import CorpusConfig, build, input_files
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, find_shards, open_records, read_shard

ROWS = [{"text": f"words {number} " * 20, "url": "u"} for number in range(6)]
LINES = "\n".join(map(json.dumps, ROWS)).encode()
PAGE = "<page><title>{0}</title><ns>0</ns><id>{0}</id><revision><text>words</text></revision></page>"
WIKI = f"<mediawiki>{''.join(PAGE.format(number) for number in range(6))}</mediawiki>".encode()
RECORD = b"WARC/1.0\r\nWARC-Type: conversion\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nwords\r\n\r\n"

#: A sound file of every format that needs no package to be made.
SOUND = {
    "a.txt": b"words",
    "a.html": b"<html><meta charset=utf-8><p>words",
    "a.jsonl": LINES,
    "a.jsonl.gz": gzip.compress(LINES),
    "a.json": json.dumps(ROWS).encode(),
    "a.csv": b'url,text\nu,"words"\nv,"more\nwords"\n',
    "a.py": b"x = 1\n",
    "a.xml": WIKI,
    "a.xml.bz2": bz2.compress(WIKI),
    "a.warc": RECORD * 4,
    "a.warc.gz": gzip.compress(RECORD) * 4,
}


def read_all(folder: Path, config: ReadingConfig) -> list[Document | Dropped]:
    return [item for shard in find_shards([folder], config) for item in read_shard(shard, config)]


def check(folder: Path, raw: bytes, name: str) -> None:
    (folder / name).write_bytes(raw)
    (folder / "z.txt").write_text("after", encoding="utf-8")
    for config in (ReadingConfig(), ReadingConfig(shard_megabytes=1e-4, max_megabytes=1e-3)):
        found = read_all(folder, config)
        assert len(found) >= 2
        last = found[-1]
        assert isinstance(last, Document) and last.text == "after"
        for item in found:
            document = item if isinstance(item, Document) else item.document
            json.dumps(document.to_json(), ensure_ascii=False).encode("utf-8")
            assert isinstance(item, Document) or (item.reason and "\n" not in item.detail and item.bytes >= 0)


@pytest.mark.parametrize("name", SOUND)
def test_sound_files_are_read(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(SOUND[name])
    found = list(open_records(tmp_path))
    assert found and all(isinstance(item, Document) for item in found)


@pytest.mark.parametrize("name", SOUND)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_files_cost_nothing_but_themselves(tmp_path: Path, name: str, data: Any) -> None:
    raw = bytearray(SOUND[name])
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 8))] = data.draw(st.binary(max_size=8))
        raw = raw or bytearray(b"x")
    check(tmp_path, bytes(raw[: data.draw(st.integers(0, len(raw)))]), name)


@pytest.mark.parametrize("name", [*SOUND, "a.parquet", "a.epub", "a.pdf", "a.txt.zst", "a.txt.xz", "a.unknown"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=st.binary(max_size=300))
def test_any_bytes_under_any_name(tmp_path: Path, name: str, raw: bytes) -> None:
    pytest.importorskip("zstandard")
    check(tmp_path, raw, name)


@pytest.mark.parametrize(
    "name", ["x.jsonl", "x.jsonl.gz", "x.csv", "x.txt", "x.txt.gz", "x.xml", "x.html.gz", "x.json"]
)
def test_a_line_larger_than_memory_may_be_is_never_held(tmp_path: Path, name: str) -> None:
    begin = {"x.csv": b"text\n", "x.xml": b"<mediawiki><page><revision><text>", "x.json": b"["}.get(name, b"")
    raw = begin + bytes(range(97, 123)) * 2**20  # 26 MiB
    (tmp_path / name).write_bytes(gzip.compress(raw, 1) if name.endswith("gz") else raw)
    del raw
    tracemalloc.start()
    found = list(open_records(tmp_path, ReadingConfig(max_megabytes=0.5, shard_megabytes=1)))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * 2**20
    assert found and all(isinstance(item, Dropped) for item in found)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
def test_pipes_devices_and_links_to_nowhere_do_not_stop_a_corpus(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.txt").write_text("good words " * 500, encoding="utf-8")
    os.mkfifo(folder / "pipe.txt")
    (folder / "device.txt").symlink_to("/dev/zero")
    (folder / "nowhere.txt").symlink_to("absent")
    (folder / "itself.txt").symlink_to("itself.txt")
    config = CorpusConfig(path=folder, steps=("long-enough",), workers=1)
    assert [path.name for path in input_files(config)] == ["good.txt"]
    (tmp_path / "out").mkdir()
    build(config, tmp_path / "out", 1)
    dropped = [json.loads(line) for line in (tmp_path / "out" / "dropped.jsonl").read_text("utf-8").splitlines()]
    assert {row["id"]: row["reason"] for row in dropped} == {
        "pipe.txt:rest": "unreadable",
        "device.txt:rest": "unreadable",
        "nowhere.txt:rest": "missing",
        "itself.txt:rest": "unreadable",
    }


def test_a_byte_order_mark_alone_is_no_document(tmp_path: Path, read: Any) -> None:
    for name, mark in {"a.txt": codecs.BOM_UTF8, "b.txt": codecs.BOM_UTF16_LE, "c.html": codecs.BOM_UTF8}.items():
        (tmp_path / name).write_bytes(mark)
    kept, dropped = read(tmp_path)
    assert not kept and {item.reason for item in dropped.values()} == {"empty"}


def test_files_without_a_document_are_counted(tmp_path: Path, read: Any) -> None:
    for name, raw in {"a.jsonl": b"", "b.jsonl": b"\n\n", "c.json": b"[]", "d.csv": b"text\n", "e.txt": b""}.items():
        (tmp_path / name).write_bytes(raw)
    kept, dropped = read(tmp_path)
    assert not kept and {item.reason for item in dropped.values()} == {"empty"} and len(dropped) == 5
