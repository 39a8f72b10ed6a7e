"""Numbers and foreign text, made ready for the page.

Enters: numbers that may be absent, text that may be hostile. Leaves: short strings that are safe to set.
"""

import re
import unicodedata

#: What stands where a number should be and is not.
ABSENT = "—"
#: Between a number and its unit: narrow, and no line break.
NARROW = "\u202f"
#: A place where a line may break.
BREAK = "\u200b"
#: A run of characters without a space is given places to break after this many.
RUN = 24

_LINE_ENDS = re.compile("\r\n|[\r\v\f\x85\u2028\u2029]")
_LONG_RUNS = re.compile(rf"[^\s{BREAK}]{{{RUN + 1},}}")
#: Unicode categories with nothing to draw: controls, lone surrogates, private use, unassigned.
_INVISIBLE = {"Cc", "Cs", "Co", "Cn"}
#: Characters that turn the direction of the text around them.
_DIRECTION = set("\u200e\u200f\u061c") | {chr(c) for c in (*range(0x202A, 0x202F), *range(0x2066, 0x206A))}


def clean(text: str) -> str:
    """Text in which every character can be set: one kind of line end, no controls, no lone surrogates."""
    text = _LINE_ENDS.sub("\n", text).replace("\t", "    ")
    return "".join(
        "\ufffd" if char != "\n" and (char in _DIRECTION or unicodedata.category(char) in _INVISIBLE) else char
        for char in text
    )


def breakable(text: str) -> str:
    """The same text with places to break inside long runs, so that no word is wider than the page."""
    return _LONG_RUNS.sub(lambda run: BREAK.join(re.findall(f".{{1,{RUN}}}", run.group())), text)


def shorten(text: str, characters: int, lines: int = 1_000) -> str:
    """The beginning of ``text``, breakable, with an ellipsis where something was left out."""
    kept = "\n".join(text.split("\n")[:lines])[:characters]
    return breakable(kept.rstrip() + " […]" if len(kept) < len(text.rstrip()) else kept)


def one_line(text: str, characters: int) -> str:
    """The beginning of ``text`` on one line."""
    return shorten(" ".join(text.split()), characters)


def decimal(value: float | None, digits: int = 2) -> str:
    """``2.118`` → ``2.12``, with a true minus sign."""
    return ABSENT if value is None else f"{value:.{digits}f}".replace("-", "−")


def significant(value: float | None, digits: int = 3) -> str:
    """Three significant digits, ``0.000412``, ``14 000``."""
    if value is None:
        return ABSENT
    if value == int(value) or abs(value) >= 10**digits:
        return count(value)
    return f"{value:.{digits}g}".replace("-", "−")


def count(value: float | None) -> str:
    """``1234567`` → ``1 234 567``."""
    return ABSENT if value is None else f"{round(value):,}".replace(",", NARROW).replace("-", "−")


def short(value: float | None) -> str:
    """``3443136`` → ``3.44 million``."""
    if value is None:
        return ABSENT
    for limit, name in ((1e9, "billion"), (1e6, "million")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{NARROW}{name}"
    return count(value)


def size(value: float | None) -> str:
    """Bytes: ``9512004`` → ``9.51 MB``."""
    if value is None:
        return ABSENT
    for limit, name in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if abs(value) >= limit:
            return f"{value / limit:.3g}{NARROW}{name}"
    return f"{count(value)}{NARROW}bytes"


def seconds(value: float | None) -> str:
    """``262.4`` → ``4 min 22 s``."""
    if value is None:
        return ABSENT
    if value < 10:
        return f"{value:.1f}{NARROW}s"
    minutes, rest = divmod(round(value), 60)
    hours, minutes = divmod(minutes, 60)
    parts = [(hours, "h"), (minutes, "min"), (rest, "s")]
    shown = [f"{amount}{NARROW}{unit}" for amount, unit in parts if amount]
    return " ".join(shown[:2]) or f"0{NARROW}s"


def percent(value: float | None, digits: int = 1) -> str:
    """``0.563`` → ``56.3 %``."""
    return ABSENT if value is None else f"{decimal(100 * value, digits)}{NARROW}%"


def points(value: float | None) -> str:
    """A difference of shares in percentage points with its sign: ``0.099`` → ``+9.9``."""
    return ABSENT if value is None else ("+" if value > 0 else "") + decimal(100 * value, 1)


def moved(first: float | None, last: float | None, digits: int = 2) -> str:
    """``falls from 8.30 to 4.05``, or rises, or stays."""
    if first is None or last is None:
        return "was not recorded"
    before, after = decimal(first, digits), decimal(last, digits)
    if before == after:
        return f"stays at {after}"
    return f"{'falls' if last < first else 'rises'} from {before} to {after}"


def listed(items: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(items[:-1]), *items[-1:])))
