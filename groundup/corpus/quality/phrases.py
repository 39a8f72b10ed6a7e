"""Lists that a user gives as files, one entry a line: words, phrases, domains; millions of them in eight bytes each.

An entry is kept as its hash alone (64 bits), so nothing of a list can be read back from a step, a report or a pickle.
Lines that begin with ``#`` and empty lines are no entries. A file is read line by line and may be gzipped (``.gz``); a
``.json`` file is one list of strings.
"""

import gzip
import itertools
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from groundup.core.errors import UsageError
from groundup.corpus.quality.analysis import Hashes, analyse_anew, hash_of, words

_BLOCK = 1 << 16
#: Longer entries are refused: a file with one is no list.
LONGEST_ENTRY = 1000


def entries(path: Path, key: str) -> Iterator[str]:
    """The entries of a list, lower case, without white space around them.

    Args:
        key: the configuration key that names the file, for errors.

    Raises:
        UsageError: the file cannot be read, is not UTF-8, or has a line that is too long for an entry.
    """
    if path.suffix == ".json":
        yield from _json_entries(path, key)
        return
    try:
        with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
            for number in itertools.count(1):
                if not (line := file.readline(LONGEST_ENTRY + 2)):
                    return
                if len(line) > LONGEST_ENTRY + 1:
                    raise UsageError(f"{key}: line {number} of {path} has more than {LONGEST_ENTRY:,} characters")
                if (entry := line.strip().lower()) and not entry.startswith("#"):
                    yield entry
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{key}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{key}: {path} is not UTF-8 (byte {error.start})") from error


def _json_entries(path: Path, key: str) -> Iterator[str]:
    try:
        listed = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{key}: {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not isinstance(listed, list) or not all(isinstance(entry, str) for entry in listed):
        raise UsageError(f"{key}: {path} is no JSON list of words and phrases")
    yield from filter(None, (entry.strip().lower() for entry in listed))


def hashes_of(path: Path, key: str, prepare: Callable[[str], str] = str) -> Hashes:
    """The hashes of a list's entries, sorted and unique; what ``prepare`` makes empty is left out."""
    prepared = filter(None, map(prepare, entries(path, key)))
    blocks = iter(lambda: list(itertools.islice(prepared, _BLOCK)), [])
    arrays = [np.fromiter(map(hash_of, block), np.uint64, len(block)) for block in blocks]
    return np.unique(np.concatenate([np.empty(0, np.uint64), *arrays]))


def holds(sorted_hashes: Hashes, value: str) -> bool:
    """Whether a list has this entry."""
    wanted = np.uint64(hash_of(value))
    place = int(np.searchsorted(sorted_hashes, wanted))
    return place < len(sorted_hashes) and bool(sorted_hashes[place] == wanted)


class Phrases:
    """Lists of words and phrases, found in a text as whole words in any case.

    Words are those of ``analysis``: "ass" is not found in "class", and each Chinese or Thai letter is a word.
    """

    LONGEST = 32
    """Words of the longest phrase."""

    def __init__(self, paths: Sequence[Path], key: str) -> None:
        runs: dict[int, list[int]] = {}
        for path in paths:
            for entry in entries(path, key):
                run = [hash_of(word) for word in words(entry)]
                if len(run) > self.LONGEST:
                    raise UsageError(f"{key}: {entry!r} in {path} has more than {self.LONGEST} words")
                runs.setdefault(len(run), []).append(_joined(run))
        self._lists = {length: np.unique(np.array(found, np.uint64)) for length, found in sorted(runs.items())}

    def __len__(self) -> int:
        return sum(map(len, self._lists.values()))

    def count(self, text: str) -> tuple[int, int]:
        """How many entries occur, each as often as it does; and how many words the text has."""
        hashes = analyse_anew(text.lower()).words
        return sum(len(places) for _, places in self._places(hashes)), len(hashes)

    def occurrences(self, text: str) -> list[str]:
        """Every occurrence of an entry, in lower case, the shorter entries first."""
        lowered = text.lower()
        found = [(place, length) for length, places in self._places(analyse_anew(lowered).words) for place in places]
        if not found:
            return []
        cut = words(lowered)
        return [" ".join(cut[place : place + length]) for place, length in found]

    def _places(self, hashes: Hashes) -> Iterator[tuple[int, list[int]]]:
        """Of each length of an entry, the words at which one begins."""
        for length, listed in self._lists.items():
            runs = _runs(hashes, length)
            found = np.searchsorted(listed, runs)
            yield length, np.flatnonzero(listed[np.minimum(found, len(listed) - 1)] == runs).tolist()


_FACTOR = 0xD6E8FEB86659FD93


def _joined(run: list[int]) -> int:
    value = 0
    for word in run:
        value = (value * _FACTOR + word) & ((1 << 64) - 1)
    return value


def _runs(hashes: Hashes, length: int) -> Hashes:
    """``_joined`` of every run of so many words."""
    number = max(0, len(hashes) - length + 1)
    value = np.zeros(number, np.uint64)
    for place in range(length):
        value = value * np.uint64(_FACTOR) + hashes[place : place + number]
    return value
