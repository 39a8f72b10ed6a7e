"""National identity numbers of persons, each by its shape and its check digits.

Where a check is too weak for a bare number (one in ten or eleven would fit), the number counts only with its name
before it: "BSN 111222333", but not any nine digits.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from groundup.corpus.redaction import checks
from groundup.corpus.redaction.found import Found
from groundup.corpus.redaction.shadow import AFTER, BEFORE

KIND = "national_id"
#: The name of a number is looked for in so many characters before it.
_NAME_REACH = 48


class Number(NamedTuple):
    """One country's number."""

    rule: str
    pattern: re.Pattern[bytes]
    check: Callable[[bytes], bool]
    """Of the number without separators."""
    name: re.Pattern[bytes] | None = None
    """What must stand before it."""
    least: int = 0
    """How many digits there must be in a row for it to be possible."""


def _pattern(shape: bytes) -> re.Pattern[bytes]:
    return re.compile(BEFORE + rb"(?:" + shape + rb")" + AFTER)


def _named(names: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"\b(?:" + names + rb")\b[^0-9\n]{0,20}\Z")


def _us_ssn(digits: bytes) -> bool:
    """Social Security Administration: no area 000, 666 or 900 and more, no group 00, no serial 0000."""
    area, group, serial = digits[:3], digits[3:5], digits[5:]
    famous = (b"078051120", b"219099999")  # printed in advertisements
    return (
        area not in (b"000", b"666") and area < b"900" and group != b"00" and serial != b"0000" and digits not in famous
    )


def _uk_nino(code: bytes) -> bool:
    """HM Revenue & Customs: prefixes that are never given out."""
    return code[:2] not in (b"BG", b"GB", b"NK", b"KN", b"TN", b"NT", b"ZZ")


_SSN, _CPF = _named(rb"(?i:ssn|social security)"), _named(rb"(?i:cpf)")
_STEUER_ID = _named(rb"(?i:steuer-?(?:id|nummer|identifikationsnummer|nr)?|idnr|identifikationsnummer|tax id|tin)")
_AADHAAR, _SIN = _named(rb"(?i:aadhaar|aadhar|uidai)"), _named(rb"SIN|(?i:social insurance)")

#: Numbers that begin with a digit.
NUMERIC = (
    Number("us-ssn", _pattern(rb"[0-9]{3}-[0-9]{2}-[0-9]{4}"), _us_ssn, least=9),
    Number("us-ssn", _pattern(rb"[0-9]{9}|[0-9]{3} [0-9]{2} [0-9]{4}"), _us_ssn, _SSN, least=9),
    Number(
        "de-steuer-id",
        _pattern(rb"[0-9]{2} [0-9]{3} [0-9]{3} [0-9]{3}"),
        checks.german_tax_number,
        least=11,
    ),
    Number("de-steuer-id", _pattern(rb"[0-9]{11}"), checks.german_tax_number, _STEUER_ID, least=11),
    Number(
        "fr-nir",
        _pattern(
            rb"[1-478] ?[0-9]{2} ?(?:0[1-9]|1[0-2]|[2-9][0-9]) ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}"
        ),
        checks.french_nir,
        least=6,  # before Corsica's letter
    ),
    Number("es-dni", _pattern(rb"[0-9]{8}-?[A-HJ-NP-TV-Z]"), checks.spanish_letter, least=8),
    Number("nl-bsn", _pattern(rb"[0-9]{9}|[0-9]{4}[. ][0-9]{2}[. ][0-9]{3}"), checks.dutch_bsn,
           _named(rb"(?i:bsn|burgerservicenummer|sofi-?nummer)"), least=9),
    Number("br-cpf", _pattern(rb"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"), checks.brazilian_cpf, least=11),
    Number("br-cpf", _pattern(rb"[0-9]{11}"), checks.brazilian_cpf, _CPF, least=11),
    Number(
        "in-aadhaar",
        _pattern(rb"(?<![0-9]{4} )[2-9][0-9]{3}([ -])[0-9]{4}\1[0-9]{4}(?! [0-9]{4})"),
        checks.verhoeff,
        least=12,
    ),
    Number("in-aadhaar", _pattern(rb"[2-9][0-9]{11}"), checks.verhoeff, _AADHAAR, least=12),
    Number("cn-resident", _pattern(rb"[1-8][0-9]{16}[0-9X]"), checks.chinese_resident, least=17),
    Number("se-personnummer", _pattern(rb"(?:19|20)?[0-9]{6}[-+][0-9]{4}"), checks.swedish_number, least=10),
    Number("pl-pesel", _pattern(rb"[0-9]{11}"), checks.polish_pesel, least=11),
    Number("ch-ahv", _pattern(rb"756\.[0-9]{4}\.[0-9]{4}\.[0-9]{2}"), checks.ean13, least=13),
    Number("ca-sin", _pattern(rb"[1-79][0-9]{2}-[0-9]{3}-[0-9]{3}"), checks.luhn, least=9),
    Number("ca-sin", _pattern(rb"[1-79][0-9]{2} ?[0-9]{3} ?[0-9]{3}"), checks.luhn, _SIN, least=9),
)  # fmt: skip
#: Numbers that begin with a capital letter.
LETTERED = (
    Number(
        "uk-nino",
        _pattern(rb"[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z] ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-D]"),
        _uk_nino,
    ),
    Number(
        "it-codice-fiscale",
        _pattern(rb"[A-Z]{6}[0-9]{2}[ABCDEHLMPRST][0-9]{2}[A-Z][0-9]{3}[A-Z]"),
        checks.italian_tax_code,
    ),
    Number("es-nie", _pattern(rb"[XYZ]-?[0-9]{7}-?[A-HJ-NP-TV-Z]"), checks.spanish_letter),
)
FEWEST_DIGITS = min(number.least for number in NUMERIC)
#: Those that so many digits are enough for.
_POSSIBLE = tuple(
    tuple(number for number in NUMERIC if number.least <= digits)
    for digits in range(max(number.least for number in NUMERIC) + 1)
)
_SEPARATORS = b" .+-"
#: A number may go on so far behind a stretch of digits: a letter, and what follows it.
_REST = 14


def numeric(shadow: bytes, start: int, end: int, digits: int) -> Iterator[Found]:
    """Numbers in a stretch of ``digits`` digits and separators, shadow[start:end]."""
    end = min(end + _REST, len(shadow))
    for number in _POSSIBLE[min(digits, len(_POSSIBLE) - 1)]:
        for match in number.pattern.finditer(shadow, start, end):
            if _fits(number, match, shadow):
                yield Found(match.start(), match.end(), KIND, number.rule)


def lettered(shadow: bytes, start: int) -> Iterator[Found]:
    """The numbers that begin with the capital letter at ``start``."""
    for number in LETTERED:
        match = number.pattern.match(shadow, start)
        if match and _fits(number, match, shadow):
            yield Found(start, match.end(), KIND, number.rule)


def _fits(number: Number, match: re.Match[bytes], shadow: bytes) -> bool:
    if number.name and not number.name.search(shadow[max(0, match.start() - _NAME_REACH) : match.start()]):
        return False
    return number.check(match[0].translate(None, _SEPARATORS))
