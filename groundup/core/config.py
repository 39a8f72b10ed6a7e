"""Recipes and command-line options → frozen dataclasses. The only file that knows the CLI library.

A recipe (TOML) and the command line go through one parser, the recipe first, so that the last word wins
and a typo in either is refused with a suggestion.
"""

import dataclasses
import difflib
import io
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
        UsageError: an unknown key (with a suggestion) or a value of the wrong kind.
        SystemExit: after printing ``--help``.
    """
    _refuse_unknown_keys(kind, options, where)
    heard = io.StringIO()
    wants_help = any(word in HELP_FLAGS for word in options)
    try:
        if wants_help:
            return tyro.cli(kind, default=default, args=list(options), prog=program)
        with redirect_stderr(heard), redirect_stdout(heard):
            return tyro.cli(kind, default=default, args=list(options), prog=program)
    except SystemExit as error:
        if wants_help:
            raise
        raise UsageError(f"{where}: {_complaint(heard.getvalue())}; `{program} --help` explains every key") from error


def from_table(kind: type[Config], default: Config, table: dict[str, Any], where: str) -> Config:
    """``default`` with the nested ``table`` of a TOML file applied, by the same parser as the command line."""
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
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'


def _flatten(table: dict[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in table.items():
        name = f"{prefix}{key.replace('_', '-')}"
        if isinstance(value, dict):
            yield from _flatten(value, name + ".")
        elif isinstance(value, bool):
            yield f"--{name}" if value else _negated(name)
        elif isinstance(value, list):
            yield from (f"--{name}", *(str(item) for item in value))
        else:
            yield from (f"--{name}", str(value))


def _negated(name: str) -> str:
    section, _, key = name.rpartition(".")
    return f"--{section}.no-{key}" if section else f"--no-{key}"


def keys_of(kind: Any, prefix: str = "") -> Iterator[str]:
    """Every dotted key of a dataclass, as the command line spells it."""
    hints = {field.name: field.type for field in dataclasses.fields(kind)}
    for name, hint in hints.items():
        key = f"{prefix}{name.replace('_', '-')}"
        if dataclasses.is_dataclass(hint):
            yield from keys_of(hint, key + ".")
        else:
            yield key
            if hint is bool:
                yield _negated(key).removeprefix("--")


def _refuse_unknown_keys(kind: Any, options: Sequence[str], where: str) -> None:
    known = list(keys_of(kind))
    for word in options:
        if not word.startswith("--") or word in HELP_FLAGS:
            continue
        key = word[2:].split("=", 1)[0].replace("_", "-")
        if key in known:
            continue
        close = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
        tail = [name for name in known if name.rpartition(".")[2] == key.rpartition(".")[2]]
        hint = f"; did you mean --{(close or tail)[0]}?" if close or tail else "; `groundup run --help` lists all keys"
        raise UsageError(f"{where}: unknown key {word.split('=', 1)[0]}{hint}")


def _complaint(output: str) -> str:
    """The sentence of the parser's message, without its frame."""
    lines = [line.strip("│╭╮╰╯─ \t") for line in output.splitlines()]
    sentences = [line for line in lines if line and not line.startswith(("Parsing error", "For full helptext"))]
    return " ".join(sentences[:3]) or "the options cannot be parsed"
