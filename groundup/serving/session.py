"""One person's conversation with a model.

Enters: what the person says. Leaves: pieces of the reply as they are generated. The session remembers the turns and
forgets the oldest ones when they no longer fit the model's context.
"""

from collections.abc import Iterator
from dataclasses import replace

from groundup.core.errors import UsageError
from groundup.core.seeding import derive_seed
from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.serving.text import TextStream
from groundup.tasks.conversation import Conversation, Message
from groundup.tokenizer.chat import Template


class ChatSession:
    """Turns of one conversation, and the options of the next reply."""

    def __init__(self, engine: Engine, template: Template, sampling: Sampling, system: str | None = None) -> None:
        """
        Args:
            engine: used by this session alone while it replies.
            template: of the model's tokenizer.
            sampling: options of every reply; reply i draws from (seed, i). May be replaced between replies.
            system: instruction that stays at the beginning of the conversation.
        """
        self.engine = engine
        self.template = template
        self.sampling = sampling
        self.turns: list[Message] = []
        """User and assistant by turns, oldest first; what was forgotten is not among them."""
        self.forgotten = 0
        """How many of the oldest messages the latest reply had to leave out."""
        self._opening = () if system is None else (Message("system", system),)
        self._replies = 0

    @property
    def conversation(self) -> Conversation:
        """What the model sees."""
        return Conversation((*self._opening, *self.turns))

    def reset(self) -> None:
        """Forget every turn; the next reply is drawn as the first one was."""
        self.turns.clear()
        self.forgotten = self._replies = 0

    def reply(self, text: str) -> Iterator[str]:
        """Answer ``text``, piece by piece.

        Closing the iterator, or an interrupt, ends the reply; what was said by then stays in the conversation.
        A reply that was stopped before its first piece leaves no trace.

        Raises:
            UsageError: the message alone does not fit the context.
        """
        self.turns.append(Message("user", text))
        try:
            request = self.engine.submit(self._prompt(), self._own_sampling())
        except BaseException:
            self.turns.pop()
            raise
        stream = TextStream(self.template.tokenizer)
        try:
            while request.finish_reason is None:
                for event in self.engine.step():
                    if event.request is request and event.token is not None and (piece := stream.push(event.token)):
                        yield piece
            if piece := stream.finish():
                yield piece
        finally:
            self.engine.cancel(request)
            self._replies += 1
            if stream.text or request.finish_reason == "stop":
                self.turns.append(Message("assistant", stream.text))
            else:
                self.turns.pop()

    def _prompt(self) -> list[int]:
        """The conversation's ids, its oldest turns dropped until a quarter of the context is left for the reply."""
        context = self.engine.context
        room = max(1, min(self.sampling.max_tokens, context // 4))
        self.forgotten = 0
        while True:
            prompt = self.template.prompt(self.conversation)
            if len(prompt) + room <= context:
                return prompt
            if len(self.turns) == 1:
                raise UsageError(
                    f"the message takes {len(prompt)} tokens, the context {context} with {room} kept for the reply; "
                    "say it in fewer words"
                )
            del self.turns[:2]  # a question and its reply
            self.forgotten += 2

    def _own_sampling(self) -> Sampling:
        return replace(self.sampling, seed=derive_seed(self.sampling.seed, "reply", self._replies))
