"""Telephone numbers: with a country's code, in a country's own way of writing, or after a word that announces one.

Digits alone prove nothing: order numbers, dates and accounts have them too. So a number counts if it begins with + and
a code of the ITU's list and has as many digits as that country's numbers have; if it is grouped as the numbers of a
country are; or if "phone", "tel.", "fax" … stands before it.
"""

import re
from collections.abc import Iterator

from groundup.corpus.redaction.found import Found
from groundup.corpus.redaction.shadow import AFTER, LETTER

KIND = "phone"
#: ITU-T E.164: codes of two digits; those of three by their first two.
_TWO = frozenset((20, 27, *range(30, 35), 36, 39, 40, 41, *range(43, 50), *range(51, 59), *range(60, 67), 81, 82, 84,
                  86, *range(90, 96), 98))  # fmt: skip
_THREE = frozenset((*range(21, 27), 29, 35, 37, 38, 42, 50, 59, 67, 68, 69, 80, 85, 87, 88, 96, 97, 99))
#: Digits after the code, at least and at most; E.164 allows fifteen with the code.
_DIGITS = {
    "1": (10, 10), "7": (10, 10), "20": (8, 10), "27": (9, 9), "30": (10, 10), "31": (9, 9), "32": (8, 9),
    "33": (9, 9), "34": (9, 9), "39": (8, 11), "41": (9, 9), "44": (9, 10), "45": (8, 8), "46": (7, 9), "47": (8, 8),
    "48": (9, 9), "49": (7, 11), "52": (10, 10), "55": (10, 11), "61": (9, 9), "64": (8, 10), "65": (8, 8),
    "81": (9, 10), "82": (8, 10), "86": (9, 11), "90": (10, 10), "91": (10, 10), "351": (9, 9), "353": (7, 9),
    "358": (6, 10), "420": (9, 9), "852": (8, 8), "971": (8, 9), "972": (8, 9),
}  # fmt: skip
_USUAL_DIGITS = (7, 12)

_INTERNATIONAL = re.compile(
    rb"(?<![0-9A-Za-z_\x80+])(?:\+ ?|(?<![/.-])00(?=[1-9][0-9]{0,2}[ .-]))[1-9][0-9]{0,14}(?:[ .-][0-9](?=[ .-][0-9]))?"
    rb"(?:[ .\-/]{0,2}(?:\([0-9]{1,5}\)|[0-9]{2,12})){0,7}"
)
_LAST_GROUP = re.compile(rb"[ .\-/]{0,2}[0-9]+\Z")
_SEPARATOR = re.compile(rb"[ .\-/()]+")
_CONTINUES = re.compile(rb"[0-9A-Za-z\x80]|[.,][0-9]")

_START = rb"(?<![0-9A-Za-z_\x80+])(?<![0-9][.,/-])(?<![A-Za-z]-)"
_FEWEST_NATIONAL = 9
_NATIONAL = tuple(
    re.compile(_START + shape + AFTER)
    for shape in (
        # North America: an area code and an exchange never begin with 0 or 1
        rb"(?:1[ .-])?(?:\([2-9][0-8][0-9]\) ?[2-9][0-9]{2}[-. ]|[2-9][0-8][0-9](?:[-/][2-9][0-9]{2}[-.]"
        rb"|\.[2-9][0-9]{2}\.))[0-9]{4}",
        # a trunk prefix of 0: groups alike separated, as in 020 7946 0958, 01 23 45 67 89, 03-1234-5678
        rb"(?<![0-9] )(?<![/=])0[1-9][0-9]{0,4}([ .-])[0-9]{2,4}(?:\1[0-9]{2,4}){1,3}(?! [0-9]{2}(?![0-9]))",
        # the same in two groups: 01632 960123, 06-12345678, 0171/1234567
        rb"(?<![0-9] )(?<![/=])0[1-9][0-9]{0,3}[ /-][0-9]{5,8}(?! [0-9])",
        # an area code in parentheses: (020) 7946 0958, (02) 9374 4000, (11) 91234-5678
        rb"\((?:0[1-9][0-9]{0,4}|[1-9][0-9])\) ?[0-9]{3,5}[ -]?[0-9]{3,6}",
    )
)
#: Words that announce a number, and those that may stand between (é, ó … are LETTER).
_ANNOUNCING = frozenset(
    b"phone phones telephone tel ph fax mobile mob cell cellphone celular cellular call dial whatsapp sms handy "
    b"telefon telefono telefone fone tlf portable t\x80l t\x80l\x80phone tel\x80fono m\x80vil".split()
)
_FILLING = frozenset(b"number numbers no nr me us is at on".split())
_ANNOUNCEMENT_REACH = 40
#: All but letters and digits as blanks.
_SPACED = bytes(code if code == LETTER or (chr(code).isascii() and chr(code).isalnum()) else 32 for code in range(256))
_ANNOUNCED = re.compile(
    rb"(?:\([0-9]{1,12}\)|[0-9]{1,12})(?:[ .\-/]{0,3}\([0-9]{2,12}\)|(?:[ .\-/]{1,3}|(?<=\)))[0-9]{2,12}){0,5}"
    rb"(?![0-9A-Za-z_\x80])"
)


