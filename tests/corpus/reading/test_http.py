import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.corpus.reading.http import fields, response

brotli = pytest.importorskip("brotli")
zstandard = pytest.importorskip("zstandard")
WHOLE = 10**6


def chunked(body: bytes, sizes: list[int], extension: bytes = b"", trailer: bytes = b"") -> bytes:
    """RFC 9112, section 7.1."""
    pieces, place = [], 0
    for size in [*sizes, len(body)]:
        if piece := body[place : place + size]:
            pieces.append(b"%x%s\r\n%s\r\n" % (len(piece), extension, piece))
        place += size
    return b"".join([*pieces, b"0\r\n", trailer, b"\r\n"])


def raw_deflate(body: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(body) + packer.flush()


CODINGS = {
    "gzip": gzip.compress,
    "x-gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.compress,
}


def sent(body: bytes, *lines: str, status: str = "HTTP/1.1 200 OK", end: str = "\r\n") -> bytes:
    return end.join([status, *lines, "", ""]).encode("latin-1") + body


def decoded(raw: bytes, limit: int = WHOLE) -> tuple[bytes, bool]:
    found = response(raw)
    assert found is not None
    return found.decoded(limit)


@given(
    body=st.binary(max_size=3000),
    codings=st.lists(st.sampled_from([*CODINGS, "identity", "utf-8"]), max_size=3),
    sizes=st.lists(st.integers(1, 900), max_size=4),
    pieces=st.booleans(),
)
def test_what_was_encoded_is_decoded(body: bytes, codings: list[str], sizes: list[int], pieces: bool) -> None:
    wire = body
    for coding in codings:
        wire = CODINGS.get(coding, bytes)(wire)
    lines = [f"Content-Encoding: {', '.join(codings).upper()}"] if codings else []
    if pieces:
        wire = chunked(wire, sizes, b";name=value", b"Expires: never\r\n")
        lines.append("transfer-encoding: Chunked")
    assert decoded(sent(wire, *lines)) == (body, True)


@pytest.mark.parametrize("coding", [*CODINGS, "chunked"])
def test_a_body_that_is_not_in_its_coding_is_taken_as_it_is(coding: str) -> None:
    """Crawlers that decode a body and keep its fields; servers that do not know what they say."""
    field = "Transfer-Encoding" if coding == "chunked" else "Content-Encoding"
    body = b"<html><p>plain words</p></html>"
    assert decoded(sent(body, f"{field}: {coding}")) == (body, True)


def test_deflate_without_a_frame() -> None:
    assert decoded(sent(raw_deflate(b"words " * 99), "Content-Encoding: deflate")) == (b"words " * 99, True)


@pytest.mark.parametrize("coding", [*CODINGS, "raw deflate"])
def test_bodies_that_end_early_give_what_is_there(coding: str) -> None:
    body = b"".join(b"%d words, " % (number * number) for number in range(5000))
    packed = CODINGS.get(coding, raw_deflate)(body)
    found, whole = decoded(sent(packed[: len(packed) // 2], f"Content-Encoding: {coding.removeprefix('raw ')}"))
    assert not whole and body.startswith(found) and (found or coding == "zstd")


def test_chunks_that_end_early_give_what_is_there() -> None:
    wire = chunked(b"x" * 1000, [100] * 10)
    for end in (len(wire) - 5, 600, 107):
        found, whole = decoded(sent(wire[:end], "Transfer-Encoding: chunked"))
        assert not whole and 90 < len(found) <= 1000 and set(found) == {ord("x")}


@pytest.mark.parametrize("coding", CODINGS)
def test_a_bomb_is_not_unpacked(coding: str) -> None:
    found, _ = decoded(sent(CODINGS[coding](b"a" * 30_000_000), f"Content-Encoding: {coding}"), limit=10_000)
    assert len(found) == 10_001


@pytest.mark.parametrize("end", ["\r\n", "\n"])
@pytest.mark.parametrize("status", ["HTTP/1.0 200 OK", "HTTP/1.1 200", "HTTP/2 200", "ICY 200 OK"])
def test_status_lines(status: str, end: str) -> None:
    found = response(sent(b"body", "A: b", status=status, end=end))
    assert found is not None and (found.status, found.fields, found.body) == (200, {"a": "b"}, b"body")


def test_the_final_response_counts() -> None:
    found = response(sent(sent(b"body", status="HTTP/1.1 404 Not Found"), "Link: x", status="HTTP/1.1 103 Early Hints"))
    assert found is not None and (found.status, found.body) == (404, b"body")


@pytest.mark.parametrize(
    "raw", [b"", b"<html>", b"HTTP/1.1 2000 No", b"GET / HTTP/1.1\r\n\r\n", b"HTTP/1.1 100 Go\r\n\r\n"]
)
def test_no_response(raw: bytes) -> None:
    assert response(raw) is None


def test_a_response_without_fields_or_end() -> None:
    for raw, body in (
        (b"HTTP/1.1 200 OK\r\n\r\nbody", b"body"),
        (b"HTTP/1.1 200 OK", b""),
        (b"HTTP/1.1 200 OK\r\nA: b", b""),
    ):
        found = response(raw)
        assert found is not None and found.body == body


def test_fields() -> None:
    raw = b"Folded: a\r\n  b\r\n\tc\r\nTWICE: 1\r\ntwice: 2\r\nno colon\r\nUTF: \xc3\xa9\r\nLatin: \xe9\r\nEmpty:\r\n"
    assert fields(raw) == {"folded": "a b c", "twice": "1", "utf": "é", "latin": "é", "empty": ""}


@given(st.binary(max_size=400))
def test_no_bytes_are_too_strange(raw: bytes) -> None:
    for start in (b"", b"HTTP/1.1 200 OK\r\nContent-Encoding: br, gzip, zstd, deflate\r\n\r\n"):
        if (found := response(start + raw)) is not None:
            assert len(found.decoded(1000)[0]) <= 1001 + len(raw)
