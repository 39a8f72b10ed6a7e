"""Lists that a user gives: which addresses and texts they drop, and what becomes of a bad list."""

import gzip
import pickle
from pathlib import Path

import pytest

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality import Blocklist, BlocklistConfig
from groundup.corpus.quality.blocklist import host_of, page_of, pages_of, sites_of
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
    phrases = Phrases([listed(tmp_path, "frell", "holy frak")], "key")
    assert len(phrases) == 2
    assert phrases.occurrences("Holy frak, FRELL and frell") == ["frell", "frell", "holy frak"]
    assert phrases.occurrences("") == []
    assert phrases.count("Holy frak, FRELL and frell") == (3, 6)
    assert phrases.count("") == (0, 0)


def test_numbers_of_a_list_are_themselves(tmp_path: Path) -> None:
    assert Phrases([listed(tmp_path, "1488")], "key").count("in 1984 and 2024") == (0, 4)


def test_a_list_may_be_json_and_several_are_one(tmp_path: Path) -> None:
    path = tmp_path / "en.json"
    path.write_text('["Frell", "holy frak", "# is no comment", ""]', encoding="utf-8")
    phrases = Phrases([path, listed(tmp_path, "smeg", "frell")], "key")
    assert len(phrases) == 4
    assert phrases.occurrences("holy frak! smeg frell") == ["smeg", "frell", "holy frak"]
    for content, complaint in (('{"a": "b"}', "is no JSON list"), ("[1]", "is no JSON list"), ("[", "cannot be read")):
        path.write_text(content, encoding="utf-8")
        with pytest.raises(UsageError, match=complaint):
            Phrases([path], "key")


def test_a_category_is_a_folder_of_sites_and_addresses(tmp_path: Path) -> None:
    """The format of UT1 and SquidGuard: no scheme, domains and pages apart."""
    for name in ("adult", "betting", "empty"):
        (tmp_path / name).mkdir()
    listed(tmp_path / "adult", "bad.example", "198.51.100.7", name="domains")
    listed(tmp_path / "adult", "host.example/~bad", "www.other.example/a/b/", "host.example/show?id=7", name="urls")
    listed(tmp_path / "betting", "odds.example", name="domains.gz")
    step = Blocklist(BlocklistConfig(categories=(tmp_path / "adult", tmp_path / "betting")))
    expected = {
        "https://www.bad.example/x": "blocked site",
        "http://198.51.100.7/": "blocked site",
        "https://odds.example": "blocked site",
        "http://host.example/~bad": "blocked page",
        "http://www.host.example:8080/%7Ebad/deeper/page.html#top": "blocked page",
        "https://other.example/A/b": "blocked page",
        "http://host.example/show?id=7": "blocked page",
        "http://host.example/show?id=71": "",
        "http://host.example/~badly": "",
        "http://host.example/": "",
        "http://deep.other.example/a/b": "",
        "http://[::1": "",
    }
    assert {url: reason(step, document(url=url)) for url in expected} == expected
    with pytest.raises(UsageError, match=r"corpus\.blocklist\.categories: .*empty has neither"):
        Blocklist(BlocklistConfig(categories=(tmp_path / "empty",)))


def test_the_folders_of_ut1_as_they_are_unpacked(tmp_path: Path) -> None:
    """blacklists/CATEGORY/domains, urls, expressions, usage; only the first two are read."""
    adult = tmp_path / "blacklists" / "adult"
    adult.mkdir(parents=True)
    listed(adult, "bad.example", "xn--bro-hoa.example", "203.0.113.9", "bad.example", name="domains")
    (adult / "urls").write_bytes(b"host.example/~bad\r\nother.example/gallery/index.html\r\n")
    listed(adult, "(^|[-\\?+=/_])(bad|worse)([-\\?+=/_]|$)", name="expressions")
    listed(adult, "black", name="usage")
    listed(adult, "# adult", "DEFAULT_LANGUAGE=", name="very_restrictive_expression")
    step = Blocklist(BlocklistConfig(categories=(adult,)))
    expected = {
        "https://sub.bad.example/": "blocked site",
        "http://büro.example/": "blocked site",
        "http://203.0.113.9:81/": "blocked site",
        "http://host.example/~bad/x": "blocked page",
        "http://other.example/gallery/index.html?page=2": "blocked page",
        "http://other.example/gallery/": "",
        "http://good.example/bad": "",
        "http://black/": "",
    }
    assert {url: reason(step, document(url=url)) for url in expected} == expected


def test_pages_lie_below_pages() -> None:
    assert page_of("HTTPS://User@Www.Example.org:80/a/B?c=/d#e") == "example.org/a/b?c=/d"
    assert list(pages_of("a.org/b/c?d")) == ["a.org/b/c?d", "a.org/b/c", "a.org/b"]
    assert list(pages_of("a.org")) == []


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
    with pytest.raises(UsageError, match="has more than 32 words"):
        Phrases([listed(tmp_path, "a " * 33)], "key")


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
