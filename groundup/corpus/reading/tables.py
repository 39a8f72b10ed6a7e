"""Tables, one document per row: CSV (``.csv``, ``.tsv``) and Parquet."""

import codecs
import contextlib
import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, BinaryIO

from groundup.core.errors import GroundupError, UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import MEGABYTE, ReadingConfig
from groundup.corpus.reading.formats import Part, contents, trouble_of
from groundup.corpus.reading.lines import lines
from groundup.corpus.reading.remote import open_file
from groundup.corpus.reading.rows import CODE_FIELDS, FACT_FIELDS, NESTED_FIELDS, TEXT_FIELDS, document_of, named

_DELIMITERS = ",;\t|"
#: How spreadsheets tell the delimiter, on a line before the header.
_DELIMITER_LINE = re.compile(r"sep=(.)\r?\n?", re.I)
_HEAD = 2**12
#: Parquet is decoded in batches of about this size.
_BATCH_BYTES = 16 * MEGABYTE


class _Lines:
    """The lines of a CSV file as text. A row may run over several; one that runs on for too long is refused."""

    def __init__(self, handle: BinaryIO, config: ReadingConfig) -> None:
        self._lines = lines(handle, config.max_bytes)
        self._limit = config.max_bytes
        self._encoding = config.encoding
        self.size = 0
        """Bytes since the last row began."""
        self._quoted = False

    def __iter__(self) -> "_Lines":
        return self

    def begin_row(self) -> None:
        self.size, self._quoted = 0, False

    def skip_row(self) -> None:
        """Pass over what is left of a row that was refused inside a quoted field."""
        with contextlib.suppress(StopIteration):
            while self._quoted:
                self._advance()

    def __next__(self) -> str:
        line = self._advance()
        if line is None or self.size > self._limit:
            raise csv.Error(f"{self.size} bytes, the limit is {self._limit}")
        try:
            return line.decode("utf-8")
        except UnicodeDecodeError:
            return line.decode(self._encoding, "surrogateescape")

    def _advance(self) -> bytes | None:
        _, line, size = next(self._lines)
        self.size += size
        self._quoted ^= bool(line and line.count(b'"') % 2)
        return line


