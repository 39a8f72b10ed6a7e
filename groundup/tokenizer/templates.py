"""Chat templates of other models: the Jinja source beside a tokenizer → a ``Template``.

A template comes from a stranger, and so does the conversation. Both are bounded:

* **The template** runs in Jinja's sandbox, narrowed to what templates of models use: no attribute but the listed
  methods of strings, lists and mappings, no filter but those below, no inclusion of other files. Every step is paid
  for from a budget before it is done (``STEPS``, ``CHARACTERS``), so that a template that does not end, or that
  doubles a text over and over, ends in one clear line after a few seconds at most, on every system and in any thread.
* **The conversation** cannot forge structure. Before it is compiled, every string in the template's source is replaced
  by one that knows it is the template's (``Traced``), and each content enters as one that knows its message. Jinja
  then cuts, trims and joins them with their origins, and sees their true characters all the while: a test such as
  ``'</think>' in content`` answers as it should. In the end only characters of the template make special tokens. What
  loses its origin on the way (``tojson``, for one) counts as content, so an operation that is not followed can cost
  a mark of structure, never forge one.

Placeholders for contents would fool the templates that look into them, and marks around what a content spells, as in
``apply_chat_template(sanitize_control_tokens=True)``, fail when a template splits the content or its own text
completes what a content began.
"""

import json
import threading
from collections.abc import Callable, Collection, ItemsView, Iterable, Iterator, KeysView, Mapping, ValuesView
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

from jinja2 import filters as jinja_filters
from jinja2 import nodes, pass_context
from jinja2.exceptions import SecurityError, TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace
from jinja2.visitor import NodeTransformer

from groundup.core import files
from groundup.core.errors import ArtifactError, DataError
from groundup.tasks.conversation import Conversation
from groundup.tokenizer.chat import ChatTemplate, Template, TextTemplate, Traced
from groundup.tokenizer.pretokenize import well_formed
from groundup.tokenizer.protocol import SPECIAL_TOKENS, Tokenizer

#: A template's source may be this long; the longest in use have about 30,000 characters.
MOST_CHARACTERS = 1 << 17
#: A rendering may take this many steps (one for each part of the source as often as it is reached), and more for
#: each message: a second or two of work on a usual core.
STEPS, STEPS_A_MESSAGE = 1_000_000, 5_000
#: It may copy and compare this many characters, and more for each character of the conversation.
CHARACTERS, TIMES_CONVERSATION = 1 << 25, 64
#: No text made on the way may be longer than this, and as much more for each character of the conversation.
LONGEST, LONGEST_TIMES_CONVERSATION = 1 << 20, 8
#: Larger files beside a tokenizer are refused.
MOST_BYTES = 1 << 26
#: Integers have at most this many bits, texts of ``tojson`` at most this many blanks of indentation.
MOST_BITS, MOST_INDENT = 128, 32

