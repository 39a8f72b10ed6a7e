import bz2
import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, find_shards, open_records, read_shard

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" version="0.11" xml:lang="de">
  <siteinfo><sitename>Wikipedia</sitename><base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base></siteinfo>
"""
TAIL = "</mediawiki>\n"


def page(number: int, text: str = "", title: str = "", more: str = "", space: int = 0, model: str = "wikitext") -> str:
    return f"""  <page>
    <title>{title or f"Seite {number}"}</title>
    <ns>{space}</ns>
    <id>{number}</id>{more}
    <revision><id>9{number}</id><timestamp>2024-05-01T00:00:00Z</timestamp>
      <contributor><username>someone</username><id>7</id></contributor>
      <model>{model}</model>
      <text bytes="3" xml:space="preserve">{text or f"Text von '''{number}''' &amp; mehr"}</text></revision>
  </page>
"""


def test_articles_of_a_dump(tmp_path: Path, read: Any) -> None:
    pages = [
        page(1, "[[Anna]] &lt;ref&gt; &amp;c.", "Käse & Brot".replace("&", "&amp;")),
        page(2, more='<redirect title="X" />'),
        page(3, space=1),
        page(4, model="json"),
        page(5, "x" * 9000),
        page(6).replace("Text von '''6''' &amp; mehr", ""),
        page(7),
    ]
    (tmp_path / "x.xml.bz2").write_bytes(bz2.compress((HEAD + "".join(pages) + TAIL).encode()))
    kept, dropped = read(tmp_path, ReadingConfig(max_megabytes=0.005))
    assert list(kept) == ["x.xml.bz2:1", "x.xml.bz2:7"]
    assert {i.rpartition(":")[2]: d.reason for i, d in dropped.items()} == {
        "2": "redirect",
        "3": "not an article",
        "4": "not an article",
        "5": "too large",
        "6": "empty",
    }
    first = kept["x.xml.bz2:1"]
    assert (first.title, first.text) == ("Käse & Brot", "[[Anna]] <ref> &c.")
    assert first.facts == {
        "kind": "wikitext",
        "language": "de",
        "date": "2024-05-01T00:00:00Z",
        "url": "https://de.wikipedia.org/wiki/K%C3%A4se_%26_Brot",
    }


OLD = "<revision><timestamp>2001-01-01T00:00:00Z</timestamp><text>alt</text></revision>"


@pytest.mark.parametrize("order", ["ascending", "descending"])
def test_of_several_revisions_the_newest_counts(tmp_path: Path, read: Any, order: str) -> None:
    text = page(1, "neu", more=OLD if order == "ascending" else "")
    text = text if order == "ascending" else text.replace("</revision>", f"</revision>{OLD}")
    (tmp_path / "x.xml").write_text(HEAD + text + TAIL, encoding="utf-8")
    kept, _ = read(tmp_path)
    assert kept["x.xml:1"].text == "neu" and kept["x.xml:1"].facts["date"].startswith("2024")


def test_a_revision_has_nothing_of_the_one_before(tmp_path: Path, read: Any) -> None:
    later = "<revision><timestamp>2025-01-01T00:00:00Z</timestamp>{}</revision>"
    pages = [
        page(1, model="css").replace("</revision>", "</revision>" + later.format("<text>now prose</text>")),
        page(2).replace("</revision>", "</revision>" + later.format('<text deleted="deleted" />')),
        page(3).replace("</revision>", "</revision>" + later.format('<text bytes="99" id="7" sha1="x" />')),
    ]
    (tmp_path / "x.xml").write_text(HEAD + "".join(pages) + TAIL, encoding="utf-8")
    kept, dropped = read(tmp_path)
    assert {name: item.text for name, item in kept.items()} == {"x.xml:1": "now prose"}
    assert {name: item.detail for name, item in dropped.items()} == {
        "x.xml:2": "its text was hidden",
        "x.xml:3": "no text",
    }


def test_slots_uploads_and_comments_are_no_text(tmp_path: Path, read: Any) -> None:
    """Version 0.11: other slots stand in ``content``; files have ``upload``, which has dates of its own."""
    slot = (
        "<content><role>mediainfo</role><model>json</model><format>application/json</format><text>{}</text></content>"
    )
    upload = "<upload><timestamp>2030-01-01T00:00:00Z</timestamp><comment>c</comment><filename>f</filename></upload>"
    text = page(1, "Prosa").replace("</revision>", f"<sha1>s</sha1>{slot}<comment>k</comment></revision>{upload}")
    (tmp_path / "x.xml").write_text(HEAD + text + TAIL, encoding="utf-8")
    kept, dropped = read(tmp_path)
    assert not dropped and kept["x.xml:1"].text == "Prosa" and kept["x.xml:1"].facts["date"].startswith("2024")


@pytest.mark.parametrize("size", [64.0, 1e-4])
def test_namespaces_of_old_dumps_are_in_the_titles(tmp_path: Path, read: Any, size: float) -> None:
    """Before version 0.6 a page has no ``ns``, and no ``model``."""
    spaces = '<namespaces><namespace key="0" /><namespace key="1">Diskussion</namespace></namespaces></siteinfo>'
    titles = ["Anna", "Diskussion:Anna", "Terminator: Teil 2", "Diskussion"]
    pages = [page(number, title=title) for number, title in enumerate(titles)]
    old = (HEAD.replace("</siteinfo>", spaces) + "".join(pages) + TAIL).replace("<ns>0</ns>", "")
    (tmp_path / "x.xml").write_text(old.replace("<model>wikitext</model>", ""), encoding="utf-8")
    kept, dropped = read(tmp_path, ReadingConfig(shard_megabytes=size))
    assert [item.title for item in kept.values()] == ["Anna", "Terminator: Teil 2", "Diskussion"]
    assert [item.detail for item in dropped.values()] == ["namespace Diskussion"]


@pytest.mark.parametrize(
    ("base", "title", "address"),
    [
        ("https://x.org/wiki/Main_Page", "Terminator:2", "https://x.org/wiki/Terminator:2"),
        ("https://x.org/wiki/Main_Page", "/dev/null", "https://x.org/wiki//dev/null"),
        ("https://x.org/w/index.php?title=Main_Page", "Who?", "https://x.org/w/index.php?title=Who%3F"),
    ],
)
def test_addresses(tmp_path: Path, read: Any, base: str, title: str, address: str) -> None:
    head = HEAD.replace("https://de.wikipedia.org/wiki/Wikipedia:Hauptseite", base)
    (tmp_path / "x.xml").write_text(head + page(1, title=title) + TAIL, encoding="utf-8")
    kept, _ = read(tmp_path)
    assert kept["x.xml:1"].facts["url"] == address


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 300), min_size=1, max_size=8),
    each=st.integers(1, 3),
    packed=st.booleans(),
    size=st.integers(1, 2000),
)
def test_shards_of_a_dump_give_the_same_articles(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], each: int, packed: bool, size: int
) -> None:
    pages = [page(number, f"Wort {number} " * count) for number, count in enumerate(sizes)]
    blocks = [HEAD, *("".join(pages[first : first + each]) for first in range(0, len(pages), each)), TAIL]
    raw = [block.encode() for block in blocks]
    path = tmp_path_factory.mktemp("dump") / ("x.xml.bz2" if packed else "x.xml")
    path.write_bytes(b"".join(map(bz2.compress, raw) if packed else raw))
    config = ReadingConfig(shard_megabytes=size / 2**20)
    shards = find_shards([path], config)
    divided = [item for shard in shards for item in read_shard(shard, config)]
    assert divided == list(open_records(path)) and len(divided) == len(sizes)
    assert all(isinstance(item, Document) for item in divided)
    assert sum(shard.bytes for shard in shards) == path.stat().st_size
    if size < 100:
        assert len(shards) > len(sizes) // each


def test_streams_that_cut_pages_are_not_taken_for_pages(tmp_path: Path) -> None:
    raw = (HEAD + "".join(page(number) for number in range(20)) + TAIL).encode()
    path = tmp_path / "pbzip2.xml.bz2"
    path.write_bytes(b"".join(bz2.compress(raw[first : first + 333]) for first in range(0, len(raw), 333)))
    config = ReadingConfig(shard_megabytes=1e-4)
    divided = [item for shard in find_shards([path], config) for item in read_shard(shard, config)]
    assert [item.id for item in divided if isinstance(item, Document)] == [f"pbzip2.xml.bz2:{n}" for n in range(20)]
    assert len(divided) == 20


def test_troubles_of_dumps(tmp_path: Path, read: Any) -> None:
    whole = (HEAD + "".join(page(number) for number in range(1, 9)) + TAIL).encode()
    laughs = b'<!DOCTYPE m [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>' + whole.replace(b"Text von", b"&b;")
    fetch = b'<!DOCTYPE m [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + whole.replace(b"Text von", b"&a;")
    (tmp_path / "cut.xml").write_bytes(whole[: len(whole) - 300])
    (tmp_path / "cut.xml.gz").write_bytes(gzip.compress(whole)[:-20])
    (tmp_path / "laughs.xml").write_bytes(laughs)
    (tmp_path / "fetch.xml").write_bytes(fetch)
    (tmp_path / "other.xml").write_text("<rss><channel/></rss>", encoding="utf-8")
    (tmp_path / "none.xml").write_text("not XML", encoding="utf-8")
    (tmp_path / "void.xml").touch()
    kept, dropped = read(tmp_path)
    assert {f"cut.xml:{number}" for number in range(1, 8)} <= set(kept)
    assert {name.partition(":")[0] for name in kept} <= {"cut.xml", "cut.xml.gz"}
    assert {name: item.reason for name, item in dropped.items()} == {
        "cut.xml:rest": "broken XML",
        "cut.xml.gz:rest": "truncated archive",
        "laughs.xml:rest": "unsafe XML",
        "fetch.xml:rest": "unsafe XML",
        "other.xml": "unknown format",
        "none.xml:rest": "broken XML",
        "void.xml": "empty",
    }
    assert all(isinstance(item, Dropped) for item in dropped.values())
