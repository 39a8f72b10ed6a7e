"""Chat in the terminal, or through pipes: one message per line in, replies on stdout, everything else on stderr."""

import contextlib
import os
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from groundup.core.errors import GroundupError, UsageError
from groundup.core.progress import say
from groundup.serving.session import ChatSession

Number = TypeVar("Number", int, float)

HELP = """\
  /reset          forget the conversation
  /seed N         draw from another seed
  /temperature X  0 always says the most probable; 1 is the model as it is
  /help           this list
  /exit           leave (Ctrl-D too); Ctrl-C stops a reply"""

BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def chat(session: ChatSession) -> None:
    """Talk until ``/exit`` or the end of the input."""
    interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if interactive:
        with contextlib.suppress(ImportError):  # gives input() line editing and history; absent on Windows
            import readline  # noqa: F401
        say("Say something. /help lists the commands.")
    while True:
        try:
            message = _read(interactive)
        except EOFError:
            break
        except KeyboardInterrupt:
            if not interactive:
                raise
            say("\nTo leave, type /exit or press Ctrl-D.")
            continue
        if not message:
            continue
        if message.startswith("/"):
            if message == "/exit":
                return
            _obey(session, message)
        else:
            _answer(session, message)
    if interactive:
        say("")


def _read(interactive: bool) -> str:
    if not interactive:
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.strip()
    # \x01 and \x02 tell readline that what is between them takes no room on the line.
    return input(f"\x01{BOLD}\x02you>\x01{PLAIN}\x02 " if _coloured() else "you> ").strip()


def _coloured() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb" and not os.environ.get("NO_COLOR")


def _aside(text: str) -> None:
    """A remark that is not part of the conversation."""
    say(f"{DIM}{text}{PLAIN}" if _coloured() and sys.stderr.isatty() else text)


def _obey(session: ChatSession, message: str) -> None:
    """Carry out a command."""
    command, _, value = message.partition(" ")
    try:
        if command == "/help":
            say(HELP)
        elif command == "/reset":
            session.reset()
            _aside("The conversation is forgotten.")
        elif command == "/seed":
            session.sampling = replace(session.sampling, seed=_number(command, value, int))
            _aside(f"Seed {session.sampling.seed}.")
        elif command == "/temperature":
            session.sampling = replace(session.sampling, temperature=_number(command, value, float))
            _aside(f"Temperature {session.sampling.temperature:g}.")
        else:
            raise UsageError(f"{command} is not a command; /help lists them")
    except UsageError as error:
        _aside(str(error))


def _number(command: str, value: str, kind: Callable[[str], Number]) -> Number:
    try:
        return kind(value)
    except ValueError as error:
        raise UsageError(f"{command} needs a number, not {value.strip()!r}; for example {command} 1") from error


def _answer(session: ChatSession, message: str) -> None:
    """Print the reply as it comes; Ctrl-C ends it and keeps what was said."""
    pieces = session.reply(message)
    remark = ""
    try:
        with contextlib.closing(pieces):  # type: ignore[type-var]
            for number, piece in enumerate(pieces):
                if number == 0 and session.forgotten:
                    _aside(f"(the {session.forgotten} oldest messages no longer fit the model's context)")
                sys.stdout.write(printable(piece) if sys.stdout.isatty() else piece)
                sys.stdout.flush()
    except KeyboardInterrupt:
        remark = "(stopped)"
    except GroundupError as error:
        remark = str(error)
    sys.stdout.write("\n")
    sys.stdout.flush()
    if remark:
        _aside(remark)


def printable(text: str) -> str:
    """``text`` without control characters, so that no model can move the cursor or recolour the terminal."""
    return "".join(c if c in "\n\t" or unicodedata.category(c) != "Cc" else "\ufffd" for c in text)