# fmt: off
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset((
        "capitalize", "count", "endswith", "find", "index", "isalnum", "isalpha", "isascii", "isdecimal", "isdigit",
        "islower", "isnumeric", "isspace", "istitle", "isupper", "join", "lower", "lstrip", "partition",
        "removeprefix", "removesuffix", "replace", "rfind", "rindex", "rpartition", "rsplit", "rstrip", "split",
        "splitlines", "startswith", "strip", "title", "upper",
    )),
    dict: frozenset(("get", "items", "keys", "values")),
    list: frozenset(("count", "index")),
    tuple: frozenset(("count", "index")),
    LoopContext: frozenset((
        "changed", "cycle", "depth", "depth0", "first", "index", "index0", "last", "length", "nextitem", "previtem",
        "revindex", "revindex0",
    )),
}
# What holds other values.
_MANY = (list, tuple, dict, range, ItemsView, KeysView, ValuesView)
_FILTERS = (
    "abs", "capitalize", "count", "d", "default", "dictsort", "first", "float", "int", "items", "last", "length",
    "lower", "map", "max", "min", "reject", "rejectattr", "reverse", "select", "selectattr", "sort", "title", "trim",
    "unique", "upper",
)
# These look at all that a value holds.
_DEEP = frozenset((
    "dictsort", "in", "max", "min", "sort", "unique", "==", "!=", ">", ">=", "<", "<=", "eq", "equalto", "ge",
    "greaterthan", "gt", "le", "lessthan", "lt", "ne",
))
# These go through a text character by character.
_EACH = frozenset(("map", "max", "min", "reject", "rejectattr", "select", "selectattr", "sort", "unique"))
_NODES = frozenset((
    "Add", "And", "Assign", "AssignBlock", "Break", "Call", "CallBlock", "Compare", "Concat", "CondExpr", "Const",
    "Continue", "Dict", "Div", "EnvironmentAttribute", "ExprStmt", "Filter", "FilterBlock", "FloorDiv", "For",
    "Getattr", "Getitem", "If", "Keyword", "List", "Macro", "Mod", "Mul", "NSRef", "Name", "Neg", "Not", "Operand",
    "Or", "Output", "Pair", "Pos", "Slice", "Sub", "Template", "TemplateData", "Test", "Tuple", "With",
))
# fmt: on


class _Refused(TemplateError):
    """The template itself calls ``raise_exception``."""


class _Exhausted(TemplateError):
    """The budget is spent."""


