"""Looking into JSON that anybody may have written: each value is checked before it is used."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, TypeVar, overload

import regex

from groundup.core.errors import DataError
from groundup.tokenizer.vocabulary import MOST_TOKENS

Value = TypeVar("Value")
Default = TypeVar("Default")

#: A regular expression may have so many characters, and repeat something so often: compiling takes time with both.
LONGEST_EXPRESSION, MOST_REPETITIONS = 10_000, 10_000

_counts = re.compile(r"\{\d*,?\d*\}", re.ASCII)
_NAMES = {dict: "an object", list: "a list", str: "a string", int: "a whole number", bool: "true or false"}
_REQUIRED: Any = object()


def parse_object(data: bytes) -> dict[str, Any]:
    """The JSON object in ``data``.

    Raises:
        DataError: it is not UTF-8, not JSON, nested too deeply, or another value.
    """
    try:
        content = json.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise DataError(f"it is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise DataError(f"it is not JSON at line {error.lineno}, column {error.colno}") from error
    except (RecursionError, ValueError) as error:
        raise DataError("its JSON is nested too deeply or has a number of thousands of digits") from error
    if not isinstance(content, dict):
        raise DataError(f"it is JSON, but {_named(content)} and not an object")
    return content


@overload
def member(content: Mapping[str, Any], key: str, kind: type[Value]) -> Value: ...
@overload
def member(content: Mapping[str, Any], key: str, kind: type[Value], default: Default) -> Value | Default: ...
def member(content: Mapping[str, Any], key: str, kind: type[Value], default: Any = _REQUIRED) -> Any:
    """``content[key]``, which must be of ``kind``; ``default`` where it is missing or null.

    Raises:
        DataError: it is missing and has no default, or is of another kind.
    """
    value = content.get(key)
    if value is None and default is not _REQUIRED:
        return default
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise DataError(f"its {key!r} is {_named(value)} instead of {_NAMES[kind]}")
    return value


def objects(items: list[Any], what: str) -> list[dict[str, Any]]:
    """``items``, all of which must be objects."""
    for item in items:
        if not isinstance(item, dict):
            raise DataError(f"one of its {what} is {_named(item)} instead of an object")
    return items


def ids_of(vocab: Mapping[str, Any]) -> dict[int, str]:
    """Id → token of a JSON object token → id.

    Raises:
        DataError: an id that is no whole number, is negative or too large for so few tokens, or comes twice.
    """
    tokens: dict[int, str] = {}
    for token, token_id in vocab.items():
        if type(token_id) is not int:
            raise DataError(f"the id of token {token[:40]!r} is {_named(token_id)} instead of a whole number")
        if tokens.setdefault(token_id, token) != token:
            raise DataError(f"tokens {tokens[token_id][:40]!r} and {token[:40]!r} share the id {token_id}")
    check_ids(tokens)
    return tokens


def check_ids(ids: Mapping[int, object]) -> None:
    """Refuse negative ids, and gaps that would make a vocabulary of mostly nothing."""
    if not ids:
        raise DataError("it has no tokens")
    if min(ids) < 0:
        raise DataError(f"the id {min(ids)} is negative")
    if max(ids) >= min(MOST_TOKENS, 2 * len(ids) + 65536):
        raise DataError(f"it has {len(ids):,} tokens, but ids up to {max(ids):,}")


def check_expression(expression: str) -> str:
    """``expression`` itself, if it is a regular expression that can be compiled in reasonable time.

    Raises:
        DataError: it is not.
    """
    numbers = "".join(_counts.findall(expression[:LONGEST_EXPRESSION]))
    repetitions = math.prod(int(number[:9]) or 1 for number in re.findall(r"\d+", numbers))
    if len(expression) > LONGEST_EXPRESSION or repetitions > MOST_REPETITIONS:
        raise DataError(f"its expression {expression[:80]!r} is larger than those of any tokenizer in use")
    try:
        regex.compile(expression)
    except regex.error as error:
        raise DataError(f"its expression {expression[:80]!r} is no regular expression: {error.msg}") from error
    except RecursionError as error:
        raise DataError(f"its expression {expression[:80]!r} is nested too deeply") from error
    return expression


def _named(value: Any) -> str:
    if value is None:
        return "missing"
    return _NAMES.get(type(value), "a number")
