"""Files → texts to learn from, one at a time: nothing is held in memory but the part that is being read.

A file is a document, and so is each line of a ``.jsonl`` file; either may be compressed (``.gz``). Of a file longer
than ``PART_CHARACTERS`` the parts are documents, cut where every named pattern begins a piece: behind the end of a line
that another line follows without white space between, else before a space.
"""

import codecs
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from groundup.core.errors import DataError
from groundup.core.progress import say

#: What is taken from a folder. A file that is named is read whatever its ending, as plain text unless it is these.
LINES_SUFFIX = ".jsonl"
SUFFIXES = (".txt", ".md", LINES_SUFFIX)
GZIP_SUFFIX = ".gz"

#: Longer files are read in parts of about this many characters …
PART_CHARACTERS = 1 << 20
#: … and cut anywhere when so many characters in a row hold no good place.
MOST_CHARACTERS = 1 << 26
#: The end of a line is a better place than a space, if there is one within so many characters.
NEAR = 1 << 12
#: One line of a ``.jsonl`` file may have so many bytes: it must be read as a whole.
LONGEST_LINE = 1 << 28
READ_BYTES = 1 << 18

_line = re.compile(r"(?<=\S\n)(?=[^\s/])")
_space = re.compile(r"(?<=\S)(?= )")


def find_texts(paths: Sequence[Path]) -> list[Path]:
    """The files that ``paths`` stand for, in their order; those of a folder sorted, hidden ones passed over.

    Raises:
        DataError: a path does not exist, or a folder holds no file of a known kind.
    """
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            found, others = _inside(path)
            if others:
                say(f"  {path}: {others:,} files are no {', '.join(SUFFIXES)} and are passed over")
            if not found:
                raise DataError(
                    f"{path} holds no {', '.join(SUFFIXES)} file (or .gz of one); name other files one by one"
                )
            files += found
        elif path.is_file():
            files.append(path)
        else:
            raise DataError(f"{path} does not exist; give files or folders of {', '.join(SUFFIXES)} files")
    return files


def read_texts(paths: Sequence[Path], key: str = "text") -> Iterator[str]:
    """The documents of files and folders, in an order that depends on nothing but their names.

    Args:
        key: under which a line of a ``.jsonl`` file holds its text.

    Raises:
        DataError: nothing is there to read, or a file is not UTF-8, not gzip, or has a line without a text; the
            message names the file and the place.
    """
    empty = True
    for path in find_texts(paths):
        try:
            with _opened(path) as handle:
                for text in _lines(handle, path, key) if _kind(path) == LINES_SUFFIX else _parts(handle, path):
                    empty = empty and not text
                    yield text
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise DataError(f"{path} is damaged or no gzip file: {error}") from error
        except OSError as error:
            raise DataError(f"{path} cannot be read: {error.strerror or error}") from error
    if empty:
        raise DataError(f"{', '.join(map(str, paths)) or 'the list of files'} holds no text; give files with some")


def cut_place(text: str, start: int) -> int | None:
    """A place in ``text`` from ``start`` on where no piece of a named pattern is cut in two; None if there is none.

    Behind a single line end, when neither white space nor a slash follows, every named pattern begins a piece, and
    the pieces before are those of the text up to there; before a space that follows something else, likewise.
    """
    found = _line.search(text, start, start + NEAR) or _space.search(text, start)
    return found.start() if found else None


def _inside(folder: Path) -> tuple[list[Path], int]:
    """The files to read below a folder, sorted, and how many there are of other kinds."""
    files = []
    others = 0
    for parent, folders, names in os.walk(folder, onerror=_refused):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if _kind(path) in SUFFIXES and path.is_file():
                files.append(path)
            else:
                others += 1
    return sorted(files), others


def _refused(error: OSError) -> None:
    """A folder that cannot be read is not passed over."""
    raise DataError(f"{error.filename} cannot be read: {error.strerror}; give yourself the right to, or leave it out")


def _kind(path: Path) -> str:
    """The ending that tells the kind, without ``.gz``."""
    name = path.name.lower().removesuffix(GZIP_SUFFIX)
    return Path(name).suffix


def _opened(path: Path) -> BinaryIO:
    return gzip.open(path, "rb") if path.name.lower().endswith(GZIP_SUFFIX) else path.open("rb")  # type: ignore[return-value]


def _lines(handle: BinaryIO, path: Path, key: str) -> Iterator[str]:
    """The text of each line of JSON; blank lines are passed over."""
    number = 0
    while line := handle.readline(LONGEST_LINE):
        number += 1
        if len(line) == LONGEST_LINE:
            raise DataError(f"{path} has more than {LONGEST_LINE:,} bytes in line {number}; split it")
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode("utf-8"))
        except (ValueError, RecursionError) as error:
            reason = f"{error.reason} at byte {error.start}" if isinstance(error, UnicodeDecodeError) else error
            raise DataError(f"{path} is not JSON in line {number}: {reason}; correct or remove it") from error
        text = row.get(key) if isinstance(row, dict) else None
        if not isinstance(text, str):
            raise DataError(
                f'{path} has no text under "{key}" in line {number}; every line must be like {{"text": "…"}}'
            )
        yield text


def _parts(handle: BinaryIO, path: Path) -> Iterator[str]:
    """A plain text, whole if it is short."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    text, read, sought = "", 0, PART_CHARACTERS
    while True:
        data = handle.read(READ_BYTES)
        if read == 0:
            data = data.removeprefix(codecs.BOM_UTF8)
        waiting = len(decoder.getstate()[0])
        try:
            more = decoder.decode(data, final=not data)
        except UnicodeDecodeError as error:
            place = read - waiting + error.start
            byte = error.object[error.start]
            hint = "is it UTF-16? " if read == 0 and data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else ""
            raise DataError(f"{path} is not UTF-8: byte 0x{byte:02x} at {place:,}; {hint}convert it first") from error
        if "\0" in more:
            raise DataError(f"{path} is no text: it holds a zero byte after {read:,} bytes; leave it out or convert it")
        read += len(data)
        text += more
        if not data:
            break
        while len(text) > sought:
            cut = cut_place(text, sought)
            if cut is None and len(text) < MOST_CHARACTERS:
                sought = len(text) - 1  # from the last character, which nothing followed yet
                break
            cut = cut or len(text)
            yield text[:cut]
            text, sought = text[cut:], PART_CHARACTERS
    if text:
        yield text
