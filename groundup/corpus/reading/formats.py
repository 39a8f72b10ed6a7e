"""Which format a file has, by its name; and what the readers of all formats share."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.compression import COMPRESSED, MAGIC_BYTES, Unpacked, is_compressed, unpack
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.languages import language_of
from groundup.corpus.reading.remote import open_file

#: Suffix → format. A suffix of ``compression.COMPRESSED`` after it changes nothing.
FORMATS = {
    ".txt": "text",
    ".md": "text",
    ".html": "html",
    ".htm": "html",
    ".xhtml": "html",
    ".jsonl": "lines",
    ".ndjson": "lines",
    ".json": "json",
    ".csv": "csv",
    ".tsv": "csv",
    ".parquet": "parquet",
    ".epub": "epub",
    ".pdf": "pdf",
    ".warc": "warc",
    ".wet": "warc",
    ".wat": "warc",
    ".xml": "mediawiki",
}

UNKNOWN = ""


@dataclass(frozen=True)
class Part:
    """A file, or a range of it: what one reader reads at a time."""

    path: str
    name: str
    """Path below what the user named: documents' ids begin with it."""
    format: str
    bytes: int
    """On the disk; 0 where unknown."""
    begin: int = 0
    """First byte, or row group (Parquet)."""
    end: int = -1
    """The one after the last; -1: the end of the file."""
    records: int = 0
    """Records of the file before ``begin``, so that ids do not depend on how it is divided."""
    source: str = ""
    """The public corpus that it belongs to; empty: that of the configuration."""

    def empty(self, config: ReadingConfig, number: int | None = None) -> Document:
        """A document of this file without its text: the whole file, or its record ``number``."""
        title = stem(self.name)
        if number is None:
            return self._document(self.name, title, config)
        return self._document(f"{self.name}:{number}", f"{title} {number}", config)

    def rest(self, config: ReadingConfig, reason: str, detail: str, size: int = 0) -> Dropped:
        """What could not be read after the last record."""
        place = f"rest@{self.begin}" if self.begin else "rest"
        return Dropped(self._document(f"{self.name}:{place}", stem(self.name), config), reason, detail, size)

    def _document(self, name: str, title: str, config: ReadingConfig) -> Document:
        return Document(name, title, self.source or config.source, "")


def bare(name: str) -> str:
    """A file's name without the suffix of its compression."""
    path = PurePosixPath(name)
    return path.stem if path.suffix.lower() in COMPRESSED else path.name


@lru_cache(maxsize=1024)
def stem(name: str) -> str:
    """A file's name without its suffixes."""
    return PurePosixPath(bare(name)).stem


def format_of(name: str, config: ReadingConfig) -> str:
    """The format of a file, or ``UNKNOWN``."""
    if config.kind == "code":
        return "code"
    known = FORMATS.get(PurePosixPath(bare(name)).suffix.lower(), UNKNOWN)
    return "code" if known == UNKNOWN and config.kind != "prose" and language_of(name) else known


@contextmanager
def contents(part: Part, config: ReadingConfig) -> Iterator[tuple[io.BufferedReader, Unpacked]]:
    """The unpacked bytes of a part, and what went wrong with its archive."""
    with open_file(part.path) as raw:
        if part.end >= 0 and raw.seek(0, io.SEEK_END) < part.end:
            raise OSError("the file is shorter than when it was listed")
        raw.seek(0)
        plain = False
        if part.begin:
            plain = not is_compressed(raw.read(MAGIC_BYTES))
            raw.seek(part.begin)
        yield unpack(raw, config, plain, part.end - part.begin if part.end >= 0 else -1)


def trouble_of(part: Part, config: ReadingConfig, unpacked: Unpacked) -> Iterator[Dropped]:
    """The end of a damaged archive, if it is one."""
    if unpacked.trouble:
        lost = max(0, part.bytes - unpacked.consumed)
        yield part.rest(config, unpacked.trouble.reason, unpacked.trouble.detail, lost)


def read_whole(part: Part, config: ReadingConfig) -> Iterator[bytes | Dropped]:
    """The contents of a file that is one document, or why it is not read; then what is wrong with its archive."""
    with contents(part, config) as (handle, unpacked):
        beyond = not unpacked.compressed and part.bytes > config.max_bytes  # then a look at it is enough
        raw = handle.read(1 if beyond else config.max_bytes + 1)
        bomb = unpacked.trouble is not None and unpacked.trouble.reason == "decompression bomb"
        if not raw and not unpacked.trouble:
            yield Dropped(part.empty(config), "empty", "0 bytes", 0)
        elif beyond or len(raw) > config.max_bytes:
            size = part.bytes if beyond else f"more than {config.max_bytes}"
            detail = f"{size} bytes, the limit is {config.max_bytes}"
            yield Dropped(part.empty(config), "too large", detail, max(part.bytes, len(raw)))
        elif raw and not bomb:
            yield raw
        yield from trouble_of(part, config, unpacked)
