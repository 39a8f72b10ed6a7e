import base64
import builtins
import gzip
import hashlib
import http.server
import io
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest

from groundup.core.errors import DataError, StorageError, UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, find_shards, open_records, read_shard
from groundup.corpus.reading import download as downloads
from groundup.corpus.reading.download import download

BODY = b"".join(b'{"text": "line %d"}\n' % number for number in range(3000))


TAG = '"version 2"'


class Server(http.server.BaseHTTPRequestHandler):
    """Sends BODY in pieces: each connection breaks after a third of it."""

    ranges: list[str] = []  # noqa: RUF012 (shared on purpose)

    def do_GET(self) -> None:
        if self.path == "/locked/x.txt?token=topsecret":
            self._locked()
            return
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

    def _locked(self) -> None:
        """Gives its text to one user only."""
        known = self.headers.get("Authorization") == f"Basic {base64.b64encode(b'me:pass word').decode()}"
        self.send_response(200 if known else 401)
        self.send_header("Content-Length", "5" if known else "0")
        self.end_headers()
        self.wfile.write(b"words" if known else b"")

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setenv("GROUNDUP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(downloads, "_PAUSE", 0.0)
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
    partial.with_name("x.jsonl.partial.version").write_text(TAG, "utf-8")
    Server.ranges.clear()
    assert download(url).read_bytes() == BODY and Server.ranges == [f"bytes={len(BODY) - 100}-"]


def test_what_is_left_of_an_unknown_version_is_not_used(web: str) -> None:
    url = f"{web}/deep/x.jsonl"
    path = download(url)
    path.rename(path.with_name("x.jsonl.partial")).write_bytes(b"x" * 100)
    Server.ranges.clear()
    assert download(url).read_bytes() == BODY and Server.ranges[0] == ""


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


def test_passwords_and_tokens_open_and_are_never_told(web: str, tmp_path: Path, capfd: Any) -> None:
    host = web.removeprefix("http://")
    url = f"http://me:pass%20word@{host}/locked/x.txt?token=topsecret"
    (found,) = open_records(url)
    assert isinstance(found, Document) and (found.id, found.text) == ("x.txt", "words")
    several = [item.id for item in open_records([url, url.replace("me:", "me:") + "#", f"{web}/deep/x.jsonl"])][:2]
    wrong = url.replace("pass%20word", "wrongword")
    with pytest.raises(DataError, match=r"401 .*; give the user and password") as caught:
        list(open_records(wrong))
    assert f"http://{host}/locked/x.txt?token=…" in str(caught.value)
    with pytest.raises(DataError, match="check the address") as malformed:
        list(open_records(f"http://me:wrongword@{host}x/y?key=topsecret"))
    kept = "".join(str(file) + file.read_text("utf-8") for file in tmp_path.rglob("*") if file.is_file())
    told = f"{caught.value}{malformed.value}{several}{kept}{''.join(capfd.readouterr())}"
    assert not [secret for secret in ("pass%20word", "pass word", "wrongword", "topsecret") if secret in told]


def test_a_cached_file_that_is_not_the_one_that_is_wanted_comes_again(web: str) -> None:
    url = f"{web}/deep/x.jsonl"
    path = download(url)
    origin = path.with_name("x.jsonl.origin.json")
    path.write_bytes(b"of another day")
    origin.write_text(json.dumps({"sha256": "0" * 64}), "utf-8")
    assert download(url).read_bytes() == b"of another day"
    assert download(f"{url}#sha256={hashlib.sha256(BODY).hexdigest().upper()}").read_bytes() == BODY


def test_a_server_that_sends_another_part_is_not_believed(tmp_path: Path) -> None:
    class Answer:
        headers: ClassVar = {"Content-Range": "bytes 7-9/10"}

    partial = tmp_path / "x.partial"
    partial.write_bytes(b"12345")
    with pytest.raises(OSError, match="sends byte 7 and not 5"):
        downloads._begin(Answer(), partial, 5)
    assert not partial.exists()


def test_what_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(downloads, "_TIMEOUT", 0)
    with pytest.raises(TimeoutError, match="1 bytes came in 0 seconds"):
        list(downloads._chunks(io.BytesIO(b"x")))
    monkeypatch.setattr(downloads, "_SPARE", 2**62)
    with pytest.raises(StorageError, match="no space left"):
        downloads._check_space(tmp_path / "x.partial", 1)


def test_a_store_that_fails_is_told_and_costs_no_table(store: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    import pyarrow

    raw = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": ["words"]}), raw)
    store.pipe("/set/x.parquet", raw.getvalue())
    shards = find_shards(["memory://set"], ReadingConfig())

    def refuse(*_: Any, **__: Any) -> bytes:
        raise PermissionError("403 of the store\nwith more lines")

    monkeypatch.setattr(type(store.open("/set/x.parquet")), "read", refuse)
    with pytest.raises(DataError, match=r"set/x\.parquet: 403 of the store with more lines; check"):
        list(read_shard(shards[0], ReadingConfig()))


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


def test_a_missing_package_and_an_unknown_store_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("fsspec")
    with pytest.raises(UsageError, match="nosuch://"):
        find_shards(["nosuch://x/y"], ReadingConfig())
    fsspec = pytest.importorskip("fsspec")

    def refuse(scheme: str) -> None:
        raise ImportError(f"install the package of {scheme}")

    with monkeypatch.context() as patch:
        patch.setattr(fsspec, "get_filesystem_class", refuse)
        with pytest.raises(UsageError, match="pip install s3fs"):
            find_shards(["s3://bucket/name"], ReadingConfig())
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name in ("fsspec", "huggingface_hub"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"s3:// needs fsspec; pip install 'groundup\[data\]'"):
        find_shards(["s3://bucket/name"], ReadingConfig())
    with pytest.raises(UsageError, match=r"hf:// needs huggingface_hub; pip install 'groundup\[data\]'"):
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
