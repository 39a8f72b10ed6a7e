"""HTML → main content by the densities of text and links, with no more than a parser beneath.

A page is a sequence of blocks: paragraphs, headings, list items, table rows, code. Navigation differs from content by
two shallow features, how long a block is and how much of it is link (Kohlschütter, Fankhauser & Nejdl 2010,
"Boilerplate Detection using Shallow Text Features"); and pages say much themselves by their tags and class names.

    parse → blocks, leaving out what its tag, role or class calls boilerplate → the <main> region, if it holds the text
          → keep long blocks of few links, then short ones beside them, then the headings above them → text

selectolax (Lexbor) repairs any tag soup to a proper tree. Its serialisation is then read in a single pass, for that is
several times faster than a walk from node to node.
"""

import html as entities
import re
from dataclasses import dataclass, field

from groundup.core.errors import UsageError
from groundup.corpus.extraction.names import VOID, names

# After the parser, every attribute value stands in double quotes and every "<" in a text is an entity; a quotation mark
# that does not follow "=" is part of a name.
_TOKEN = re.compile(r'<(/?)([a-z][^\s/>]*)([^>=]*(?:=(?:"[^"]*")?[^>=]*)*)>|<!--.*?-->|<![^>]*>|([^<]+)', re.S)
_NAMES = re.compile(r'(?:class|id)="([^"]*)"')
_HIDDEN = re.compile(
    r'\shidden\b|aria-hidden="true"|style="[^"]*(?:display:\s*none|visibility:\s*hidden)'
    r'|role="(?:navigation|banner|contentinfo|complementary|search|menu|menubar|dialog|alertdialog)"'
)
_BOILERPLATE = re.compile(
    r"(?<!has-)(?<!with-)(?<!no-)\b(?:ads?|advert\w*|banner|breadcrumbs?|byline|comments?|consent|cookies?|copyright|disqus"
    r"|footer|gdpr|hatnote|login|masthead|menu|meta|modal|nav\w*|newsletter|pager|pagination|popup|\w*profile|promo\w*"
    r"|recommend\w*|related|share|sharing|sidebar|sign-?up|skip|social|sponsor\w*|sr-only|subscribe|tags|toc|toolbar|widget)\b",
    re.I,
)
_SILENT = names(
    "noscript template svg math object canvas audio video nav aside footer button select textarea dialog label"
)
# The content of these is no markup, and serialised as it stands.
_RAW = ["script", "style", "iframe", "xmp", "noembed", "noframes", "plaintext"]
_REGION = frozenset(("main", "article"))
_HEADINGS = frozenset(("h1", "h2", "h3", "h4", "h5", "h6"))
_BLOCKS = names(
    "p div section article main header blockquote ul ol li dl dt dd table tbody thead tr caption figure figcaption pre "
    "h1 h2 h3 h4 h5 h6 hr address details summary fieldset form body center"
)

# A line break that is meant, unlike those of the source text.
_BREAK = "\u2028"

#: Bytes of UTF-8, so that a sentence counts much the same in every script.
LONG_BLOCK = 80
#: Kohlschütter's first threshold: content has a smaller share of its characters inside links.
LINK_DENSITY = 1 / 3
#: The region that a page calls main is believed if it holds this share of the text in long blocks.
REGION_SHARE = 0.3


@dataclass(slots=True)
class Block:
    """A run of text with no paragraph break."""

    kind: str
    """text, heading, item, row or code."""
    text: str
    links: float
    """Share of its characters that stand inside links."""
    in_region: bool
    """Whether it stands inside <main>, <article> or role="main"."""
    list_level: int

    @property
    def is_content(self) -> bool:
        """Long enough and with few enough links to be content on its own account."""
        return self.kind == "code" or (self.links <= LINK_DENSITY and len(self.text.encode()) >= LONG_BLOCK)


def readable_text(html: str) -> str:
    """The main content of a page, blocks separated by blank lines, list items and table rows one per line.

    Raises:
        UsageError: selectolax is not installed.
    """
    try:
        from selectolax.lexbor import LexborHTMLParser
    except ImportError as error:
        raise UsageError("the backend selectolax needs its package; pip install 'groundup[data]'") from error
    tree = LexborHTMLParser(html)
    tree.strip_tags(_RAW)
    root = tree.body
    normal: str = (root.html or "") if root is not None else ""
    kept = _main_blocks(_Reader(by_name=True).read(normal))
    if sum(len(block.text) for block in kept) < len(normal) / 100:
        # A class name of the whole page may have looked like boilerplate.
        unnamed = _main_blocks(_Reader(by_name=False).read(normal))
        kept = max(kept, unnamed, key=lambda blocks: sum(len(block.text) for block in blocks if block.is_content))
    return _render(kept)


# --- page → blocks ----------------------------------------------------------------------------------------------------


