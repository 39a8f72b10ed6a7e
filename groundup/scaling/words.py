"""The words of a command that takes options of its own beside a recipe and its keys."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from groundup.core.config import keys_of
from groundup.core.errors import UsageError
from groundup.recipes import Recipe, load, with_options, with_preset

#: The recipe that is meant when none is named.
DEFAULT = "quickstart"


@dataclass(frozen=True)
class Asked:
    """A recipe as the command line names and changes it."""

    name: str | None
    """The recipe's name or path; None if none was given."""
    preset: str | None
    """The published shape that takes the place of its model."""
    options: tuple[str, ...]
    """Every other key, as words."""

    def base(self) -> Recipe:
        """The recipe as it is written; without a name the default one.

        Raises:
            UsageError: there is no such recipe.
        """
        return load(self.name or DEFAULT)

    def over(self, base: Recipe, program: str, *more: str) -> Recipe:
        """``base`` with preset and options, and with ``more`` options after them; complete.

        Raises:
            UsageError: there is no such preset or key, or a value is wrong.
        """
        recipe = with_preset(base, self.preset) if self.preset else base
        return with_options(recipe, [*self.options, *more], program)


def split(words: Sequence[str], kind: Any) -> tuple[list[str], Asked]:
    """The words that are options of the dataclass ``kind``; and the recipe that the others ask for."""
    hints = dict(keys_of(kind))
    own, rest, waiting = list[str](), list[str](), list(words)
    while waiting:
        word = waiting.pop(0)
        key = word.partition("=")[0].removeprefix("--").replace("_", "-")
        if not word.startswith("--") or key not in hints:
            rest.append(word)
            continue
        own.append(word)
        wants = hints[key] is not bool and "=" not in word
        if wants and waiting and not waiting[0].startswith("--"):
            own.append(waiting.pop(0))
        elif wants:
            raise UsageError(f"--{key} needs a value")
    return own, asked_of(rest)


def asked_of(words: Sequence[str]) -> Asked:
    """The recipe that ``words``, a name or path and keys, ask for."""
    named = bool(words) and not words[0].startswith("-")
    preset, options = take_option(words[1:] if named else words, "--model.preset")
    return Asked(words[0] if named else None, preset, tuple(options))


def run_directory(out: Path | None, asked: Asked) -> Path:
    """Where a recipe's run is when nothing else is said."""
    return out or Path("runs") / Path(asked.name or DEFAULT).stem


def take_option(words: Sequence[str], name: str) -> tuple[str | None, list[str]]:
    """The value of the last ``name value`` or ``name=value``, and the other words.

    Raises:
        UsageError: ``name`` stands without a value.
    """
    value, rest, waiting = None, list[str](), list(words)
    while waiting:
        word = waiting.pop(0)
        if word.startswith(f"{name}="):
            value = word.split("=", 1)[1]
        elif word != name:
            rest.append(word)
        elif waiting and not waiting[0].startswith("--"):
            value = waiting.pop(0)
        else:
            raise UsageError(f"{name} needs a value")
    return value, rest