class _Generation(Extension):
    """``{% generation %}…{% endgeneration %}``: what the model is to learn, as in Hugging Face's templates."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(_call("generated"), [], [], body).set_lineno(line)


def _call(name: str, *arguments: Any) -> nodes.Call:
    """The node that calls a method of the environment."""
    return nodes.Call(nodes.EnvironmentAttribute(name), list(arguments), [], None, None)


def _size(node: nodes.Node) -> nodes.Const:
    """How many nodes a part of the source has: what it costs to go through it once."""
    return nodes.Const(sum(1 for _ in node.find_all(nodes.Node)))


class _Rewriter(NodeTransformer):
    """Refuses what no template needs, gives every string its origin, and makes what takes time pay for it."""

    def __init__(self) -> None:
        self.literals: list[Traced] = []
        self.generates = False

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        kind = type(node).__name__
        if kind not in _NODES:
            raise TemplateSyntaxError(f"{kind.lower()!r} is not supported", node.lineno)
        self.generates |= isinstance(node, nodes.EnvironmentAttribute)
        return super().visit(node, *args, **kwargs).set_lineno(node.lineno)

    def visit_TemplateData(self, node: nodes.TemplateData) -> nodes.Expr:
        return self._literal(node.data)

    def visit_Const(self, node: nodes.Const) -> nodes.Expr:
        return self._literal(node.value) if isinstance(node.value, str) else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Expr:
        self.generic_visit(node)
        return _call("joined", *node.nodes)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Expr:
        self.generic_visit(node)
        node.expr = _call("weighed", node.expr)
        for operand in node.ops:
            operand.expr = _call("weighed", operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _call("sliced", node) if isinstance(node.arg, nodes.Slice) else node

    def visit_NSRef(self, node: nodes.NSRef) -> nodes.Expr:
        _check_name(node.attr)
        return node

    def visit_For(self, node: nodes.For) -> nodes.Stmt:
        if node.recursive:
            raise TemplateSyntaxError("a recursive loop is not supported", node.lineno)
        size = _size(node)
        self.generic_visit(node)
        node.iter = _call("counted", node.iter, size)
        return node

    def visit_Macro(self, node: nodes.Macro | nodes.CallBlock) -> nodes.Stmt:
        size = _size(node)
        self.generic_visit(node)
        node.body.insert(0, nodes.ExprStmt(_call("spend", size)))
        return node

    visit_CallBlock = visit_Macro

    def _literal(self, text: str) -> nodes.Expr:
        self.literals.append(Traced.of_template(text))
        return nodes.Getitem(nodes.EnvironmentAttribute("literals"), nodes.Const(len(self.literals) - 1), "load")


def _check_name(name: str) -> None:
    if name.startswith("_"):
        raise SecurityError(f"a namespace holds no {name!r}")


class _Sandbox(ImmutableSandboxedEnvironment):
    """Where one template is compiled and runs. Not for two threads at a time."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "%"))

    def __init__(self) -> None:
        # The settings of Hugging Face. Nothing is computed while compiling: then there is no budget yet.
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            optimized=False,
            extensions=[_Generation, "jinja2.ext.loopcontrols"],
            finalize=pass_context(lambda _, value: self.text_of(value)),
        )
        self.steps = self.characters = self.longest = 0
        self.literals: list[Traced] = []
        filters: Mapping[str, Any] = jinja_filters.FILTERS
        tests: Mapping[str, Any] = self.tests
        ours: dict[str, Callable[..., Any]] = {
            "join": self._join,
            "list": lambda value: list(self.counted(value, 1)),
            "replace": self._replace,
            "safe": lambda value: value,
            "string": self.text_of,
            "tojson": self._tojson,
        }
        self.filters = {name: self._charged(name, filters[name]) for name in _FILTERS} | ours
        self.tests = {name: self._charged(name, test) for name, test in tests.items()}
        self.globals = {
            "dict": dict,
            "namespace": _namespace,
            "raise_exception": _raise_exception,
            "range": self.globals["range"],
            "strftime_now": _strftime_now,
        }

    def concat(self, parts: Iterable[str]) -> Traced:
        """The parts one after the other: what a macro or a ``{% set %}`` block wrote."""
        return self.joined(*parts)

    # What the budget pays for.

    def spend(self, steps: int = 1, characters: int = 0) -> None:
        """Pay for so many steps, and for a text of so many characters."""
        self.steps -= steps
        self.characters -= characters
        if self.steps < 0:
            raise _Exhausted("takes too many steps; it may never end")
        if characters > self.longest or self.characters < 0:
            raise _Exhausted("makes too long texts; it may never end")

    def weighed(self, value: Any) -> Any:
        """``value``, paid for by all that it holds."""
        self._pay_length(value)
        for part in value.items() if isinstance(value, dict) else value if isinstance(value, _MANY) else ():
            self.weighed(part)
        return value

    def sliced(self, value: Any) -> Any:
        """``value``, paid for by its length."""
        self._pay_length(value)
        return value

    def counted(self, values: Iterable[Any], steps: int) -> Iterator[Any]:
        """``values``, each of which costs so many steps."""
        for value in values:
            self.spend(steps)
            yield value

    def text_of(self, value: Any) -> str:
        """What stands in the output for ``value``."""
        return value if isinstance(value, str) else str(self.weighed(value))

    def joined(self, *values: Any) -> Traced:
        """The texts of the values, one after the other."""
        parts = [self.text_of(value) for value in values]
        self.spend(len(parts), sum(map(len, parts)))
        return Traced.joined(parts)

    def generated(self, caller: Callable[[], Traced]) -> Traced:
        """The text of a ``{% generation %}`` block."""
        return caller().generated()

    def _pay_length(self, value: Any, whole: bool = True) -> None:
        """Pay for looking at each item of ``value``; at a text as a ``whole`` or at each character."""
        if isinstance(value, str) and whole:
            self.spend(1, len(value))
        else:
            self.spend(1 + len(value) if isinstance(value, (str, *_MANY)) else 1)

    def _charged(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter or a test that pays for what it is given, and for what it gives one after the other."""

        @wraps(function)  # which copies the mark of a function that wants the context
        def charged(*args: Any, **kwargs: Any) -> Any:
            for value in (*args, *kwargs.values()):
                self._pay_length(value, whole=name not in _EACH)
                if name in _DEEP:
                    self.weighed(value)
            result = function(*args, **kwargs)
            return self.counted(result, 1) if isinstance(result, Iterator) else result

        return charged

    # What Jinja calls for each attribute, call and operator.

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if isinstance(obj, Namespace):
            return not attr.startswith("_")
        return any(attr in names for kind, names in _METHODS.items() if isinstance(obj, kind))

    def unsafe_undefined(self, obj: Any, attribute: str) -> Undefined:
        kind = "str" if isinstance(obj, str) else type(obj).__name__
        raise SecurityError(f"{attribute!r} of a {kind} is out of bounds")

    def wrap_str_format(self, value: Any) -> None:
        if super().wrap_str_format(value) is not None:
            raise SecurityError("'format' of a str is out of bounds; '~' joins texts")

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:
        self = __self  # two underscores leave every other name to the keyword arguments of a macro
        kwargs.pop("_loop_vars", None)  # for functions that want the context; there is none
        kwargs.pop("_block_vars", None)
        owner = getattr(__obj, "__self__", None)
        for value in (owner, *args, *kwargs.values()):
            self._pay_length(value)
        if isinstance(owner, str):
            return self._call_method(owner, __obj.__name__, *args, **kwargs)
        if isinstance(owner, (list, tuple)):
            self.weighed(owner)
        return super().call(__context, __obj, *args, **kwargs)

    def _call_method(self, owner: str, name: str, *args: Any, **kwargs: Any) -> Any:
        """A method of a text, after what it makes is paid for."""
        if name == "join" and args:
            parts = list(self.counted(args[0], 1))
            self.spend(1, sum(len(part) + len(owner) for part in parts if isinstance(part, str)))
            args = (parts,)
        elif name == "replace" and len(args) > 1:
            places = owner.count(args[0])
            self.spend(places, len(owner) + places * len(args[1]))
        elif name in ("split", "rsplit", "splitlines"):
            self.spend(len(getattr(str, name)(owner, *args, **kwargs)))
        return getattr(owner, name)(*args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "%" and isinstance(left, str):
            raise SecurityError("'%' of a str is out of bounds; '~' joins texts")
        many = (str, list, tuple)
        if operator == "*" and (isinstance(left, many) or isinstance(right, many)):
            values, times = (left, right) if isinstance(left, many) else (right, left)
            size = max(0, len(values) * times)
            self.spend(1 if isinstance(values, str) else 1 + size, size)
        elif isinstance(left, str) and isinstance(right, str):
            self.spend(1, len(left) + len(right))
        else:
            self._pay_length(left)
            self._pay_length(right)
        result = super().call_binop(context, operator, left, right)
        if isinstance(result, int) and result.bit_length() > MOST_BITS:
            raise _Exhausted(f"makes a number of more than {MOST_BITS} bits")
        return result

    # Filters.

    def _join(self, values: Iterable[Any], separator: Any = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            values = map(jinja_filters.make_attrgetter(self, attribute), values)
        between = self.text_of(separator)
        if not isinstance(between, Traced):
            between = Traced.joined((between,))
        return self._call_method(between, "join", [self.text_of(value) for value in self.counted(values, 1)])

    def _replace(self, value: Any, old: Any, new: Any, count: int | None = None) -> str:
        texts = [self.text_of(part) for part in (value, old, new)]
        return self._call_method(texts[0], "replace", *texts[1:], -1 if count is None else count)

    def _tojson(
        self,
        value: Any,
        ensure_ascii: bool = False,
        indent: int | None = None,
        separators: tuple[str, str] | None = None,
        sort_keys: bool = False,
    ) -> str:
        """Like Hugging Face's, which, unlike Jinja's, leaves ``<``, ``>`` and ``&`` alone."""
        if isinstance(indent, int) and indent > MOST_INDENT:
            raise _Exhausted(f"indents by more than {MOST_INDENT}")
        text = json.dumps(
            self.weighed(value), ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )
        self.spend(1, len(text))
        return text


def _namespace(*args: Any, **kwargs: Any) -> Namespace:
    attributes = dict(*args, **kwargs)
    for name in attributes:
        _check_name(name)
    return Namespace(attributes)


def _raise_exception(message: Any) -> None:
    raise _Refused(str(message))


def _strftime_now(layout: str) -> str:
    return datetime.now().strftime(layout[:256])


class JinjaTemplate(TextTemplate):
    """A template in the language of Hugging Face's ``chat_template``."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        source: str,
        variables: Mapping[str, Any] | None = None,
        allowed: Collection[str] = (),
        stop: Collection[str] = (),
        name: str = "the chat template",
    ) -> None:
        """
        Args:
            source: the Jinja source.
            variables: what the template may use besides the messages: ``bos_token``, ``eos_token``,
                ``enable_thinking``, … Their texts count as the template's own. ``eos_token`` ends an answer.
            allowed: special tokens that messages may spell; there they become that token.
            stop: more special tokens that end an answer.
            name: what to call it in messages to the user.

        Raises:
            DataError: the source is no Jinja, uses what is not supported or is too long; or an unknown token is named.
        """
        self.name = name
        self.variables = {key: _owned(value) for key, value in (variables or {}).items()}
        end = self.variables.get("eos_token")
        super().__init__(tokenizer, allowed, [*stop, *([str.__str__(end)] if end in tokenizer.special_tokens else [])])
        if len(source) > MOST_CHARACTERS:
            raise DataError(f"{name} has {len(source):,} characters; at most {MOST_CHARACTERS:,} are supported")
        self._lock = threading.Lock()
        self._sandbox = _Sandbox()
        rewriter = _Rewriter()
        try:
            tree = rewriter.visit(self._sandbox.parse(source)).set_environment(self._sandbox)
            self._template = self._sandbox.from_string(tree)
        except Exception as error:  # a stranger's program may fail in any way, even while it is compiled
            raise DataError(f"{name} cannot be used: {_line(error)}") from error
        self._sandbox.literals = rewriter.literals
        self._generates = rewriter.generates

    def written(self, conversation: Conversation, ask: bool = False) -> Traced:
        """The text of a conversation; with ``ask``, up to where the assistant's next turn begins.

        Raises:
            DataError: the template refuses the conversation, fails on it, or takes too much time or memory.
        """
        messages = [
            {
                "role": Traced.of_template(message.role),
                "content": Traced.of_message(index, well_formed(message.content)),
            }
            for index, message in enumerate(conversation.messages)
        ]
        given = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": ask}
        size = sum(len(message.content) for message in conversation.messages)
        with self._lock:
            sandbox = self._sandbox
            sandbox.steps = STEPS + STEPS_A_MESSAGE * len(messages)
            sandbox.characters = CHARACTERS + TIMES_CONVERSATION * size
            sandbox.longest = LONGEST + LONGEST_TIMES_CONVERSATION * size
            try:
                return self._collected(self._template.generate({**given, **self.variables}))
            except _Refused as error:
                raise DataError(f"{self.name} refuses the conversation: {_line(error)}") from error
            except _Exhausted as error:
                raise DataError(f"{self.name} {_line(error)}; use another one") from error
            except SecurityError as error:
                raise DataError(f"{self.name} reaches out of its sandbox: {_line(error)}") from error
            except Exception as error:  # a stranger's program may fail in any way
                raise DataError(f"{self.name} fails on the conversation: {_line(error)}") from error

    def _collected(self, parts: Iterable[str]) -> Traced:
        written: list[str] = []
        size = 0
        for part in parts:
            size += len(part)
            if size > self._sandbox.longest:
                raise _Exhausted("writes too long a text; it may never end")
            written.append(part)
        return Traced.joined(written)

    def _learnt(self, conversation: Conversation, text: Traced) -> bytes:
        if self._generates:
            return bytes(ord(source) & 1 for source in text.origin)
        return super()._learnt(conversation, text)


