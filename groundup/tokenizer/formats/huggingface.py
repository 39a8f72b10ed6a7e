"""``tokenizer.json``, the file of Hugging Face's ``tokenizers`` and ``transformers``, ↔ a ``Definition``.

What we write, those libraries read to equal ids. What they write, we read where it is byte-level BPE, whatever cuts
the text before; and where it is what SentencePiece does, spelled in their words, as its parts (``sentencepiece``).
Anything that would change ids and that we do not do is refused by name, never passed over.
"""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Literal, NamedTuple

from groundup.core.errors import DataError, UsageError
from groundup.tokenizer.formats.content import check_expression, check_ids, ids_of, member, objects
from groundup.tokenizer.formats.definition import NORMALIZATIONS, AddedToken, Definition, Normalization
from groundup.tokenizer.formats.gpt2 import define, merges_spelled
from groundup.tokenizer.formats.spelling import spell
from groundup.tokenizer.pretokenize import NAMED, Pattern
from groundup.tokenizer.vocabulary import MOST_TOKENS

FILE_NAME = "tokenizer.json"

Kind = Literal["byte-level", "sentencepiece", "unigram", "words"]

#: SentencePiece's types of pieces.
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
#: A space in a piece of SentencePiece.
SPACE = "▁"

# The engine of ``tokenizers`` (Oniguruma) and ours (``regex``) agree on nearly everything. Three things are spelled
# otherwise: ``$`` and ``^`` are always those of a line there, brackets within brackets are a set within a set, and
# ``{1,3}+`` is a repetition of a repetition, where for us it gives nothing back.
_LINES, _SETS = "(?m)", "(?V1)"
_EVERYTHING = r"[\s\S]+"
_foreign = re.compile(r"\\[hHKUXyYO]|\(\?[a-z]*m|(?<!\\)\{\d*,?\d*\}\+")
_operators = re.compile(r"--|\|\||~~")
_possessive = re.compile(r"(?<!\\)(\{\d*,?\d*\})\+")


class Parts(NamedTuple):
    """What ``groundup.tokenizer.sentencepiece.from_parts`` makes a tokenizer of."""

    pieces: list[tuple[str, float, int]]
    """Spelling, score and type of each id."""
    kind: Literal["bpe", "unigram"]
    add_dummy_prefix: bool
    remove_extra_whitespaces: bool
    byte_fallback: bool
    unknown_id: int
    charsmap: bytes
    special_tokens: dict[str, int]


def kind_of(content: Mapping[str, Any]) -> Kind:
    """Which kind of tokenizer a ``tokenizer.json`` is.

    Raises:
        DataError: a kind that we do not have, or no tokenizer at all.
    """
    model = member(content, "model", dict)
    vocab = model.get("vocab")
    # Files of the first years do not name the model.
    found = model.get("type") or ("Unigram" if isinstance(vocab, list) else "BPE" if "merges" in model else None)
    bytewise = "ByteLevel" in [step.get("type") for step in _cutting(content)]
    if found == "BPE":
        if not bytewise and not isinstance(model.get("unk_token"), str):
            raise DataError("its pre_tokenizer has no ByteLevel, without which only SentencePiece's BPE is supported")
        return "byte-level" if bytewise else "sentencepiece"
    if found == "Unigram":
        return "unigram" if bytewise else "sentencepiece"
    if found == "WordLevel":
        return "words"
    raise DataError(f"its model is {found!r}; BPE, Unigram and WordLevel are supported")


def read(content: Mapping[str, Any]) -> Definition:
    """The byte-level tokenizer in a ``tokenizer.json``.

    Raises:
        DataError: it is damaged, or does something that we do not.
    """
    model = member(content, "model", dict)
    for key in ("dropout", "continuing_subword_prefix", "end_of_word_suffix"):
        if model.get(key):
            raise DataError(f"its model has a {key}, which is not supported")
    ids = member(model, "vocab", dict)
    names = ids_of(ids)
    pairs, made = merges_spelled(ids, member(model, "merges", list))
    special_tokens, added_tokens = {}, []
    for token in _added_tokens(content, ids, names):
        name, token_id = token["content"], token["id"]
        if token.get("special"):
            if name in made:
                raise DataError(f"special token {name!r} has the id {token_id} of an ordinary token")
            special_tokens[name] = token_id
            continue
        if token.get("single_word") or token.get("lstrip") or token.get("rstrip"):
            raise DataError(f"added token {name!r} takes white space or word ends around it, which is not supported")
        added_tokens.append(AddedToken(name, token_id, bool(token.get("normalized"))))
        if name not in made:
            special_tokens[name] = token_id
    whole_pieces = member(model, "ignore_merges", bool, False)
    return replace(
        define(ids, pairs, special_tokens, _pattern(_cutting(content)), whole_pieces),
        normalization=_normalization(content),
        added_tokens=tuple(added_tokens),
        post_processor=content.get("post_processor"),
    )


