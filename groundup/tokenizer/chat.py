"""The chat template: a conversation → token ids, and which of them the model learns to say.

    <|document|><|system|> Be brief.<|end|><|user|> Hi<|end|><|assistant|> Hello<|end|>

Contents are encoded as ordinary text, so no message can forge a mark of structure. A space goes before each: then
a word at the beginning of a turn is the same token as inside one, and a small model can copy it from the question.
"""

from collections.abc import Sequence

from groundup.core.errors import DataError
from groundup.tasks.conversation import Conversation
from groundup.tokenizer.protocol import Tokenizer

#: The same template for Hugging Face's ``apply_chat_template`` and the servers that follow it.
JINJA_TEMPLATE = (
    "{{ '<|document|>' }}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
#: Stands before the content of every turn.
SPACE = " "


class ChatTemplate:
    """Renders conversations with one tokenizer."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: every special token, for none of them is ever part of one."""
        return frozenset(self.tokenizer.special_tokens.values())

    def render(self, conversation: Conversation) -> tuple[list[int], list[bool]]:
        """Ids of the whole conversation, and for each whether the model must learn to predict it.

        That is so for what an assistant says and the ``<|end|>`` after it, and for nothing else.

        Raises:
            DataError: turns that are not [system], user, assistant, user, …
        """
        _check_turns(conversation)
        special = self.tokenizer.special_tokens
        ids, learn = [special["<|document|>"]], [False]
        for message in conversation.messages:
            said = [*self.tokenizer.encode(SPACE + message.content), special["<|end|>"]]
            ids += [special[f"<|{message.role}|>"], *said]
            learn += [False, *[message.role == "assistant"] * len(said)]
        return ids, learn

    def prompt(self, conversation: Conversation) -> list[int]:
        """Ids that ask the model for the next turn: they end with ``<|assistant|>``.

        Raises:
            DataError: turns in the wrong order, or the last one is not the user's.
        """
        ids, _ = self.render(conversation)
        if not conversation.messages or conversation.messages[-1].role != "user":
            raise DataError("a prompt must end with a user message; add one, or drop the last assistant message")
        return [*ids, self.tokenizer.special_tokens["<|assistant|>"]]

    def text(self, ids: Sequence[int]) -> str:
        """The content of a turn from its ids, without the space before it."""
        return self.tokenizer.decode(ids).removeprefix(SPACE)


def _check_turns(conversation: Conversation) -> None:
    """Refuse turns that are not an optional system message, then user and assistant by turns."""
    roles = [message.role for message in conversation.messages]
    first = 1 if roles[:1] == ["system"] else 0
    for turn, role in enumerate(roles[first:]):
        expected = "assistant" if turn % 2 else "user"
        if role != expected:
            raise DataError(
                f"message {first + turn + 1} of the conversation is from {role!r}, expected {expected!r}; "
                "a conversation is an optional system message, then user and assistant by turns"
            )
    if len(roles) == first:
        raise DataError("the conversation has no user message; add one")
