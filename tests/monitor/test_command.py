"""``groundup status``: readable on every terminal, silent on stdout but for programs, and it ends when the run does."""

import json
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import StorageError, UsageError
from groundup.monitor import command
from groundup.monitor.command import run

STAGES = ("corpus", "pretrain", "sft")


@pytest.fixture
def status(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[str, str]]:
    """``status("DIR", …)``: stdout and stderr."""

    def ask(*words: Any, columns: int = 120, **environment: str) -> tuple[str, str]:
        for name, value in {"COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1", **environment}.items():
            monkeypatch.setenv(name, value)
        assert run([str(word) for word in words], STAGES) == 0
        told = capsys.readouterr()
        return told.out, told.err

    return ask


def as_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # which is how rich is told of a terminal


def test_stages_and_curves(status: Callable[..., tuple[str, str]], out: Path) -> None:
    told, shown = status(out)
    assert told == ""
    rows = {line.split()[0]: line for line in shown.splitlines() if line.split()}
    assert "documents 8" in rows["corpus"]
    assert "1:15" in rows["corpus"]
    assert "interrupted: step 40 of 100, loss 1.15" in rows["pretrain"]
    assert rows["sft"].endswith("not yet")
    for title in (
        "loss 1.15",
        "validation bits per byte 4.5",
        "learning rate 0.01",
        "gradient norm 1.5",
        "tokens/s 40k",
    ):
        assert title in shown
    assert "▲ step 30: rewound: the loss spiked </script> to 9" in shown
    assert "started" not in shown


@pytest.mark.parametrize("columns", [10, 24, 40, 80, 140])
def test_no_curve_is_wider_than_the_terminal(
    columns: int, status: Callable[..., tuple[str, str]], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_terminal(monkeypatch)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", status(out, columns=columns)[1])
    curves = shown[shown.rindex("pretrain") :].splitlines()
    assert max(map(len, curves)) <= columns
    assert ("│" in shown) == (columns >= 19)


def test_a_dumb_terminal_gets_plain_letters(
    status: Callable[..., tuple[str, str]], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_terminal(monkeypatch)
    shown = status(out, TERM="dumb", columns=80)[1]
    assert shown.isascii()
    assert "*" in shown
    assert "\x1b" not in shown


def test_for_programs(status: Callable[..., tuple[str, str]], out: Path) -> None:
    told, shown = status(out, "--json")
    assert shown == ""
    found = json.loads(told)
    assert list(found) == list(STAGES)
    assert found["corpus"]["metrics"] == {"documents": 8}
    assert found["pretrain"] is None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--wacth",), "unknown option --wacth; did you mean --watch?"),
        (("more",), "unexpected 'more'"),
        (("--json", "--watch"), "--json goes with neither --html nor --watch"),
        (("--html=.",), ". is a folder"),
    ],
)
def test_wrong_use(words: tuple[str, ...], complaint: str, out: Path) -> None:
    with pytest.raises(UsageError) as raised:
        run([str(out), *words], STAGES)
    assert complaint in str(raised.value)


def test_what_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a run directory"):
        run([str(tmp_path)], STAGES)


def test_help(status: Callable[..., tuple[str, str]]) -> None:
    assert "--html [FILE]" in status("--help")[0]


