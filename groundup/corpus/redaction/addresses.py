"""E-mail and Internet addresses."""

import ipaddress
import re
from collections.abc import Iterator

from groundup.corpus.redaction.found import Found
from groundup.corpus.redaction.shadow import AFTER

# What RFC 5322 lets stand before the @, without quotes; a letter of any alphabet since RFC 6531.
_LOCAL = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789!#$%&'*+/=?^_`{|}~.-\x80"
#: RFC 5321, section 4.5.3.1.1.
_LONGEST_LOCAL = 64
_LABEL = rb"[A-Za-z0-9\x80](?:[A-Za-z0-9\x80-]{0,61}[A-Za-z0-9\x80])?+"
_DOMAIN = re.compile(
    rb"@(?:(?:" + _LABEL + rb"\.){1,10}(?:xn--[a-z0-9-]{2,40}|[A-Za-z\x80]{2,24})(?![0-9A-Za-z_\x80@])"
    rb"|\[(?:[0-9]{1,3}\.){3}[0-9]{1,3}\])"
)
#: What follows the last dot of a file's name and is no top-level domain: logo@2x.png.
_FILES = frozenset((b"png jpg jpeg gif svg webp css js ts tsx json xml pdf txt html htm php exe dll so py").split())

#: The user and the colon in https://user:password@host.
_USER = re.compile(rb"://[^\s/:@<>\"']{1,64}:\Z")
_USER_REACH = 160

_OCTET = rb"(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(
    rb"(?<![0-9A-Za-z_.\x80-])(?<![A-Za-z]/)" + _OCTET + rb"(?:\." + _OCTET + rb"){3}(?![0-9A-Za-z_\x80-]|\.[0-9])"
)
#: Four numbers after such a word are a version, or the number of an enzyme. The word is looked for in so many
#: characters before them.
_VERSION = re.compile(rb"(?i)\b(?:version|release|build|firmware|update|section|chapter|rev|ver?|ec)s?[.:=]? ?[\"']?\Z")
_VERSION_REACH = 16

_HEX = b"0123456789ABCDEFabcdef:."
_LONGEST_IPV6 = 45
#: Without a double one: six before an IPv4 address at the end, else seven.
_FEWEST_COLONS = 6
_AFTER = re.compile(AFTER)
_IPV6_PART = re.compile(rb"[0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]*")
_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")


def email(shadow: bytes, at: int) -> Iterator[Found]:
    """The address around the @ at ``at``."""
    domain = _DOMAIN.match(shadow, at)
    before = shadow[max(0, at - _LONGEST_LOCAL - 1) : at]
    written = before[len(before.rstrip(_LOCAL)) :]
    local = written.lstrip(b".'`*_=/|{~-&")
    if not domain or not local or len(local) > _LONGEST_LOCAL or local.endswith(b"."):
        return
    if local == b"git" and shadow[domain.end() : domain.end() + 1] == b":":
        return  # the address of a repository
    if before.endswith(b":" + written) and _USER.search(shadow, max(0, at - _USER_REACH), at - len(written)):
        return  # a password in an address, or what stands for one
    if domain[0].rpartition(b".")[2].lower() not in _FILES:
        yield Found(at - len(local), domain.end(), "email", "email")


def ipv4(shadow: bytes, start: int, end: int, keep_local: bool) -> Iterator[Found]:
    """Addresses in a stretch of digits and separators."""
    for match in _IPV4.finditer(shadow, start, min(end + 3, len(shadow))):
        if not (keep_local and _is_local(match[0])) and not _is_version(match[0], shadow, match.start()):
            yield Found(match.start(), match.end(), "ip", "ipv4")


def _is_version(numbers: bytes, shadow: bytes, start: int) -> bool:
    """Whether four numbers are rather a version or a section: by a word before them; if all have one digit; if three
    have, unless it is a host by what stands before it, or a local address."""
    before = shadow[max(0, start - _VERSION_REACH) : start]
    single = sum(len(number) == 1 for number in numbers.split(b"."))
    host = before.endswith((b"/", b"[", b"@")) or _is_local(numbers)
    return single == 4 or (single == 3 and not host) or bool(_VERSION.search(before))


def _is_local(address: bytes) -> bool:
    """Private, loopback, link-local, multicast, reserved, or kept for documentation."""
    parsed = ipaddress.IPv4Address(address.decode("ascii"))
    return not parsed.is_global or parsed.is_multicast


def ipv6(shadow: bytes, colon: int, keep_local: bool) -> Iterator[Found]:
    """The address around the colon at ``colon``."""
    before = shadow[max(0, colon - 5) : colon]
    start = colon - len(before) + len(before.rstrip(_HEX))
    match = _IPV6_PART.match(shadow, start, min(start + _LONGEST_IPV6 + 1, len(shadow)))
    if not match:
        return
    candidate = match[0].rstrip(b".") if match[0].endswith(b"::") else match[0].rstrip(b".:")
    end = start + len(candidate)
    shortened = candidate.count(b"::")
    if shortened > 1 or (not shortened and candidate.count(b":") < _FEWEST_COLONS):
        return  # no address; the time of day
    if (start and shadow[start - 1 : start].isalnum()) or not _AFTER.match(shadow, end):
        return
    try:
        address = ipaddress.IPv6Address(candidate.decode("ascii"))
    except ValueError:
        return
    # Outside the range that addresses are given out from, a::b and dead::beef are words with colons.
    spoken = not any(map(str.isdigit, candidate.decode("ascii")))
    if not spoken and (not keep_local or (address in _GLOBAL_UNICAST and address.is_global)):
        yield Found(start, end, "ip", "ipv6")
