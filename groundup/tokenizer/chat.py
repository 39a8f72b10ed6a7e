"""Chat templates: a conversation → token ids, and which of them the model learns to say.

Our own layout, and those of models in use (``chatml``, ``llama3``; ``templates.py`` reads any other from its file):

    ours     <|document|><|system|> Be brief.<|end|><|user|> Hi<|end|><|assistant|> Hello<|end|>
    ChatML   <|im_start|>user⏎Hi<|im_end|>⏎<|im_start|>assistant⏎Hello<|im_end|>⏎
    Llama 3  <|begin_of_text|><|start_header_id|>user<|end_header_id|>⏎⏎Hi<|eot_id|>…

No message can forge a mark of structure. In our layout contents are encoded apart from the marks; there a space goes
before each, so that a word at the beginning of a turn is the same token as inside one, and a small model can copy it
from the question. The other layouts make one text of both, in which ordinary text on both sides of a border may share
a token. There each character remembers where it comes from (``Traced``), and only characters of the template itself
are read as special tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Protocol, SupportsIndex

import regex

from groundup.core.errors import DataError
from groundup.tasks.conversation import Conversation, Role
from groundup.tokenizer.pretokenize import well_formed
from groundup.tokenizer.protocol import Tokenizer

#: The same template for Hugging Face's ``apply_chat_template`` and the servers that follow it.
JINJA_TEMPLATE = (
    "{{ '<|document|>' }}"
    "{% for message in messages %}{{ '<|' + message['role'] + '|> ' + message['content'] + '<|end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
#: Stands before the content of every turn.
SPACE = " "
#: Longer conversations are refused.
MOST_MESSAGES = 1 << 16


class Template(Protocol):
    """Renders conversations with one tokenizer."""

    @property
    def tokenizer(self) -> Tokenizer:
        """What it renders with."""
        ...

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer."""
        ...

    def render(self, conversation: Conversation) -> tuple[list[int], list[bool]]:
        """Ids of the whole conversation, and for each whether the model must learn to predict it.

        Raises:
            DataError: a conversation that the template cannot show.
        """
        ...

    def prompt(self, conversation: Conversation) -> list[int]:
        """Ids that ask the model for the next turn.

        Raises:
            DataError: a conversation that the template cannot show, or one whose last turn is not the user's.
        """
        ...

    def text(self, ids: Sequence[int]) -> str:
        """The content of an assistant's turn from its ids."""
        ...


class ChatTemplate:
    """Our own layout."""

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
        _check_asks(conversation)
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


def _check_asks(conversation: Conversation) -> None:
    """Refuse what leaves nothing to answer."""
    if not conversation.messages or conversation.messages[-1].role != "user":
        raise DataError("a prompt must end with a user message; add one, or drop the last assistant message")


# Where a character comes from, as a character of its own, so that slicing and joining origins is slicing and joining
# strings. The lowest bit says that it stands in a ``{% generation %}`` block. Whatever loses its origin counts as
# foreign, and so can never become a special token.
_FOREIGN, _TEMPLATE, _FIRST_MESSAGE = 0, 2, 4
_runs = regex.compile(r"([\x02\x03]+)|[^\x02\x03]+")


