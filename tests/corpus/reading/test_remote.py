import builtins
import gzip
import hashlib
import http.server
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import DataError, UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, find_shards, open_records, remote
from groundup.corpus.reading.remote import download, list_urls

BODY = b"".join(b'{"text": "line %d"}\n' % number for number in range(3000))


TAG = '"version 2"'


class Server(http.server.BaseHTTPRequestHandler):
    """Sends BODY in pieces: each connection breaks after a third of it."""

    ranges: list[str] = []  # noqa: RUF012 (shared on purpose)

    def do_GET(self) -> None:
        if self.path != "/deep/x.jsonl":
            self.send_error(404)
            return
        wish = self.headers.get("Range", "")
        self.ranges.append(wish)
        if self.headers.get("If-Range", TAG) != TAG:
            wish = ""
        begin = int(wish.removeprefix("bytes=").rstrip("-") or 0)
        if begin >= len(BODY):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(BODY)}")
            self.end_headers()
            return
        self.send_response(206 if wish else 200)
        self.send_header("ETag", TAG)
        self.send_header("Content-Length", str(len(BODY) - begin))
        self.end_headers()
        self.wfile.write(BODY[begin : begin + len(BODY) // 3 + 1])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(remote, "_PAUSE", 0.0)
    Server.ranges.clear()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_download_goes_on_where_it_broke_and_comes_once(web: str, tmp_path: Path) -> None:
    url = f"{web}/deep/x.jsonl#sha256={hashlib.sha256(BODY).hexdigest()}"
    found = [item for item in open_records(url) if isinstance(item, Document)]
    assert [item.id for item in found] == [f"x.jsonl:{number + 1}" for number in range(3000)]
    assert found[-1].text == "line 2999"
    assert Server.ranges[0] == "" and len(Server.ranges) == 3 and Server.ranges[1].startswith("bytes=")
    path = download(url)
    assert path.read_bytes() == BODY and len(Server.ranges) == 3
    origin = json.loads(path.with_name("x.jsonl.origin.json").read_text("utf-8"))
    assert origin == {"url": url.partition("#")[0], "bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest()}


def test_what_is_left_of_a_killed_download_is_used(web: str, tmp_path: Path) -> None:
    url = f"{web}/deep/x.jsonl"
    path = download(url)
    partial = path.rename(path.with_name("x.jsonl.partial"))
    partial.write_bytes(BODY[:-100])
    Server.ranges.clear()
    assert download(url).read_bytes() == BODY and Server.ranges == [f"bytes={len(BODY) - 100}-"]


def test_what_is_left_of_another_version_is_not_used(web: str) -> None:
    url = f"{web}/deep/x.jsonl"
    path = download(url)
    for version, left in (('"version 1"', b"x" * 100), (TAG, BODY), (TAG, BODY + b"x")):
        path.rename(path.with_name("x.jsonl.partial")).write_bytes(left)
        path.with_name("x.jsonl.partial.version").write_text(version, "utf-8")
        assert download(url).read_bytes() == BODY
    assert sorted(file.name for file in path.parent.iterdir()) == ["x.jsonl", "x.jsonl.lock", "x.jsonl.origin.json"]


def test_wrong_hashes_and_addresses_are_named(web: str) -> None:
    with pytest.raises(DataError, match="not what was expected"):
        list(open_records(f"{web}/deep/x.jsonl#sha256={'0' * 64}"))
    with pytest.raises(DataError, match="404"):
        list(open_records(f"{web}/absent.jsonl"))
    with pytest.raises(DataError, match="cannot fetch"):
        list(open_records("http://127.0.0.1:9/x.jsonl"))


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Any:
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    files.store.clear()
    files.pseudo_dirs[:] = [""]
    yield files
    files.store.clear()


def test_folders_globs_and_files_of_a_store(store: Any) -> None:
    for name in ("a/one.txt", "a/deep/two.jsonl.gz", "b/three.txt"):
        text = b'{"text": "two"}' if name.endswith("gz") else b"words"
        store.pipe(f"/root/{name}", gzip.compress(text) if name.endswith("gz") else text)
    assert [item.id for item in open_records("memory://root") if isinstance(item, Document)] == [
        "a/deep/two.jsonl.gz:1", "a/one.txt", "b/three.txt",
    ]  # fmt: skip
    assert [item.id for item in open_records("memory://root/*/*.txt") if isinstance(item, Document)] == [
        "a/one.txt", "b/three.txt",
    ]  # fmt: skip
    assert [item.id for item in open_records("memory://root/a/one.txt") if isinstance(item, Document)] == ["one.txt"]
    assert sum(shard.bytes for shard in find_shards(["memory://root/b"], ReadingConfig())) == 5
    with pytest.raises(DataError, match="no files there"):
        find_shards(["memory://nothing"], ReadingConfig())


def test_parquet_of_a_store_is_read_by_row_groups(store: Any, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    raw = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": [f"t{n}" for n in range(10)]}), raw, row_group_size=4)
    store.pipe("/set/x.parquet", raw.getvalue())
    config = ReadingConfig(shard_megabytes=1e-5)
    assert len(find_shards(["memory://set"], config)) == 3
    assert [item.id for item in open_records("memory://set", config) if isinstance(item, Document)] == [
        f"x.parquet:{n + 1}" for n in range(10)
    ]


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A store that stands in for Hugging Face's: it names files without the scheme."""
    fsspec = pytest.importorskip("fsspec")
    memory = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem

    class Hub(memory):  # type: ignore[misc, valid-type]
        protocol = "hf"
        store: dict[str, Any] = {}  # noqa: RUF012 (as its parent has it)
        pseudo_dirs = [""]  # noqa: RUF012

        @classmethod
        def _strip_protocol(cls, path: str) -> str:
            return "/" + path.removeprefix("hf://").strip("/")

        def unstrip_protocol(self, name: str) -> str:
            return f"hf://{name.strip('/')}"

    files = Hub(skip_instance_cache=True)
    real = fsspec.filesystem
    monkeypatch.setattr(fsspec, "filesystem", lambda scheme: files if scheme == "hf" else real(scheme))
    return files


def test_data_sets_of_hugging_face_are_read_by_name(hub: Any) -> None:
    hub.pipe("/datasets/owner/name/data/x.jsonl", b'{"text": "one"}')
    hub.pipe("/datasets/owner/name/.gitattributes", b"x")
    assert list_urls("hf://datasets/owner/name") == [("hf://datasets/owner/name/data/x.jsonl", "data/x.jsonl", 15)]
    (found,) = open_records("hf://datasets/owner/name")
    assert isinstance(found, Document) and (found.id, found.text) == ("data/x.jsonl:1", "one")


def test_a_missing_package_and_an_unknown_store_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="nosuch://"):
        find_shards(["nosuch://x/y"], ReadingConfig())
    fsspec = pytest.importorskip("fsspec")

    def refuse(scheme: str) -> None:
        raise ImportError(f"install the package of {scheme}")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec, "filesystem", refuse)
        with pytest.raises(UsageError, match="pip install huggingface_hub"):
            find_shards(["hf://datasets/a/b"], ReadingConfig())
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "fsspec":
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match="hf:// needs fsspec"):
        find_shards(["hf://datasets/a/b"], ReadingConfig())


@pytest.mark.parametrize(
    ("raw", "texts"),
    [
        (b'{"text": "one"}\n{"text": "two"}\n', ["one", "two"]),
        (gzip.compress(b'{"text": "one"}\n'), ["one"]),
        (b"plain words\n", ["plain words\n"]),
        (b"<!DOCTYPE html><p>page", ["<!DOCTYPE html><p>page"]),
    ],
    ids=["jsonl", "gzip", "words", "html"],
)
def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: bytes, texts: list[str]) -> None:
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path))
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(raw)))
    found = list(open_records("-"))
    assert [item.text for item in found if isinstance(item, Document)] == texts
    assert not [item for item in found if isinstance(item, Dropped)]


def test_files_of_unknown_size_have_shards_of_their_own(web: str) -> None:
    urls = [f"{web}/{number}/x.jsonl" for number in range(3)]
    assert [shard.name for shard in find_shards(urls, ReadingConfig())] == [
        f"{url.replace('://', '/').strip('/')}" for url in urls
    ]
