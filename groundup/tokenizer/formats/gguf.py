"""GGUF, the model files of llama.cpp: the tokenizer inside. Only the metadata at the front are read, never a weight.

A file is ``GGUF``, a version, the number of tensors, the number of metadata, and these: a name, a type and a value
each, little-endian, strings and arrays after their length. Every length is checked against what the file still has.
"""

import struct
from collections.abc import Mapping
from dataclasses import replace
from typing import IO, Any

from groundup.core.errors import DataError
from groundup.tokenizer.formats.definition import LARGEST_FILE, AddedToken, Definition
from groundup.tokenizer.formats.gpt2 import define, merges_spelled
from groundup.tokenizer.formats.huggingface import BYTE, CONTROL, NORMAL, UNKNOWN, UNUSED, USER_DEFINED, Parts
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.vocabulary import MOST_TOKENS

MAGIC = b"GGUF"
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
#: At most so many metadata; files in use have about fifty.
MOST_METADATA = 1 << 16
_PREFIX = "tokenizer.ggml."

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
_WHOLE_PIECES = ("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "midm-2.0", "lfm2")


def read_metadata(stream: IO[bytes]) -> dict[str, Any]:
    """The metadata that tell of the tokenizer, by their names without ``tokenizer.ggml.``.

    Raises:
        DataError: the file is no GGUF of version 2 or 3, truncated, or claims sizes that it cannot have.
    """
    reader = _Reader(stream)
    if reader.take(4) != MAGIC:
        raise DataError("it is no GGUF file")
    version = reader.number("I")
    if version not in (2, 3):
        raise DataError(f"it is GGUF of version {version} or of a machine with other byte order; 2 and 3 are supported")
    reader.number("Q")  # tensors
    count = reader.number("Q")
    if count > MOST_METADATA:
        raise DataError(f"it claims {count:,} metadata; at most {MOST_METADATA:,} are supported")
    found = {}
    for _ in range(count):
        name = reader.string()
        value = reader.value(reader.number("I"))
        if name.startswith(_PREFIX):
            found[name.removeprefix(_PREFIX)] = value
    return found


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
    made = define(ids, pairs, special_tokens, PATTERNS[cutting], cutting in _WHOLE_PIECES)
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


class _Reader:
    """Little-endian values one after the other, as far into the file as they need it."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream, self._held, self._place = stream, b"", 0
        self._left = LARGEST_FILE

    def take(self, size: int) -> bytes:
        """The next ``size`` bytes."""
        if size > len(self._held) - self._place:
            self._read(size)
        start = self._place
        self._place += size
        return self._held[start : self._place]

    def number(self, kind: str) -> Any:
        """The next number, of a type of ``struct``."""
        return struct.unpack("<" + kind, self.take(struct.calcsize("<" + kind)))[0]

    def string(self) -> str:
        """The next string."""
        try:
            return self.take(self.number("Q")).decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError("one of its strings is not UTF-8") from error

    def value(self, kind: int) -> Any:
        """The next value of a type of GGUF."""
        if kind in _NUMBERS:
            return self.number(_NUMBERS[kind])
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            raise DataError(f"it has a value of the type {kind}, which GGUF does not know")
        kind, count = self.number("I"), self.number("Q")
        if kind in _NUMBERS:
            size = struct.calcsize("<" + _NUMBERS[kind])
            return list(struct.unpack(f"<{count}{_NUMBERS[kind]}", self.take(count * size)))
        if kind != _STRING:
            raise DataError(f"it has an array of the type {kind}, which no tokenizer needs")
        if count > 4 * MOST_TOKENS:
            raise DataError(f"it has an array of {count:,} strings, more than any tokenizer in use")
        return [self.string() for _ in range(count)]

    def _read(self, size: int) -> None:
        """Hold ``size`` bytes at least."""
        rest = self._held[self._place :]
        wanted = size - len(rest)
        if wanted > self._left:
            raise DataError(f"its metadata are longer than {LARGEST_FILE:,} bytes")
        more = self._stream.read(max(wanted, min(1 << 20, self._left)))
        self._left -= len(more)
        if len(more) < wanted:
            raise DataError("it is truncated")
        self._held, self._place = rest + more, 0
