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

_CAPITALS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#: Digits as 0, separators as s, capitals as A: a pattern that begins with one character is searched for much faster.
_CLASSES = bytes(
    ord("0") if sign in b"0123456789" else ord("s") if sign in b" ().,;/+-" else ord("A") if sign in _CAPITALS else 46
    for sign in range(256)
)
#: Five digits or more, at most three separators between two of them.
_NUMBERS = re.compile(rb"0(?:s{0,3}0){4,}+")
#: Where the letters that a code begins with end, and how many there are at most.
_CODE = re.compile(rb"As?00")
_MOST_CAPITALS = 6
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
    group: list[Found] = []  # which overlap others of it, and nothing outside
    end = 0
    for one in sorted(set(candidates)):
        if one.start >= end:
            kept += _settled(group)
            group = []
        group.append(one)
        end = max(end, one.end)
    return kept + _settled(group)


def _settled(group: list[Found]) -> list[Found]:
    kept: list[Found] = []
    for one in sorted(group, key=lambda one: (_RANK[one.kind], one.start - one.end, one)):
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
    classes = shadow.translate(_CLASSES)
    if {"ip", "credit_card", "national_id", "coordinates", "phone"} & set(kinds):
        yield from _in_numbers(shadow, classes, keep_local)
    if {"iban", "national_id"} & set(kinds):
        yield from _in_codes(shadow, classes)
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


def _in_numbers(shadow: bytes, classes: bytes, keep_local: bool) -> Iterator[Found]:
    for match in _NUMBERS.finditer(classes):
        start, end = match.span()
        digits, dots = match[0].count(b"0"), shadow.count(b".", start, end)
        if dots >= 3:
            yield from addresses.ipv4(shadow, start, end, keep_local)
        if dots:
            yield from places.decimal(shadow, start, end)
        if digits >= 7:
            yield from phones.announced(shadow, start)
        if digits >= 8:
            yield from phones.phones(shadow, start, end, digits)
        if digits >= identity.FEWEST_DIGITS:
            yield from identity.numeric(shadow, start, end, digits)
        if digits >= 13:
            yield from payment.cards(shadow, start, end)


def _in_codes(shadow: bytes, classes: bytes) -> Iterator[Found]:
    for match in _CODE.finditer(classes):
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
