import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.tasks.conversation import Conversation, Message, Role
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.chat import CHATML, LLAMA3, ChatTemplate, TextTemplate, Traced, chatml, llama3
from groundup.tokenizer.protocol import Tokenizer


@st.composite
def conversations(draw: st.DrawFn, last: Role = "assistant") -> Conversation:
    """Any well-formed conversation whose last turn is ``last``; contents may hold marks of structure."""
    content = st.text(max_size=20) | st.sampled_from(["<|end|>", "<|assistant|>", "hello <|user|> there"])
    roles: list[Role] = ["user", "assistant"] * draw(st.integers(1, 3))
    if last == "user":
        roles.append("user")
    if draw(st.booleans()):
        roles.insert(0, "system")
    return Conversation(tuple(Message(role, draw(content)) for role in roles))


@pytest.fixture(scope="module")
def template(tokenizer: BytePairTokenizer) -> ChatTemplate:
    return ChatTemplate(tokenizer)


def test_a_conversation_is_laid_out_as_documented(template: ChatTemplate) -> None:
    special, encode = template.tokenizer.special_tokens, template.tokenizer.encode
    ids, learn = template.render(Conversation.of(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello")))
    assert ids == [
        special["<|document|>"],
        *(special["<|system|>"], *encode(" Be brief."), special["<|end|>"]),
        *(special["<|user|>"], *encode(" Hi"), special["<|end|>"]),
        *(special["<|assistant|>"], *encode(" Hello"), special["<|end|>"]),
    ]
    taught = [token for token, wanted in zip(ids, learn, strict=True) if wanted]
    assert taught == [*encode(" Hello"), special["<|end|>"]]


def test_exactly_the_assistants_words_and_their_end_are_learnt(template: ChatTemplate) -> None:
    end = template.tokenizer.special_tokens["<|end|>"]

    @given(conversations())
    def law(conversation: Conversation) -> None:
        ids, learn = template.render(conversation)
        taught = [token for token, wanted in zip(ids, learn, strict=True) if wanted]
        expected: list[int] = []
        for message in conversation.messages:
            if message.role == "assistant":
                expected += [*template.tokenizer.encode(" " + message.content), end]
        assert taught == expected
        assert not learn[0]

    law()


def test_the_prompt_is_the_beginning_of_the_whole(template: ChatTemplate) -> None:
    @given(conversations())
    def law(conversation: Conversation) -> None:
        ids, learn = template.render(conversation)
        prompt = template.prompt(conversation.prompt)
        assert ids[: len(prompt)] == prompt
        assert prompt[-1] == template.tokenizer.special_tokens["<|assistant|>"]
        assert all(learn[len(prompt) :])
        assert ids[-1] in template.stop_ids

    law()


def test_contents_forge_no_structure(template: ChatTemplate) -> None:
    @given(conversations(last="user"))
    def law(conversation: Conversation) -> None:
        ids, _ = template.render(conversation)
        marks = [token for token in ids if token in template.stop_ids]
        assert len(marks) == 1 + 2 * len(conversation.messages)

    law()


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ([], "no user message"),
        (["system"], "no user message"),
        (["assistant"], "message 1 of the conversation is from 'assistant', expected 'user'"),
        (["user", "user"], "message 2 .* expected 'assistant'"),
        (["user", "assistant", "assistant"], "message 3"),
        (["system", "system", "user"], "message 2"),
        (["user", "system"], "message 2 of the conversation is from 'system'"),
    ],
)
def test_turns_in_the_wrong_order_are_refused(template: ChatTemplate, roles: list[Role], message: str) -> None:
    conversation = Conversation(tuple(Message(role, "words") for role in roles))
    with pytest.raises(DataError, match=message):
        template.render(conversation)
    with pytest.raises(DataError, match=message):
        template.prompt(conversation)


def test_a_prompt_ends_with_the_user(template: ChatTemplate) -> None:
    with pytest.raises(DataError, match="must end with a user message"):
        template.prompt(Conversation.of(("user", "Hi"), ("assistant", "Hello")))


# Strings that know where their characters come from.


def _mixed(text: str) -> Traced:
    """Letters and blanks of the template; everything else of message 0."""
    own = [character.isalpha() or character.isspace() for character in text]
    make = (lambda part: Traced.of_message(0, part), Traced.of_template)
    return Traced.joined(make[mine](character) for mine, character in zip(own, text, strict=True))


def _is_mixed(text: object) -> bool:
    return isinstance(text, Traced) and text.origin == _mixed(str.__str__(text)).origin


TEXTS = st.text("ab \n<|>", max_size=12)
PARTS = st.text("ab <|", max_size=2)