def write(definition: Definition) -> dict[str, Any]:
    """The content of ``tokenizer.json``; a merge is written ``"left right"``, one a line.

    Raises:
        UsageError: the pattern is the user's own and spelled in a way that ``tokenizers`` reads otherwise.
    """
    vocabulary, normalization = definition.vocabulary, definition.normalization
    spelling = [spell(token) for token in vocabulary.tokens[: definition.vocab_size]]
    visible = {token.id: token for token in definition.added_tokens}
    special = {token_id: name for name, token_id in vocabulary.special_tokens.items()}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    splits = [
        {"type": "Split", "pattern": {"Regex": _to_oniguruma(split)}, "behavior": "Isolated", "invert": False}
        for split in vocabulary.pattern.splits
    ]
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {
                "id": token_id,
                "content": visible[token_id].content if token_id in visible else special[token_id],
                "single_word": False,
                "lstrip": False,
                "rstrip": False,
                "normalized": token_id in visible and visible[token_id].normalized,
                "special": token_id not in visible,
            }
            for token_id in sorted(visible.keys() | special.keys())
        ],
        "normalizer": {"type": normalization} if normalization else None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [*splits, byte_level]},
        "post_processor": definition.post_processor,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": vocabulary.whole_pieces,
            # Special tokens too: the library takes the id of an added token from here, and else gives it a new one.
            "vocab": {token: token_id for token_id, token in enumerate(spelling) if token}
            | {name: token_id for token_id, name in special.items()},
            "merges": [f"{spelling[left]} {spelling[right]}" for left, right, _ in vocabulary.merges.tolist()],
        },
    }


def sentencepiece_parts(content: Mapping[str, Any]) -> Parts:
    """The parts of a SentencePiece tokenizer from a ``tokenizer.json`` that does the same.

    SentencePiece's BPE has scores instead of merges: of two neighbours whose joint spelling is a piece, those of the
    best score merge first. The rank of the first merge that makes a piece is such a score.

    Raises:
        DataError: it is damaged, or does something that SentencePiece does not.
    """
    model = member(content, "model", dict)
    unigram = isinstance(model.get("vocab"), list)
    scores: dict[int, float] = {}
    if unigram:
        spelled: dict[int, str] = {}
        for token_id, entry in enumerate(model["vocab"]):
            if not (isinstance(entry, list) and [*map(type, entry)] in ([str, float], [str, int])):
                raise DataError(f"entry {token_id} of its vocab is no piece with a score")
            spelled[token_id], scores[token_id] = entry[0], float(entry[1])
        if len(set(spelled.values())) < len(spelled):
            raise DataError("two of its pieces are the same")
        unknown_id = member(model, "unk_id", int)
    else:
        vocab = member(model, "vocab", dict)
        spelled = ids_of(vocab)
        pairs, _ = merges_spelled(vocab, member(model, "merges", list))
        for rank, (left, right) in enumerate(pairs):
            scores.setdefault(vocab.get(spelled[left] + spelled[right], -1), -float(rank))
        if -1 in scores:
            raise DataError("one of its merges makes what is no token")
        unknown_id = vocab.get(member(model, "unk_token", str), -1)
    if unknown_id not in spelled:
        raise DataError("its token for unknown characters is missing")
    byte_fallback = member(model, "byte_fallback", bool, False)
    types = {unknown_id: UNKNOWN}
    if byte_fallback:
        by_name = {spelling: token_id for token_id, spelling in spelled.items()}
        types |= {by_name[name]: BYTE for name in (f"<0x{byte:02X}>" for byte in range(256)) if name in by_name}
    special_tokens: dict[str, int] = {}
    for token in _added_tokens(content, {spelling: token_id for token_id, spelling in spelled.items()}, spelled):
        spelled.setdefault(token["id"], token["content"])
        if token.get("special"):
            special_tokens[token["content"]] = token["id"]
        types.setdefault(token["id"], CONTROL if token.get("special") else USER_DEFINED)
    check_ids(spelled)
    hole = ("", 0.0, CONTROL)
    pieces = [
        (spelled[token_id], scores.get(token_id, -float(len(scores))), types.get(token_id, NORMAL))
        if token_id in spelled
        else hole
        for token_id in range(max(spelled) + 1)
    ]
    prefix, squeeze, words, charsmap = _sentencepiece_steps(content)
    if words and any(SPACE in piece[1:] for piece, _, kind in pieces if kind == NORMAL):
        raise DataError("some of its pieces span words, but its pre_tokenizer cuts between words")
    kind: Literal["bpe", "unigram"] = "unigram" if unigram else "bpe"
    return Parts(pieces, kind, prefix, squeeze, byte_fallback, unknown_id, charsmap, special_tokens)