def _owned(value: Any) -> Any:
    """``value`` with every text marked as the template's own."""
    if isinstance(value, str):
        return Traced.of_template(value)
    if isinstance(value, Mapping):
        return {key: _owned(part) for key, part in value.items()}
    return [_owned(part) for part in value] if isinstance(value, (list, tuple)) else value


def _line(error: Exception) -> str:
    """What a stranger's program complains about, as one short line."""
    text = str(error) or type(error).__name__
    if isinstance(error, RecursionError):
        text = "it is nested too deeply"
    elif isinstance(error, TemplateSyntaxError):
        text = f"line {error.lineno}: {error.message}" if error.lineno else str(error.message)
    text = " ".join(text.split())
    text = "".join(character for character in text if character.isprintable())
    return text if len(text) <= 200 else text[:200] + "…"


def open_template(folder: Path, tokenizer: Tokenizer, name: str = "default", allowed: Collection[str] = ()) -> Template:
    """The chat template in the folder of a model: ``chat_template.jinja``, else that of ``tokenizer_config.json``.

    A folder that has neither has our own if its tokenizer has our special tokens.

    Args:
        name: which one, where a model has several: ``default``, ``tool_use``, ``rag``, …
        allowed: special tokens that messages may spell, such as ``<think>``.

    Raises:
        ArtifactError: no such template, or a damaged file.
        DataError: a template that cannot be used.
    """
    config = {**_read(folder / "special_tokens_map.json"), **_read(folder / "tokenizer_config.json")}
    sources = _sources(folder, config)
    if name not in sources:
        if not sources and name == "default" and set(SPECIAL_TOKENS) <= set(tokenizer.special_tokens):
            return ChatTemplate(tokenizer)
        there = (
            f"there is {', '.join(sorted(sources))}" if sources else "neither chat_template.jinja nor one in its config"
        )
        raise ArtifactError(f"{folder} has no chat template {name!r}: {there}")
    tokens = {key: _content(value) for key, value in config.items() if key.endswith("_token")}
    variables = {key: value for key, value in tokens.items() if value is not None}
    ends = _read(folder / "generation_config.json").get("eos_token_id")
    ends = ends if isinstance(ends, list) else [ends]
    stop = [token for token, token_id in tokenizer.special_tokens.items() if token_id in ends]
    return JinjaTemplate(tokenizer, sources[name], variables, allowed, stop, f"the chat template of {folder}")


