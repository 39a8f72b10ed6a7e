"""Data sets of Hugging Face through its own library, from a server that answers as the hub does."""

import http.server
import io
import json
import random
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import DataError
from groundup.corpus.build import CorpusConfig, build
from groundup.corpus.document import Document
from groundup.corpus.reading import ReadingConfig, find_shards, hub, open_records, read_shard
from groundup.corpus.reading.remote import list_urls

constants = pytest.importorskip("huggingface_hub.constants")
file_download = pytest.importorskip("huggingface_hub.file_download")
hub_files = pytest.importorskip("huggingface_hub").HfFileSystem
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")

TOKEN = "hf_secretsecretsecretsecret"
FIRST, SECOND = "1" * 40, "2" * 40


@dataclass
class Set:
    """A data set: its commits, and who may read it."""

    commits: dict[str, dict[str, bytes]]
    head: str = FIRST
    gated: bool = False
    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)

    def files(self, revision: str) -> dict[str, bytes] | None:
        return self.commits.get(self.refs.get(revision, self.head if revision == "main" else revision))

    def commit(self, revision: str) -> str:
        return self.refs.get(revision, self.head if revision == "main" else revision)


class Hub:
    """The parts of the hub's API that reading needs (https://huggingface.co/docs/hub/api)."""

    def __init__(self) -> None:
        self.sets: dict[str, Set] = {}
        self.sent: list[tuple[str, str, int]] = []
        """(file, range asked for, bytes sent)."""
        self.tokens: set[str] = set()
        self.url = ""

    def answer(self, handler: "Handler") -> None:
        token = (handler.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.tokens.add(token)
        path = urllib.parse.urlsplit(handler.path).path
        api = re.fullmatch(r"/api/datasets/([^/]+/[^/]+)(?:/(revision|tree)/([^/]+)(?:/(.*))?)?", path)
        file = re.fullmatch(r"/datasets/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
        found = api or file
        if found is None:
            handler.refuse(404, "", "no such page")
            return
        if token and token != TOKEN:
            handler.refuse(401, "", "Invalid credentials in Authorization header")
            return
        data = self.sets.get(found[1])
        if data is None or (data.private and not token):
            handler.refuse(404 if token else 401, "RepoNotFound", "Repository not found")
            return
        revision = urllib.parse.unquote((api[3] if api else found[2]) or "main")
        files = data.files(revision)
        if files is None:
            handler.refuse(404, "RevisionNotFound", "Invalid rev id")
        elif api and api[2] == "tree":
            self._tree(handler, files, urllib.parse.unquote(api[4] or ""))
        elif api:
            card = {"license": ["odc-by"], "pretty_name": "x"}
            handler.send_json({"id": found[1], "sha": data.commit(revision), "private": False, "cardData": card})
        elif data.gated and not token:
            handler.refuse(401, "GatedRepo", "Access to this dataset is restricted")
        else:
            name = urllib.parse.unquote(found[3])
            self.sent.append((name, handler.headers.get("Range") or "", handler.send_file(files[name])))

    def _tree(self, handler: "Handler", files: dict[str, bytes], folder: str) -> None:
        query = urllib.parse.parse_qs(urllib.parse.urlsplit(handler.path).query)
        below = {name: raw for name, raw in files.items() if not folder or name.startswith(f"{folder}/")}
        if not below:
            handler.refuse(404, "EntryNotFound", "no such folder")
            return
        rows: dict[str, dict[str, Any]] = {}
        start = len(folder) + 1 if folder else 0
        deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        for name, raw in below.items():
            parts = name[start:].split("/")
            for depth in range(1, len(parts)):
                directory = name[:start] + "/".join(parts[:depth])
                rows[directory] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": directory}
            rows[name] = {"type": "file", "oid": "0" * 40, "size": len(raw), "path": name}
        shown = [row for path, row in sorted(rows.items()) if deep or "/" not in path[start:]]
        page, cursor = 2, int(query.get("cursor", ["0"])[0])
        link = ""
        if len(shown) > cursor + page:
            place = handler.path.partition("?")[0]
            more = urllib.parse.urlencode({**{key: value[0] for key, value in query.items()}, "cursor": cursor + page})
            link = f'<{self.url}{place}?{more}>; rel="next"'
        handler.send_json(shown[cursor : cursor + page], link)


class Handler(http.server.BaseHTTPRequestHandler):
    hub: Hub

    def do_GET(self) -> None:
        self.hub.answer(self)

    def refuse(self, status: int, code: str, message: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def send_json(self, value: Any, link: str = "") -> None:
        raw = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(raw)))
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(raw)

    def send_file(self, raw: bytes) -> int:
        wish = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        begin, end = (int(wish[1]), int(wish[2] or len(raw) - 1) + 1) if wish else (0, len(raw))
        part = raw[begin:end]
        self.send_response(206 if wish else 200)
        self.send_header("Content-Length", str(len(part)))
        if wish:
            self.send_header("Content-Range", f"bytes {begin}-{begin + len(part) - 1}/{len(raw)}")
        self.end_headers()
        self.wfile.write(part)
        return len(part)

    def log_message(self, *_: Any) -> None:
        pass


def table(texts: list[str], group: int = 2, **more: list[Any]) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.table({"text": texts, **more}), out, row_group_size=group, use_dictionary=False)
    return out.getvalue()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    made = Hub()
    handler = type("Bound", (Handler,), {"hub": made})
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{web.server_port}"
    monkeypatch.setattr(constants, "ENDPOINT", made.url)  # what HF_ENDPOINT does before the library is loaded
    template = made.url + constants.HUGGINGFACE_CO_URL_TEMPLATE.removeprefix("https://huggingface.co")
    for module in (constants, file_download):
        monkeypatch.setattr(module, "HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-token"))
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "*")
    hub._ask.cache_clear()
    hub_files.clear_instance_cache()  # older ones do not ask where the hub is
    yield made
    web.shutdown()
    web.server_close()
    hub._ask.cache_clear()


