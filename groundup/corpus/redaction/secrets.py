"""Keys, tokens and passwords.

The services' own formats (prefixes and lengths as their documentation and the rules of gitleaks and detect-secrets
give them), JSON web tokens, private keys in PEM, passwords in addresses, and any random string that a key such as
``api_key`` is set to.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

from groundup.corpus.redaction.found import Found

KIND = "secret"
#: Every key has a run of so many letters, digits, and _ - + /
SHORTEST_RUN = 16
_RUN = re.compile(rb"[A-Za-z0-9_+/-]+")
_RUN_CHARACTERS = bytes(
    ord("a") if chr(code).isascii() and (chr(code).isalnum() or chr(code) in "_+/-") else ord(" ")
    for code in range(256)
)
_NEEDLE = b"a" * SHORTEST_RUN
_LONGEST_REST = 64
#: Of which every key has some.
_DRAWN = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_FORMATS = re.compile(
    rb"(?<![A-Za-z0-9_])(?:"
    rb"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}(?![A-Z0-9])"  # Amazon Web Services
    rb"|gh[pousr]_[A-Za-z0-9]{36,251}|github_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}"
    rb"|gl(?:pat|dt|rt|ptt|ft|soat)-[A-Za-z0-9_-]{20,64}"  # GitLab
    rb"|xox[abeoprs]-[A-Za-z0-9-]{10,250}|xapp-[0-9]-[A-Za-z0-9-]{20,250}"  # Slack
    rb"|AIza[A-Za-z0-9_-]{35}|GOCSPX-[A-Za-z0-9_-]{28}"  # Google
    rb"|(?:sk|rk|pk)_(?:live|test)_[A-Za-z0-9]{16,247}|whsec_[A-Za-z0-9+/]{32,64}"  # Stripe
    rb"|sk-(?:proj|svcacct|admin|ant|or)-(?=[A-Za-z_-]{0,40}[0-9])[A-Za-z0-9_-]{20,200}|sk-(?=[A-Za-z]{0,40}[0-9])[A-Za-z0-9]{32,64}"
    rb"|hf_[A-Za-z0-9]{34}|npm_[A-Za-z0-9]{36}|pypi-AgE[A-Za-z0-9_-]{50,250}"
    rb"|dop_v1_[0-9a-f]{64}|shp(?:at|ca|pa|ss)_[0-9a-fA-F]{32}|dckr_pat_[A-Za-z0-9_-]{27}|hvs\.[A-Za-z0-9_-]{24,250}"
    rb")(?![A-Za-z0-9_])"
)
_SLACK_HOOK = re.compile(rb"hooks\.slack\.com/(?:services|workflows)/(?P<key>[A-Za-z0-9+/]{40,60})")
_WEB_TOKEN = re.compile(rb"eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}")
_SENDGRID = re.compile(rb"(?<![A-Za-z0-9_])(?P<key>SG\.[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43})(?![A-Za-z0-9_-])")
_TELEGRAM = re.compile(rb"(?<![0-9A-Za-z])(?P<key>[0-9]{8,10}:AA[A-Za-z0-9_-]{33})(?![A-Za-z0-9_-])")

_SET = re.compile(
    rb"(?i)(?:(?:secret|token|passw(?:or)?d|passwd|passphrase|pwd|credential|(?:api|access|auth|private|signing|encryption|account)"
    rb"[ _-]?key|apikey)[A-Za-z0-9_-]{0,16}[\"'`]?\s{0,4}(?:=>?|:=?)\s{0,4}[\"'`]?"
    rb"|\b(?:bearer|basic|token) )\Z"
)
_SET_REACH = 64
_VALUE = re.compile(rb"[A-Za-z0-9_+/~-]+(?:\.[A-Za-z0-9_+/~-]+){0,8}={0,2}")
#: Of a random string: bits per character of its own distribution, and how often letters and digits, or capitals and
#: small letters, take turns. Words joined by hyphens have the former and not the latter.
_LEAST_ENTROPY, _LEAST_TURNS = 3.0, 0.25
#: Of a name made of words: mean letters of a word.
_WORD, _LEAST_WORD = re.compile(rb"[A-Z]?[a-z]+"), 3.75

_PEM_BEGIN = b"-----BEGIN "
_PEM_HEADER = re.compile(rb"-----BEGIN (?P<label>(?:[A-Z0-9]{1,16} ){0,3}PRIVATE KEY(?: BLOCK)?)-----")
#: The body of a key whose end is missing: lines of base64, also with line ends spelled out.
_PEM_BODY = re.compile(rb"(?:[A-Za-z0-9+/=]|\\[nr]|[\r\n](?=[A-Za-z0-9+/=]))*")

#: What a manual writes in the place of a password: ``user:password``, ``{user}:{password}``, ``$USER:$PASSWORD``.
_STAND_IN = (
    rb"(?:(?i:passw(?:or)?d|pass(?:wd)?|pw|pwd|secret|token|[*x.]+)|\$?\{+[^{}@]{0,60}\}+|\$[A-Z_]+|%s|%\(\w{1,60}\)s"
    rb"|\[[^\]@]{0,60}\])@"
)
_PASSWORD = re.compile(rb"[^\s/:@<>\"']{1,64}:(?!" + _STAND_IN + rb")[^\s/@<>\"']{1,64}@")
_PASSWORD_REACH = 160


def keys(shadow: bytes) -> Iterator[Found]:
    """Keys and tokens, from one long run of their characters to the next."""
    classes = shadow.translate(_RUN_CHARACTERS)
    start = classes.find(_NEEDLE)
    while start >= 0:
        run = _RUN.match(shadow, start)
        assert run is not None
        yield from _in_run(shadow, start, run.end())
        start = classes.find(_NEEDLE, run.end())


def _in_run(shadow: bytes, start: int, end: int) -> Iterator[Found]:
    run = shadow[start:end]
    if len(run.translate(None, _DRAWN)) == len(run):
        return  # dashes, a path or a slug in small letters
    for match in _FORMATS.finditer(shadow, start, end):
        yield Found(match.start(), match.end(), KIND, "service-key")
    if run.startswith(b"eyJ") and (token := _WEB_TOKEN.match(shadow, start)):
        yield Found(start, token.end(), KIND, "json-web-token")
    if shadow[start - 1 : start] in (b".", b":"):
        yield from _in_several_runs(shadow, start, end)
    before = shadow[max(0, start - _SET_REACH) : start]
    if before.rstrip(b" \t\r\n\"'`>").endswith((b":", b"=", b"earer", b"asic", b"oken")) and _SET.search(before):
        value = _VALUE.match(shadow, start)
        assert value is not None
        quoted = before.endswith((b'"', b"'", b"`"))
        if is_random(value[0]) and (quoted or not is_identifier(value[0])):
            yield Found(start, value.end(), KIND, "assigned-secret")


def _in_several_runs(shadow: bytes, start: int, end: int) -> Iterator[Found]:
    """Formats that dots and colons part: what stands before this run belongs to it."""
    for pattern, before in ((_SENDGRID, 3), (_TELEGRAM, 11), (_SLACK_HOOK, 15)):
        if key := pattern.search(shadow, max(0, start - before), end + _LONGEST_REST):
            yield Found(key.start("key"), key.end("key"), KIND, "service-key")


def is_random(value: bytes) -> bool:
    """Whether a string looks drawn at random: many different characters, of changing kinds, some of them digits."""
    counts = Counter(value[:256])
    total = sum(counts.values())
    entropy = -sum(count / total * math.log2(count / total) for count in counts.values())
    kinds = [_kind(character) for character in value[:256]]
    turns = sum(left != right for left, right in pairwise(kinds)) / total
    return (
        entropy >= _LEAST_ENTROPY
        and turns >= _LEAST_TURNS
        and "digit" in kinds
        and {"small", "capital"} & set(kinds) != set()
    )


def is_identifier(value: bytes) -> bool:
    """Whether most of a name is words, as in ``tokenizer = LayoutLMv3Tokenizer``; code sets keys to such ones.

    One in a hundred random strings of 32 letters and digits passes for one, and stays.
    """
    digits = len(value) - len(value.translate(None, b"0123456789"))
    words = _WORD.findall(value)
    return bool(words) and digits < 0.2 * len(value) and sum(map(len, words)) >= _LEAST_WORD * len(words)


def _kind(character: int) -> str:
    if 48 <= character <= 57:
        return "digit"
    if 65 <= character <= 90:
        return "capital"
    return "small" if 97 <= character <= 122 else "other"


def private_keys(shadow: bytes) -> Iterator[Found]:
    """Private keys in PEM, header and footer included; one without a footer as far as its base64 reaches."""
    start = shadow.find(_PEM_BEGIN)
    while start >= 0:
        end = start + len(_PEM_BEGIN)
        if header := _PEM_HEADER.match(shadow, start):
            footer = b"-----END " + header["label"] + b"-----"
            found = shadow.find(footer, header.end(), header.end() + 20_000)
            body = _PEM_BODY.match(shadow, header.end())
            assert body is not None
            end = found + len(footer) if found >= 0 else body.end()
            yield Found(start, end, KIND, "private-key")
        start = shadow.find(_PEM_BEGIN, end)


def password(shadow: bytes, at: int) -> Iterator[Found]:
    """User and password of an address (https://user:password@host) whose @ is at ``at``."""
    scheme = shadow.rfind(b"://", max(0, at - _PASSWORD_REACH), at)
    if scheme >= 0 and _PASSWORD.fullmatch(shadow, scheme + 3, at + 1):
        yield Found(scheme + 3, at, KIND, "password-in-address")
