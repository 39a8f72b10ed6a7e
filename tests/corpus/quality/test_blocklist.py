"""Lists that a user gives: which addresses and texts they drop, and what becomes of a bad list."""

import gzip
import pickle
from pathlib import Path

import pytest

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality import Blocklist, BlocklistConfig
from groundup.corpus.quality.blocklist import host_of, sites_of
from groundup.corpus.quality.phrases import LONGEST_ENTRY, Phrases, entries


def document(text: str = "", url: str = "") -> Document:
    return Document("id", "title", "source", text, {"url": url} if url else {})


def listed(folder: Path, *lines: str, name: str = "list.txt") -> Path:
    path = folder / name
    content = "".join(f"{line}\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return path


def reason(step: Blocklist, document: Document) -> str:
    result = step(document)
    return result.reason if isinstance(result, Dropped) else ""


@pytest.mark.parametrize("name", ["list.txt", "list.txt.gz"])
def test_sites(tmp_path: Path, name: str) -> None:
    path = listed(
        tmp_path, "# of yesterday", "Bad.example", "", "http://worse.example/", "192.0.2.1", "büro.example", name=name
    )
    step = Blocklist(BlocklistConfig(domains=path))
    for url in (
        "https://bad.example/page",
        "http://www.BAD.example:8080",
        "bad.example/x",
        "//a.b.worse.example/",
        "http://192.0.2.1/",
        "http://xn--bro-hoa.example/",
    ):
        assert reason(step, document(url=url)) == "blocked site", url
    for url in ("https://notbad.example/", "https://example/bad.example", "http://1.192.0.2.1.example/", "http://[::1"):
        assert reason(step, document(url=url)) == "", url
    assert reason(step, document("text without an address")) == ""


def test_words_of_an_address(tmp_path: Path) -> None:
    path = listed(tmp_path, "casino", "poker")
    assert (
        reason(Blocklist(BlocklistConfig(url_words=path)), document(url="http://a.example/my-casino"))
        == "blocked address"
    )
    assert reason(Blocklist(BlocklistConfig(url_words=path)), document(url="http://a.example/casinos")) == ""
    two = Blocklist(BlocklistConfig(url_words=path, min_url_words=2))
    assert reason(two, document(url="http://casino.example/casino")) == ""
    assert reason(two, document(url="http://casino.example/%70oker")) == "blocked address"


def test_words_of_a_text(tmp_path: Path) -> None:
    path = listed(tmp_path, "frell", "holy frak", "a b c d e f g h")
    step = Blocklist(BlocklistConfig(text_words=path))
    assert reason(step, document("What the Frell?")) == "blocked words"
    assert reason(step, document("Holy\nFRAK!")) == "blocked words"
    assert reason(step, document("x a b c d e f g h")) == "blocked words"
    assert reason(step, document("frelling, holy; frak")) == ""
    two = Blocklist(BlocklistConfig(text_words=path, min_text_words=2))
    assert reason(two, document("frell frell")) == ""
    assert reason(two, document("frell, holy frak")) == "blocked words"


def test_occurrences_are_told_for_the_eye(tmp_path: Path) -> None:
    phrases = Phrases(listed(tmp_path, "frell", "holy frak"), "key")
    assert len(phrases) == 2
    assert phrases.occurrences("Holy frak, FRELL and frell") == ["frell", "frell", "holy frak"]
    assert phrases.occurrences("") == []


def test_no_list_drops_nothing() -> None:
    anything = document("text", "http://a.example")
    assert Blocklist()(anything) is anything


def test_an_empty_list_drops_nothing(tmp_path: Path) -> None:
    path = listed(tmp_path)
    step = Blocklist(BlocklistConfig(domains=path, url_words=path, text_words=path))
    assert reason(step, document("text", "http://a.example")) == ""


def test_the_step_can_be_pickled_and_keeps_no_word(tmp_path: Path) -> None:
    path = listed(tmp_path, "frell")
    step = Blocklist(BlocklistConfig(text_words=path))
    stored = pickle.dumps(step)
    path.unlink()
    assert b"frell" not in stored
    assert reason(pickle.loads(stored), document("frell")) == "blocked words"


def test_bad_lists(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"corpus\.blocklist\.domains: .* cannot be read: No such file"):
        Blocklist(BlocklistConfig(domains=tmp_path / "missing"))
    with pytest.raises(UsageError, match="cannot be read: Is a directory"):
        Blocklist(BlocklistConfig(domains=tmp_path))
    latin = tmp_path / "latin.txt"
    latin.write_bytes("bürо".encode("utf-16"))
    with pytest.raises(UsageError, match="is not UTF-8"):
        Blocklist(BlocklistConfig(url_words=latin))
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(b"word\n" * 1000)[:20])
    with pytest.raises(UsageError, match="cannot be read"):
        Blocklist(BlocklistConfig(url_words=broken))
    long = listed(tmp_path, "ok", "x" * (LONGEST_ENTRY + 1))
    with pytest.raises(UsageError, match=r"line 2 of .* has more than 1,000 characters"):
        list(entries(long, "key"))
    with pytest.raises(UsageError, match="has more than 8 words"):
        Phrases(listed(tmp_path, "a b c d e f g h i"), "key")


def test_a_large_list_takes_eight_bytes_an_entry(tmp_path: Path) -> None:
    path = listed(tmp_path, *(f"site{n}.example" for n in range(20_000)))
    step = Blocklist(BlocklistConfig(domains=path))
    assert len(pickle.dumps(step)) < 9 * 20_000
    assert reason(step, document(url="http://site19999.example/")) == "blocked site"
    assert reason(step, document(url="http://site20000.example/")) == ""


def test_hosts_and_sites() -> None:
    assert host_of("HTTPS://User@Www.Example.ORG.:80/a?b#c") == "www.example.org"
    assert list(sites_of("a.b.org")) == ["a.b.org", "b.org", "org"]
    assert list(sites_of("192.0.2.1")) == ["192.0.2.1"]
    assert list(sites_of("")) == [""]
