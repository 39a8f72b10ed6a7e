"""Credit card numbers and bank accounts."""

import re
from collections.abc import Iterator

from groundup.corpus.redaction import checks
from groundup.corpus.redaction.found import Found
from groundup.corpus.redaction.shadow import AFTER, BEFORE

# In one piece, or in the groups that are printed on cards: 4-4-4-4(-3), 4-6-5 (American Express), 4-6-4 (Diners Club).
_CARD = re.compile(BEFORE + rb"[2-6][0-9]{12,18}" + AFTER)
_GROUPED_CARD = re.compile(
    BEFORE
    + rb"(?<![0-9]{4}[ -])[2-6][0-9]{3}(?:([ -])[0-9]{4}\1[0-9]{4}\1[0-9]{4}(?:\1[0-9]{3})?|([ -])[0-9]{6}\2[0-9]{4,5})"
    + AFTER
    + rb"(?![ -][0-9]{4}(?![0-9/]))"
)
#: The issuers' first digits, as a range of their first six, and how long their numbers are.
_ISSUERS = (
    (400000, 499999, (16, 19)),  # Visa
    (510000, 559999, (16,)),  # Mastercard
    (222100, 272099, (16,)),
    (340000, 349999, (15,)),  # American Express
    (370000, 379999, (15,)),
    (300000, 305999, (14, 16, 19)),  # Diners Club
    (360000, 369999, (14, 16, 19)),
    (380000, 399999, (14, 16, 19)),
    (352800, 358999, (16, 19)),  # JCB
    (601100, 601199, (16, 19)),  # Discover
    (644000, 659999, (16, 19)),
    (620000, 629999, (16, 17, 18, 19)),  # UnionPay
    (500000, 509999, (16, 19)),  # Maestro and national schemes
    (560000, 589999, (16, 19)),
    (630000, 639999, (16, 19)),
)

_AFTER = re.compile(AFTER)
_ACCOUNT = re.compile(BEFORE + rb"[A-Z]{2}[0-9]{2}(?: ?[A-Z0-9]){11,30}")
#: How many characters the account numbers of a country have (the IBAN registry of SWIFT).
_LENGTHS = {
    length: countries.split()
    for length, countries in {
        15: b"NO",
        16: b"BE",
        18: b"DK FK FI FO GL NL SD",
        19: b"MK SI",
        20: b"AT BA EE KZ LT LU MN XK",
        21: b"CH HR LI LV",
        22: b"BG BH CR DE GB GE IE ME RS VA",
        23: b"AE GI IL IQ OM SO TL",
        24: b"AD CZ ES MD PK RO SA SE SK TN VG",
        25: b"LY PT ST",
        26: b"IS TR",
        27: b"BI DJ FR GR IT MC MR SM",
        28: b"AL AZ BY CY DO GT HU LB NI PL SV",
        29: b"BR EG PS QA UA",
        30: b"JO KW MU YE",
        31: b"MT SC",
        32: b"LC",
        33: b"RU",
    }.items()
}
_LENGTH_OF = {country: length for length, countries in _LENGTHS.items() for country in countries}


def cards(shadow: bytes, start: int, end: int) -> Iterator[Found]:
    """Card numbers in a stretch of digits and separators: an issuer's prefix and length, and a Luhn check digit."""
    for pattern in (_CARD, _GROUPED_CARD):
        for match in pattern.finditer(shadow, start, min(end + 8, len(shadow))):
            digits = match[0].translate(None, b" -")
            if _is_issued(digits) and checks.luhn(digits):
                yield Found(match.start(), match.end(), "credit_card", "credit-card")


def _is_issued(digits: bytes) -> bool:
    prefix = int(digits[:6])
    return any(first <= prefix <= last and len(digits) in lengths for first, last, lengths in _ISSUERS)


def account(shadow: bytes, start: int) -> Iterator[Found]:
    """The IBAN that begins at ``start``: the length of its country, and remainder 1 by 97."""
    match = _ACCOUNT.match(shadow, start)
    if not match:
        return
    length = _LENGTH_OF.get(match[0][:2], 0)
    places = [place for place, character in enumerate(match[0]) if character != ord(" ")]
    if not length or len(places) < length:
        return
    end = start + places[length - 1] + 1
    if _AFTER.match(shadow, end) and checks.mod97(shadow[start:end].replace(b" ", b"")):
        yield Found(start, end, "iban", "iban")