CARD = b"---\nlicense: odc-by\n---\n# A data set"
FILES = {
    ".gitattributes": b"x",
    "README.md": CARD,
    "name.py": b"import datasets",
    "fr/train-0.parquet": table(["un", "deux", "trois"]),
    "en/train-0.parquet": table(["one", "two", "three"]),
    "en/test-0.parquet": table(["four"]),
    "raw/x.jsonl": b'{"text": "five"}\n',
}


def texts(*urls: str, config: ReadingConfig | None = None) -> list[str]:
    return [item.text if isinstance(item, Document) else item.reason for item in open_records(urls, config)]


def test_a_data_set_is_read_by_its_name(server: Hub) -> None:
    server.sets["owner/name"] = Set({FIRST: FILES})
    found = list(open_records("hf://datasets/owner/name"))
    assert [(item.id, item.text) for item in found if isinstance(item, Document)] == [
        ("en/test-0.parquet:1", "four"),
        ("en/train-0.parquet:1", "one"),
        ("en/train-0.parquet:2", "two"),
        ("en/train-0.parquet:3", "three"),
        ("fr/train-0.parquet:1", "un"),
        ("fr/train-0.parquet:2", "deux"),
        ("fr/train-0.parquet:3", "trois"),
        ("raw/x.jsonl:1", "five"),
    ]
    assert len(found) == 8


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("fr", ["un", "deux", "trois"]),
        ("fr/", ["un", "deux", "trois"]),
        ("en/test-*.parquet", ["four"]),
        ("*/train-?.parquet", ["one", "two", "three", "un", "deux", "trois"]),
        ("raw/x.jsonl", ["five"]),
        ("README.md", [CARD.decode()]),
    ],
)
def test_a_part_of_a_data_set_is_named_by_folder_glob_or_file(server: Hub, path: str, wanted: list[str]) -> None:
    server.sets["owner/name"] = Set({FIRST: FILES})
    assert texts(f"hf://datasets/owner/name/{path}") == wanted


def test_a_revision_is_a_branch_a_tag_a_commit_or_what_the_hub_converted(server: Hub) -> None:
    states = {FIRST: {"x.jsonl": b'{"text": "old"}'}, SECOND: {"x.jsonl": b'{"text": "new"}'}}
    server.sets["owner/name"] = Set(states, refs={"v1": FIRST, "refs/convert/parquet": SECOND})
    assert texts("hf://datasets/owner/name") == ["old"]
    assert texts(f"hf://datasets/owner/name@{SECOND}") == ["new"]
    assert texts("hf://datasets/owner/name@v1/x.jsonl") == ["old"]
    assert texts("hf://datasets/owner/name@refs/convert/parquet") == ["new"]