@given(TEXTS, PARTS, PARTS, st.integers(-1, 3), st.integers(-9, 9), st.integers(-9, 9))
def test_origins_follow_their_characters(text: str, part: str, other: str, count: int, start: int, end: int) -> None:
    traced, sep = _mixed(text), part or "a"
    operations: list[Callable[[str, Callable[[str], str]], object]] = [
        lambda t, make: t[start:end],
        lambda t, make: t[::-1],
        lambda t, make: list(t),
        lambda t, make: t + make(other) + make(part),
        lambda t, make: make(other).join([t, make(part), t]),
        lambda t, make: t * 2 + 2 * t,
        lambda t, make: str(t),
        lambda t, make: [t.strip(), t.lstrip(), t.rstrip()],
        lambda t, make: [t.strip(part), t.lstrip(part), t.rstrip(part)],
        lambda t, make: [t.removeprefix(part), t.removesuffix(part)],
        lambda t, make: t.split(None, count) + t.rsplit(None, count) + t.splitlines() + t.splitlines(keepends=True),
        lambda t, make: t.split(sep, count) + t.rsplit(sep, maxsplit=count) + t.split(),
        lambda t, make: [*t.partition(sep), *t.rpartition(sep)],
        lambda t, make: [t.replace(sep, make(other), count), t.replace(sep, make(other))],
        lambda t, make: [t.upper(), t.lower(), t.title(), t.capitalize()],
    ]
    for number, operation in enumerate(operations):
        plain, marked = operation(text, str), operation(traced, _mixed)
        assert marked == plain, number
        assert all(_is_mixed(result) for result in (marked if isinstance(marked, list) else [marked])), number


def test_what_loses_its_origin_is_foreign() -> None:
    """So it can become no special token."""
    traced = Traced.of_template("ß<s>")
    for lost in (traced.upper(), traced.replace("", "-"), traced.center(9), f"{traced:>9}", "".join([traced])):
        assert not isinstance(lost, Traced)
        assert "\2" not in Traced.joined([lost]).origin
    assert (Traced.of_template("a") + "b" + Traced.of_template("c")).origin == "\2\0\2"
    assert ("a" + Traced.of_template("b")).origin == "\0\2"
    with pytest.raises(TypeError):
        Traced.of_template("a") + 1  # type: ignore[operator]


# Layouts that are one text.


class Words:
    """The least tokenizer that joins characters: an id for each blank with the word after it, for each other byte.

    ``change`` rewrites a text before, as some tokenizers do.
    """

    fingerprint = ""
    vocab_size = 1 << 20

    def __init__(self, change: Callable[[str], str] = str) -> None:
        names = (*CHATML.marks, *LLAMA3.marks, "<|endoftext|>", "<|eom_id|>", "<think>")
        self.special_tokens = {name: number for number, name in enumerate(names)}
        self.tokens = [b""] * len(names)
        self.change = change

    def encode(self, text: str) -> list[int]:
        pieces = re.findall(rb"\s?[a-zA-Z]+|.", self.change(text).encode(), re.DOTALL)
        self.tokens += [piece for piece in dict.fromkeys(pieces) if piece not in self.tokens]
        return [self.tokens.index(piece) for piece in pieces]

    def token_bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id]

    def decode_bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join(map(self.token_bytes, ids))

    def decode(self, ids: Sequence[int]) -> str:
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def save(self, folder: Path) -> None: ...

    def show(self, ids: Iterable[int]) -> list[str]:
        """What each id stands for."""
        names = {token_id: name for name, token_id in self.special_tokens.items()}
        return [names.get(token_id) or self.tokens[token_id].decode() for token_id in ids]


def _taught(tokenizer: Words, ids: list[int], learn: list[bool]) -> list[str]:
    return tokenizer.show(token_id for token_id, wanted in zip(ids, learn, strict=True) if wanted)


def test_chatml_is_laid_out_as_documented() -> None:
    tokenizer = Words()
    template = chatml(tokenizer)
    ids, learn = template.render(Conversation.of(("user", " Hi\n"), ("assistant", "2 all")))
    assert tokenizer.show(ids) == [
        *("<|im_start|>", "user", "\n", " Hi", "\n", "<|im_end|>", "\n"),
        *("<|im_start|>", "assistant", "\n", "2", " all", "<|im_end|>", "\n"),
    ]
    assert _taught(tokenizer, ids, learn) == ["2", " all", "<|im_end|>"]
    assert set(tokenizer.show(template.stop_ids)) == {"<|im_end|>", "<|endoftext|>"}
    assert template.text(tokenizer.encode(" 2 all")) == " 2 all"


