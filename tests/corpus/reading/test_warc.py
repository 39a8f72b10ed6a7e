"""The clauses of ISO 28500 (WARC 1.0 and 1.1) that a reader must keep, and what archives have that break them."""

import gzip
import io
import zlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, open_records
from tests.corpus.reading.test_web import page, record, response

HTTP = "Content-Type: application/http; msgtype=response"
PAGE = page("Hello")
LATIN_2 = "<p>Grüße</p>".encode("iso-8859-2")
AFTER = response(page("after"))


def sent(body: bytes, *lines: str, status: str = "HTTP/1.1 200 OK", mime: str = "text/html; charset=utf-8") -> bytes:
    head = [status, *([f"Content-Type: {mime}"] if mime else []), *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body


def raw(kind: str, block: bytes, *lines: str, version: str = "1.1", length: str = "") -> bytes:
    head = [f"WARC/{version}", f"WARC-Type: {kind}", "WARC-Target-URI: https://x.org/", *lines]
    head += [f"Content-Length: {length or len(block)}"] if length != "none" else []
    return "\r\n".join([*head, "", ""]).encode("latin-1") + block + b"\r\n\r\n"


def chunked(body: bytes) -> bytes:
    return b"a\r\n%s\r\n%x\r\n%s\r\n0\r\n\r\n" % (body[:10], len(body) - 10, body[10:])


def told(items: list[Document | Dropped]) -> list[str]:
    """ "Hello" for the page of that word, the reason of what was dropped."""
    return [
        item.reason if isinstance(item, Dropped) else next(w for w in ("after", "Hello", "Grüße") if w in item.text)
        for item in items
    ]


def read(folder: Path, content: bytes, config: ReadingConfig | None = None) -> list[Document | Dropped]:
    """The records of an archive, which are the same packed record by record, packed as one, and not packed."""
    (folder / "x.warc").write_bytes(content)
    found = list(open_records(folder / "x.warc", config))
    half = len(content) // 2
    for members in ([content], [content[:half], content[half:]]):
        (folder / "x.warc.gz").write_bytes(b"".join(map(gzip.compress, members)))
        packed = list(open_records(folder / "x.warc.gz", config))
        assert told(packed) == told(found)
    return found


GOOD = {
    "version 1.0": raw("response", sent(PAGE), HTTP, version="1.0"),
    "version 0.18": raw("response", sent(PAGE), HTTP, version="0.18"),
    "type in capitals": raw("RESPONSE", sent(PAGE), HTTP),
    "no msgtype": raw("response", sent(PAGE), "Content-Type: application/http"),
    "media type in capitals": raw("response", sent(PAGE), "CONTENT-TYPE: Application/HTTP;msgtype=response"),
    "folded field": raw("response", sent(PAGE), "Content-Type: application/http;\r\n\tmsgtype=response"),
    "folded field of the page": raw("response", sent(PAGE, mime="text/html;\r\n charset=utf-8"), HTTP),
    "fields in Latin-1": raw("response", sent(PAGE, "X: \xe9\xff"), HTTP, "X: \xe9\xff"),
    "fields without a colon": raw("response", sent(PAGE, "garbage"), HTTP, "garbage"),
    "lines of the page end in LF": raw("response", sent(PAGE).replace(b"\r\n", b"\n"), HTTP),
    "continue first": raw("response", b"HTTP/1.1 100 Continue\r\n\r\n" + sent(PAGE), HTTP),
    "HTTP/2": raw("response", sent(PAGE, status="HTTP/2 200"), HTTP),
    "chunks that are none": raw("response", sent(PAGE, "Transfer-Encoding: chunked"), HTTP),
    "gzip that is none": raw("response", sent(PAGE, "Content-Encoding: gzip"), HTTP),
    "an encoding that is none": raw("response", sent(PAGE, "Content-Encoding: utf-8"), HTTP),
    "gzip in chunks": raw(
        "response", sent(chunked(gzip.compress(PAGE)), "Transfer-Encoding: chunked", "Content-Encoding: gzip"), HTTP
    ),
    "deflate": raw("response", sent(zlib.compress(PAGE), "Content-Encoding: deflate"), HTTP),
    "length of the page too small": raw("response", sent(PAGE, "Content-Length: 5"), HTTP),
    "length of the page too large": raw("response", sent(PAGE, "Content-Length: 5000"), HTTP),
    "the crawler knows the type": raw("response", sent(PAGE, mime=""), HTTP, "WARC-Identified-Payload-Type: text/html"),
    "nobody knows the type": raw("response", sent(PAGE, mime=""), HTTP),
    "no HTTP": raw("response", PAGE, HTTP),
    "a file": raw("resource", PAGE, "Content-Type: text/html; charset=utf-8"),
    "a file in Latin-2": raw("resource", LATIN_2, 'Content-Type: text/html; charset="ISO-8859-2"'),
    "a text in Latin-1": raw("conversion", "Grüße".encode("latin-1"), "Content-Type: text/plain; charset=iso-8859-1"),
    "no blank lines after it": raw("response", sent(PAGE), HTTP)[:-4],
}


@pytest.mark.parametrize("name", GOOD)
def test_records_that_are_read(tmp_path: Path, name: str) -> None:
    found = told(read(tmp_path, GOOD[name] + AFTER))
    assert found in (["Hello", "after"], ["Grüße", "after"])


PASSED_OVER = {
    "request": raw("request", b"GET / HTTP/1.1\r\n\r\n", "Content-Type: application/http; msgtype=request"),
    "revisit": raw(
        "revisit", sent(b""), HTTP, "WARC-Profile: http://netpreserve.org/warc/1.1/revisit/server-not-modified"
    ),
    "continuation": raw("continuation", PAGE, "WARC-Segment-Number: 2", "WARC-Segment-Total-Length: 300"),
    "metadata": raw("metadata", b"a: b\r\n", "Content-Type: application/warc-fields"),
    "a type of tomorrow": raw("summary", PAGE, "Content-Type: text/html"),
}


@pytest.mark.parametrize("name", PASSED_OVER)
def test_records_that_hold_no_text_of_their_own(tmp_path: Path, name: str) -> None:
    found = read(tmp_path, PASSED_OVER[name] + AFTER)
    assert told(found) == ["after"] and isinstance(found[0], Document) and found[0].id.endswith(":1")


DROPPED = {
    "segmented record": raw("response", sent(PAGE[:30]), HTTP, "WARC-Segment-Number: 1"),
    "HTTP status": raw("response", sent(PAGE, status="HTTP/1.1 206 Partial Content"), HTTP),
    "not a page": raw("resource", b"x", "Content-Type: text/dns"),
    "damaged record": b"what is this?\r\n" * 9 + b"x" * 2**19 + b"WARC/1.0\r\nnot at the start of a line\r\n",
}


@pytest.mark.parametrize("reason", DROPPED)
def test_records_that_are_dropped(tmp_path: Path, reason: str) -> None:
    found = read(tmp_path, AFTER + DROPPED[reason] + AFTER)
    # To what is no record, the record before it may owe its end.
    assert told(found) == (["after", reason, "after"] if reason != "damaged record" else [reason, "after"])


def test_a_page_of_unknown_type_that_is_none(tmp_path: Path) -> None:
    (found,) = read(tmp_path, raw("response", sent(b"%PDF-1.7", mime=""), HTTP))
    assert isinstance(found, Dropped) and (found.reason, found.detail) == ("not a page", "its type is not given")


@pytest.mark.parametrize("length", ["none", "abc", "-5", "9" * 40, "80", "²"])
def test_a_wrong_length_costs_one_record(tmp_path: Path, length: str) -> None:
    found = read(tmp_path, AFTER + raw("response", sent(PAGE), HTTP, length=length) + AFTER + AFTER)
    assert told(found) == ["after", "damaged record", "after", "after"]
    assert [item.document.id if isinstance(item, Dropped) else item.id for item in found][1].endswith(":2")


def test_a_length_that_reaches_into_the_next_record_costs_both(tmp_path: Path) -> None:
    long = raw("response", sent(PAGE), HTTP, length=str(len(sent(PAGE)) + 30))
    assert told(read(tmp_path, long + AFTER + AFTER)) == ["damaged record", "after"]


def test_what_was_cut_off_says_so(tmp_path: Path) -> None:
    packed = gzip.compress(page("Hello " + " ".join(map(str, range(3000)))))
    records = [
        raw("response", sent(PAGE), HTTP, "WARC-Truncated: length"),
        raw("response", sent(packed[: len(packed) // 2], "Content-Encoding: gzip"), HTTP),
        raw("response", sent(PAGE), HTTP),
    ]
    found = [item.facts.get("truncated") for item in read(tmp_path, b"".join(records)) if isinstance(item, Document)]
    assert found == ["length", "unspecified", None]


def test_the_archive_of_another_library_is_read(tmp_path: Path) -> None:
    """FastWARC and we find the same bodies where no clause is broken."""
    fastwarc = pytest.importorskip("fastwarc.warc")
    bodies = [page(f"words {number} " * number) for number in range(40)]
    content = b"".join(map(gzip.compress, [record("warcinfo", b"a: b\r\n"), *map(response, bodies)]))
    (tmp_path / "x.warc.gz").write_bytes(content)
    wanted = fastwarc.WarcRecordType.response
    theirs = [each.reader.read() for each in fastwarc.ArchiveIterator(io.BytesIO(content), record_types=wanted)]
    ours = [item.text.encode() for item in open_records(tmp_path / "x.warc.gz") if isinstance(item, Document)]
    assert ours == theirs == bodies


@given(junk=st.binary(max_size=300))
def test_no_damage_reaches_further_than_the_next_record(tmp_path_factory: pytest.TempPathFactory, junk: bytes) -> None:
    path = tmp_path_factory.mktemp("warc") / "x.warc"
    path.write_bytes(AFTER + b"\r\n" + junk + b"\r\n" + AFTER + AFTER)
    found: list[Any] = list(open_records(path))
    assert told(found)[-1] == "after" and len(found) <= 4
    assert len({item.document.id if isinstance(item, Dropped) else item.id for item in found}) == len(found)
