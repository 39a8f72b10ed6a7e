import io
import zipfile
from pathlib import Path
from typing import Any

import pytest

from groundup.corpus.reading import ReadingConfig, books

CONTAINER = '<container xmlns="x"><rootfiles><rootfile full-path="OPS/book.opf"/></rootfiles></container>'
PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" xmlns:dc="http://purl.org/dc/elements/1.1/">
 <metadata><dc:title>The Book</dc:title><dc:language>en</dc:language><dc:rights>CC BY</dc:rights></metadata>
 <manifest>
  <item id="b" href="two%20b.xhtml" media-type="application/xhtml+xml"/>
  <item id="a" href="../one.xhtml" media-type="application/xhtml+xml"/>
  <item id="c" href="../../../../etc/passwd" media-type="application/xhtml+xml"/>
  <item id="i" href="cover.png" media-type="image/png"/>
 </manifest>
 <spine><itemref idref="i"/><itemref idref="a"/><itemref idref="b"/>LAST</spine>
</package>"""


def page(words: str) -> str:
    return f"<html xmlns='http://www.w3.org/1999/xhtml'><head><title>t</title></head><body><h1>{words}</h1><p>Text.</p></body></html>"


def epub(package: str = PACKAGE, **more: str) -> bytes:
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w", zipfile.ZIP_DEFLATED) as book:
        book.writestr("META-INF/container.xml", CONTAINER)
        book.writestr("OPS/book.opf", package)
        book.writestr("one.xhtml", page("First"))
        book.writestr("OPS/two b.xhtml", page("Second"))
        for name, text in more.items():
            book.writestr(name, text)
    return raw.getvalue()


def pdf(*texts: str, repeat: int = 1) -> bytes:
    """A PDF of one line of text a page; all of them may come several times."""
    objects = [b"<</Type/Catalog/Pages 2 0 R>>"]
    kids = b" ".join([b"%d 0 R" % (4 + 2 * number) for number in range(len(texts))] * repeat)
    objects.append(b"<</Type/Pages/Kids[%s]/Count %d>>" % (kids, len(texts) * repeat))
    objects.append(b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>")
    for number, text in enumerate(texts):
        body = b"BT /F1 12 Tf 72 720 Td (%s) Tj ET" % text.encode()
        objects.append(
            b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 612 792]/Resources<</Font<</F1 3 0 R>>>>/Contents %d 0 R>>"
            % (5 + 2 * number)
        )
        objects.append(b"<</Length %d>>stream\n%s\nendstream" % (len(body), body))
    raw, places = b"%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(raw))
        raw += b"%d 0 obj%s endobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % place for place in places)
    head = b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    return raw + head + table + b"trailer<</Size %d/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(objects) + 1, len(raw))


def test_epub_in_the_order_of_its_spine(tmp_path: Path, read: Any) -> None:
    pytest.importorskip("resiliparse")
    (tmp_path / "x.epub").write_bytes(epub())
    kept, dropped = read(tmp_path)
    (book,) = kept.values()
    assert not dropped and book.title == "The Book" and book.facts == {"language": "en", "licence": "CC BY"}
    words = book.text.split()
    assert [word for word in words if word in ("First", "Second")] == ["First", "Second"] and "Text." in words


def test_troubles_of_epub(tmp_path: Path, read: Any) -> None:
    pytest.importorskip("resiliparse")
    whole = epub()
    files = {
        "cut.epub": whole[: len(whole) // 2],
        "none.epub": b"no zip",
        "outside.epub": epub(PACKAGE.replace('"a"/><itemref idref="b"/>', '"c"/>')),
        "laughs.epub": epub('<!DOCTYPE l [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>' + PACKAGE.replace("LAST", "&b;")),
        "fetch.epub": epub('<!DOCTYPE l [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + PACKAGE.replace("LAST", "&a;")),
        "locked.epub": epub(**{"META-INF/encryption.xml": "<e><CipherReference URI='one.xhtml'/></e>"}),
        "bomb.epub": epub(PACKAGE.replace("two%20b", "large"), **{"OPS/large.xhtml": page("a " * 10**5)}),
    }
    for name, raw in files.items():
        (tmp_path / name).write_bytes(raw)
    kept, dropped = read(tmp_path, ReadingConfig(max_megabytes=0.05))
    assert not kept
    assert {name: item.reason for name, item in dropped.items()} == {
        "cut.epub": "damaged EPUB",
        "none.epub": "damaged EPUB",
        "outside.epub": "no text",
        "laughs.epub": "unsafe XML",
        "fetch.epub": "unsafe XML",
        "locked.epub": "encrypted",
        "bomb.epub": "too large",
    }


def test_pdf_page_by_page(tmp_path: Path, read: Any) -> None:
    pytest.importorskip("pypdf")
    (tmp_path / "x.pdf").write_bytes(pdf("Hello page one", "And page two"))
    kept, dropped = read(tmp_path)
    assert kept["x.pdf"].text == "Hello page one\n\nAnd page two" and not dropped


def test_a_pdf_that_draws_without_end_is_stopped(tmp_path: Path, read: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pypdf")
    monkeypatch.setattr(books, "_OPERATIONS", 40)
    (tmp_path / "bomb.pdf").write_bytes(pdf("x) Tj (" * 3, repeat=1000))
    monkeypatch.setattr(books, "_PAGE_OPERATIONS", 10)
    (tmp_path / "page.pdf").write_bytes(pdf("x) Tj (" * 20, "and page two"))
    monkeypatch.setattr(books, "_PAGE_BYTES", 10**4)
    (tmp_path / "wide.pdf").write_bytes(pdf("x" * 10**4, "and page two"))
    kept, dropped = read(tmp_path)
    assert {name: item.reason for name, item in dropped.items()} == {"bomb.pdf": "decompression bomb"}
    assert {name: (item.text, item.measures) for name, item in kept.items()} == {
        name: ("and page two", {"pages.lost": 1.0}) for name in ("page.pdf", "wide.pdf")
    }


def test_troubles_of_pdf(tmp_path: Path, read: Any) -> None:
    pypdf = pytest.importorskip("pypdf")
    (tmp_path / "none.pdf").write_bytes(b"no PDF at all")
    (tmp_path / "scan.pdf").write_bytes(pdf(""))
    (tmp_path / "damaged.pdf").write_bytes(pdf("one", "two").replace(b"/Contents 5 0 R", b"/Contents 1 0 R", 1))
    writer = pypdf.PdfWriter(io.BytesIO(pdf("secret")))
    writer.encrypt("password", algorithm="RC4-128")
    writer.write(tmp_path / "locked.pdf")
    kept, dropped = read(tmp_path)
    assert {name: item.reason for name, item in dropped.items()} == {
        "none.pdf": "damaged PDF",
        "scan.pdf": "no text",
        "locked.pdf": "encrypted",
    }
    assert "two" in kept["damaged.pdf"].text
