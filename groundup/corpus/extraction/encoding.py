"""A text damaged on its way → the text as it was meant: control characters, HTML entities left over, mojibake.

**Mojibake** is text in one encoding read in another: ``é`` as ``Ã©``, ``’`` as ``â€™``. ftfy finds the chain of
encodings that undoes it and leaves a text alone when the result would be no better (Speer 2019, "ftfy"). It is
slow, so only lines go there that show the signature: what a first byte of UTF-8 becomes in a common code page, followed
by what a continuation byte becomes there.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from html.entities import html5

from groundup.core.errors import UsageError
from groundup.corpus.document import Document

# --- control characters -----------------------------------------------------------------------------------------------

_TERMINAL = re.compile("\x1b\\[[0-9;?]*[a-zA-Z]")
_CONTROL = re.compile("[\x00-\x08\x0e-\x1f\x7f]")
# Bytes 80-9F were meant as Windows-1252, as the HTML standard reads them; the five without a meaning there go.
_MEANT = {code: html.unescape(f"&#{code};") for code in range(0x80, 0xA0)}
_MEANT = {code: character if ord(character) > 0x9F else "" for code, character in _MEANT.items()}
_HIGH_CONTROL = re.compile("[\x80-\x9f]")

# --- entities ---------------------------------------------------------------------------------------------------------

# "&amp;amp;eacute;" was escaped three times; one pass undoes all.
_ENTITY = re.compile(r"&(?:(?:amp|#38|#x26);)*([a-zA-Z][a-zA-Z0-9]{1,31}|#[0-9]{1,7}|#[xX][0-9a-fA-F]{1,6});")


def _character(entity: re.Match[str]) -> str:
    name = f"{entity[1]};"
    return html.unescape(f"&{name}") if name[0] == "#" else html5.get(name, f"&{name}")


def _without_entities(line: str) -> tuple[str, int]:
    """In a line with tags, entities are part of the markup that it speaks of."""
    return (line, 0) if "<" in line else _ENTITY.subn(_character, line)


# --- mojibake ---------------------------------------------------------------------------------------------------------


def _signature(code_page: str, first_bytes: bytes) -> str:
    """A pattern for two characters of UTF-8 that was read as ``code_page``."""
    pairs = (first_bytes, bytes(range(0x80, 0xC0)))
    # A byte without a meaning in the code page is read as Latin-1 has it.
    sets = [{byte.to_bytes().decode(code_page, "ignore") or chr(byte) for byte in part} for part in pairs]
    return "".join(f"[{re.escape(''.join(sorted(characters)))}]" for characters in sets)


# First bytes of Latin letters with accents, Cyrillic and typographic signs; of every script where Latin-1 is suspected,
# which is by far the most frequent.
_FREQUENT = b"\xc3\xc5\xd0\xd1\xe2"
_SIGNATURE = re.compile(
    "|".join(
        [
            _signature("latin-1", bytes(range(0xC2, 0xF5))),
            _signature("cp1252", bytes(range(0xC2, 0xF5))),
            *(_signature(page, _FREQUENT) for page in ("cp1250", "cp1251", "cp437", "mac_roman")),
        ]
    )
)
#: A longer line is left as it is: the work on one stays bounded, and no text has such lines.
LINE_CHARACTERS = 100_000


def _without_mojibake(line: str) -> tuple[str, int]:
    if line.isascii() or len(line) > LINE_CHARACTERS or not _SIGNATURE.search(line):
        return line, 0
    try:
        import ftfy
    except ImportError as error:
        raise UsageError("repairing mojibake needs ftfy; pip install 'groundup[data]'") from error
    fixed = ftfy.fix_encoding(line)
    return fixed, int(fixed != line)


# --- the step ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RepairConfig:
    """Which damage is repaired."""

    controls: bool = True
    """Remove control characters and terminal colours; read those of Windows-1252 as what they were."""
    entities: bool = True
    """Replace HTML entities by their characters, in lines without tags."""
    mojibake: bool = True
    """Undo text that was read in the wrong encoding."""


_ALL = RepairConfig()


def repair(text: str, config: RepairConfig = _ALL) -> tuple[str, dict[str, int]]:
    """The repaired text, and how often each kind of damage was repaired (mojibake: in how many lines).

    Raises:
        UsageError: there is mojibake to repair and ftfy is not installed.
    """
    controls = entities = mojibake = 0
    if config.controls:
        text, colours = _TERMINAL.subn("", text)
        text, controls = _CONTROL.subn("", text)
        controls += colours
    if config.entities and "&" in text:
        text, entities = _lines_repaired(text, _without_entities)
    if config.mojibake and not text.isascii() and _SIGNATURE.search(text):
        text, mojibake = _lines_repaired(text, _without_mojibake)
    if config.controls and not text.isascii() and (high := len(_HIGH_CONTROL.findall(text))):
        text, controls = text.translate(_MEANT), controls + high
    counts = {"controls": controls, "entities": entities, "mojibake": mojibake}
    return text, {what: count for what, count in counts.items() if count}


def _lines_repaired(text: str, repaired: Callable[[str], tuple[str, int]]) -> tuple[str, int]:
    lines = [repaired(line) for line in text.split("\n")]
    return "\n".join(line for line, _ in lines), sum(count for _, count in lines)


@dataclass(frozen=True)
class Repair:
    """Repair a document's text. Measures ``repaired.controls``, ``repaired.entities``, ``repaired.mojibake`` where any.

    Markup keeps its entities for its own extractor, and code keeps those that it speaks of.
    """

    config: RepairConfig = _ALL
    name: str = "repair"

    def __call__(self, document: Document) -> Document:
        entities = self.config.entities and "kind" not in document.facts
        text, counts = repair(document.text, replace(self.config, entities=entities))
        if not counts:
            return document
        measures = dict(document.measures)
        for what, count in counts.items():
            measures[f"repaired.{what}"] = measures.get(f"repaired.{what}", 0) + count
        return replace(document, text=text, measures=measures)