def _added_tokens(
    content: Mapping[str, Any], ids: Mapping[str, int], names: Mapping[int, str]
) -> Iterator[dict[str, Any]]:
    """The added tokens, each with a name and an id that are its own."""
    seen: dict[int, str] = {}
    for token in objects(member(content, "added_tokens", list, []), "added tokens"):
        name, token_id = member(token, "content", str), member(token, "id", int)
        if not 0 <= token_id < MOST_TOKENS:
            raise DataError(f"added token {name!r} has the id {token_id}; ids are 0 to {MOST_TOKENS - 1:,}")
        if not name or ids.get(name, token_id) != token_id or names.get(token_id, name) != name:
            raise DataError(f"added token {name!r} has the id {token_id}, but not so in the vocabulary")
        if seen.setdefault(token_id, name) != name:
            raise DataError(f"added tokens {seen[token_id]!r} and {name!r} share the id {token_id}")
        yield token


def _steps(content: Mapping[str, Any], key: str, inner: str) -> list[dict[str, Any]]:
    """A step of the file's pipeline, or all steps of the sequences that it is made of."""
    left = [step] if (step := member(content, key, dict, None)) is not None else []
    steps = []
    while left:
        step = left.pop()
        if step.get("type") == "Sequence":
            left += reversed(objects(member(step, inner, list), inner))
        else:
            steps.append(step)
    return steps


