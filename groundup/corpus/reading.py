"""A user's own text: a ``.txt``, ``.md`` or ``.jsonl`` file, or a folder of them, → documents.

Text is UTF-8. What cannot be read is never guessed at and never silently replaced: it is dropped with its
reason, the position of the evidence and its size, and the caller counts it.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from groundup.core.errors import DataError, StorageError
from groundup.core.progress import Progress
from groundup.corpus.document import Document, Dropped

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
        yield _decode(empty, raw), raw


def _decode(empty: Document, raw: bytes) -> Document | Dropped:
    """``empty`` with the text of ``raw``, or why it has none."""
    if (position := raw.find(b"\0")) >= 0:
        hint = " (UTF-16? convert it to UTF-8)" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        return Dropped(empty, "binary", f"zero byte at position {position}{hint}", len(raw))
    try:
        return Document(empty.id, empty.title, empty.source, raw.decode("utf-8"))
    except UnicodeDecodeError as error:
        return Dropped(empty, "invalid UTF-8", f"byte 0x{raw[error.start]:02x} at position {error.start}", len(raw))


def _read_lines(file: Path, name: str, max_bytes: int) -> Iterator[tuple[Document | Dropped, bytes]]:
    """One document per line of a JSON-lines file; blank lines are passed over."""
    with file.open("rb") as handle:
        number = 0
        while line := handle.readline(max_bytes + 1):
            number += 1
            empty = Document(f"{name}:{number}", f"{file.stem} {number}", "path", "")
            if len(line) > max_bytes:
                size = len(line)
                while line and not line.endswith(b"\n"):
                    line = handle.readline(max_bytes + 1)
                    size += len(line)
                yield (
                    Dropped(empty, "too large", f"line {number} has {size} bytes, the limit is {max_bytes}", size),
                    b"",
                )
            elif line.strip():
                yield _parse_line(empty, line, number), line


def _parse_line(empty: Document, line: bytes, number: int) -> Document | Dropped:
    decoded = _decode(empty, line)
    if isinstance(decoded, Dropped):
        return Dropped(empty, decoded.reason, f"line {number}: {decoded.detail}", len(line))
    try:
        # The byte order mark that some editors put before the first line is no JSON.
        row = json.loads(decoded.text.removeprefix("\ufeff"))
    except (ValueError, RecursionError) as error:
        return Dropped(empty, "broken JSON", f"line {number}: {error}", len(line))
    text = row.get("text") if isinstance(row, dict) else None
    if not isinstance(text, str):
        return Dropped(empty, "no text", f'line {number} has no string under "text"', len(line))
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        return Dropped(empty, "invalid Unicode", f"line {number}: lone surrogate at character {error.start}", len(line))
    title = row.get("title")
    if isinstance(title, str) and title.isprintable() and title.strip():
        return Document(empty.id, title.strip(), empty.source, text)
    return Document(empty.id, empty.title, empty.source, text)
