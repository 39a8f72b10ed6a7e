"""URLs as words: which strings are some, and what of them may be shown.

Passwords and tokens that stand in a URL reach the server that it names, and nothing else: no message, no id, no file
beside a download.
"""

import re
import urllib.parse

_URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.I)
WEB = ("http", "https")
HIDDEN = "…"


def is_url(path: str) -> bool:
    return _URL.match(path) is not None


def scheme_of(url: str) -> str:
    return url.partition("://")[0].lower()


def file_name(url: str) -> str:
    """The name of the file that a web address stands for."""
    path = urllib.parse.urlsplit(url).path
    return urllib.parse.unquote(path).rpartition("/")[2] or "index.html"


def split_user(url: str) -> tuple[str, str]:
    """A URL without ``user:password@``, and these words."""
    scheme, mark, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    return f"{scheme}{mark}{host}{rest[len(authority) :]}", user if at else ""


def without_secrets(url: str) -> str:
    """A URL without user and password, and without the values of a web address's query; other words as they are."""
    if not is_url(url):
        return url
    url = split_user(url)[0]
    if scheme_of(url) not in WEB or "?" not in url:
        return url
    place, _, query = url.partition("?")
    query, mark, fragment = query.partition("#")
    names = (f"{name}={HIDDEN}" if equals else HIDDEN for name, equals, _ in map(_pair, query.split("&")))
    return f"{place}?{'&'.join(names)}{mark}{fragment}"


def reason_of(error: BaseException, url: str = "") -> str:
    """What an error says, in one line and without the secrets of the URL that it is about."""
    words = " ".join(str(error).split()) or type(error).__name__
    words = words.removeprefix("<urlopen error ").removesuffix(">")
    words = words.replace(url, without_secrets(url)) if url else words
    user = split_user(url)[1]
    query = urllib.parse.urlsplit(url).query if scheme_of(url) in WEB else ""
    secrets = [user, *user.split(":"), *(value or name for name, _, value in map(_pair, query.split("&")))]
    for secret in sorted({*secrets, *map(urllib.parse.unquote, secrets)}, key=len, reverse=True):
        if len(secret) > 2:
            words = words.replace(secret, HIDDEN)
    return words


def _pair(word: str) -> tuple[str, str, str]:
    return word.partition("=")