def phones(shadow: bytes, start: int, end: int, digits: int) -> Iterator[Found]:
    """Numbers in a stretch of ``digits`` digits and separators, which a + or a parenthesis may precede."""
    start = max(0, start - 3)
    end = min(end + 4, len(shadow))
    for match in _INTERNATIONAL.finditer(shadow, start, end):
        stop = _international_end(match)
        if stop:
            yield Found(match.start(), stop, KIND, "phone-international")
    for pattern in _NATIONAL if digits >= _FEWEST_NATIONAL else ():
        for match in pattern.finditer(shadow, start, end):
            if _is_national(match[0]):
                yield Found(match.start(), match.end(), KIND, "phone-national")


def announced(shadow: bytes, start: int) -> Iterator[Found]:
    """The number whose first digit, or the parenthesis before it, stands at ``start`` after a word like "phone"."""
    start -= shadow[start - 1 : start] == b"("
    if _is_announcement(shadow[max(0, start - _ANNOUNCEMENT_REACH) : start]):
        match = _ANNOUNCED.match(shadow, start)
        if match and 7 <= len(_digits(match[0])) <= 13:
            yield Found(start, match.end(), KIND, "phone-announced")


def _is_announcement(before: bytes) -> bool:
    """Whether a text ends in such a word, and at most three that fill in."""
    words = before.lower().translate(_SPACED).split()[-4:]
    while words and words[-1] in _FILLING:
        words.pop()
    return bool(words) and words[-1] in _ANNOUNCING


def _digits(number: bytes) -> bytes:
    return number.translate(None, b"+ ().-/")


def _international_end(match: re.Match[bytes]) -> int:
    """Where the number ends: as many groups as its country's numbers have digits for; 0 if it is none."""
    number = match[0]
    ends = not _CONTINUES.match(match.string, match.end())
    while number:
        plain = number.replace(b"(0)", b"")  # the trunk prefix, which is not dialled from abroad
        digits = _digits(plain).decode("ascii").removeprefix("00")
        code = _calling_code(digits)
        least, most = _DIGITS.get(code, _USUAL_DIGITS)
        if code and ends and least <= len(digits) - len(code) <= most and _begins_with(code, number):
            return match.start() + len(number)
        shorter = _LAST_GROUP.sub(b"", number)
        if shorter == number:
            return 0
        number, ends = shorter, True
    return 0


def _begins_with(code: str, number: bytes) -> bool:
    """Whether the first group holds the code; and nothing else where a blank is behind the +, as in ``+ 14285714.286``.

    A sum of numbers is written that way, and ``+ 2.1054`` too.
    """
    first = _SEPARATOR.split(number.lstrip(b"+ ").removeprefix(b"00"), maxsplit=1)[0]
    return len(first) == len(code) or (len(first) > len(code) and not number.startswith(b"+ "))


def _calling_code(digits: str) -> str:
    if digits[:1] in ("1", "7"):
        return digits[0]
    prefix = int(digits[:2] or 0)
    if prefix in _TWO:
        return digits[:2]
    return digits[:3] if prefix in _THREE else ""


def _is_national(number: bytes) -> bool:
    """Nine to twelve digits, and not 01 02 03 04 05, which counts and calls nobody."""
    groups = _SEPARATOR.split(number.strip(b"()"))
    return _FEWEST_NATIONAL <= len(_digits(number)) <= 12 and not all(group.startswith(b"0") for group in groups)
