"""Lists that a user gives as files, one entry a line: words, phrases, domains; millions of them in eight bytes each.

An entry is kept as its hash alone (64 bits), so nothing of a list can be read back from a step, a report or a pickle.
Lines that begin with ``#`` and empty lines are no entries. A file is read line by line and may be gzipped (``.gz``).
"""

import gzip
import itertools
import zlib
from collections.abc import Callable, Iterator
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
    """A list of words and phrases, found in a text as whole words in any case.

    Words are those of ``analysis``: "ass" is not found in "class", and each Chinese or Thai character is a word.
    """

    LONGEST = 8
    """Words of the longest phrase."""

    def __init__(self, path: Path, key: str) -> None:
        runs: dict[int, list[int]] = {}
        for entry in entries(path, key):
            run = [hash_of(word) for word in words(entry)]
            if len(run) > self.LONGEST:
                raise UsageError(f"{key}: {entry!r} in {path} has more than {self.LONGEST} words")
            runs.setdefault(len(run), []).append(_joined(run))
        self._lists = {length: np.unique(np.array(found, np.uint64)) for length, found in sorted(runs.items())}

    def __len__(self) -> int:
        return sum(map(len, self._lists.values()))

    def occurrences(self, text: str) -> list[str]:
        """Every occurrence of an entry, in lower case, the shorter entries first."""
        lowered = text.lower()
        hashes = analyse_anew(lowered).words
        places: list[tuple[int, int]] = []
        for length, listed in self._lists.items():
            runs = _runs(hashes, length)
            found = np.searchsorted(listed, runs)
            hits = listed[np.minimum(found, len(listed) - 1)] == runs
            places += [(place, length) for place in np.flatnonzero(hits).tolist()]
        if not places:
            return []
        cut = words(lowered)
        return [" ".join(cut[place : place + length]) for place, length in places]


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
