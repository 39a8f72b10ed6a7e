"""Recipes and command-line options → frozen dataclasses. The only file that knows the CLI library.

A recipe (TOML) and the command line go through one parser, the recipe first, so that the last word wins
and a typo in either is refused with a suggestion.
"""

import dataclasses
import difflib
import io
import itertools
import json
import math
import tomllib
from collections.abc import Iterator, Sequence
from contextlib import redirect_stderr, redirect_stdout
from enum import Enum
from pathlib import Path
from typing import Any, TypeVar

import tyro

from groundup.core.errors import UsageError

Config = TypeVar("Config")

HELP_FLAGS = ("-h", "--help")


def read_toml(path: Path) -> dict[str, Any]:
    """Parse a TOML file.

    Raises:
        UsageError: the file cannot be read or is not TOML; the message names file and line.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UsageError(f"the recipe {path} does not exist; see `groundup recipes`") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UsageError(f"the recipe {path} cannot be read: {error}") from error


def parse(kind: type[Config], default: Config, options: Sequence[str], program: str, where: str) -> Config:
    """``default`` with ``options`` (``--section.key value`` …) applied.

    Args:
        kind: the dataclass.
        default: what holds where no option speaks.
        options: command-line words.
        program: shown in ``--help``.
        where: what the options come from, for error messages.

    Raises:
        UsageError: an unknown key (with a suggestion), a value of the wrong kind or one that the dataclass refuses.
        SystemExit: after printing ``--help``.
    """
    words = list(_checked(kind, options, where))
    heard = io.StringIO()
    wants_help = any(word in HELP_FLAGS for word in words)
    try:
        if wants_help:
            return tyro.cli(kind, default=default, args=words, prog=program)
        with redirect_stderr(heard), redirect_stdout(heard):
            config = tyro.cli(kind, default=default, args=words, prog=program)
    except SystemExit as error:
        if wants_help:
            raise
        raise UsageError(f"{where}: {_complaint(heard.getvalue())}; `{program} --help` explains every key") from error
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    _refuse_non_finite(config, where)
    return config


def from_table(kind: type[Config], default: Config, table: dict[str, Any], where: str) -> Config:
    """``default`` with the nested ``table`` of a TOML file applied, by the same parser as the command line."""
    sections = sorted({key[:place] for key, _ in keys_of(kind) for place, sign in enumerate(key) if sign == "."})
    for section in _empty_sections(table):
        if section not in sections:
            raise UsageError(f"{where}: unknown section {section}{hint(section, sections)}")
    return parse(kind, default, list(_flatten(table)), "groundup run", where)


def to_toml(config: Any) -> str:
    """A dataclass as a complete TOML document; fields that are None are left out."""
    lines: list[str] = []

    def section(value: Any, name: str) -> None:
        fields = [(field.name, getattr(value, field.name)) for field in dataclasses.fields(value)]
        plain = [(key, item) for key, item in fields if not dataclasses.is_dataclass(item) and item is not None]
        if name and plain:
            lines.append(f"\n[{name}]")
        lines.extend(f"{key} = {_toml_value(item)}" for key, item in plain)
        for key, item in fields:
            if dataclasses.is_dataclass(item):
                section(item, f"{name}.{key}" if name else key)

    section(config, "")
    return "\n".join(lines).strip() + "\n"


def to_json(config: Any) -> Any:
    """A dataclass as plain JSON values."""
    if dataclasses.is_dataclass(config) and not isinstance(config, type):
        return {field.name: to_json(getattr(config, field.name)) for field in dataclasses.fields(config)}
    if isinstance(config, dict):
        return {key: to_json(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_json(value) for value in config]
    if isinstance(config, Path):
        return str(config)
    return config.value if isinstance(config, Enum) else config


def _toml_value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # A JSON string is a TOML string, but for the one control character that JSON leaves as it is.
    return json.dumps(str(value), ensure_ascii=False).replace("\x7f", "\\u007f")


def _flatten(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, dict):
            yield from _flatten(value, name + ".")
        elif isinstance(value, list):
            yield from (f"--{name}", *(str(item) for item in value))
        else:
            yield f"--{name}={str(value).lower() if isinstance(value, bool) else value}"


def _empty_sections(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        if isinstance(value, dict):
            name = f"{prefix}{key.replace('_', '-')}"
            yield from _empty_sections(value, name + ".") if value else (name,)


def keys_of(kind: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every dotted key of a dataclass, as the command line spells it, and its type."""
    for field in dataclasses.fields(kind):
        key = f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(field.type):
            yield from keys_of(field.type, key + ".")
        else:
            yield key, field.type