def test_the_page_is_written_where_it_is_wanted(
    status: Callable[..., tuple[str, str]], out: Path, tmp_path: Path
) -> None:
    assert status(out, "--html")[0] == f"{out / 'status.html'}\n"
    assert (out / "status.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    for words in ((out, "--html", tmp_path / "a.html"), ("--html", out), (f"--html={tmp_path / 'b.html'}", out)):
        path = Path(status(*words)[0].rstrip("\n"))
        assert path.is_file()
    with pytest.raises(StorageError):
        run([str(out), f"--html={out / 'recipe.toml' / 'x.html'}"], STAGES)


class Ticks:
    """Stands in for the clock: each time somebody sleeps, the next thing happens."""

    def __init__(self, *happenings: Callable[[], None]) -> None:
        self.left = list(happenings)

    def sleep(self, seconds: float) -> None:
        self.left.pop(0)()


def interrupted() -> None:
    raise KeyboardInterrupt


def logged(out: Path, step: int) -> Callable[[], None]:
    def write() -> None:
        with (out / "pretrain" / "metrics.jsonl").open("a", encoding="utf-8") as handle:
            handle.write(json.dumps({"step": step, "loss": 0.5, "seconds": step / 2}) + "\n")

    return write


def test_watching_without_a_terminal_tells_lines_until_the_run_ends(
    status: Callable[..., tuple[str, str]], at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ticks = Ticks(logged(at_work, 41), lambda: None, logged(at_work, 42), (at_work / ".owner.json").unlink)
    monkeypatch.setattr(command.time, "sleep", ticks.sleep)
    shown = status(at_work, "--watch")[1]
    assert ticks.left == []
    steps = [line.strip() for line in shown.splitlines() if line.startswith("  pretrain  step")]
    assert steps == ["pretrain  step 40  loss 1.150", "pretrain  step 41  loss 0.500", "pretrain  step 42  loss 0.500"]
    assert "interrupted: step 42" in shown


def test_watching_on_a_terminal_ends_with_the_table(
    status: Callable[..., tuple[str, str]], at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_terminal(monkeypatch)
    monkeypatch.setenv("LINES", "12")
    monkeypatch.setattr(command.time, "sleep", Ticks(logged(at_work, 41), interrupted).sleep)
    shown = status(at_work, "--watch", columns=80)[1]
    live, final = shown.split(command.LEAVE)
    frames = live.removeprefix(command.ENTER).split(command.HOME)[1:]
    assert len(frames) == 2
    assert all(frame.count("\n") <= 11 for frame in frames)
    lines = [re.sub(r"\x1b\[[0-9;]*[mKJ]", "", line).strip() for line in frames[0].splitlines()]
    assert lines[1:4] == [
        "corpus     done in 1:15",
        "pretrain   running, 0:30 to go: step 40 of 100, loss 1.15",
        "sft        not yet",
    ]
    assert lines[5].startswith("pretrain, step 40 of 100")
    assert "step 41 of 100" in frames[1]
    assert "documents 8" in final


def test_a_run_that_is_not_at_work_is_shown_once(
    status: Callable[..., tuple[str, str]], out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command.time, "sleep", Ticks().sleep)
    assert "interrupted" in status(out, "--watch")[1]


def test_the_page_follows_the_run_to_its_end(
    status: Callable[..., tuple[str, str]], at_work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = at_work / "status.html"
    seen: list[bool] = []

    def look() -> None:
        seen.append('"interval": 5.0' in page.read_text(encoding="utf-8"))

    ticks = Ticks(look, logged(at_work, 41), look, (at_work / ".owner.json").unlink)
    monkeypatch.setattr(command.time, "sleep", ticks.sleep)
    status(at_work, "--html", "--watch")
    assert seen == [True, True]
    final = page.read_text(encoding="utf-8")
    assert '"interval": null' in final
    assert '"step": 41' in final


def test_what_a_log_says_cannot_steer_the_terminal(status: Callable[..., tuple[str, str]], out: Path) -> None:
    with (out / "pretrain" / "events.jsonl").open("a", encoding="utf-8") as handle:
        handle.write(json.dumps({"step": 35, "event": "spike", "why": "\x1b[2J[red]x[/red]"}) + "\n")
    shown = status(out)[1]
    assert "\x1b" not in shown
    assert "[red]x[/red]" in shown


def test_stderr_that_is_gone(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", open(os.devnull, "w", encoding="ascii"))  # noqa: PTH123, SIM115
    assert run([str(out)], STAGES) == 0
