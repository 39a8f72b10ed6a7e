"""Addresses and texts that a user's lists forbid: sites, words of an address, words and phrases of the text.

A document enters; it leaves unchanged, or dropped. No list comes with us. Lists are files of one entry a line, kept as
hashes (see ``phrases``), so ten million sites take 80 MB, and neither a report nor a pickle shows them. Those of a
category of sites, such as ``adult``, which the University of Toulouse keeps (UT1) and SquidGuard reads, are a folder
with the files ``domains`` and ``urls``.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.phrases import Hashes, Phrases, hashes_of, holds
from groundup.corpus.quality.rules import Broken, judged, require_between

_URL_WORD = re.compile(r"[^\W_]+")
_FULL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.I)
_CATEGORIES = "corpus.blocklist.categories"


@dataclass(frozen=True)
class BlocklistConfig:
    """The lists: files of one entry a line, in UTF-8, .gz too; lines that begin with # are no entries."""

    domains: Path | None = None
    """Sites: example.org forbids its subdomains too."""
    categories: tuple[Path, ...] = ()
    """Folders with a file "domains", of sites, or "urls", of addresses (example.org/page forbids all that is below it),
    or both: the categories of the blacklists of the University of Toulouse (UT1), such as adult."""
    url_words: Path | None = None
    """Words: an address with one of them goes."""
    text_words: Path | None = None
    """Words and phrases: a text with enough of them goes."""
    min_url_words: int = 1
    """So many different words of the list in an address drop it."""
    min_text_words: int = 1
    """So many different words and phrases of the list in a text drop it."""

    def __post_init__(self) -> None:
        require_between(self, "blocklist", 1, float("inf"), "min_url_words", "min_text_words")


class Blocklist:
    """Drops documents by their address or their words.

    Raises (at its making):
        UsageError: a list cannot be read.
    """

    name = "blocklist"

    def __init__(self, config: BlocklistConfig | None = None) -> None:
        self.config = config or BlocklistConfig()
        domains, url_words, text_words = self.config.domains, self.config.url_words, self.config.text_words
        listed = [hashes_of(domains, "corpus.blocklist.domains", host_of)] if domains else []
        self._domains = _joined(listed + [hashes_of(path, _CATEGORIES, host_of) for path in self._files("domains")])
        self._urls = _joined([hashes_of(path, _CATEGORIES, page_of) for path in self._files("urls")])
        self._url_words = hashes_of(url_words, "corpus.blocklist.url_words") if url_words else None
        self._text_words = Phrases([text_words], "corpus.blocklist.text_words") if text_words else None

    def __call__(self, document: Document) -> Document | Dropped:
        return judged(document, self._rules(document))

    def _files(self, name: str) -> list[Path]:
        """The files of this name, also with ``.gz``, in the folders of the categories."""
        found = []
        for folder in self.config.categories:
            files = {each: [folder / each, folder / f"{each}.gz"] for each in ("domains", "urls")}
            if not any(path.is_file() for paths in files.values() for path in paths):
                raise UsageError(f"{_CATEGORIES}: {folder} has neither a file domains nor urls")
            found += [path for path in files[name] if path.is_file()]
        return found

    def _rules(self, document: Document) -> Iterator[Broken]:
        if url := document.facts.get("url"):
            yield from self._address(url)
        if self._text_words:
            found = set(self._text_words.occurrences(document.text))
            if len(found) >= self.config.min_text_words:
                yield "blocked words", f"{len(found)} of the words of the list"

    def _address(self, url: str) -> Iterator[Broken]:
        if self._domains is not None:
            for site in sites_of(host_of(url)):
                if holds(self._domains, site):
                    yield "blocked site", site
        if self._urls is not None and any(holds(self._urls, page) for page in pages_of(page_of(url))):
            yield "blocked page", host_of(url)
        if self._url_words is not None:
            words = {word for word in _URL_WORD.findall(unquote(url).lower()) if holds(self._url_words, word)}
            if len(words) >= self.config.min_url_words:
                yield "blocked address", f"{len(words)} of the words of the list"


def _joined(lists: list[Hashes]) -> Hashes | None:
    return np.unique(np.concatenate(lists)) if lists else None


def host_of(url: str) -> str:
    """The host of an address, lower case, without port, user and final dot; of a bare host the same.

    International names are compared in the spelling of the network (``xn--…``), whichever they come in.
    """
    url = url.strip()
    try:
        host = urlsplit(url if _FULL.match(url) else f"//{url}").hostname or ""
    except ValueError:  # brackets that hold no address
        return ""
    host = host.strip(".").lower()
    try:
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        return host


def page_of(url: str) -> str:
    """``host/path?query`` of an address, without what many write and many leave out: www. and a slash at the end."""
    host = host_of(url)
    rest = _FULL.sub("", url.strip(), count=1).partition("#")[0]
    place = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    return host.removeprefix("www.") + unquote(rest[place:]).rstrip("/").lower() if host else ""


def pages_of(page: str) -> Iterator[str]:
    """``a.org/b/c?d`` → itself, ``a.org/b/c``, ``a.org/b``: all that it lies below but the host."""
    while "/" in page or "?" in page:
        yield page
        page = page[: max(page.rfind("/"), page.rfind("?"))]


def sites_of(host: str) -> Iterator[str]:
    """``a.b.org`` → itself, ``b.org``, ``org``; of a number (``192.0.2.1``, ``[2001:db8::1]``) itself alone."""
    yield host
    if host.replace(".", "").isdecimal() or ":" in host:
        return
    while "." in host:
        host = host.partition(".")[2]
        yield host
