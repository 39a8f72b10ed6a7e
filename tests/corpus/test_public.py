"""Small files of the same format at the same places, in stores that stand in for the real ones."""

import bz2
import gzip
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import UsageError
from groundup.corpus import public
from groundup.corpus.document import Document, Dropped
from groundup.corpus.public import PUBLIC, find_public
from groundup.corpus.reading import formats, open_records, rows

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
memory = pytest.importorskip("fsspec").filesystem("memory")

WEB = {"id": "<urn:uuid:1>", "dump": "CC-MAIN-2024-10", "url": "https://x.org", "date": "2024-02-21", "file_path": "s3"}
EDU = {"language": "en", "language_score": 0.98, "token_count": 7, "score": 3.1, "int_score": 3}
STACK = {"blob_id": "ab12", "path": "/src/a.py", "detected_licenses": ["MIT"], "license_type": "permissive"}


def table(*rows: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(list(rows)), out)
    return out.getvalue()


def warc(text: str, kind: str, mime: str) -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: https://x.org\r\nContent-Type: {mime}\r\n"
    body = text.encode()
    return gzip.compress(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body + b"\r\n\r\n")


PAGE = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><p>words"
WIKI = (
    "<mediawiki xml:lang='en'><page><title>A</title><ns>0</ns><id>1</id><revision><text>words</text></revision></page>"
)

#: name → (bytes of a file in its format, the facts that its document then has)
FILES: dict[str, tuple[bytes, dict[str, str]]] = {
    "fineweb-edu": (
        table({"text": "words", **WEB, **EDU}),
        {"url": "https://x.org", "language": "en", "date": "2024-02-21"},
    ),
    "c4": (
        gzip.compress(json.dumps({"text": "words", "timestamp": "2019-04-25T12:57:54Z", "url": "u"}).encode()),
        {"url": "u", "date": "2019-04-25T12:57:54Z"},
    ),
    "wikipedia": (bz2.compress(f"{WIKI}</mediawiki>".encode()), {"kind": "wikitext", "language": "en"}),
    "the-stack-v2": (
        table({**STACK, "language": "Python", "src_encoding": "UTF-8", "repo_name": "a/b"}),
        {"language": "Python", "licence": "MIT", "path": "/src/a.py", "kind": "code"},
    ),
    "tinystories": (table({"text": "words"}), {}),
    "openwebtext": (table({"text": "words"}), {}),
    "common-crawl": (
        warc(PAGE, "response", "application/http; msgtype=response"),
        {"kind": "html", "mime": "text/html", "url": "https://x.org"},
    ),
    "common-crawl-text": (warc("words", "conversion", "text/plain"), {"mime": "text/plain", "url": "https://x.org"}),
}


@pytest.fixture
def stores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every corpus in the memory, at the same paths below their hosts."""
    memory.store.clear()
    moved = {}
    for name, corpus in PUBLIC.items():
        files, sample, listed = (value.replace("hf://", "memory://hf/").replace("https://", "memory://web/")
                                 for value in (corpus.files, corpus.sample, corpus.listed))  # fmt: skip
        place = sample or f"{listed}crawl-data/segments/{name}.{corpus.format}.gz"
        memory.pipe(place.replace("*", "0").removeprefix("memory:/"), FILES[name][0])
        if listed:
            memory.pipe(files.removeprefix("memory:/"), gzip.compress(place.removeprefix(listed).encode() + b"\n"))
        moved[name] = replace(corpus, files=files, sample=sample, listed=listed)
    monkeypatch.setattr(public, "PUBLIC", moved)
    monkeypatch.setattr(rows, "SOFTWARE_HERITAGE", "memory://swh/content/{blob_id}")
    memory.pipe("/swh/content/ab12", gzip.compress(b"words"))
    yield
    memory.store.clear()


@pytest.mark.parametrize("name", PUBLIC)
def test_a_sample_is_read_through_the_reader_of_its_format(stores: None, name: str) -> None:
    (found,) = open_records(f"public://{name}/sample")
    assert isinstance(found, Document)
    assert found.source == name and "words" in found.text and dict(found.facts) == FILES[name][1]


def test_the_whole_of_a_corpus_is_every_file_of_its_list_or_glob(stores: None) -> None:
    assert len([item for item in open_records("public://c4") if isinstance(item, Document)]) == 1
    several = open_records(["public://common-crawl", "public://common-crawl-text", "public://c4"])
    assert [item.id for item in several if isinstance(item, Document)] == [
        "c4/c4-train.00000-of-01024.json.gz:1",
        "common-crawl/common-crawl.warc.gz:1",
        "common-crawl-text/common-crawl-text.warc.gz:1",
    ]


def test_a_file_that_the_archive_of_the_stack_lacks(stores: None) -> None:
    memory.rm("/swh/content/ab12")
    (found,) = open_records("public://the-stack-v2/sample")
    assert isinstance(found, Dropped) and found.reason == "missing"


@pytest.mark.parametrize("corpus", PUBLIC.values(), ids=list(PUBLIC))
def test_entries_are_complete_and_of_a_format_that_is_read(corpus: public.PublicCorpus, tmp_path: Path) -> None:
    assert corpus.home.startswith("https://") and corpus.licence and corpus.contents and corpus.gigabytes > 0
    assert bool(corpus.sample) != bool(corpus.listed) and corpus.format in {*formats.FORMATS.values()}
    assert f"public://{corpus.name}/sample" in corpus.command


def test_an_unknown_name_is_named_with_what_was_meant() -> None:
    with pytest.raises(UsageError, match="did you mean 'fineweb-edu'"):
        find_public("public://finewebedu")
    with pytest.raises(UsageError, match="public://NAME/sample"):
        find_public("public://c4/all")