def test_all_files_are_of_the_commit_that_was_listed(server: Hub) -> None:
    data = Set({FIRST: {"x.jsonl": b'{"text": "old"}'}, SECOND: {"x.jsonl": b'{"text": "new"}'}})
    server.sets["owner/name"] = data
    shards = find_shards(["hf://datasets/owner/name"], ReadingConfig())
    assert f"@{FIRST}/" in shards[0].parts[0].path
    data.head = SECOND
    (found,) = read_shard(shards[0], ReadingConfig())
    assert isinstance(found, Document) and found.text == "old"


def test_of_a_table_only_the_parts_are_brought_that_are_used(server: Hub) -> None:
    groups, rows = 12, 4
    names = [f"text {number}" for number in range(groups * rows)]
    noise = random.Random(1).randbytes(2**20)
    large = table(names, rows, audio=[noise] * len(names))  # 48 MB that nobody reads
    server.sets["owner/name"] = Set({FIRST: {"x.parquet": large}})
    config = ReadingConfig(shard_megabytes=8)
    shards = find_shards(["hf://datasets/owner/name"], config)
    assert len(shards) > 4
    server.sent.clear()
    found = [item for item in read_shard(shards[2], config) if isinstance(item, Document)]
    begin = shards[2].parts[0].records
    assert [item.id for item in found] == [f"x.parquet:{begin + number + 1}" for number in range(len(found))]
    assert found[0].text == f"text {begin}"
    assert all(wish for _, wish, _ in server.sent) and sum(size for *_, size in server.sent) < len(large) / 2


@pytest.mark.parametrize(
    ("data", "url", "words"),
    [
        (None, "hf://datasets/owner/name", "no such data set, or it is private; check the name, .* HF_TOKEN"),
        (Set({FIRST: FILES}, private=True), "hf://datasets/owner/name", "or it is private; .* HF_TOKEN"),
        (Set({FIRST: FILES}, gated=True), "hf://datasets/owner/name", "gated or private; accept its terms .* HF_TOKEN"),
        (Set({FIRST: FILES}, gated=True), "hf://datasets/owner/name/raw", "gated or private; .* HF_TOKEN"),
        (Set({FIRST: FILES}), "hf://datasets/owner/name@v9", "no branch, tag or commit called v9"),
        (Set({FIRST: FILES}), "hf://datasets/owner/name/de", "no files there"),
        (Set({FIRST: FILES}), "hf://datasets/owner/name/*.csv", "no files there"),
        (Set({FIRST: {"README.md": CARD}}), "hf://datasets/owner/name", "no files there"),
    ],
    ids=["none", "private", "gated", "gated lines", "revision", "folder", "glob", "card alone"],
)
def test_what_may_not_be_read_is_one_line_with_the_remedy(server: Hub, data: Set | None, url: str, words: str) -> None:
    server.sets |= {"owner/name": data} if data else {}
    with pytest.raises(DataError, match=words) as caught:
        list(open_records(url))
    assert "hf://datasets/owner/name" in str(caught.value) and "\n" not in str(caught.value)


def test_the_token_opens_and_is_never_told(
    server: Hub, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    server.sets["owner/name"] = Set({FIRST: FILES}, gated=True, private=True)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with caplog.at_level("DEBUG"):
        assert texts("hf://datasets/owner/name/en/test-0.parquet") == ["four"]
        assert TOKEN in server.tokens
        monkeypatch.setenv("HF_TOKEN", wrong := TOKEN[::-1])
        with pytest.raises(DataError, match=r"token is not valid; .* HF_TOKEN") as caught:
            texts("hf://datasets/owner/other")
    told = f"{caught.value}{caplog.text}{''.join(capfd.readouterr())}"
    assert TOKEN not in told and wrong not in told


def test_a_corpus_records_commit_and_licence(server: Hub, tmp_path: Path) -> None:
    lines = b"".join(json.dumps({"text": f"words {number} " * 400}).encode() + b"\n" for number in range(8))
    server.sets["owner/name"] = Set({FIRST: {"x.jsonl": lines}})
    (tmp_path / "out").mkdir()
    build(CorpusConfig(inputs=("hf://datasets/owner/name",), steps=("long-enough",), workers=1), tmp_path / "out", 1)
    (row,) = json.loads((tmp_path / "out" / "sources.json").read_text("utf-8"))
    assert row["name"] == f"hf://datasets/owner/name@{FIRST}" and row["licence"] == "owner/name: odc-by"


def test_a_server_that_is_not_there_is_one_line(server: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match="check the name and the network") as caught:
        list_urls("hf://datasets/owner/name")
    assert "\n" not in str(caught.value)
