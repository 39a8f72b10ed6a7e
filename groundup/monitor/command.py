"""``groundup status``: a run directory enters; tables and curves leave on stderr, a page as a file, JSON on stdout."""

import difflib
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.core.errors import UsageError
from groundup.core.progress import say
from groundup.monitor.page import write_page
from groundup.monitor.records import Run
from groundup.monitor.table import curves, new_console, overview, show, tables

HELP = """\
groundup status [DIR] [--watch] [--html [FILE]] [--json]

What a run has done: its stages, scores, and the curves of its training, also while it is at work.

  DIR             the run directory; default runs/quickstart
  --watch         follow the run until it ends or Ctrl-C is pressed
  --html [FILE]   write everything as one page that opens offline, default DIR/status.html; with --watch the page is
                  written again every few seconds, and loads itself again
  --json          print the manifests of the stages for programs"""

OPTIONS = ("--watch", "--html", "--json", "--help")
#: Seconds between pictures on a terminal, lines without one, and pages.
TERMINAL_INTERVAL, LINE_INTERVAL, PAGE_INTERVAL = 1.0, 15.0, 5.0
#: A terminal's second screen, cursor off, and back.
ENTER, LEAVE, HOME, CLEAR_LINE, CLEAR_REST = (
    "\x1b[?1049h\x1b[?25l",
    "\x1b[?25h\x1b[?1049l",
    "\x1b[H",
    "\x1b[K",
    "\x1b[J",
)


@dataclass(frozen=True)
class Asked:
    """What the command line asks for."""

    out: Path
    watch: bool = False
    html: Path | None = None
    json: bool = False


def run(words: list[str], stages: Sequence[str]) -> int:
    """Show the run that ``words`` name, whose stages are called ``stages`` in their order.

    Raises:
        UsageError: there is no run, or an option is unknown.
        ArtifactError: a manifest or the scores are damaged.
        StorageError: the page cannot be written.
    """
    if any(word in ("-h", "--help") for word in words):
        print(HELP)
        return 0
    asked = _asked(words)
    if not (asked.out / "recipe.toml").is_file():
        raise UsageError(f"{asked.out} is not a run directory (it has no recipe.toml); give the --out of a run")
    found = Run(asked.out, stages).update()
    if asked.json:
        print(json.dumps({stage.name: stage.manifest for stage in found.stages}))
    elif asked.html is not None:
        _page(found, asked.html, asked.watch)
    elif asked.watch:
        _watch(found)
        print_status(found)
    else:
        print_status(found)
    return 0


def print_status(found: Run, pictures: bool = True) -> None:
    """The tables and, with ``pictures``, the curves of every training stage."""
    console = new_console()
    show(console, *tables(found))
    for stage in found.trained if pictures else ():
        say("")
        show(console, curves(stage, console))


def _asked(words: Sequence[str]) -> Asked:
    out: Path | None = None
    html: Path | None = None
    flags: set[str] = set()
    waiting = list(words)
    while waiting:
        word, equals, value = waiting.pop(0).partition("=")
        if word in OPTIONS and not (equals and word != "--html"):
            flags.add(word)
            if word == "--html" and (equals or (out is not None and waiting and not waiting[0].startswith("-"))):
                html = Path(value if equals else waiting.pop(0))
        elif word.startswith("-"):
            close = difflib.get_close_matches(word, OPTIONS, n=1)
            raise UsageError(f"unknown option {word}; {f'did you mean {close[0]}?' if close else '--help lists all'}")
        elif out is not None:
            raise UsageError(f"unexpected {word!r}; `groundup status --help` shows how it is used")
        else:
            out = Path(word + equals + value)
    out = out or Path("runs/quickstart")
    if "--json" in flags and len(flags) > 1:
        raise UsageError("--json goes with neither --html nor --watch; a program asks again when it likes")
    if "--html" in flags:
        html = html or out / "status.html"
    return Asked(out, "--watch" in flags, html, "--json" in flags)


def _page(found: Run, path: Path, live: bool) -> None:
    """Write the page once, or until the run has ended."""
    if path.is_dir():
        raise UsageError(f"{path} is a folder; give --html the name of a file")
    live = live and found.running
    write_page(found, path, PAGE_INTERVAL if live else None)
    print(path, flush=True)
    if not live:
        return
    say("the page follows the run; Ctrl-C stops that")

    def follow() -> None:
        write_page(found, path, PAGE_INTERVAL)

    _follow(found, PAGE_INTERVAL, follow)
    write_page(found.update(), path, None)


def _watch(found: Run) -> None:
    """Draw what goes on until it ends."""
    console = new_console()
    if not found.running:
        return
    if not (console.is_terminal and not console.is_dumb_terminal):
        said: list[str] = []

        def tell() -> None:
            stage = next((stage for stage in reversed(found.stages) if stage.state == "running"), None)
            if stage is not None and (line := _line(stage.name, stage.log.last)) not in said[-1:]:
                said.append(line)
                say(line)

        tell()
        _follow(found, LINE_INTERVAL, tell)
        return

    def draw() -> None:
        screen = new_console()  # its size may have changed
        with screen.capture() as drawn:
            screen.print(overview(found, screen, screen.height - 1))
        lines = drawn.get().splitlines()[: screen.height - 1]
        sys.stderr.write(HOME + "".join(f"{line}{CLEAR_LINE}\n" for line in lines) + CLEAR_REST)
        sys.stderr.flush()

    sys.stderr.write(ENTER)
    try:
        draw()
        _follow(found, TERMINAL_INTERVAL, draw)
    finally:
        sys.stderr.write(LEAVE)
        sys.stderr.flush()


def _line(name: str, last: dict[str, float]) -> str:
    loss = f"  loss {last['loss']:.3f}" if "loss" in last else ""
    return f"  {name}  step {last.get('step', 0):.0f}{loss}"


def _follow(found: Run, interval: float, act: Callable[[], None]) -> None:
    """Act on what is new until no process works in the directory; Ctrl-C is a way to leave, no failure."""
    try:
        while found.running:
            time.sleep(interval)
            found.update()
            if found.running:
                act()
    except KeyboardInterrupt:
        pass
