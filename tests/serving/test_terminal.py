"""The terminal chat through pipes, and with a pretended terminal."""

import builtins
import io
import sys
from collections.abc import Callable, Iterator

import pytest

from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.serving.session import ChatSession
from groundup.serving.terminal import chat, printable
from groundup.tokenizer.chat import ChatTemplate

GREEDY = Sampling(temperature=0, max_tokens=32)
Build = Callable[..., Engine]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def typed(monkeypatch: pytest.MonkeyPatch, *lines: str | type[BaseException]) -> Terminal:
    """Pretend a terminal where a person types these lines; returns its screen (stdout)."""
    screen = Terminal()
    waiting = iter(lines)

    def answer(_: str = "") -> str:
        line = next(waiting, EOFError)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr(sys, "stdin", Terminal())
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(builtins, "input", answer)
    return screen


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def test_pipes_one_message_a_line(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ChatSession(saying("héy"), template, GREEDY)
    piped(monkeypatch, "Hi\n\nthere\n")
    chat(session)
    captured = capsys.readouterr()
    assert captured.out == "héy\nhéy\n"
    assert "\x1b" not in captured.out + captured.err
    assert [turn.content for turn in session.turns] == ["Hi", "héy", "there", "héy"]


def test_commands(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ChatSession(saying("ok"), template, GREEDY)
    piped(
        monkeypatch,
        "Hi\n/seed 7\n/temperature 0.5\n/temperature hot\n/seed\n/sing\n/help\n/temperature -1\n/reset\n/exit\nHi\n",
    )
    chat(session)
    captured = capsys.readouterr()
    assert captured.out == "ok\n"
    assert (session.sampling.seed, session.sampling.temperature, session.turns) == (7, 0.5, [])
    for words in ("'hot'", "/sing is not a command", "/reset", "temperature is -1"):
        assert words in captured.err


def test_errors_do_not_end_the_chat(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(monkeypatch, "x" * 200 + "\nHi\n")
    chat(ChatSession(saying("ok"), template, GREEDY))
    captured = capsys.readouterr()
    assert captured.out == "\nok\n"
    assert "context 128" in captured.err


def test_interrupt_stops_the_reply_not_the_chat(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    session = ChatSession(saying("abcdef"), template, GREEDY)
    step, steps = session.engine.step, iter(range(1, 1000))

    def interrupted() -> list[object]:
        if next(steps) == 4:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(session.engine, "step", interrupted)
    screen = typed(monkeypatch, "Hi", "Hi", "/exit")
    chat(session)
    assert screen.getvalue() == "abc\nabcdef\n"
    assert [turn.content for turn in session.turns] == ["Hi", "abc", "Hi", "abcdef"]
    assert "(stopped)" in capsys.readouterr().err


def test_interrupt_at_the_prompt_says_how_to_leave(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    screen = typed(monkeypatch, KeyboardInterrupt, "Hi", KeyboardInterrupt, EOFError)
    chat(ChatSession(saying("ok"), template, GREEDY))
    assert screen.getvalue() == "ok\n"
    assert capsys.readouterr().err.count("/exit or press Ctrl-D") == 2


def test_forgotten_turns_are_announced(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    piped(monkeypatch, "one message\n" * 4)
    chat(ChatSession(saying("ok", context=64), template, GREEDY))
    captured = capsys.readouterr()
    assert captured.out == "ok\n" * 4
    assert "2 oldest messages no longer fit" in captured.err


def test_no_model_can_send_control_sequences(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = typed(monkeypatch, "Hi")
    chat(ChatSession(saying("a\x1b[2J\tz"), template, GREEDY))
    assert screen.getvalue() == "a\ufffd[2J\tz\n"
    assert printable("ok é→\n") == "ok é→\n"


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("NO_COLOR", "1")
    yield
