"""JSON lines (``.jsonl``, ``.ndjson``, and C4's ``.json``): one document per line."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.formats import Part, contents, read_whole, trouble_of
from groundup.corpus.reading.rows import document_of, parse, parse_json
from groundup.corpus.reading.urls import is_url

_BLOCK = 2**20
#: How a JSON file begins, for telling lines from one value.
_HEAD = 2**12


def lines(handle: BinaryIO, limit: int) -> Iterator[tuple[int, bytes | None, int]]:
    """The lines of a stream: number from 1, contents, size. A line above ``limit`` bytes is passed over, never held."""
    number = 0
    while piece := handle.readline(_BLOCK):
        number += 1
        pieces, size = [piece], len(piece)
        while not piece.endswith(b"\n") and (piece := handle.readline(_BLOCK)):
            size += len(piece)
            pieces.append(piece)
            if size > limit:
                pieces.clear()
        yield number, b"".join(pieces) if size <= limit else None, size


def read_lines(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """One document per line; ids end with the line's number in the file; blank lines are passed over."""
    with contents(part, config) as (handle, unpacked):
        for count, line, size in lines(handle, config.max_bytes):
            number = part.records + count
            empty = part.empty(config, number)
            if line is None:
                detail = f"line {number} has {size} bytes, the limit is {config.max_bytes}"
                yield Dropped(empty, "too large", detail, size)
            elif unpacked.trouble and not line.endswith(b"\n"):
                yield Dropped(empty, unpacked.trouble.reason, f"line {number} is cut after {size} bytes", size)
            elif line.strip():
                yield parse_json(empty, line, f"line {number}", config.text_field)
        yield from trouble_of(part, config, unpacked)


def read_json(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """``.json``: lines, as C4 has them, or one value (an object, or an array of them) that is read whole."""
    with contents(part, config) as (handle, _):
        head = handle.peek(_HEAD)[:_HEAD].removeprefix(b"\xef\xbb\xbf").lstrip()
    if not _is_one_value(head):
        yield from read_lines(part, config)
        return
    for raw in read_whole(part, config):
        yield from [raw] if isinstance(raw, Dropped) else _values(part, raw, config)


def _is_one_value(head: bytes) -> bool:
    """Whether JSON that begins so is an array, or an object that goes on after the end of its first line."""
    line, end, _ = head.partition(b"\n")
    if head[:1] == b"[" or not end:
        return head[:1] == b"["
    try:
        parse(line)
    except json.JSONDecodeError as error:
        return error.pos >= len(line.rstrip()) - 1
    except (ValueError, RecursionError):
        pass
    return False


def _values(part: Part, raw: bytes, config: ReadingConfig) -> Iterator[Document | Dropped]:
    try:
        value = parse(raw.removeprefix(b"\xef\xbb\xbf"))
    except (ValueError, RecursionError) as error:
        yield Dropped(part.empty(config), "broken JSON", " ".join(str(error).split()), len(raw))
        return
    for number, row in enumerate(value if isinstance(value, list) else [value], start=1):
        size = len(json.dumps(row))
        yield document_of(part.empty(config, number), row, f"value {number}", config.text_field, size)


def divide_lines(part: Part, config: ReadingConfig) -> list[Part]:
    """An uncompressed file in parts of about ``config.shard_bytes``, cut where lines end.

    The file is read once, to count the lines before each cut: so ids are line numbers.
    """
    if part.bytes <= config.shard_bytes or is_url(part.path):
        return [part]
    with contents(part, config) as (_, unpacked):
        if unpacked.compressed:
            return [part]
    cuts = list(_cuts(Path(part.path), config.shard_bytes))
    ends = [begin for begin, _ in cuts[1:]] + [part.bytes]
    return [
        replace(part, bytes=end - begin, begin=begin, end=end, records=records)
        for (begin, records), end in zip(cuts, ends, strict=True)
        if end > begin
    ]


def _cuts(file: Path, size: int) -> Iterator[tuple[int, int]]:
    """(first byte, lines before it) of each part."""
    yield 0, 0
    begin = position = count = 0
    with file.open("rb") as handle:
        while block := handle.read(_BLOCK):
            done = 0
            while (end := block.find(b"\n", max(done, begin + size - 1 - position))) >= 0:
                count += block.count(b"\n", done, end + 1)
                done = end + 1
                begin = position + done
                yield begin, count
            count += block.count(b"\n", done)
            position += len(block)
