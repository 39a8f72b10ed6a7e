"""The tokenizer inside GGUF, the model files of llama.cpp.

Enters: the metadata of such a file (``gguf_container``). Leaves: a tokenizer. ``gguf_writing`` goes the way back.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import IO, Any

from groundup.core.errors import DataError
from groundup.tokenizer.formats import gguf_container as container
from groundup.tokenizer.formats.definition import AddedToken, Definition
from groundup.tokenizer.formats.gpt2 import define, merges_spelled
from groundup.tokenizer.formats.huggingface import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Parts
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.protocol import SPECIAL_TOKENS
from groundup.tokenizer.vocabulary import MOST_TOKENS

MAGIC = container.MAGIC
PREFIX = "tokenizer.ggml."
CHAT_TEMPLATE = "tokenizer.chat_template"

_CJK = "[一-龥぀-ゟ゠-ヿ]+"
_ASIAN = "[一-龥ࠀ-一가-퟿]+"
_ASCII_SIGNS = r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"
_DIGIT, _GPT2 = r"\p{N}", NAMED["gpt2"]
_WORDS = r" ?[^(\s|.,!?…。，、।۔،)]+"
# Letters with a case, save those of scripts and blocks that came to Unicode late or are mathematical.
_LATE = (
    "\u0560-\u0588\u10c7-\u10ff\u1c80-\u1c8a\u2d00-\u2d2d\ua790-\ua7ff\uab30-\uab68\U00010570-\U000105ff"
    "\U00010d00-\U00010dff\U00016e40-\U0001d7ff\U0001df00-\U0001dfff"
)
_CASED = rf"(?:(?![{_LATE}])[\p{{Lu}}\p{{Ll}}\p{{Lt}}])+"

#: How the text is cut, by the names that llama.cpp gives in ``tokenizer.ggml.pre``.
_CUTTING: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "modern-bert", "roberta-bpe", "gigachat"): (_GPT2,),
    ("jina-es", "jina-de", "jina-v1-en", "jina-v2-es", "jina-v2-de", "jina-v2-code", "mellum", "exaone4"): (_GPT2,),
    ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"): (_DIGIT, _GPT2),
    ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "midm-2.0", "lfm2"): (NAMED["llama3"],),
    ("dbrx", "smaug-bpe", "chatglm-bpe", "glm4"): (NAMED["llama3"],),
    ("qwen2", "deepseek-r1-qwen", "kormo", "stablelm2", "hunyuan", "megrez", "solar-open", "grok-2"): (NAMED["qwen2"],),
    ("gpt-4o", "llama4", "minimax-m2"): (NAMED["o200k"],),
    ("falcon",): (r"[\p{P}\$\+<=>\^~\|`]+", _GPT2, "[0-9][0-9][0-9]"),
    ("bloom", "poro-chat", "gpt3-finnish"): (_WORDS,),
    ("viking",): (_WORDS, _DIGIT),
    ("deepseek-coder",): (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _ASIAN, _DIGIT),
    ("deepseek-llm",): (r"[\r\n]", r"\s?" + _CASED, r"\s?[!-/:-~！-／：-～‘-‟　-。]+", r"\s+$", _ASIAN, r"\p{N}+"),
    ("deepseek-v3", "hunyuan-dense"): (
        r"\p{N}{1,3}",
        _CJK,
        rf"{_ASCII_SIGNS}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+| ?[\p{{P}}\p{{S}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    ),
}  # fmt: skip
PATTERNS = {name: Pattern(splits) for names, splits in _CUTTING.items() for name in names}
#: Those with which a piece that is a token as a whole is that token.
WHOLE_PIECES = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "midm-2.0", "lfm2")


def read_metadata(stream: IO[bytes]) -> dict[str, Any]:
    """The metadata that tell of the tokenizer, by their names without ``tokenizer.ggml.``.

    Raises:
        DataError: the file is no GGUF of version 2 or 3, truncated, or claims sizes that it cannot have.
    """
    found = container.read_metadata(stream)
    return {name.removeprefix(PREFIX): value for name, value in found.items() if name.startswith(PREFIX)}


def read(metadata: Mapping[str, Any]) -> Definition | Parts:
    """A byte-level tokenizer, or the parts of one of SentencePiece's.

    Raises:
        DataError: a kind of tokenizer that we do not have, text cut in an unknown way, or damage.
    """
    kind, tokens = metadata.get("model"), _list_of(metadata, "tokens", str)
    types = _list_of(metadata, "token_type", int) or [NORMAL] * len(tokens)
    if len(types) != len(tokens):
        raise DataError(f"it has {len(tokens):,} tokens but {len(types):,} types of tokens")
    if kind == "gpt2":
        return _byte_level(metadata, tokens, types)
    if kind == "llama":
        return _sentencepiece(metadata, tokens, types)
    raise DataError(f"its tokenizer is {kind!r}; 'gpt2' (byte-level BPE) and 'llama' (SentencePiece) are supported")


def _byte_level(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> Definition:
    cutting = metadata.get("pre")
    if not isinstance(cutting, str) or cutting not in PATTERNS:
        raise DataError(f"it cuts text by the rules called {cutting!r}; known are {', '.join(sorted(PATTERNS))}")
    ids: dict[str, int] = {}
    special_tokens: dict[str, int] = {}
    added_tokens = []
    for token_id, (token, kind) in enumerate(zip(tokens, types, strict=True)):
        if kind == NORMAL:
            if ids.setdefault(token, token_id) != token_id:
                raise DataError(f"tokens {ids[token]} and {token_id} are both {token[:40]!r}")
        elif kind in (UNKNOWN, CONTROL, USER_DEFINED):
            if special_tokens.setdefault(token, token_id) != token_id:
                raise DataError(f"tokens {special_tokens[token]} and {token_id} are both {token[:40]!r}")
            if kind == USER_DEFINED:
                added_tokens.append(AddedToken(token, token_id))
        elif kind != UNUSED:
            raise DataError(f"token {token_id} has the type {kind}, which a byte-level tokenizer has no use for")
    pairs, _ = merges_spelled(ids, _list_of(metadata, "merges", str))
    made = define(ids, pairs, special_tokens, PATTERNS[cutting], cutting in WHOLE_PIECES)
    return replace(made, added_tokens=tuple(added_tokens))


def _sentencepiece(metadata: Mapping[str, Any], tokens: list[str], types: list[int]) -> Parts:
    scores = _list_of(metadata, "scores", float)
    if len(scores) != len(tokens):
        raise DataError(f"it has {len(tokens):,} tokens but {len(scores):,} scores")
    unknown_id = metadata.get("unknown_token_id", types.index(UNKNOWN) if UNKNOWN in types else -1)
    prefix, squeeze = metadata.get("add_space_prefix", True), metadata.get("remove_extra_whitespaces", False)
    if type(unknown_id) is not int or type(prefix) is not bool or type(squeeze) is not bool:
        raise DataError("one of its settings is of another type than llama.cpp's")
    return Parts(
        list(zip(tokens, scores, types, strict=True)),
        "bpe",
        prefix,
        squeeze,
        BYTE in types,
        unknown_id,
        b"",
        {token: token_id for token_id, token in enumerate(tokens) if types[token_id] == CONTROL},
    )


def _list_of(metadata: Mapping[str, Any], name: str, kind: type[Any]) -> list[Any]:
    """An array of the metadata, empty where it is missing; all its elements are of one type."""
    values = metadata.get(name, [])
    if not isinstance(values, list) or (values and type(values[0]) is not kind):
        raise DataError(f"its {name} are no array of {kind.__name__}")
    return values


@dataclass(frozen=True)
class Marks:
    """Ids that have a meaning of their own to the readers of a file; None: there is no such token."""

    begin: int | None = None
    """Stands before every text (``bos``)."""
    end: int | None = None
    """Ends a text (``eos``): generation stops there."""
    end_of_turn: int | None = None
    """Ends what one side says in a conversation (``eot``): generation stops there too."""
    padding: int | None = None
    """Fills up a batch (``pad``)."""
    add_begin: bool = False
    """``begin`` is put before a text that is encoded."""

    @classmethod
    def ours(cls, special_tokens: Mapping[str, int]) -> "Marks | None":
        """Those of our own vocabularies, in which a document ends where the next begins; None for any other."""
        if not set(SPECIAL_TOKENS) <= special_tokens.keys():
            return None
        begin, end_of_turn, padding = (special_tokens[name] for name in ("<|document|>", "<|end|>", "<|pad|>"))
        return cls(begin, begin, end_of_turn, padding, add_begin=True)


def read_marks(metadata: Mapping[str, Any]) -> Marks:
    """What begins and ends a text, by the metadata with their full names.

    Raises:
        DataError: one of them is no id.
    """
    ids = []
    for name in ("bos", "eos", "eot", "padding"):
        token_id = metadata.get(f"{PREFIX}{name}_token_id")
        if token_id is not None and (type(token_id) is not int or not 0 <= token_id < MOST_TOKENS):
            raise DataError(f"its {name}_token_id is {token_id!r:.40}, no id")
        ids.append(token_id)
    add_begin = metadata.get(PREFIX + "add_bos_token", False)
    if type(add_begin) is not bool:
        raise DataError(f"its add_bos_token is {add_begin!r:.40}, neither true nor false")
    begin, end, end_of_turn, padding = ids
    return Marks(begin, end, end_of_turn, padding, add_begin)


def read_chat_template(metadata: Mapping[str, Any]) -> str:
    """The Jinja source of the chat template; empty where there is none.

    Raises:
        DataError: it is no text.
    """
    template = metadata.get(CHAT_TEMPLATE, "")
    if not isinstance(template, str):
        raise DataError("its chat template is no text")
    return template