@dataclass
class _Reader:
    """One pass over a serialised page; what is open is the state."""

    by_name: bool
    """Whether class names and ids say what is boilerplate."""
    blocks: list[Block] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    link_characters: int = 0
    silent: int = 0
    """How many elements are open since the one that is left out began."""
    links: int = 0
    code: int = 0
    lists: int = 0
    rows: int = 0
    regions: list[str] = field(default_factory=list)

    def read(self, page: str) -> list[Block]:
        for match in _TOKEN.finditer(page):
            closing, tag, attributes, text = match.groups()
            if text:
                if not self.silent:
                    self._text(text)
            elif not tag:
                continue
            elif closing:
                self._end(tag)
            else:
                self._begin(tag, attributes)
        self._flush("text")
        return self.blocks

    def _text(self, text: str) -> None:
        self.pieces.append(text)
        if self.links:
            self.link_characters += len(text.strip())

    def _begin(self, tag: str, attributes: str) -> None:
        if self.silent or self._is_boilerplate(tag, attributes):
            self.silent += tag not in VOID
            return
        if tag == "br":
            self.pieces.append(_BREAK)
        elif tag in _BLOCKS:
            self._flush(self._kind(tag))
        self._count(tag, 1)
        if tag in _REGION or 'role="main"' in attributes:
            self.regions.append(tag)

    def _end(self, tag: str) -> None:
        if self.silent:
            self.silent -= 1
            return
        if tag in ("td", "th"):
            self.pieces.append(" | ")
        elif tag in _HEADINGS:
            self._flush("heading")
        elif tag in _BLOCKS:
            self._flush(self._kind(tag))
        self._count(tag, -1)
        if self.regions and self.regions[-1] == tag:
            self.regions.pop()

    def _count(self, tag: str, step: int) -> None:
        if tag == "a":
            self.links += step
        elif tag == "pre":
            self.code += step
        elif tag in ("ul", "ol"):
            self.lists += step
        elif tag == "tr":
            self.rows += step

    def _is_boilerplate(self, tag: str, attributes: str) -> bool:
        if tag in _SILENT or (tag == "header" and not self.regions):
            return True
        if not attributes or tag in ("body", "main", "article", "pre", "code"):
            return False
        if _HIDDEN.search(attributes):
            return True
        return self.by_name and any(map(_BOILERPLATE.search, _separated(attributes)))

    def _kind(self, tag: str) -> str:
        """What the text was that ``tag`` ends. Paragraphs inside a table's cell are paragraphs."""
        if self.code:
            return "code"
        if tag == "tr":
            return "row"
        return "item" if self.lists else "text"

    def _flush(self, kind: str) -> None:
        """Close the block that is being read."""
        raw = entities.unescape("".join(self.pieces))
        if kind == "code":
            lines = [line.rstrip() for line in raw.replace(_BREAK, "\n").split("\n")]
        else:
            lines = [" ".join(line.split()) for line in raw.split(_BREAK)]
        text = "\n".join(lines).strip("\n |" if self.rows else "\n")
        if text.strip():
            share = min(1.0, self.link_characters / len(text))
            self.blocks.append(Block(kind, text, share, bool(self.regions), self.lists))
        self.pieces = []
        self.link_characters = 0


def _separated(attributes: str) -> list[str]:
    """Class names and ids with underscores as word ends: ``page_footer`` has the word footer."""
    return [names.replace("_", " ") for names in _NAMES.findall(attributes)]


# --- blocks → main content --------------------------------------------------------------------------------------------


def _main_blocks(blocks: list[Block]) -> list[Block]:
    """The blocks to keep, in their order."""
    region = [block for block in blocks if block.in_region]
    if _content_characters(region) >= REGION_SHARE * max(1, _content_characters(blocks)):
        blocks = region
    kept = [block.is_content for block in blocks]
    _keep_beside_content(blocks, kept)
    _keep_headings(blocks, kept)
    return [block for block, keep in zip(blocks, kept, strict=True) if keep]


def _content_characters(blocks: list[Block]) -> int:
    return sum(len(block.text) for block in blocks if block.is_content)


def _keep_beside_content(blocks: list[Block], kept: list[bool]) -> None:
    """A short block stays if the author says that it is in the main region, or content stands right above or below.

    Above counts at any length of a run of such blocks (the items of a list, lines of a poem), below for one block.
    """
    previous = False
    for number, block in enumerate(blocks):
        if block.kind == "heading":
            continue
        if not kept[number] and block.links <= LINK_DENSITY:
            following = number + 1 < len(blocks) and blocks[number + 1].is_content
            kept[number] = block.in_region or previous or following
        previous = kept[number]


def _keep_headings(blocks: list[Block], kept: list[bool]) -> None:
    """A heading stays above content, directly or with one block between: a date, a row of buttons."""
    distance = 2
    for number in range(len(blocks) - 1, -1, -1):
        if blocks[number].kind == "heading":
            kept[number] = distance < 2 and blocks[number].links <= LINK_DENSITY
        else:
            distance = 0 if kept[number] else distance + 1


def _render(blocks: list[Block]) -> str:
    pieces: list[str] = []
    previous = ""
    for block in blocks:
        tight = block.kind == previous and block.kind in ("item", "row")
        pieces.append("\n" if tight else "\n\n")
        pieces.append(f"{'  ' * (block.list_level - 1)}- {block.text}" if block.kind == "item" else block.text)
        previous = block.kind
    return "".join(pieces).strip("\n")
