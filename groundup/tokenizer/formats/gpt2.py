"""``vocab.json`` with ``merges.txt``: the two files of GPT-2, first called ``encoder.json`` and ``vocab.bpe``.

The one says token → id, the other which two tokens merge, a line each in the order learnt, below a line with the
version. Neither says how text is cut: it is as GPT-2 does it.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from groundup.core.errors import DataError, UsageError
from groundup.tokenizer.formats.content import ids_of, parse_object
from groundup.tokenizer.formats.definition import Definition
from groundup.tokenizer.formats.ranks import merges_of
from groundup.tokenizer.formats.spelling import byte_alphabet, spell, unspell
from groundup.tokenizer.pretokenize import GPT2, Pattern
from groundup.tokenizer.vocabulary import Pair, Vocabulary

#: The names of the two files, in the order in which they are looked for.
FILE_NAMES = (("vocab.json", "merges.txt"), ("encoder.json", "vocab.bpe"))
_VERSION = "#version: 0.2\n"


def read(vocab: bytes, merges: bytes, pattern: Pattern | None = None) -> Definition:
    """The vocabulary of the two files; tokens that are no byte and that no merge makes are special.

    Args:
        vocab: content of ``vocab.json``.
        merges: content of ``merges.txt``.
        pattern: that of GPT-2 when not given.

    Raises:
        DataError: one of the files is damaged, or they do not belong together.
    """
    ids = parse_object(vocab)
    ids_of(ids)
    try:
        first, *lines = merges.decode("utf-8").replace("\r\n", "\n").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"its merges are not UTF-8 at byte {error.start}") from error
    if not first.startswith("#version"):
        lines = [first, *lines]
    pairs, made = merges_spelled(ids, [line for line in lines if line])
    special_tokens = {token: token_id for token, token_id in ids.items() if token not in made}
    return define(ids, pairs, special_tokens, pattern or Pattern.named("gpt2"))


def write(definition: Definition) -> tuple[bytes, bytes]:
    """The content of ``vocab.json`` and ``merges.txt``.

    Raises:
        UsageError: there is something that the files cannot say: another pattern, tokens that no merge makes.
    """
    vocabulary = definition.only_vocabulary("vocab.json")
    rules = vocabulary.pattern.rules
    if rules is None or (rules.shape, rules.digits) != (GPT2, 0) or rules.whitespace == 2:
        raise UsageError("vocab.json and merges.txt are for texts cut as GPT-2 does; write tokenizer.json instead")
    spelling = [spell(token) for token in vocabulary.tokens]
    ids = {token: token_id for token_id, token in enumerate(spelling) if token}
    pairs = [(left, right) for left, right, _ in vocabulary.merges.tolist()]
    _, made = merges_spelled(ids, [(spelling[left], spelling[right]) for left, right in pairs])
    if vocabulary.whole_pieces and pairs != merges_of(vocabulary.tokens):
        raise UsageError(
            "vocab.json and merges.txt cannot say that whole pieces go first; write tokenizer.json instead"
        )
    if ids.keys() != made or not made.isdisjoint(vocabulary.special_tokens):
        raise UsageError(
            "vocab.json and merges.txt tell special tokens by no merge making them, and here others are not made or "
            "special ones are spelled like others; write tokenizer.json instead"
        )
    lines = (f"{spelling[left]} {spelling[right]}\n" for left, right in pairs)
    vocab = json.dumps({**ids, **vocabulary.special_tokens}, ensure_ascii=False)
    return vocab.encode(), (_VERSION + "".join(lines)).encode()


def merges_spelled(ids: Mapping[str, int], merges: Sequence[Any]) -> tuple[list[Pair], set[str]]:
    """Merges in GPT-2's spelling, as ids; and all spellings that are a byte or that one of them makes.

    Args:
        ids: spelling → id.
        merges: ``"left right"`` or ``["left", "right"]``, in order of rank.

    Raises:
        DataError: a merge is not two tokens.
    """
    pairs: list[Pair] = []
    made = set(byte_alphabet())
    for rank, merge in enumerate(merges):
        try:
            left, right = merge.split(" ") if isinstance(merge, str) else merge
            pairs.append((ids[left], ids[right]))
            made.add(left + right)
        except (TypeError, ValueError) as error:
            raise DataError(f"merge {rank} is not two tokens: {str(merge)[:60]!r}") from error
        except KeyError as error:
            raise DataError(f"merge {rank} names {str(error.args[0])[:60]!r}, which is no token") from error
    return pairs, made


def define(
    ids: Mapping[str, int],
    pairs: Sequence[Pair],
    special_tokens: Mapping[str, int],
    pattern: Pattern,
    whole_pieces: bool = False,
) -> Definition:
    """A tokenizer whose tokens are in GPT-2's spelling; special tokens may be among ``ids`` or not.

    Raises:
        DataError: a token that is not spelled in bytes, or something that ``Vocabulary.make`` refuses.
    """
    tokens = [b""] * (max([*ids.values(), *special_tokens.values()], default=-1) + 1)
    for spelling, token_id in ids.items():
        if special_tokens.get(spelling) != token_id:
            tokens[token_id] = unspell(spelling)
    known = set(tokens)
    missing = bytes(byte for byte in range(256) if bytes([byte]) not in known)
    tokens += (bytes([byte]) for byte in missing)
    return Definition(Vocabulary.make(tokens, pairs, special_tokens, pattern, whole_pieces), missing=missing)