def _cutting(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    return _steps(content, "pre_tokenizer", "pretokenizers")


def _normalization(content: Mapping[str, Any]) -> Normalization:
    forms = [step.get("type") for step in _steps(content, "normalizer", "normalizers")]
    for form in NORMALIZATIONS:
        if forms == ([form] if form else []):
            return form
    raise DataError(f"its normalizer is {forms}; one of {', '.join(NORMALIZATIONS[1:])} or none is supported")


def _pattern(steps: list[dict[str, Any]]) -> Pattern:
    """What the pre-tokenizer cuts; its last step spells the pieces in visible characters."""
    *cutting, last = steps
    if last.get("type") != "ByteLevel":
        raise DataError("its pre_tokenizer goes on after ByteLevel, which is not supported")
    splits = [_split(step) for step in cutting]
    if member(last, "add_prefix_space", bool, True):
        raise DataError("its pre_tokenizer puts a space before every text (add_prefix_space), which is not supported")
    if member(last, "use_regex", bool, True):
        splits.append(NAMED["gpt2"])
    return Pattern(tuple(splits or [_EVERYTHING]))


def _split(step: Mapping[str, Any]) -> str:
    """The expression by which one step of the pre-tokenizer cuts."""
    kind = step.get("type")
    if kind == "Digits":
        return r"\p{N}" if member(step, "individual_digits", bool, False) else r"\p{N}+"
    if kind != "Split":
        raise DataError(f"its pre_tokenizer has {kind!r} before ByteLevel; Split and Digits are supported")
    spelled = member(step, "pattern", dict)
    if "String" in spelled:
        return re.escape(member(spelled, "String", str))
    expression = _from_oniguruma(member(spelled, "Regex", str))
    behavior, invert = member(step, "behavior", str), member(step, "invert", bool, False)
    # What matches is kept and the rest is removed: the same, where nothing is left over.
    everything = behavior == "Removed" and invert and Pattern((expression,)).rules is not None
    if not everything and (behavior != "Isolated" or invert):
        inverted = " inverted" if invert else ""
        raise DataError(f"its pre_tokenizer cuts by {behavior!r}{inverted}; only 'Isolated' is supported")
    return expression


def _from_oniguruma(expression: str) -> str:
    """The same expression for ``regex``."""
    anchors, sets = _anchors_and_sets(expression)
    if _foreign.search(expression) or (sets and _operators.search(expression)):
        raise DataError(f"its pre_tokenizer has the expression {expression[:80]!r}, part of which only Oniguruma knows")
    if Pattern((expression,)).rules is not None:  # where it has ``\s++$``, that is never the end of a line only
        return expression
    return check_expression(_SETS * sets + _LINES * anchors + expression)


def _anchors_and_sets(expression: str) -> tuple[bool, bool]:
    """Whether an expression of Oniguruma has ``^`` or ``$``, and whether it has sets within sets or their overlap."""
    anchors = sets = False
    depth = place = 0
    while place < len(expression):
        character = expression[place]
        if character == "\\":
            place += 1
        elif character == "[" and expression[place : place + 2] != "[:":
            sets = sets or depth > 0
            depth += 1
            place += expression[place + 1 : place + 2] == "^"
            place += expression[place + 1 : place + 2] == "]"  # the first bracket stands for itself
        elif character == "]" and depth:
            depth -= expression[place - 1] != ":"
        elif depth == 0:
            anchors = anchors or character in "^$"
        else:
            sets = sets or expression[place : place + 2] == "&&"
        place += 1
    return anchors, sets


def _to_oniguruma(expression: str) -> str:
    """The same expression for ``tokenizers``."""
    if Pattern((expression,)).rules is not None:  # ``\p{N}{1,3}+`` is followed by nothing that could want some back
        return _possessive.sub(r"\1", expression)
    spelled = expression.removeprefix(_SETS).removeprefix(_LINES)
    anchors, sets = _anchors_and_sets(spelled)
    if _foreign.search(spelled) or _SETS * sets + _LINES * anchors + spelled != expression:
        raise UsageError(f"tokenizer.json cannot say the pattern {expression[:80]!r}: others would read it otherwise")
    return spelled


def _sentencepiece_steps(content: Mapping[str, Any]) -> tuple[bool, bool, bool, bytes]:
    """What happens to a text before its pieces are found, in SentencePiece's words.

    Returns:
        add_dummy_prefix, remove_extra_whitespaces, whether no piece may span words, and the charsmap.
    """
    prepends = escapes = strips = squeezes = words = metaspace = False
    charsmap = b""
    for step in _steps(content, "normalizer", "normalizers"):
        found, said = step.get("type"), member(step, "pattern", dict, {})
        if found == "Prepend" and step.get("prepend") == SPACE:
            prepends = True
        elif found == "Replace" and said.get("String") == " " and step.get("content") == SPACE:
            escapes = True
        elif found == "Replace" and said.get("Regex") == " {2,}" and step.get("content") in (" ", SPACE):
            squeezes = True
        elif found == "Strip" and step.get("strip_right"):
            strips = True
        elif found == "Precompiled":
            try:
                charsmap = base64.b64decode(member(step, "precompiled_charsmap", str), validate=True)
            except ValueError as error:
                raise DataError("its precompiled_charsmap is not base64") from error
        else:
            raise DataError(f"its normalizer has {found!r} in a way that SentencePiece does not")
    for step in _cutting(content):
        found = step.get("type")
        if found == "Metaspace" and step.get("replacement", SPACE) == SPACE:
            scheme = step.get("prepend_scheme") or ("always" if step.get("add_prefix_space", True) else "never")
            metaspace, escapes, words = scheme != "never", True, words or step.get("split") is not False
        elif found == "WhitespaceSplit" and charsmap:  # which makes spaces of line ends and tabs
            strips = squeezes = words = True
        elif not (found == "Split" and step.get("pattern") == {"String": " "}):
            raise DataError(f"its pre_tokenizer has {found!r} in a way that SentencePiece does not")
    if strips != squeezes or not escapes or (metaspace and not squeezes):
        raise DataError("it treats spaces at the edges of a text as SentencePiece does not; use its tokenizer.model")
    return prepends or metaspace, squeezes, words, charsmap
