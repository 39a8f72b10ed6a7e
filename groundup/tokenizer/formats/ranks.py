"""Rank files, as tiktoken has them: a line a token, its bytes in base64 and its rank, which is its id.

Such a file has no merges: tiktoken joins any two neighbours whose bytes together are a token, the lowest rank first.
But each token is only ever made of the same two. Nothing merges across the edges of its bytes before the token itself
is made: until then they go through the steps that they go through on their own, and these come to two parts only once.
So the bytes of a token, joined alone until two parts are left, show its merge. A token whose bytes get stuck in more
parts is never made; it is only met as a whole piece, which tiktoken looks up first.
"""

import binascii
from collections.abc import Mapping, Sequence
from typing import Any

from groundup.core.errors import DataError, UsageError
from groundup.tokenizer.formats.content import check_expression, check_ids, member, objects
from groundup.tokenizer.formats.definition import Definition
from groundup.tokenizer.pretokenize import Pattern
from groundup.tokenizer.vocabulary import Pair, Vocabulary

#: Finding the merge of a token of n bytes takes time n²; of all tokens together it may be this much, a minute.
MOST_WORK = 10**9
_NEVER = 1 << 62

#: The first ids of a ``tekken.json`` that does not name them itself.
_TEKKEN_SPECIAL = [
    *("<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[AVAILABLE_TOOLS]", "[/AVAILABLE_TOOLS]", "[TOOL_RESULTS]"),
    *("[/TOOL_RESULTS]", "[TOOL_CALLS]", "[IMG]", "<pad>", "[IMG_BREAK]", "[IMG_END]", "[PREFIX]", "[MIDDLE]"),
    *("[SUFFIX]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[TOOL_CONTENT]"),
]


def looks_like_ranks(data: bytes) -> bool:
    """Whether the first line is base64, a space and a number."""
    token, _, rank = data[:4096].partition(b"\n")[0].strip().partition(b" ")
    try:
        return rank.isdigit() and bool(binascii.a2b_base64(token, strict_mode=True))
    except binascii.Error:
        return False


def read(data: bytes, pattern: Pattern, special_tokens: Mapping[str, int]) -> Definition:
    """The vocabulary of a rank file, whose pattern and special tokens only its owner knows.

    Raises:
        DataError: a line that is not base64 and a rank, a rank or a token that comes twice, or tokens so long
            that their merges cannot be found in reasonable time.
    """
    tokens: dict[int, bytes] = {}
    for number, line in enumerate(data.splitlines(), start=1):
        if not line:
            continue
        try:
            encoded, rank = line.split()
            token, token_id = binascii.a2b_base64(encoded, strict_mode=True), int(rank)
        except ValueError as error:
            raise DataError(f"line {number} is not a token in base64, a space and a rank") from error
        if not token or tokens.setdefault(token_id, token) is not token:
            raise DataError(f"line {number} gives rank {token_id} {'a second time' if token else 'to no bytes'}")
    return Definition(_vocabulary(tokens, pattern, special_tokens))


def read_tekken(content: Mapping[str, Any]) -> Definition:
    """The vocabulary of a ``tekken.json`` of Mistral: the special tokens come first, the ranks after them.

    Raises:
        DataError: it is damaged.
    """
    config = member(content, "config", dict)
    size, reserved = member(config, "default_vocab_size", int), member(config, "default_num_special_tokens", int)
    named = objects(member(content, "special_tokens", list, []), "special tokens")
    by_rank = sorted((member(token, "rank", int), member(token, "token_str", str)) for token in named)
    names = [name for _, name in by_rank] or _TEKKEN_SPECIAL
    if not len(names) <= reserved <= size <= 2 * len(member(content, "vocab", list)):
        raise DataError(f"it cannot have {size} ids of which {reserved} are special, {len(names)} of them with a name")
    names = [*names, *(f"<SPECIAL_{token_id}>" for token_id in range(len(names), reserved))]
    tokens: dict[int, bytes] = {}
    for token in objects(content["vocab"], "tokens")[: size - reserved]:
        rank = member(token, "rank", int)
        try:
            tokens[reserved + rank] = binascii.a2b_base64(member(token, "token_bytes", str), strict_mode=True)
        except ValueError as error:
            raise DataError(f"token {rank} is not in base64") from error
    if sorted(tokens) != list(range(reserved, size)):
        raise DataError(f"its ranks are not 0 to {size - reserved - 1}, each once")
    special_tokens = {name: token_id for token_id, name in enumerate(names)}
    if len(special_tokens) != reserved:
        raise DataError("two of its special tokens have the same name")
    return Definition(_vocabulary(tokens, Pattern((check_expression(member(config, "pattern", str)),)), special_tokens))


def write(definition: Definition) -> bytes:
    """A rank file, with which tiktoken gives the same ids, provided it is told the pattern and the special tokens.

    Raises:
        UsageError: the file cannot say it: ids are not in the order of the merges, tokens would be met that the
            merges never make, or there is more than a vocabulary.
    """
    vocabulary = definition.only_vocabulary("a rank file")
    tokens = vocabulary.tokens
    pairs = [(left, right) for left, right, _ in vocabulary.merges.tolist()]
    complete = vocabulary.whole_pieces or len(pairs) == sum(len(token) > 1 for token in tokens)
    if not complete or pairs != merges_of(tokens):
        raise UsageError(
            "this vocabulary has no rank file: tiktoken takes the id of a token for its rank and joins what makes a "
            "token, and here the merges are in another order or others; write tokenizer.json instead"
        )
    lines = (binascii.b2a_base64(token, newline=False) + b" %d\n" % rank for rank, token in enumerate(tokens) if token)
    return b"".join(lines)


def merges_of(tokens: Sequence[bytes]) -> list[Pair]:
    """The merges of a vocabulary whose ranks are its ids, in order of rank; O(n²) for a token of n bytes.

    Args:
        tokens: id → bytes; ``b""`` for ids that are not used.

    Raises:
        DataError: the tokens are so long that it would take minutes, or there is no token for one of the bytes.
    """
    if sum(len(token) ** 2 for token in tokens) > MOST_WORK:
        raise DataError("its tokens are longer than those of any tokenizer in use")
    ranks = {token: rank for rank, token in enumerate(tokens) if token}
    pairs = (_last_pair(token, ranks) for token in tokens if len(token) > 1)
    try:
        return [(ranks[pair[0]], ranks[pair[1]]) for pair in pairs if pair]
    except KeyError as error:
        raise DataError(f"no token is the single byte {error.args[0]!r}, so it could not be encoded") from error


def _last_pair(token: bytes, ranks: Mapping[bytes, int]) -> list[bytes] | None:
    """The two parts that the bytes of ``token`` are joined into on their own; None where they get stuck in more."""
    parts = [token[place : place + 1] for place in range(len(token))]
    found = [ranks.get(token[place : place + 2], _NEVER) for place in range(len(token) - 1)]
    while len(parts) > 2:
        best = min(found)
        if best == _NEVER:
            return None
        place = found.index(best)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        del found[place]
        if place > 0:
            found[place - 1] = ranks.get(parts[place - 1] + parts[place], _NEVER)
        if place < len(found):
            found[place] = ranks.get(parts[place] + parts[place + 1], _NEVER)
    return parts


def _vocabulary(tokens: Mapping[int, bytes], pattern: Pattern, special_tokens: Mapping[str, int]) -> Vocabulary:
    check_ids(tokens)
    listed = [tokens.get(token_id, b"") for token_id in range(max(tokens) + 1)]
    return Vocabulary.make(listed, merges_of(listed), special_tokens, pattern, whole_pieces=True, possible=True)