def _sources(folder: Path, config: Mapping[str, Any]) -> dict[str, str]:
    """Name → source of every template of a model; files of their own come before the configuration."""
    given = config.get("chat_template") or {}
    if isinstance(given, str):
        given = {"default": given}
    elif isinstance(given, list):
        given = {entry.get("name"): entry.get("template") for entry in given if isinstance(entry, dict)}
    if not isinstance(given, dict) or not all(isinstance(source, str) for source in given.values()):
        raise ArtifactError(f"{folder / 'tokenizer_config.json'} is damaged: its chat_template is no text")
    sources: dict[str, str] = dict(given)
    paths = {path.stem: path for path in sorted((folder / "additional_chat_templates").glob("*.jinja"))}
    for name, path in {**paths, "default": folder / "chat_template.jinja"}.items():
        if path.is_file():
            _check_size(path)
            sources[name] = files.read_text(path)
    return sources


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty when there is no file."""
    if not path.is_file():
        return {}
    _check_size(path)
    content = files.read_json(path)
    if not isinstance(content, dict):
        raise ArtifactError(f"{path} is damaged: no JSON object")
    return content


def _check_size(path: Path) -> None:
    if path.stat().st_size > MOST_BYTES:
        raise ArtifactError(f"{path} has {path.stat().st_size:,} bytes; at most {MOST_BYTES:,} are supported")


def _content(token: Any) -> str | None:
    """The spelling of a token in a configuration: a text, or an object that has one."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None
