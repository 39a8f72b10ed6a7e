"""A user's own text, all of it at once: a ``.txt``, ``.md`` or ``.jsonl`` file, or a folder of them, → documents.

Text is UTF-8. What cannot be read is never guessed at and never silently replaced: it is dropped with its
reason, the position of the evidence and its size, and the caller counts it.
"""

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from groundup.core.errors import DataError, StorageError
from groundup.core.progress import Progress
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.lines import lines
from groundup.corpus.reading.rows import parse_json
from groundup.corpus.reading.text import decode

PLAIN_SUFFIXES = (".txt", ".md")
SUFFIXES = (*PLAIN_SUFFIXES, ".jsonl")


def find_files(path: Path) -> list[Path]:
    """The files that ``path`` stands for, sorted; hidden files and folders are passed over.

    Raises:
        DataError: the path is missing, holds no file, or is a single file of another kind.
    """
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise DataError(f"{path} is not a {', '.join(SUFFIXES)} file; convert it to plain UTF-8 text first")
        return [path]
    if not path.is_dir():
        raise DataError(f"{path} does not exist; give --corpus.path a file or folder of {', '.join(SUFFIXES)} files")
    files = []
    for folder, names, leaves in os.walk(path):
        names[:] = [name for name in names if not name.startswith(".")]
        files += [Path(folder, leaf) for leaf in leaves if not leaf.startswith(".") and Path(folder, leaf).is_file()]
    if not files:
        raise DataError(f"{path} is an empty folder; put {', '.join(SUFFIXES)} files into it")
    return sorted(files)


def read_files(path: Path, max_bytes: int) -> tuple[list[Document], list[Dropped], str]:
    """Read everything below ``path``.

    Args:
        max_bytes: a larger document is dropped unread.

    Returns:
        Documents (ids are paths relative to ``path``, plus ``:line`` for JSON lines), the dropped ones,
        and a SHA-256 over the names and contents of all files read.
    """
    files = find_files(path)
    root = path if path.is_dir() else path.parent
    documents: list[Document] = []
    dropped: list[Dropped] = []
    digest = hashlib.sha256()
    try:
        with Progress("read", total=sum(file.stat().st_size for file in files), unit="B") as progress:
            for file in files:
                name = file.relative_to(root).as_posix()
                digest.update(name.encode("utf-8", "surrogateescape") + b"\0")
                for item, raw in _read_file(file, name, max_bytes):
                    digest.update(hashlib.sha256(raw).digest())
                    if isinstance(item, Document):
                        documents.append(item)
                    else:
                        dropped.append(item)
                    progress.advance(len(raw))
    except OSError as error:
        raise StorageError(f"cannot read {error.filename or path}: {error.strerror}") from error
    return documents, dropped, digest.hexdigest()


def _read_file(file: Path, name: str, max_bytes: int) -> Iterator[tuple[Document | Dropped, bytes]]:
    """Documents and drops of one file, each with the bytes that it was made from."""
    size = file.stat().st_size
    empty = Document(name, file.stem, "path", "")
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        yield Dropped(empty, "not a text file", f"only {', '.join(SUFFIXES)} files are read", size), b""
    elif size == 0:
        yield Dropped(empty, "empty", "0 bytes", 0), b""
    elif suffix == ".jsonl":
        yield from _read_lines(file, name, max_bytes)
    elif size > max_bytes:
        yield Dropped(empty, "too large", f"{size} bytes, the limit is {max_bytes}", size), b""
    else:
        raw = file.read_bytes()
        yield decode(empty, raw), raw


def _read_lines(file: Path, name: str, max_bytes: int) -> Iterator[tuple[Document | Dropped, bytes]]:
    """One document per line of a JSON-lines file; blank lines are passed over."""
    with file.open("rb") as handle:
        for number, line, size in lines(handle, max_bytes):
            empty = Document(f"{name}:{number}", f"{file.stem} {number}", "path", "")
            if line is None:
                detail = f"line {number} has {size} bytes, the limit is {max_bytes}"
                yield Dropped(empty, "too large", detail, size), b""
            elif line.strip():
                yield parse_json(empty, line, f"line {number}"), line
