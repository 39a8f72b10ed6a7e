"""What the user named → the files it stands for, each with the name that its documents' ids begin with.

Standard input is copied into the cache, since it can be read only once. Nothing else is opened here: what cannot be
listed or read becomes a drop with its reason when its turn comes.
"""

import contextlib
import glob
import io
import os
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath, PurePosixPath

from groundup.core.errors import DataError
from groundup.corpus.public import SCHEME, find_public
from groundup.corpus.reading.compression import unpack
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.remote import keep_stream, list_urls, open_file
from groundup.corpus.reading.urls import is_url, without_secrets

STANDARD_INPUT = "-"
_BEGINNINGS = (
    (".jsonl", re.compile(rb"(\xef\xbb\xbf)?\s*\{")),
    (".warc", re.compile(rb"WARC/1\.")),
    (".xml", re.compile(rb"\s*<mediawiki\b")),
    (".html", re.compile(rb"\s*<(!doctype html|html)\b", re.I)),
    (".parquet", re.compile(rb"PAR1")),
    (".pdf", re.compile(rb"%PDF-")),
)


@dataclass(frozen=True)
class File:
    """One file of the input."""

    path: str
    name: str
    """Path below what the user named."""
    bytes: int
    """On the disk; 0 where unknown."""
    source: str = ""
    """The public corpus that it belongs to."""


@dataclass(frozen=True)
class _Root:
    """A file or folder that the user's words stand for."""

    path: str
    source: str = ""

    @property
    def name(self) -> str:
        """What the names of its files begin with, where there are several."""
        if is_url(self.path):
            parts = PurePosixPath(without_secrets(self.path).partition("#")[0].partition("?")[0]).parts
            return self.source or next(part for part in reversed(parts) if not glob.has_magic(part))
        return Path(self.path).name

    @property
    def whole_name(self) -> str:
        """The same, where last parts of several paths agree."""
        return Path(without_secrets(self.path).replace("://", "/")).as_posix().strip("/")


def list_files(paths: Sequence[str | Path]) -> list[File]:
    """The files of ``paths`` in order of their names, each once; hidden files and folders are passed over.

    Args:
        paths: files, folders, globs (``data/**/*.jsonl``), URLs, ``public://NAME`` or ``-``. Names are relative to the
            only folder; where several paths are given, they begin with the last part of each, or with the whole of it
            where those agree.

    Raises:
        DataError: nothing is there.
        UsageError: a package is needed, or there is no such public corpus or store.
    """
    if not paths:
        raise DataError("no input: give --corpus.path a file, a folder or a glob")
    roots = [root for path in paths for root in _roots(str(path))]
    files = _named(roots, [root.name for root in roots] if len(roots) > 1 else [""])
    if len({file.name for file in files}) < len({file.path for file in files}):
        files = _named(roots, [root.whole_name for root in roots])
    if len({file.name for file in files}) < len({file.path for file in files}):  # they differ in what is not shown
        files = _named(roots, [f"{number}/{root.whole_name}" for number, root in enumerate(roots, start=1)])
    once = {file.path if is_url(file.path) else os.path.realpath(file.path): file for file in reversed(files)}
    if not once:
        shown = ", ".join(without_secrets(str(path)) for path in paths)
        raise DataError(f"{shown}: no files there; put some into the folder")
    return sorted(once.values(), key=lambda file: (PurePath(file.name).parts, file.path))


def _roots(path: str) -> list[_Root]:
    """Files and folders that a path, a glob or the name of a public corpus stands for."""
    if path == STANDARD_INPUT:
        return [_Root(str(keep_stream(sys.stdin.buffer, _suffix_of)))]
    if path.startswith(SCHEME):
        return _public_roots(path)
    if Path(path).is_fifo():  # what a shell makes of <(command)
        with Path(path).open("rb") as stream:
            return [_Root(str(keep_stream(stream, _suffix_of)))]
    if is_url(path) or os.path.lexists(path):
        return [_Root(path)]
    if found := sorted(glob.glob(path, recursive=True)):  # noqa: PTH207 (a pattern may be absolute)
        return list(map(_Root, found))
    remedy = "no file matches it" if glob.has_magic(path) else "give a file, a folder, a glob or a URL"
    raise DataError(f"{path} does not exist; {remedy}")


def _public_roots(place: str) -> list[_Root]:
    """The URLs of a public corpus or of its sample."""
    corpus, sample = find_public(place)
    if not corpus.listed:
        return [_Root(corpus.sample if sample else corpus.files, corpus.name)]
    with open_file(corpus.files) as raw:
        names = unpack(raw, ReadingConfig())[0].read().decode("utf-8").split()
    return [_Root(corpus.listed + name, corpus.name) for name in (names[:1] if sample else names)]


def _named(roots: list[_Root], prefixes: list[str]) -> list[File]:
    files = []
    for root, prefix in zip(roots, prefixes, strict=True):
        if is_url(root.path):
            urls = list_urls(root.path)
            alone = len(urls) == 1 and prefix.endswith(urls[0][1])
            files += [
                File(url, prefix if alone else str(PurePath(prefix, name)), size, root.source)
                for url, name, size in urls
            ]
        elif not Path(root.path).is_dir():
            files.append(_file(root.path, prefix or root.name))
        else:
            files += [
                _file(path, str(PurePath(prefix, Path(path).relative_to(root.path)))) for path in _walk(root.path)
            ]
    return files


def _suffix_of(head: bytes) -> str:
    """What standard input is, by its first bytes."""
    with contextlib.suppress(OSError):
        head = unpack(io.BytesIO(head), ReadingConfig())[0].read(512)
    return next((suffix for suffix, begin in _BEGINNINGS if begin.match(head)), ".txt")


def _file(path: str, name: str) -> File:
    try:
        size = Path(path).stat().st_size
    except OSError:
        size = 0  # its reader will say why
    # Names of files may hold bytes that are no text; ids are written as UTF-8.
    readable = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return File(path, PurePath(readable).as_posix(), size)


def _walk(root: str) -> Iterator[str]:
    """Every file below a folder, through symbolic links too, but no folder twice: links may run in circles."""
    unreadable: list[str] = []
    seen = set()
    for folder, names, leaves in os.walk(
        root, followlinks=True, onerror=lambda error: unreadable.append(error.filename)
    ):
        identity = os.path.realpath(folder)
        if identity in seen:
            names.clear()
            continue
        seen.add(identity)
        names[:] = sorted(name for name in names if not name.startswith("."))
        yield from (str(Path(folder, leaf)) for leaf in leaves if not leaf.startswith("."))
    yield from unreadable