def _checked(kind: Any, options: Sequence[str], where: str) -> Iterator[str]:
    """The options for the parser: unknown keys refused, ``--key=false`` and ``--key true`` made flags, and a section's
    ``--section a=1,b`` spelled out as ``--section.a=1 --section.b``."""
    keys = dict(keys_of(kind))
    sections = {key[:place] for key in keys for place, sign in enumerate(key) if sign == "."}
    flags = {key: (f"--{key}", f"--{_negated(key)}") for key, hint in keys.items() if hint is bool}
    known = [*keys, *(_negated(key) for key in flags)]
    words = list(options)
    while words:
        word = words.pop(0)
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise UsageError(f"{where}: {word!r} is not valid Unicode; use another name") from error
        name, equals, value = word.partition("=")
        key = name.removeprefix("--").replace("_", "-")
        if not word.startswith("--") or word in HELP_FLAGS:
            yield word
        elif key in sections and (equals or (words and not words[0].startswith("-"))):
            parts = (value if equals else words.pop(0)).split(",")
            words = [f"--{key}.{part.strip()}" for part in parts] + words
        elif key not in known:
            raise UsageError(f"{where}: unknown key {key}{hint(key, [*known, *sections])}")
        elif key not in flags:
            yield word
        else:
            if not equals:
                value = words.pop(0) if words and not words[0].startswith("-") else "true"
            if value.lower() not in ("true", "false"):
                raise UsageError(f"{where}: {key} is {value!r}; it must be true or false")
            yield flags[key][value.lower() == "false"]


def _negated(key: str) -> str:
    section, dot, name = key.rpartition(".")
    return f"{section}{dot}no-{name}"


def hint(key: str, known: Sequence[str]) -> str:
    """What an unknown key was probably meant to be: in its own section, by its name, or by its whole spelling."""
    section, _, name = key.rpartition(".")
    siblings = {other.rpartition(".")[2]: other for other in known if other.rpartition(".")[0] == section}
    meant = [siblings[match] for match in difflib.get_close_matches(name, siblings, n=1)]
    namesakes = [other for other in known if other.rpartition(".")[2] == name]
    meant = meant or difflib.get_close_matches(key, namesakes, n=1, cutoff=0)
    if not siblings:  # of two keys in one section, too much is alike
        meant = meant or difflib.get_close_matches(key, known, n=1, cutoff=0.75)
    return f"; did you mean {meant[0]}?" if meant else "; --help lists all keys"


def _refuse_non_finite(config: Any, where: str, prefix: str = "") -> None:
    """NaN and infinity parse as numbers and pass most comparisons; no key means them."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        key = f"{prefix}{field.name.replace('_', '-')}"
        if dataclasses.is_dataclass(value):
            _refuse_non_finite(value, where, key + ".")
        elif any(isinstance(item, float) and not math.isfinite(item) for item in _items(value)):
            raise UsageError(f"{where}: {key} is {value}; it must be a finite number")


def _items(value: Any) -> Sequence[Any]:
    return value if isinstance(value, tuple) else (value,)


def _complaint(output: str) -> str:
    """The sentence of the parser's message, without its frame: what stands between the first two rules."""
    lines = [line.strip("│╭╮╰╯ 	") for line in output.splitlines()]
    blocks = [
        " ".join(group)
        for is_rule, group in itertools.groupby(filter(None, lines), lambda line: not line.strip("─-"))
        if not is_rule
    ]
    sentence = blocks[min(1, len(blocks) - 1)] if blocks else "the options cannot be parsed"
    return sentence.replace("Unrecognized options:", "unexpected").rstrip(".")
