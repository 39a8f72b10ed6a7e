"""The input of a corpus, divided into shards of bounded size that any process can read alone.

    find_shards(paths, config) → [Shard, …]        read_shard(shard, config) → documents and drops

The shards of the same paths and configuration are the same, in the same order. Ids (``folder/file.jsonl:17``) are
unique in the corpus and do not depend on how it is divided.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from groundup.core.errors import DataError, GroundupError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.books import read_epub, read_pdf
from groundup.corpus.reading.code import read_code
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.files import list_files
from groundup.corpus.reading.formats import UNKNOWN, Part, format_of
from groundup.corpus.reading.lines import divide_lines, read_json, read_lines
from groundup.corpus.reading.mediawiki import divide_mediawiki, read_mediawiki
from groundup.corpus.reading.remote import open_file
from groundup.corpus.reading.tables import divide_parquet, read_csv, read_parquet
from groundup.corpus.reading.text import read_html, read_text
from groundup.corpus.reading.urls import is_url, reason_of, without_secrets
from groundup.corpus.reading.warc import read_warc

Records = Iterator[Document | Dropped]

#: Of more remote files than this each is one shard: to look into thousands of them would take minutes.
_FEW_FILES = 64
#: To open a file takes as long as to read this many bytes.
_FILE_COST = 2**12


@dataclass(frozen=True)
class Shard:
    """A piece of the input: several small files, one file, or a range of one."""

    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """For people: its first file, and how many more there are."""
        first, more = self.parts[0], len(self.parts) - 1
        place = f"@{first.begin}" if first.begin else ""
        return f"{first.name}{place}" + (f" and {more} more" if more else "")

    @property
    def bytes(self) -> int:
        """On the disk, compressed or not."""
        return sum(part.bytes for part in self.parts)

    def to_json(self) -> dict[str, Any]:
        return {"parts": [asdict(part) for part in self.parts]}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> "Shard":
        return cls(tuple(Part(**part) for part in row["parts"]))


def read_unknown(part: Part, config: ReadingConfig) -> Records:
    """A file that no reader knows; or that is not there, or may not be opened: that is the reason then."""
    with open_file(part.path):
        yield Dropped(part.empty(config), "unknown format", "no reader for files of this name", part.bytes)


READERS: Mapping[str, Callable[[Part, ReadingConfig], Records]] = {
    UNKNOWN: read_unknown,
    "text": read_text,
    "html": read_html,
    "lines": read_lines,
    "json": read_json,
    "csv": read_csv,
    "parquet": read_parquet,
    "epub": read_epub,
    "pdf": read_pdf,
    "warc": read_warc,
    "mediawiki": read_mediawiki,
    "code": read_code,
}

#: Formats whose files can be read in several parts.
DIVIDERS: Mapping[str, Callable[[Part, ReadingConfig], list[Part]]] = {
    "lines": divide_lines,
    "parquet": divide_parquet,
    "mediawiki": divide_mediawiki,
}


def find_shards(paths: Sequence[str | Path], config: ReadingConfig) -> list[Shard]:
    """Divide what ``paths`` stand for; small files share a shard.

    Args:
        paths: files, folders, globs, URLs, ``public://NAME``, ``-`` for standard input.

    Raises:
        DataError: a path does not exist, or there is no file.
    """
    shards: list[Shard] = []
    gathered: list[Part] = []
    size = 0
    for part in _parts(paths, config):
        cost = config.shard_bytes if not part.bytes and is_url(part.path) else max(part.bytes, _FILE_COST)
        if gathered and size + cost > config.shard_bytes:
            shards.append(Shard(tuple(gathered)))
            gathered, size = [], 0
        gathered.append(part)
        size += cost
    return [*shards, Shard(tuple(gathered))]


def _parts(paths: Sequence[str | Path], config: ReadingConfig) -> Iterator[Part]:
    files = list_files(paths)
    few = len(files) <= _FEW_FILES
    for file in files:
        part = Part(file.path, file.name, format_of(file.name, config), file.bytes, source=file.source)
        divide = DIVIDERS.get(part.format) if few or not is_url(part.path) else None
        try:
            yield from divide(part, config) if divide else [part]
        except OSError:
            yield part  # its reader will say why


def read_shard(shard: Shard, config: ReadingConfig) -> Records:
    """The records of a shard, one at a time, in order; a file that cannot be read costs nothing but itself."""
    for part in shard.parts:
        yield from read_part(part, config)


def read_part(part: Part, config: ReadingConfig) -> Records:
    """The records of one part.

    Raises:
        UsageError: a package that this format needs is not installed.
        DataError: a URL or a store cannot be read.
    """
    nothing = True
    try:
        for item in READERS[part.format](part, config):
            nothing = False
            yield item
        if nothing and not part.begin and part.end < 0:
            yield Dropped(part.empty(config), "empty", "no document in it", part.bytes)
    except GroundupError:
        raise
    except FileNotFoundError:
        yield part.rest(config, "missing", "the file is not there, or is a link to nowhere", part.bytes)
    except BaseException as error:  # a file that its reader has no answer for costs nothing but itself
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":  # of libraries in Rust
            raise
        words = (error.strerror if isinstance(error, OSError) else None) or " ".join(str(error).split())
        if is_url(part.path):  # a store that fails now may be there later: stop rather than lose much
            place = without_secrets(part.path)
            raise DataError(f"cannot read {place}: {reason_of(error, part.path)}; run again") from error
        yield part.rest(config, "unreadable", words or type(error).__name__, part.bytes)


def open_records(paths: str | Path | Iterable[str | Path], config: ReadingConfig | None = None) -> Records:
    """All records of one path or several, as one shard after the other gives them."""
    config = config or ReadingConfig()
    for shard in find_shards([paths] if isinstance(paths, str | Path) else list(paths), config):
        yield from read_shard(shard, config)