def test_llama3_is_laid_out_as_documented() -> None:
    tokenizer = Words()
    template = llama3(tokenizer)
    ids, learn = template.render(Conversation.of(("system", "\n Be "), ("user", "?"), ("assistant", " 2 all\n")))
    head = ("<|end_header_id|>", "\n", "\n")
    assert tokenizer.show(ids) == [
        *("<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>", "\n", "\nBe", "<|eot_id|>"),
        *("<|start_header_id|>", "user", *head, "?", "<|eot_id|>"),
        *("<|start_header_id|>", "assistant", *head, "2", " all", "<|eot_id|>"),
    ]
    assert _taught(tokenizer, ids, learn) == ["2", " all", "<|eot_id|>"]
    assert set(tokenizer.show(template.stop_ids)) == {"<|eot_id|>", "<|eom_id|>"}


def test_a_token_across_the_border_of_an_answer_is_learnt() -> None:
    tokenizer = Words()
    ids, learn = chatml(tokenizer).render(Conversation.of(("user", "Hi"), ("assistant", "all of it")))
    assert _taught(tokenizer, ids, learn) == ["\nall", " of", " it", "<|im_end|>"]


@pytest.mark.parametrize(
    ("change", "taught"),
    [
        (lambda text: " " + text, ["2", " é"]),  # SentencePiece puts a blank before a text
        (lambda text: text.replace("é", "e\u0301"), ["2", " e\u0301"]),  # decomposed
        (lambda text: text.replace("\n", ""), ["2", " é"]),  # without blanks
    ],
)
def test_tokenizers_that_rewrite_a_text_learn_the_same(change: Callable[[str], str], taught: list[str]) -> None:
    tokenizer = Words(change)
    ids, learn = chatml(tokenizer).render(Conversation.of(("user", "2"), ("assistant", "2 é")))
    taught_ids = [token_id for token_id, wanted in zip(ids, learn, strict=True) if wanted]
    assert tokenizer.decode(taught_ids) == "".join(taught)
    assert taught_ids[-1] == tokenizer.special_tokens["<|im_end|>"]


@pytest.mark.parametrize("make", [chatml, llama3])
def test_every_layout_keeps_the_laws(make: Callable[[Tokenizer], TextTemplate]) -> None:
    tokenizer = Words()
    template, marks = make(tokenizer), frozenset(tokenizer.special_tokens.values())
    contents = st.lists(st.sampled_from([*tokenizer.special_tokens, "<|im", "_end|>", "1", "\n", "é"])).map("".join)
    turns = st.tuples(st.sampled_from(["system", "user", "assistant"]), contents)

    @given(st.lists(turns, min_size=1, max_size=4).map(lambda turns: Conversation.of(*turns)))
    def law(conversation: Conversation) -> None:
        ids, learn = template.render(conversation)
        empty, _ = template.render(Conversation(tuple(Message(turn.role, "") for turn in conversation.messages)))
        assert [token for token in ids if token in marks] == [token for token in empty if token in marks]
        said = [turn for turn in conversation.messages if turn.role == "assistant"]
        ends = [token for token, wanted in zip(ids, learn, strict=True) if wanted and token in marks]
        assert len(ends) == len(said) and set(ends) <= template.stop_ids
        for length, message in enumerate(conversation.messages):
            if message.role == "assistant" and length and conversation.messages[length - 1].role == "user":
                prompt = template.prompt(Conversation(conversation.messages[:length]))
                assert ids[: len(prompt)] == prompt
                assert learn[len(prompt)] and not learn[len(prompt) - 1]

    law()


def test_messages_may_spell_what_is_allowed() -> None:
    tokenizer = Words()
    template = chatml(tokenizer, allowed=["<think>"])
    ids, _ = template.render(Conversation.of(("user", "<think><|im_end|>")))
    assert tokenizer.show(ids)[3:] == ["<think>", *"<|", *("im", "_", "end"), *"|>", "<|im_end|>", "\n"]


def test_a_layout_needs_its_marks(template: ChatTemplate) -> None:
    with pytest.raises(DataError, match=r"needs the special token '<\|im_start\|>', which the tokenizer does not have"):
        chatml(template.tokenizer)
    with pytest.raises(DataError, match=r"needs the special token '<\|begin_of_text\|>'"):
        llama3(template.tokenizer)
    with pytest.raises(DataError, match="needs the special token '<x>'"):
        chatml(Words(), allowed=["<x>"])


@pytest.mark.parametrize("make", [chatml, llama3])
def test_a_layout_refuses_what_asks_nothing(make: Callable[[Tokenizer], TextTemplate]) -> None:
    template = make(Words())
    with pytest.raises(DataError, match="the conversation has no message"):
        template.render(Conversation(()))
    with pytest.raises(DataError, match="must end with a user message"):
        template.prompt(Conversation.of(("user", "Hi"), ("assistant", "Hello")))
