"""A conversation: what SFT trains on, what evaluation asks, what rewards judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from groundup.core.errors import DataError

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in get_args(Role):
            raise DataError(f"message role {self.role!r} is unknown; use one of {', '.join(get_args(Role))}")


@dataclass(frozen=True)
class Conversation:
    """Messages in order, from the first turn to the last."""

    messages: tuple[Message, ...]

    @classmethod
    def of(cls, *turns: tuple[Role, str]) -> "Conversation":
        """``Conversation.of(("user", "Hi"), ("assistant", "Hello"))``."""
        return cls(tuple(Message(role, content) for role, content in turns))

    @classmethod
    def from_json(cls, messages: Sequence[dict[str, Any]]) -> "Conversation":
        """From the ``messages`` list of the OpenAI format."""
        return cls(tuple(Message(message["role"], message["content"]) for message in messages))

    def to_json(self) -> list[dict[str, str]]:
        """As the ``messages`` list of the OpenAI format."""
        return [{"role": message.role, "content": message.content} for message in self.messages]

    @property
    def prompt(self) -> "Conversation":
        """Everything before the last assistant turn: what the model is given to answer."""
        last = len(self.messages)
        if self.messages and self.messages[-1].role == "assistant":
            last -= 1
        return Conversation(self.messages[:last])
