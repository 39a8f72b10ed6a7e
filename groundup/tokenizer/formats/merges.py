"""The merges that a vocabulary comes to, in the order in which they come.

Nothing merges across the edges of a token's bytes before the token itself is made: until then they go through the
steps that they go through on their own. And these steps reach two parts only once. So the bytes of a token, merged
alone until two parts are left, show the one merge that ever makes it, in any text.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import takewhile

from groundup.core.errors import DataError
from groundup.tokenizer.vocabulary import Pair

#: Worse than any rank.
NEVER = 1 << 62


def last_pair(token: bytes, rank: Callable[[bytes, bytes], int]) -> tuple[bytes, bytes] | None:
    """The two parts that the bytes of ``token`` merge into on their own; None where they get stuck in more.

    Args:
        token: two bytes or more.
        rank: of the merge of two neighbours, or ``NEVER``.
    """
    parts = [token[place : place + 1] for place in range(len(token))]
    found = [*map(rank, parts, parts[1:])]
    while len(parts) > 2:
        best = min(found)
        if best == NEVER:
            return None
        place = found.index(best)
        parts[place : place + 2] = [parts[place] + parts[place + 1]]
        del found[place]
        if place > 0:
            found[place - 1] = rank(parts[place - 1], parts[place])
        if place < len(found):
            found[place] = rank(parts[place], parts[place + 1])
    return parts[0], parts[1]


def that_happen(pairs: Sequence[Pair], tokens: Sequence[bytes]) -> list[Pair]:
    """Of several merges that make one token, the one that ever happens.

    Files made from tiktoken's list every way to cut a token in two: Llama 3 has 280 thousand for 128 thousand tokens.
    """
    ranks = {(tokens[left], tokens[right]): rank for rank, (left, right) in enumerate(pairs)}
    made = {left + right for left, right in ranks}
    last = (last_pair(token, lambda left, right: ranks.get((left, right), NEVER)) for token in made if token)
    return [pairs[rank] for rank in sorted(ranks[pair] for pair in last if pair in ranks)]


def in_order(pairs: Sequence[Pair], tokens: Sequence[bytes]) -> list[Pair]:
    """The same merges, each behind those that make its parts, so that they give the same ids.

    In a few vocabularies a token has a lower rank than its parts: in Llama 3 " nghiệ" (100999) is made of " nghi"
    (116653) and "ệ". Then it is made at once, as soon as its later part is. So its moment is that of its later part
    and, within that, its own rank; moments are compared like dates.

    Args:
        pairs: in order of rank; each makes a token of its own.
        tokens: id → bytes.

    Raises:
        DataError: "at once" would make a difference, because such a token takes what the same part is made of again.
    """
    ids = {token: token_id for token_id, token in enumerate(tokens) if token}
    parts = {ids.get(tokens[left] + tokens[right], -1): (left, right) for left, right in pairs}
    if -1 in parts:
        return list(pairs)  # ``Vocabulary.make`` says which it is
    rank = {made: place for place, made in enumerate(parts)}
    moments: dict[int, tuple[int, ...]] = {}
    for made in sorted(parts, key=lambda made: len(tokens[made])):  # parts are shorter than the whole
        own = rank[made]
        later = max(moments.get(part, ()) for part in parts[made])
        moments[made] = (*takewhile(lambda earlier, own=own: earlier > own, later), own)  # type: ignore[misc]
    _check_at_once(parts, moments, tokens)
    return [parts[made] for made in sorted(parts, key=moments.__getitem__)]


def _check_at_once(parts: Mapping[int, Pair], moments: Mapping[int, tuple[int, ...]], tokens: Sequence[bytes]) -> None:
    """Refuse merges that happen at once and then compete for a token.

    Where the same part is made at several places, the first of them is done with all that follows at once before the
    second is made. In order, all of them are made first. That is the same unless what follows at one place reaches
    for what belongs to the next: the part there, its beginning, or a neighbour that it would take too.
    """
    by_rank = list(parts)
    families: dict[int, set[int]] = {}
    for made, moment in moments.items():
        if len(moment) > 1:
            families.setdefault(by_rank[moment[0]], {by_rank[moment[0]]}).add(made)
    for part, family in families.items():
        at_once = [parts[made] for made in family if made != part]
        to_the_right = {right for left, right in at_once if left in family}
        to_the_left = {left for left, right in at_once if right in family}
        if to_the_right & (to_the_left | family | {parts[part][0]}):
            name = tokens[min(family - {part})]
            raise DataError(f"its merges are out of order: {name!r} has a lower rank than its part {tokens[part]!r}")
