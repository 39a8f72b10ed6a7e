"""XML from strangers, as events: no document type of their own, no entity beyond the five, nothing fetched."""

from collections.abc import Callable, Mapping
from xml.parsers import expat

Start = Callable[[str, Mapping[str, str]], None]


class UnsafeXML(ValueError):
    """A document that declares entities, which can grow without bound or name other files."""


def parser(start: Start, end: Callable[[str], None], text: Callable[[str], None]) -> expat.XMLParserType:
    """An expat parser that calls ``start`` (name, attributes), ``end`` and ``text``; names are without namespaces."""
    created = expat.ParserCreate(namespace_separator=" ")
    created.buffer_text = True
    created.buffer_size = 2**16

    def refuse(*_: object) -> None:
        raise UnsafeXML("it declares entities")

    created.EntityDeclHandler = refuse
    created.ExternalEntityRefHandler = None
    created.SetParamEntityParsing(expat.XML_PARAM_ENTITY_PARSING_NEVER)
    created.StartElementHandler = lambda name, attributes: start(_local(name), attributes)
    created.EndElementHandler = lambda name: end(_local(name))
    created.CharacterDataHandler = text
    return created


def _local(name: str) -> str:
    return name.rpartition(" ")[2]


def elements(raw: bytes) -> list[tuple[str, dict[str, str], str]]:
    """(name, attributes, text) of every element of a small document, in order; names are without namespaces.

    Raises:
        UnsafeXML: it declares entities.
        expat.ExpatError: it is no XML.
    """
    found: list[tuple[str, dict[str, str], list[str]]] = []
    path: list[int] = []

    def start(name: str, attributes: Mapping[str, str]) -> None:
        path.append(len(found))
        found.append((name, {_local(key): value for key, value in attributes.items()}, []))

    def text(piece: str) -> None:
        found[path[-1]][2].append(piece)

    def end(_: str) -> None:
        path.pop()

    parser(start, end, text).Parse(raw, True)
    return [(name, attributes, "".join(pieces)) for name, attributes, pieces in found]
