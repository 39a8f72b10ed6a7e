"""A tokenizer → the metadata of a GGUF file with which llama.cpp gives the same ids.

Enters: byte-level BPE or SentencePiece's BPE. Leaves: metadata by their full names, for ``gguf_container``. What
llama.cpp cannot do is refused; two small things that it does otherwise are told by ``differences``.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

from groundup.core.errors import UsageError
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.formats.definition import Definition
from groundup.tokenizer.formats.gguf import CHAT_TEMPLATE, PATTERNS, PREFIX, WHOLE_PIECES, Marks
from groundup.tokenizer.formats.huggingface import CONTROL, NORMAL, UNUSED, USER_DEFINED
from groundup.tokenizer.formats.prepared import PreparedTokenizer
from groundup.tokenizer.formats.spelling import spell
from groundup.tokenizer.pretokenize import Pattern, Rules
from groundup.tokenizer.protocol import Tokenizer
from groundup.tokenizer.sentencepiece import SentencePieceTokenizer
from groundup.tokenizer.vocabulary import Vocabulary

#: Contractions of ``pretokenize.Rules``: in ASCII, and with ``ſ`` for an "s".
_ASCII, _ANY = 1, 2


def write(tokenizer: Tokenizer, size: int, marks: Marks, template: str = "") -> dict[str, Any]:
    """The metadata of a tokenizer.

    Args:
        tokenizer: what to write.
        size: number of ids of the model; those that the tokenizer does not know become tokens that are not used.
        marks: what begins and ends a text.
        template: Jinja source of the chat template; empty: there is none.

    Raises:
        UsageError: llama.cpp has no such tokenizer, the model has fewer ids, or a mark is none of them.
    """
    if tokenizer.vocab_size > size:
        raise UsageError(
            f"the tokenizer has {tokenizer.vocab_size:,} ids but the model only {size:,}; use the model's own one"
        )
    if isinstance(tokenizer, SentencePieceTokenizer):
        metadata = _sentencepiece(tokenizer, size)
    else:
        metadata = _byte_level(_definition_of(tokenizer), size)
    ids = {"bos": marks.begin, "eos": marks.end, "eot": marks.end_of_turn, "padding": marks.padding}
    for name, token_id in ids.items():
        if token_id is not None:
            if not 0 <= token_id < size:
                raise UsageError(f"the {name} mark is {token_id}, none of the model's {size:,} ids")
            metadata[f"{name}_token_id"] = token_id
    metadata["add_bos_token"] = marks.add_begin
    return {PREFIX + key: value for key, value in metadata.items()} | ({CHAT_TEMPLATE: template} if template else {})


def differences(tokenizer: Tokenizer) -> list[str]:
    """What llama.cpp will do otherwise with the file, for people; for our own tokenizers nothing."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        return []
    definition, found = _definition_of(tokenizer), []
    if definition.normalization:
        found.append(f"llama.cpp does not bring texts into {definition.normalization} before it encodes them")
    rules = definition.vocabulary.pattern.rules
    if rules is not None and rules.contractions == _ANY:
        found.append("llama.cpp does not take 'ſ for a contraction")
    return found


def _definition_of(tokenizer: Tokenizer) -> Definition:
    if isinstance(tokenizer, PreparedTokenizer):
        return tokenizer.definition
    if isinstance(tokenizer, BytePairTokenizer):
        return Definition(tokenizer.vocabulary)
    raise UsageError(f"GGUF is written with byte-level or SentencePiece BPE, and this is a {type(tokenizer).__name__}")


def _byte_level(definition: Definition, size: int) -> dict[str, Any]:
    vocabulary = definition.vocabulary
    spelled = [spell(token) for token in vocabulary.tokens]
    merges = vocabulary.merges.tolist()
    merging = {token_id for merge in merges for token_id in merge}
    kinds: dict[int, tuple[str, int]] = {
        token_id: (token, NORMAL) for token_id, token in enumerate(spelled[: definition.vocab_size]) if token
    }
    kinds |= {token_id: (name, CONTROL) for name, token_id in vocabulary.special_tokens.items()}
    for added in definition.added_tokens:
        if added.id in merging:
            raise UsageError(f"the added token {added.content!r} is also made by merges, which GGUF cannot say")
        kinds[added.id] = added.content, USER_DEFINED
    return {
        "model": "gpt2",
        "pre": _name_of(vocabulary),
        **_tokens_and_types(kinds, size),
        "merges": [f"{spelled[left]} {spelled[right]}" for left, right, _ in merges],
    }


def _sentencepiece(tokenizer: SentencePieceTokenizer, size: int) -> dict[str, Any]:
    model, normalization = tokenizer.model, tokenizer.model.normalization
    if model.kind != "bpe" or normalization.charsmap or normalization.remove_extra_whitespaces:
        raise UsageError(
            "llama.cpp reads SentencePiece's BPE that leaves texts as they are, and this one is "
            f"{model.kind} or changes characters or spaces; write tokenizer.model instead"
        )
    kinds = {token_id: (piece.text, piece.type) for token_id, piece in enumerate(model.pieces) if piece.text}
    scores = [piece.score for piece in model.pieces]
    unknown = {} if tokenizer.unknown_id is None else {"unknown_token_id": tokenizer.unknown_id}
    return {
        "model": "llama",
        "pre": "default",
        **_tokens_and_types(kinds, size),
        "scores": scores + [0.0] * (size - len(scores)),
        "add_space_prefix": normalization.add_dummy_prefix,
        **unknown,
    }


def _tokens_and_types(kinds: Mapping[int, tuple[str, int]], size: int) -> dict[str, Any]:
    """Spelling and type of every id; llama.cpp knows a token by its spelling."""
    both = [kinds.get(token_id, (f"[PAD{token_id}]", UNUSED)) for token_id in range(size)]
    token, times = Counter(token for token, _ in both).most_common(1)[0]
    if times > 1:
        raise UsageError(f"{times} tokens are spelled {token[:40]!r}, which llama.cpp cannot tell apart")
    return {"tokens": [token for token, _ in both], "token_type": [kind for _, kind in both]}


def _name_of(vocabulary: Vocabulary) -> str:
    """What llama.cpp calls the way in which text is cut.

    It knows contractions in ASCII only, so that what it calls ``qwen2`` is our own pattern.

    Raises:
        UsageError: it has no name for it.
    """
    built = set(vocabulary.merges[:, 2].tolist())
    # Where merges build every token, a piece that is a token as a whole becomes that token anyway.
    either = all(len(token) <= 1 or token_id in built for token_id, token in enumerate(vocabulary.tokens))
    for name, pattern in PATTERNS.items():
        if _cuts_like(pattern, vocabulary.pattern) and (either or (name in WHOLE_PIECES) == vocabulary.whole_pieces):
            return name
    raise UsageError(
        f"llama.cpp has no name for texts cut by {' then '.join(vocabulary.pattern.splits)[:80]!r}"
        f"{' with whole pieces first' if vocabulary.whole_pieces else ''}; write tokenizer.json instead"
    )


def _cuts_like(pattern: Pattern, other: Pattern) -> bool:
    if pattern.rules is None or other.rules is None:
        return pattern.splits == other.splits
    return _in_ascii(pattern.rules) == _in_ascii(other.rules)


def _in_ascii(rules: Rules) -> Rules:
    return rules._replace(contractions=_ASCII) if rules.contractions == _ANY else rules
