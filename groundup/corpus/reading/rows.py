"""A row of a table or a JSON object → a document: which fields hold its text, its title and what is known about it."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from groundup.core.errors import DataError, GroundupError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.compression import unpack
from groundup.corpus.reading.config import MEGABYTE, ReadingConfig
from groundup.corpus.reading.remote import open_file
from groundup.corpus.reading.text import Undecodable, decode_declared, utf8

TEXT_FIELDS = ("text", "content")

#: fact → the fields that hold it in C4, FineWeb, Dolma, The Stack and The Stack v2, most telling first.
FACT_FIELDS: Mapping[str, tuple[str, ...]] = {
    "url": ("url", "source_url"),
    "language": ("language", "lang", "programming_language"),
    "licence": (
        "licence",
        "license",
        "licenses",
        "detected_licenses",
        "max_stars_repo_licenses",
        "license_type",
    ),
    "date": ("date", "timestamp", "created", "created_at", "visit_date"),
    "path": ("path", "max_stars_repo_path"),
    "kind": ("kind",),
}

_KNOWN_FIELDS = {field: (fact, rank) for fact, fields in FACT_FIELDS.items() for rank, field in enumerate(fields)}

#: Fields that hold further fields: ours, Dolma's, datatrove's.
NESTED_FIELDS = ("facts", "metadata", "meta")

#: The Stack v2 holds no texts, but the names of files in this archive; they are compressed with gzip.
SOFTWARE_HERITAGE = "s3://softwareheritage/content/{blob_id}"
ARCHIVED_BYTES = 64 * MEGABYTE

#: So many fields, and so many characters of each, are named where none holds the text.
_NAMES, _NAME = 12, 40

#: Fields that only tables of source code have.
CODE_FIELDS = ("max_stars_repo_path", "hexsha", "blob_id", "programming_language", "detected_licenses")


def parse(text: str | bytes) -> Any:
    """A value of JSON. Whole numbers of any length are JSON; those that Python refuses to read become floats."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        return json.loads(text, parse_int=float)


def parse_json(empty: Document, line: bytes, place: str, text_field: str = "text") -> Document | Dropped:
    """One line of a JSON-lines file. ``place`` (``line 3``) begins every complaint."""
    try:
        # The byte order mark that some editors put before the first line is no JSON.
        row = parse(utf8(line).removeprefix("\ufeff"))
    except Undecodable as error:
        return Dropped(empty, error.reason, f"{place}: {error.detail}", len(line))
    except (ValueError, RecursionError) as error:
        return Dropped(empty, "broken JSON", f"{place}: {error}", len(line))
    return document_of(empty, row, place, text_field, len(line))


def document_of(empty: Document, row: Any, place: str, text_field: str, size: int) -> Document | Dropped:
    """``empty`` with the text, the title and the facts of ``row``; ``size`` is what is lost if it has none.

    Args:
        text_field: where the text is; a dot leads into a field that holds further ones.
    """
    names = (text_field,) if text_field else TEXT_FIELDS
    values = [_field(row, name) for name in names] if isinstance(row, dict) else []
    text = next((value for value in values if isinstance(value, str | bytes)), None)
    if isinstance(text, bytes):  # a column of Parquet that does not say that it is text
        try:
            text = utf8(text)
        except Undecodable as error:
            return Dropped(empty, error.reason, f"{place}: {error.detail}", len(text))
    if text is None and isinstance(row, dict) and isinstance(row.get("blob_id"), str):
        decoded = _archived(empty, row)
        if isinstance(decoded, Dropped):
            return decoded
        text = decoded.text
    if text is None:
        return Dropped(empty, "no text", f"{place} has {_no_text(row, names)}", size)
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError as error:
            return Dropped(empty, "invalid Unicode", f"{place}: lone surrogate at character {error.start}", size)
    title = row.get("title")
    title = title.strip() if isinstance(title, str) and title.isprintable() else ""
    return Document(empty.id, title or empty.title, empty.source, text, facts_of(row))


def _field(row: Mapping[str, Any], name: str) -> Any:
    """The value of a field, or of one inside another (``translation.en``)."""
    if name in row or "." not in name:
        return row.get(name)
    value: Any = row
    for key in name.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _no_text(row: Any, names: Sequence[str]) -> str:
    wanted = " or ".join(f'"{name}"' for name in names)
    if not isinstance(row, dict):
        return f"no string under {wanted}: it is no object"
    return f"no string under {wanted}; {named(list(row))}"


def named(fields: Sequence[str]) -> str:
    """The fields that there are, and how to choose one of them."""
    shown = ", ".join(_words(field)[:_NAME] for field in fields[:_NAMES])
    more = f" and {len(fields) - _NAMES} more" if len(fields) > _NAMES else ""
    return f"its fields: {shown}{more}; choose one with --corpus.reading.text-field" if fields else "it has no fields"


def _archived(empty: Document, row: Mapping[str, Any]) -> Document | Dropped:
    """The contents of a file that the row only names.

    Raises:
        UsageError: the package for the archive's store is not installed.
        DataError: the archive does not answer.
    """
    url = SOFTWARE_HERITAGE.format(blob_id=row["blob_id"])
    try:
        with open_file(url) as raw:
            handle, unpacked = unpack(raw, ReadingConfig())
            found = handle.read(ARCHIVED_BYTES + 1)
    except FileNotFoundError:
        return Dropped(empty, "missing", f"{url} is not there", 0)
    except GroundupError:
        raise
    except Exception as error:  # every store has its own classes
        raise DataError(f"cannot read {url}: {' '.join(str(error).split())}; check your access, run again") from error
    if unpacked.trouble:
        return Dropped(empty, unpacked.trouble.reason, unpacked.trouble.detail, len(found))
    if len(found) > ARCHIVED_BYTES:
        return Dropped(empty, "too large", f"more than {ARCHIVED_BYTES} bytes", len(found))
    return decode_declared(empty, found, str(row.get("src_encoding") or "utf-8"))


def facts_of(row: Mapping[str, Any]) -> dict[str, str]:
    """What a row says about its text, also inside its nested fields."""
    found: dict[str, tuple[int, str]] = {}
    nested = [value for name in NESTED_FIELDS if isinstance(value := row.get(name), dict)]
    for depth, place in enumerate((row, *nested)):
        for field, value in place.items():
            known = _KNOWN_FIELDS.get(field)
            if known and (words := _words(value)):
                fact, rank = known
                candidate = (depth * len(_KNOWN_FIELDS) + rank, words)
                found[fact] = min(candidate, found.get(fact, candidate))
    if "kind" not in found and not row.keys().isdisjoint(CODE_FIELDS):
        found["kind"] = (0, "code")
    return {fact: found[fact][1] for fact in FACT_FIELDS if fact in found}


def _words(value: Any) -> str:
    """A fact as text: lists are joined, numbers and nulls are none."""
    if isinstance(value, str):
        return " ".join((value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")).split())
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(_words, value)))
    return value.isoformat() if hasattr(value, "isoformat") else ""
