import gzip
import io
import json
from pathlib import Path
from typing import Any

import pytest

from groundup.corpus.reading import ReadingConfig
from groundup.corpus.reading.warc import read_links

HTML = "text/html; charset=utf-8"


def record(kind: str, content: bytes, url: str = "https://x.org/", **headers: str) -> bytes:
    lines = ["WARC/1.0", f"WARC-Type: {kind}", f"WARC-Target-URI: {url}", "WARC-Date: 2024-05-01T00:00:00Z"]
    lines += ["WARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-000000000001>"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, f"Content-Length: {len(content)}", "", ""]).encode() + content + b"\r\n\r\n"


def response(body: bytes, mime: str = HTML, status: str = "200 OK", more: str = "", **headers: str) -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {mime}\r\n{more}Content-Length: {len(body)}\r\n\r\n".encode() + body
    return record("response", http, Content_Type="application/http; msgtype=response", **headers)


def page(words: str) -> bytes:
    return f"<html><head><title>A &amp; B</title></head><body>{words}</body></html>".encode()


def test_pages_of_a_warc(tmp_path: Path, read: Any) -> None:
    records = [
        record("warcinfo", b"software: x\r\n", Content_Type="application/warc-fields"),
        record("request", b"GET / HTTP/1.1\r\n\r\n", Content_Type="application/http; msgtype=request"),
        response(page("Grüße")),
        record("metadata", b"fetchTimeMs: 3\r\n", Content_Type="application/warc-fields"),
        response(page("gone"), status="404 Not Found"),
        response(b"\x89PNG", mime="image/png"),
        response(b"plain words", mime="text/plain"),
        response(gzip.compress(page("packed")), more="Content-Encoding: gzip\r\n"),
        response(b""),
        response(page("x" * 9000)),
    ]
    (tmp_path / "x.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    (tmp_path / "x.warc").write_bytes(b"".join(records))
    kept, dropped = read(tmp_path, ReadingConfig(max_megabytes=0.005))
    for name in ("x.warc.gz", "x.warc"):
        assert [(i, d.title) for i, d in kept.items() if i.startswith(f"{name}:")] == [
            (f"{name}:1", "A & B"),
            (f"{name}:4", "x 4"),
            (f"{name}:5", "A & B"),
        ]
        assert {i.rpartition(":")[2]: d.reason for i, d in dropped.items() if i.startswith(f"{name}:")} == {
            "2": "HTTP status",
            "3": "not a page",
            "6": "empty",
            "7": "too large",
        }
    assert "Grüße" in kept["x.warc:1"].text and "packed" in kept["x.warc:5"].text
    facts = {"url": "https://x.org/", "date": "2024-05-01T00:00:00Z"}
    assert kept["x.warc:1"].facts == {**facts, "mime": "text/html", "kind": "html"}
    assert kept["x.warc:4"].facts == {**facts, "mime": "text/plain"}


def test_texts_of_a_wet(tmp_path: Path, read: Any) -> None:
    texts = ["one", "zwei Äpfel"]
    records = [record("warcinfo", b"a: b\r\n", Content_Type="application/warc-fields")]
    records += [
        record("conversion", text.encode(), Content_Type="text/plain", WARC_Identified_Content_Language="deu")
        for text in texts
    ]
    (tmp_path / "x.warc.wet.gz").write_bytes(b"".join(map(gzip.compress, records)))
    kept, dropped = read(tmp_path)
    assert [d.text for d in kept.values()] == texts and not dropped
    assert kept["x.warc.wet.gz:1"].facts["language"] == "deu" and "kind" not in kept["x.warc.wet.gz:1"].facts


def test_links_of_a_wat(tmp_path: Path, read: Any) -> None:
    links = [{"path": "A@/href", "url": "/about", "text": " About "}, {"path": "IMG@/src", "url": "x.png"}]
    page = {"Head": {"Title": "Home"}, "Links": links}
    envelope = {"Envelope": {"Payload-Metadata": {"HTTP-Response-Metadata": {"HTML-Metadata": page}}}}
    records = [json.dumps(envelope).encode(), b"{broken", b"{}"]
    path = tmp_path / "x.warc.wat.gz"
    path.write_bytes(b"".join(gzip.compress(record("metadata", r, Content_Type="application/json")) for r in records))
    kept, dropped = read(path)
    assert not kept and {d.reason for d in dropped.values()} == {"metadata only"} and len(dropped) == 3
    (found,) = read_links(path)
    assert (found.url, found.title, found.links) == ("https://x.org/", "Home", (("/about", "About"),))


def test_troubles_of_archives_keep_what_came_before(tmp_path: Path, read: Any) -> None:
    records = [response(page(f"{number} " + "word " * 2000)) for number in range(4)]
    whole = b"".join(map(gzip.compress, records))
    (tmp_path / "cut.warc.gz").write_bytes(whole[:-40])
    (tmp_path / "cut.warc").write_bytes(b"".join(records)[:-5000])
    (tmp_path / "foreign.warc").write_bytes(b"no archive at all\n" * 50)
    (tmp_path / "void.warc").touch()
    kept, dropped = read(tmp_path)
    assert {f"cut.warc.gz:{n}" for n in (1, 2, 3)} <= set(kept) and {f"cut.warc:{n}" for n in (1, 2, 3)} <= set(kept)
    assert dropped["cut.warc.gz:rest"].reason == "truncated archive"
    assert dropped["foreign.warc:1"].reason == "damaged record"
    assert dropped["void.warc"].reason == "empty"
    assert [d.reason for i, d in dropped.items() if i.startswith("cut.warc:")] == ["truncated record"]


@pytest.mark.parametrize(
    ("raw", "mime", "words"),
    [
        (page("Grüße"), "text/html", "Grüße"),
        (page("Grüße"), "text/html; charset=iso-8859-1", "Grüße"),
        ("Grüße".encode("latin-1"), "text/html; charset=iso-8859-1", "Grüße"),
        ("“Grüße”".encode("cp1252"), "text/html; charset=latin1", "“Grüße”"),
        (b"<meta charset='shift_jis'>" + "日本".encode("cp932"), "text/html", "日本"),
        (
            b'<meta http-equiv="Content-Type" content="text/html;charset=gb2312">' + "中文".encode("gbk"),
            "text/html",
            "中文",
        ),
        ("日本".encode("iso-2022-jp"), "text/html; charset=iso-2022-jp", "日本"),
        ("é".encode("utf-16"), "text/html", "é"),
        (page("word " * 100) + b"\xff", "text/html", "\ufffd"),
    ],
)
def test_encodings_of_pages(tmp_path: Path, read: Any, raw: bytes, mime: str, words: str) -> None:
    (tmp_path / "x.warc").write_bytes(response(raw, mime))
    kept, dropped = read(tmp_path)
    assert not dropped and words in kept["x.warc:1"].text
    assert kept["x.warc:1"].measures == ({"bytes.repaired": 1.0} if words == "\ufffd" else {})


def test_a_page_in_no_encoding_is_dropped(tmp_path: Path, read: Any) -> None:
    (tmp_path / "a.html").write_bytes(b"\x81\xff\x8d" * 50)
    (tmp_path / "b.html").write_bytes(b"<p>" + b"\0" * 50)
    (tmp_path / "c.html").write_bytes(b"<meta charset=rot13>" + b"\xe9" * 50)
    (tmp_path / "d.html").write_bytes(page("good"))
    kept, dropped = read(tmp_path)
    assert {i: d.reason for i, d in dropped.items()} == {
        "a.html": "unknown encoding",
        "b.html": "binary",
        "c.html": "unknown encoding",
    }
    assert kept["d.html"].facts == {"kind": "html"} and kept["d.html"].title == "A & B"
    assert io.StringIO(kept["d.html"].text).read().startswith("<html>")
