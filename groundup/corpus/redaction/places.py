"""Coordinates that tell a place to a hundred metres or less: decimal degrees, and degrees, minutes and seconds."""

import re
from collections.abc import Iterator

from groundup.corpus.redaction.found import Found
from groundup.corpus.redaction.shadow import AFTER, BEFORE, DEGREE

KIND = "coordinates"
_LATITUDE, _LONGITUDE = rb"[+-]?[0-9]{1,2}\.[0-9]{3,15}", rb"[+-]?[0-9]{1,3}\.[0-9]{3,15}"
_PAIR = re.compile(
    rb"(?<![0-9A-Za-z_\x80.,+-])(?<![0-9], )(?<![0-9][;, /])(?P<latitude>" + _LATITUDE + rb") ?[,;/ ] ?(?P<longitude>"
    + _LONGITUDE + rb")(?![0-9A-Za-z_\x80%\xb0]|\.[0-9]|, ?[+-]?[0-9])"
)  # fmt: skip
_NUMBER = re.compile(_LATITUDE + AFTER)
_LATITUDE_KEY = re.compile(rb"(?i)(?<![A-Za-z])lat(?:itude)?[\"']?\s{0,2}[:=]\s{0,2}[\"']?[+-]?\Z")
_LONGITUDE_KEY = re.compile(
    rb"(?i)[\"']?[ ,;&\n\t]{1,8}[\"']?(?:lon|lng|long|longitude)[\"']?\s{0,2}[:=]\s{0,2}[\"']?(?P<number>"
    + _LONGITUDE + rb")" + AFTER
)  # fmt: skip
#: A word that says that a pair of numbers is a place.
_PLACE = re.compile(
    rb"(?i)(?:\b(?:lat|lng|lon|gps|coord\w{0,8}|locat\w{0,5}|position|geo\w{0,8}|ll|maps?|point)\b|@)"
    rb"[^0-9\n]{0,16}\Z"
)
#: A pair in a list, behind such a bracket or with a number like it before or behind, is data unless it is told.
_IN_DATA = re.compile(rb"(?:\[ {0,4}|[A-Za-z0-9_=\]]\(|[0-9]\.[0-9]{3,15}[^0-9A-Za-z\xb0]{1,16})\Z")
_MORE_DATA = re.compile(rb"[^0-9A-Za-z\xb0]{1,16}[0-9]{1,3}\.[0-9]{3,15}")
_REACH = 32

_MINUTES = rb"\xb0 ?[0-9]{1,2}(?:\.[0-9]{1,6}' ?|' ?[0-9]{1,2}(?:\.[0-9]{1,6})?(?:\"|'') ?)"
_ANGLE = rb"[0-9]{1,3}(?:\.[0-9]{3,10}\xb0|" + _MINUTES + rb")"
_DEGREES = re.compile(
    BEFORE
    + rb"(?:[NS] ?"
    + _ANGLE
    + rb"[,; ]{0,3}[EW] ?"
    + _ANGLE
    + rb"|"
    + _ANGLE
    + rb" ?[NS][,; /]{0,3}"
    + _ANGLE
    + rb" ?[EWO])"
)


def decimal(shadow: bytes, start: int, end: int) -> Iterator[Found]:
    """Pairs of decimal degrees in a stretch of digits and separators.

    Five decimals tell a place from most other numbers, where the pair is alone; with fewer, or among other numbers, a
    word or a key must say what they are.
    """
    start = max(0, start - 1)
    for match in _PAIR.finditer(shadow, start, min(end + 4, len(shadow))):
        if _is_on_earth(match["latitude"], match["longitude"]):
            before = shadow[max(0, match.start() - _REACH) : match.start()]
            alone = not _IN_DATA.search(before) and not _MORE_DATA.match(shadow, match.end())
            precise = _is_precise(match["latitude"]) and _is_precise(match["longitude"])
            if (alone and precise) or _PLACE.search(before):
                yield Found(match.start(), match.end(), KIND, "decimal-degrees")
    yield from _keyed(shadow, start)


def _keyed(shadow: bytes, start: int) -> Iterator[Found]:
    """ "lat": 48.85837, "lng": 2.29448: both numbers, and the keys stay."""
    latitude = _NUMBER.search(shadow, start, start + 24)
    if not latitude or not _LATITUDE_KEY.search(shadow[max(0, latitude.start() - _REACH) : latitude.start()]):
        return
    longitude = _LONGITUDE_KEY.match(shadow, latitude.end())
    if longitude and _is_on_earth(latitude[0], longitude["number"]):
        yield Found(latitude.start(), latitude.end(), KIND, "decimal-degrees")
        yield Found(longitude.start("number"), longitude.end("number"), KIND, "decimal-degrees")


def _is_on_earth(latitude: bytes, longitude: bytes) -> bool:
    return abs(float(latitude)) <= 90 and abs(float(longitude)) <= 180


def _is_precise(number: bytes) -> bool:
    """Five decimals or more, and not a share between 0 and 1."""
    return len(number.partition(b".")[2]) >= 5 and abs(float(number)) >= 1


def degrees(shadow: bytes) -> Iterator[Found]:
    """48°51'29.6"N 2°17'40.2"E, 48.85822° N, 2.29450° E, and N 48° 51.493' E 2° 17.670'."""
    sign = bytes([DEGREE])
    place = shadow.find(sign)
    while place >= 0:
        number = shadow[place - 1 : place].isdigit()
        match = number and _DEGREES.search(shadow, max(0, place - 16), min(place + 64, len(shadow)))
        if match:
            yield Found(match.start(), match.end(), KIND, "degrees")
        place = shadow.find(sign, max(place + 1, match.end() if match else 0))
