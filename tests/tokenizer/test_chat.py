import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.tasks.conversation import Conversation, Message, Role
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.chat import ChatTemplate


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
