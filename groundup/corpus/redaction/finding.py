"""A text → what was found in it, in order and without overlaps.

One walk per anchor, each of which is rare in prose and costs a few nanoseconds per character to look for: an @, five
digits near each other, a capital letter followed by digits, colons between hexadecimal digits, a degree sign, a long
run of letters and digits. The rules of a kind see only what lies around its anchors, and every pattern looks at a
bounded stretch: time is linear in the length of the text, whatever stands in it.
"""

import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator

from groundup.corpus.redaction import addresses, identity, payment, phones, places, secrets
from groundup.corpus.redaction.found import Found
from groundup.corpus.redaction.shadow import shadow as shadow_of

#: In order of certainty: where two overlap, that of the earlier kind stays; of one kind the longer, then the earlier.
KINDS = ("secret", "iban", "credit_card", "national_id", "email", "ip", "coordinates", "phone")
_RANK = {kind: rank for rank, kind in enumerate(KINDS)}

#: Five digits or more, at most three separators between two of them.
_NUMBERS = re.compile(rb"[0-9](?:[ ().,;/+-]{0,3}[0-9]){4,}+")
_DIGITS = b"0123456789"
#: Where the letters that a code begins with end, and how many there are at most.
_CODE = re.compile(rb"[A-Z][ -]?[0-9]{2}")
_CAPITALS, _MOST_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", 6
_COLONS = re.compile(rb":[0-9A-Fa-f]{0,4}:")


def find(text: str, kinds: Collection[str] = KINDS, keep_local: bool = True) -> list[Found]:
    """What ``text`` holds of these ``kinds``.

    Args:
        keep_local: leave out IP addresses that are nobody's: private, loopback, link-local, documentation.
    """
    shadow = shadow_of(text)
    candidates = [found for found in _candidates(shadow, keep_local, kinds) if found.kind in kinds]
    return resolve(candidates)


def resolve(candidates: Iterable[Found]) -> list[Found]:
    """The candidates that stay when no two may overlap, in order of the text."""
    kept: list[Found] = []
    for one in sorted(set(candidates), key=lambda one: (_RANK[one.kind], one.start - one.end, one)):
        place = bisect_right(kept, one)
        free_before = place == 0 or kept[place - 1].end <= one.start
        if free_before and (place == len(kept) or one.end <= kept[place].start):
            kept.insert(place, one)
    return kept


def _candidates(shadow: bytes, keep_local: bool, kinds: Collection[str]) -> Iterator[Found]:
    yield from _around_at(shadow)
    if "secret" in kinds:
        yield from secrets.keys(shadow)
        yield from secrets.private_keys(shadow)
    if {"ip", "credit_card", "national_id", "coordinates", "phone"} & set(kinds):
        yield from _in_numbers(shadow, keep_local)
    if {"iban", "national_id"} & set(kinds):
        yield from _in_codes(shadow)
    if "ip" in kinds:
        yield from _around_colons(shadow, keep_local)
    if "coordinates" in kinds:
        yield from places.degrees(shadow)


def _around_at(shadow: bytes) -> Iterator[Found]:
    at = shadow.find(b"@")
    while at >= 0:
        yield from addresses.email(shadow, at)
        yield from secrets.password(shadow, at)
        at = shadow.find(b"@", at + 1)


def _in_numbers(shadow: bytes, keep_local: bool) -> Iterator[Found]:
    for match in _NUMBERS.finditer(shadow):
        start, end = match.span()
        digits = len(match[0]) - len(match[0].translate(None, _DIGITS))
        if match[0].count(b".") >= 3:
            yield from addresses.ipv4(shadow, start, end, keep_local)
        if b"." in match[0]:
            yield from places.decimal(shadow, start, end)
        if digits >= 7:
            yield from phones.announced(shadow, start)
        if digits >= 8:
            yield from phones.phones(shadow, start, end, digits)
        if digits >= identity.FEWEST_DIGITS:
            yield from identity.numeric(shadow, start, end, digits)
        if digits >= 13:
            yield from payment.cards(shadow, start, end)


def _in_codes(shadow: bytes) -> Iterator[Found]:
    for match in _CODE.finditer(shadow):
        end = match.start() + 1
        letters = shadow[max(0, end - _MOST_CAPITALS) : end]
        start = end - len(letters) + len(letters.rstrip(_CAPITALS))
        yield from payment.account(shadow, start)
        yield from identity.lettered(shadow, start)


def _around_colons(shadow: bytes, keep_local: bool) -> Iterator[Found]:
    end = 0
    for match in _COLONS.finditer(shadow):
        if match.start() >= end:
            for found in addresses.ipv6(shadow, match.start(), keep_local):
                end = found.end
                yield found