def read_csv(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """One document per row after the header; ids end with the row's number. A row may have line breaks in quotes.

    Quotes are as in RFC 4180; the delimiter is a comma, semicolon, tab or bar.
    """
    csv.field_size_limit(config.max_bytes)
    with contents(part, config) as (handle, unpacked):
        head = handle.peek(_HEAD)[:_HEAD]
        if trouble := _not_csv(head):
            yield part.rest(config, *trouble, part.bytes)
            return
        handle.read(3 if head.startswith(codecs.BOM_UTF8) else 0)
        source = _Lines(handle, config)
        header, delimiter = _header(source, config)
        if header and not _text_column(header, config):
            yield part.rest(config, "no text", f"no column {_wanted(config)}; {named(header)}", part.bytes)
            return
        rows = csv.reader(source, delimiter=delimiter)
        number = 0
        while True:
            number += 1
            source.begin_row()
            empty = part.empty(config, number)
            try:
                row = next(rows, None)
            except csv.Error as error:
                source.skip_row()
                yield Dropped(empty, "broken CSV", f"row {number}: {error}", source.size)
                continue
            if row is None:
                break
            if len(row) == len(header):
                yield _checked(
                    document_of(
                        empty, dict(zip(header, row, strict=True)), f"row {number}", config.text_field, source.size
                    )
                )
            elif row:
                detail = f"row {number} has {len(row)} fields, the header has {len(header)}"
                yield Dropped(empty, "broken CSV", detail, source.size)
        yield from trouble_of(part, config, unpacked)


def _checked(item: Document | Dropped) -> Document | Dropped:
    """Bytes that are no UTF-8 were carried through as surrogates, which ``document_of`` finds."""
    if isinstance(item, Dropped) and item.reason == "invalid Unicode":
        return Dropped(item.document, "invalid UTF-8", item.detail, item.bytes)
    return item


def _not_csv(head: bytes) -> tuple[str, str] | None:
    """Why a file that begins so is no table, if it is none."""
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "binary", "it is in UTF-16; convert it to UTF-8"
    if b"\r" in head and b"\n" not in head and len(head) < _HEAD:
        return "broken CSV", "its lines end with CR alone; convert them to LF"
    return None


def _header(source: _Lines, config: ReadingConfig) -> tuple[list[str], str]:
    """The names of the columns, and the delimiter: the first that gives a column for the text, else a comma."""
    try:
        first = next(source, "")
        if told := _DELIMITER_LINE.fullmatch(first):
            first = next(source, "")
        parsed = {sign: next(csv.reader([first], delimiter=sign), []) for sign in (told[1] if told else _DELIMITERS)}
    except csv.Error:
        return [], ","
    fitting = (sign for sign, names in parsed.items() if _text_column(names, config))
    delimiter = next(fitting, max(parsed, key=lambda sign: len(parsed[sign])))
    return parsed[delimiter], delimiter


def _text_column(names: Sequence[str], config: ReadingConfig) -> bool:
    """Whether one of the columns may hold the text; also one that only names it (The Stack v2)."""
    field = config.text_field
    wanted = {field, field.partition(".")[0]} if field else {*TEXT_FIELDS, "blob_id"}
    return not wanted.isdisjoint(names)


def _wanted(config: ReadingConfig) -> str:
    return " or ".join(f'"{name}"' for name in ((config.text_field,) if config.text_field else TEXT_FIELDS))


def read_parquet(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """One document per row; ids end with the row's number in the file. Only the columns that are used are read."""
    parquet = _parquet()
    with open_file(part.path) as raw:
        if not raw.seek(0, io.SEEK_END):
            yield Dropped(part.empty(config), "empty", "0 bytes", 0)
            return
        try:
            file = parquet.ParquetFile(raw, buffer_size=MEGABYTE, pre_buffer=False)
        except GroundupError:
            raise
        except Exception as error:  # pyarrow has several classes for a file that is none
            yield part.rest(config, "damaged Parquet", " ".join(str(error).split()), part.bytes)
            return
        names = file.schema_arrow.names
        if file.metadata.num_rows and not _text_column(names, config):
            yield part.rest(config, "no text", f"no column {_wanted(config)}; {named(names)}", part.bytes)
            return
        columns = _columns(names, config)
        number = part.records
        for group in range(part.begin, file.num_row_groups if part.end < 0 else part.end):
            yield from _read_group(file, group, columns, number, part, config)
            number += file.metadata.row_group(group).num_rows


def _read_group(
    file: Any, group: int, columns: list[str], number: int, part: Part, config: ReadingConfig
) -> Iterator[Document | Dropped]:
    metadata = file.metadata.row_group(group)
    rows = max(1, min(1000, _BATCH_BYTES * metadata.num_rows // max(1, metadata.total_byte_size)))
    try:
        for batch in file.iter_batches(rows, row_groups=[group], columns=columns, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                size = sum(len(value) for value in row.values() if isinstance(value, str | bytes))
                item = document_of(part.empty(config, number), row, f"row {number}", config.text_field, size)
                length = item.bytes if isinstance(item, Document) and 4 * len(item.text) > config.max_bytes else 0
                if length > config.max_bytes:
                    detail = f"row {number} has {length} bytes, the limit is {config.max_bytes}"
                    item = Dropped(part.empty(config, number), "too large", detail, length)
                yield item
    except GroundupError:
        raise
    except Exception as error:  # pyarrow has several classes for damaged pages; the other row groups may be whole
        place = replace(part.empty(config), id=f"{part.name}:group {group}")
        detail = f"after row {number}: {' '.join(str(error).split())}"
        yield Dropped(place, "damaged Parquet", detail, _packed(metadata))


def divide_parquet(part: Part, config: ReadingConfig) -> list[Part]:
    """Row groups, gathered into parts of about ``config.shard_bytes``."""
    if part.bytes <= config.shard_bytes:
        return [part]
    parquet = _parquet()
    with open_file(part.path) as raw:
        try:
            metadata = parquet.ParquetFile(raw).metadata
        except GroundupError:
            raise
        except Exception:  # its reader will say why
            return [part]
    parts: list[Part] = []
    begin = records = size = passed = 0
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        size += _packed(row_group)
        passed += row_group.num_rows
        if size >= config.shard_bytes or group + 1 == metadata.num_row_groups:
            parts.append(replace(part, bytes=size, begin=begin, end=group + 1, records=records))
            begin, records, size = group + 1, passed, 0
    return parts or [part]


def _packed(row_group: Any) -> int:
    """Bytes of a row group on the disk."""
    return sum(row_group.column(index).total_compressed_size for index in range(row_group.num_columns))


def _columns(names: list[str], config: ReadingConfig) -> list[str]:
    field = config.text_field
    wanted = {field, field.partition(".")[0]} if field else set(TEXT_FIELDS)
    wanted |= {"title", *NESTED_FIELDS, *(field for fields in FACT_FIELDS.values() for field in fields)}
    wanted |= {*CODE_FIELDS, "src_encoding"}
    return [name for name in names if name in wanted]


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise UsageError("reading .parquet needs pyarrow; pip install 'groundup[data]'") from error
    return pyarrow.parquet
