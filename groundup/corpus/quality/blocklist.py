"""Addresses and texts that a user's lists forbid: sites, words of an address, words and phrases of the text.

A document enters; it leaves unchanged, or dropped. No list comes with us. Lists are files of one entry a line, kept as
hashes (see ``phrases``), so ten million sites take 80 MB, and neither a report nor a pickle shows them.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from groundup.corpus.document import Document, Dropped
from groundup.corpus.quality.phrases import Phrases, hashes_of, holds
from groundup.corpus.quality.rules import Broken, judged, require_between

_URL_WORD = re.compile(r"[^\W_]+")
_FULL = re.compile(r"(?:[a-z][a-z0-9+.-]*:)?//", re.I)


@dataclass(frozen=True)
class BlocklistConfig:
    """The lists: files of one entry a line, in UTF-8, .gz too; lines that begin with # are no entries."""

    domains: Path | None = None
    """Sites: example.org forbids its subdomains too."""
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
        self._domains = hashes_of(domains, "corpus.blocklist.domains", host_of) if domains else None
        self._url_words = hashes_of(url_words, "corpus.blocklist.url_words") if url_words else None
        self._text_words = Phrases(text_words, "corpus.blocklist.text_words") if text_words else None

    def __call__(self, document: Document) -> Document | Dropped:
        return judged(document, self._rules(document))

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
        if self._url_words is not None:
            words = {word for word in _URL_WORD.findall(unquote(url).lower()) if holds(self._url_words, word)}
            if len(words) >= self.config.min_url_words:
                yield "blocked address", f"{len(words)} of the words of the list"


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


def sites_of(host: str) -> Iterator[str]:
    """``a.b.org`` → itself, ``b.org``, ``org``; of a number (``192.0.2.1``, ``[2001:db8::1]``) itself alone."""
    yield host
    if host.replace(".", "").isdecimal() or ":" in host:
        return
    while "." in host:
        host = host.partition(".")[2]
        yield host