class Traced(str):
    """A string that knows where each of its characters comes from.

    It is equal to the plain string, and what the methods below cut from it or make of it keeps its origins. The other
    methods of ``str`` return plain strings, whose characters count as foreign.
    """

    __slots__ = ("origin",)
    origin: str
    """One character for each of the string's: see ``_TEMPLATE``."""

    def __new__(cls, text: str, origin: str) -> "Traced":
        traced = super().__new__(cls, text)
        traced.origin = origin
        return traced

    @classmethod
    def of_template(cls, text: str) -> "Traced":
        """Text of the template's own."""
        return cls(text, chr(_TEMPLATE) * len(text))

    @classmethod
    def of_message(cls, index: int, text: str) -> "Traced":
        """Text of message ``index``."""
        return cls(text, _origin_of_message(index) * len(text))

    @classmethod
    def joined(cls, parts: Iterable[str]) -> "Traced":
        """The parts one after the other."""
        parts = list(parts)
        return cls("".join(parts), "".join(map(_origin, parts)))

    def generated(self) -> "Traced":
        """The same, marked as what the assistant generates."""
        origin = self.origin
        for source in set(origin):
            origin = origin.replace(source, chr(ord(source) | 1))
        return Traced(self, origin)

    def __str__(self) -> "Traced":  # the output of a template is made of str(...)
        return self

    def __getitem__(self, place: SupportsIndex | slice) -> "Traced":
        return Traced(super().__getitem__(place), self.origin[place])

    def __iter__(self) -> Iterator["Traced"]:
        return map(Traced, super().__iter__(), self.origin)

    def __add__(self, other: str) -> "Traced":
        return Traced.joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> "Traced":
        return Traced.joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: SupportsIndex) -> "Traced":
        return Traced(super().__mul__(times), self.origin * times)

    __rmul__ = __mul__

    def join(self, parts: Iterable[str], /) -> "Traced":
        parts = list(parts)
        return Traced(super().join(parts), _origin(self).join(map(_origin, parts)))

    def lstrip(self, chars: str | None = None, /) -> "Traced":
        return self[len(self) - len(super().lstrip(chars)) :]

    def rstrip(self, chars: str | None = None, /) -> "Traced":
        return self[: len(super().rstrip(chars))]

    def strip(self, chars: str | None = None, /) -> "Traced":
        return self.lstrip(chars).rstrip(chars)

    def removeprefix(self, prefix: str, /) -> "Traced":
        return self[len(prefix) :] if self.startswith(prefix) else self

    def removesuffix(self, suffix: str, /) -> "Traced":
        return self[: len(self) - len(suffix)] if self.endswith(suffix) else self

    def split(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._found(super().split(sep, maxsplit), len(sep or ""))

    def rsplit(self, sep: str | None = None, maxsplit: SupportsIndex = -1) -> list[str]:
        return self._found(super().rsplit(sep, maxsplit), len(sep or ""))

    def splitlines(self, keepends: bool = False) -> list[str]:
        return self._found(super().splitlines(keepends), 0)

    def partition(self, sep: str, /) -> tuple[str, str, str]:
        before, middle, after = self._found(super().partition(sep), 0)
        return before, middle, after

    def rpartition(self, sep: str, /) -> tuple[str, str, str]:
        before, middle, after = self._found(super().rpartition(sep), 0)
        return before, middle, after

    def replace(self, old: str, new: str, count: SupportsIndex = -1, /) -> str:
        if not old:
            return super().replace(old, new, count)
        return Traced(new, _origin(new)).join(self.split(old, count))

    def lower(self) -> str:
        return self._respelled(super().lower())

    def upper(self) -> str:
        return self._respelled(super().upper())

    def title(self) -> str:
        return self._respelled(super().title())

    def capitalize(self) -> str:
        return self._respelled(super().capitalize())

    def _found(self, parts: Sequence[str], gap: int) -> list[str]:
        """``parts``, which are slices of this string in order with ``gap`` characters or only blanks in between."""
        found: list[str] = []
        place = 0
        for part in parts:
            start = self.index(part, place)
            found.append(self[start : start + len(part)])
            place = start + len(part) + gap
        return found

    def _respelled(self, text: str) -> str:
        """``text``, which has a character in place of each of this string's, or more (then origins are lost)."""
        return Traced(text, self.origin) if len(text) == len(self) else text


def _origin(text: str) -> str:
    return text.origin if isinstance(text, Traced) else chr(_FOREIGN) * len(text)


def _origin_of_message(index: int) -> str:
    return chr(_FIRST_MESSAGE + 2 * index)


class TextTemplate(ABC):
    """A layout that is one text, in which the template's own words alone are read as special tokens.

    Between special tokens the text is encoded as a whole, as other tools do, so a token may span the border of a
    content and what the template puts around it. Such a token is learnt if any part of it is.
    """

    def __init__(self, tokenizer: Tokenizer, allowed: Collection[str] = (), stop: Collection[str] = ()) -> None:
        """
        Args:
            allowed: special tokens that messages may spell, such as ``<think>``; there they become that token.
            stop: special tokens that end an answer besides the one that the layout puts after it.

        Raises:
            DataError: ``allowed`` or ``stop`` name what is no special token of the tokenizer.
        """
        self.tokenizer = tokenizer
        self._need((*allowed, *stop))
        self._stop = frozenset(tokenizer.special_tokens[name] for name in stop)
        self._allowed = _any_of(allowed)
        self._special = _any_of(tokenizer.special_tokens)

    @abstractmethod
    def written(self, conversation: Conversation, ask: bool = False) -> Traced:
        """The text of a conversation; with ``ask``, up to where the assistant's next turn begins.

        Raises:
            DataError: a conversation that the template cannot show.
        """

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end an answer: what the layout puts after one, and those named when it was made."""
        marks = regex.compile(rf"\s*+({self._special.pattern})")
        ends = [marks.match(self._after(text, self._content(text)[1])) for text in self._probes]
        return self._stop | {self.tokenizer.special_tokens[end[1]] for end in ends if end}

    def render(self, conversation: Conversation) -> tuple[list[int], list[bool]]:
        """Ids of the whole conversation, and for each whether the model must learn to predict it.

        That is what the assistant says after what ``prompt`` gives, with the mark that ends its turn; where a
        template has ``{% generation %}`` blocks, what stands in them.

        Raises:
            DataError: a conversation that the template cannot show.
        """
        text = self._checked(conversation)
        learnt = self._learnt(conversation, text)
        ids: list[int] = []
        learn: list[bool] = []
        place = 0
        for part, special in self._parts(text):
            part_ids = self.tokenizer.encode(part) if special is None else [special]
            ids += part_ids
            learn += self._shared(part, part_ids, learnt[place : place + len(part)])
            place += len(part)
        return ids, learn

    def prompt(self, conversation: Conversation) -> list[int]:
        """Ids that ask the model for the next turn.

        Raises:
            DataError: a conversation that the template cannot show, or one whose last turn is not the user's.
        """
        _check_asks(conversation)
        ids: list[int] = []
        for part, special in self._parts(self._checked(conversation, ask=True)):
            ids += self.tokenizer.encode(part) if special is None else [special]
        return ids

    def text(self, ids: Sequence[int]) -> str:
        """The content of an assistant's turn from its ids, without the blanks that the layout puts before it."""
        return self.tokenizer.decode(ids).removeprefix(self._lead)

    def _checked(self, conversation: Conversation, ask: bool = False) -> Traced:
        if not conversation.messages:
            raise DataError("the conversation has no message; add one")
        if len(conversation.messages) > MOST_MESSAGES:
            raise DataError(f"the conversation has {len(conversation.messages):,} messages; at most {MOST_MESSAGES:,}")
        return self.written(conversation, ask)

    def _need(self, names: Iterable[str]) -> None:
        for name in names:
            if name not in self.tokenizer.special_tokens:
                raise DataError(
                    f"the chat template needs the special token {name!r}, which the tokenizer does not have; "
                    "use the tokenizer and the template of the same model"
                )

    def _parts(self, text: Traced) -> Iterator[tuple[str, int | None]]:
        """Each special token's name and id, and each text before, between and after them with None."""
        plain = str.__str__(text)
        place = 0
        for run in _runs.finditer(text.origin):
            names = self._special if run[1] else self._allowed
            for found in names.finditer(plain, *run.span()):
                if place < found.start():
                    yield plain[place : found.start()], None
                yield found[0], self.tokenizer.special_tokens[found[0]]
                place = found.end()
        if place < len(plain):
            yield plain[place:], None

    def _shared(self, text: str, ids: Sequence[int], learnt: bytes) -> list[bool]:
        """For each id of ``text`` whether it shares a character with what is ``learnt``."""
        if len(ids) == 1 or 0 not in learnt or 1 not in learnt:
            return [1 in learnt] * len(ids)
        tokens = [self.tokenizer.token_bytes(token) for token in ids]
        written = text.encode()
        lead = sum(map(len, tokens)) - len(written)
        if lead >= 0 and b"".join(tokens).endswith(written):  # SentencePiece puts a space before the text
            flags = bytes(lead) + b"".join(
                bytes([flag]) * len(character.encode()) for character, flag in zip(text, learnt, strict=True)
            )
            ends = [0]
            for token in tokens:
                ends.append(ends[-1] + len(token))
            return [1 in flags[start:end] for start, end in pairwise(ends)]
        # A tokenizer that rewrites the text: how many ids its beginning has tells which id is where, give or take one.
        borders = [place for place in range(1, len(text)) if learnt[place] != learnt[place - 1]]
        shared: list[bool] = []
        for start, end in pairwise([0, *borders, len(text)]):
            stop = len(ids) if end == len(text) else min(len(ids), len(self.tokenizer.encode(text[:end])))
            shared += [learnt[start] == 1] * (stop - len(shared))
        return shared

    def _learnt(self, conversation: Conversation, text: Traced) -> bytes:
        """One byte a character: 1 for what the model must learn to say."""
        learnt = bytearray(len(text))
        for index, message in enumerate(conversation.messages):
            if message.role == "assistant":
                start, end = self._turn(conversation, index, text)
                learnt[start:end] = b"\1" * (end - start)
        return bytes(learnt)

    def _turn(self, conversation: Conversation, index: int, text: Traced) -> tuple[int, int]:
        """Where in ``text`` begins and ends what an assistant says in message ``index``, its end mark included.

        It begins where the prompt ends, if the text begins with that prompt: then the blanks and the empty thoughts
        that the layout puts before a content are learnt too. Some layouts show past turns otherwise than they asked
        for them; then it begins with the content.
        """
        first, last = self._content(text, index)
        asked = self._shown(Conversation(conversation.messages[:index]))
        if asked is not None and text.startswith(asked):
            lead = text[len(asked) : first] if first is not None else ""
            foreign = _origin(lead).strip(chr(_TEMPLATE))
            if first is None or (len(asked) <= first and not foreign and (self._opens or not lead.strip())):
                first, last = len(asked), max(last, len(asked))
        if first is None:
            return 0, 0
        end = self._stops.search(self._after(text, last))
        return first, last + (end.end() if end else 0)

    def _content(self, text: Traced, index: int = 1) -> tuple[int | None, int]:
        """Where the content of message ``index`` begins and ends; (None, 0) when it is not shown."""
        source = ord(_origin_of_message(index))
        spelled = [mark for mark in (chr(source), chr(source | 1)) if mark in text.origin]
        if not spelled:
            return None, 0
        return min(map(text.origin.index, spelled)), max(map(text.origin.rindex, spelled)) + 1

    def _after(self, text: Traced, place: int) -> str:
        """What the template puts after a content that ends at ``place``, up to the next content."""
        run = _runs.match(text.origin, place)
        return str.__str__(text[place : run.end()]) if run and run[1] else ""

    def _shown(self, conversation: Conversation, ask: bool = True) -> Traced | None:
        """What ``written`` gives; None where the template refuses, as some do with a part of what they accept."""
        try:
            return self.written(conversation, ask)
        except DataError:
            return None

    @cached_property
    def _stops(self) -> "regex.Pattern[str]":
        """Matches the name of a token of ``stop_ids``."""
        return _any_of([name for name, token_id in self.tokenizer.special_tokens.items() if token_id in self.stop_ids])

    @cached_property
    def _probes(self) -> list[Traced]:
        """A short talk that ends with an answer and one that goes on, of these what the template can show."""
        turns: list[tuple[Role, str]] = [("user", "a"), ("assistant", "b"), ("user", "c")]
        shown = [self._shown(Conversation.of(*turns[:length]), ask=False) for length in (2, 3)]
        return [text for text in shown if text is not None and self._content(text)[0] is not None]

    @cached_property
    def _opens(self) -> bool:
        """Whether the prompt opens the assistant's turn; else the model writes the head of its turn itself."""
        question = Conversation.of(("user", "a"))
        return self._shown(question) != self._shown(question, ask=False)

    @cached_property
    def _lead(self) -> str:
        """The blanks between the prompt and the content."""
        asked = self._shown(Conversation.of(("user", "a")))
        for text in self._probes[:1]:
            first, _ = self._content(text)
            if asked is not None and text.startswith(asked) and (lead := text[len(asked) : first]).isspace():
                return str.__str__(lead)
        return ""


def _any_of(names: Collection[str]) -> "regex.Pattern[str]":
    """Matches any of the names, the longest of those that begin at one place; no name matches nothing."""
    return regex.compile("|".join(map(regex.escape, sorted(names, key=len, reverse=True))) or "(?!)")


@dataclass(frozen=True)
class Layout:
    """The same marks around every turn."""

    begin: str
    """Stands before the first turn."""
    head: str
    """Stands before each content; ``{role}`` is who speaks."""
    end: str
    """Stands after each content."""
    trimmed: bool
    """Whether the blanks around a content are dropped."""
    marks: tuple[str, ...]
    """The special tokens in the above."""


CHATML = Layout("", "<|im_start|>{role}\n", "<|im_end|>\n", False, ("<|im_start|>", "<|im_end|>"))
LLAMA3 = Layout(
    "<|begin_of_text|>",
    "<|start_header_id|>{role}<|end_header_id|>\n\n",
    "<|eot_id|>",
    True,
    ("<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
)


class TurnTemplate(TextTemplate):
    """A ``Layout`` with a tokenizer."""

    def __init__(
        self, tokenizer: Tokenizer, layout: Layout, allowed: Collection[str] = (), stop: Collection[str] = ()
    ) -> None:
        """
        Raises:
            DataError: the tokenizer lacks a special token of the layout, or one of the other names.
        """
        super().__init__(tokenizer, allowed, stop)
        self._need(layout.marks)
        self.layout = layout

    def written(self, conversation: Conversation, ask: bool = False) -> Traced:
        """The text of a conversation; with ``ask``, up to where the assistant's next turn begins."""
        layout, template = self.layout, Traced.of_template
        parts = [template(layout.begin)]
        for index, message in enumerate(conversation.messages):
            content = Traced.of_message(index, well_formed(message.content))
            parts.append(template(layout.head.format(role=message.role)))
            parts += [content.strip() if layout.trimmed else content, template(layout.end)]
        if ask:
            parts.append(template(layout.head.format(role="assistant")))
        return Traced.joined(parts)


def chatml(tokenizer: Tokenizer, allowed: Collection[str] = ()) -> TurnTemplate:
    """ChatML, the layout of Qwen, SmolLM2 and many others. ``<|endoftext|>``, if there is one, ends an answer too.

    Raises:
        DataError: the tokenizer lacks ``<|im_start|>`` or ``<|im_end|>``, or one of those ``allowed``.
    """
    return _turns(tokenizer, CHATML, allowed, ["<|endoftext|>"])


def llama3(tokenizer: Tokenizer, allowed: Collection[str] = ()) -> TurnTemplate:
    """The layout of Llama 3 (Meta, "The Llama 3 Herd of Models", 2024), without tools.

    ``<|end_of_text|>`` and ``<|eom_id|>``, if there are such, end an answer too.

    Raises:
        DataError: the tokenizer lacks a special token of the layout, or one of those ``allowed``.
    """
    return _turns(tokenizer, LLAMA3, allowed, ["<|end_of_text|>", "<|eom_id|>"])


def _turns(tokenizer: Tokenizer, layout: Layout, allowed: Collection[str], stop: Sequence[str]) -> TurnTemplate:
    known = [name for name in stop if name in tokenizer.special_tokens]
    return TurnTemplate(tokenizer, layout, allowed, known)
