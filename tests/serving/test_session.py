"""A chat session: what it says, remembers and forgets."""

from collections.abc import Callable

import pytest

from groundup.core.errors import UsageError
from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.serving.session import ChatSession
from groundup.tasks.conversation import Message
from groundup.tokenizer.chat import ChatTemplate

GREEDY = Sampling(temperature=0, max_tokens=32)
Build = Callable[..., Engine]


def test_reply_streams_whole_characters_and_is_remembered(saying: Build, template: ChatTemplate) -> None:
    session = ChatSession(saying("né→ok!"), template, GREEDY)
    assert list(session.reply("Hi")) == ["n", "é", "→", "o", "k", "!"]
    list(session.reply("Again"))
    assert session.turns == [
        Message("user", "Hi"),
        Message("assistant", "né→ok!"),
        Message("user", "Again"),
        Message("assistant", "né→ok!"),
    ]


def test_later_replies_see_earlier_turns(babbling: Build, template: ChatTemplate) -> None:
    session, fresh = (ChatSession(babbling(), template, GREEDY) for _ in range(2))
    list(session.reply("One"))
    assert "".join(session.reply("Two")) != "".join(fresh.reply("Two"))
    session.reset()
    assert "".join(session.reply("Two")) == "".join(fresh.turns[-1].content)


def test_a_reply_that_is_stopped_keeps_what_was_said(saying: Build, template: ChatTemplate) -> None:
    session = ChatSession(saying("abcdef"), template, GREEDY)
    reply = session.reply("Hi")
    assert [next(reply), next(reply)] == ["a", "b"]
    reply.close()  # type: ignore[attr-defined]
    assert session.turns[-1] == Message("assistant", "ab")
    assert session.engine.idle
    assert "".join(session.reply("On")) == "abcdef"


def test_a_reply_that_is_interrupted_before_its_first_piece_leaves_no_trace(
    saying: Build, template: ChatTemplate, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = ChatSession(saying("abc"), template, GREEDY)

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(session.engine.model, "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(session.reply("Hi"))
    assert session.turns == []
    assert session.engine.idle
    assert "".join(session.reply("Hi")) == "abc"


def test_oldest_turns_are_dropped_and_counted(saying: Build, template: ChatTemplate) -> None:
    session = ChatSession(saying("abc", context=64), template, GREEDY, system="Sys")
    forgotten = []
    for number in range(6):
        list(session.reply(f"message {number}"))
        forgotten.append(session.forgotten)
        assert session.conversation.messages[0] == Message("system", "Sys")
        assert session.turns[-2].content == f"message {number}"
        assert len(template.prompt(session.conversation.prompt)) + 16 <= 64
    assert forgotten[0] == 0
    assert set(forgotten) == {0, 2}
    assert session.turns[0].role == "user"


def test_a_message_that_cannot_fit_is_refused_and_not_kept(saying: Build, template: ChatTemplate) -> None:
    session = ChatSession(saying("abc", context=64), template, GREEDY)
    with pytest.raises(UsageError, match=r"tokens, the context 64"):
        list(session.reply("x" * 64))
    assert session.turns == []
    assert "".join(session.reply("Hi")) == "abc"


def test_replies_follow_the_seed(babbling: Build, template: ChatTemplate) -> None:
    def talk(seed: int) -> list[str]:
        session = ChatSession(babbling(), template, Sampling(1.0, max_tokens=10, seed=seed))
        return ["".join(session.reply("Hi")) for _ in range(2)]

    assert talk(1) == talk(1)
    assert talk(1) != talk(2)
