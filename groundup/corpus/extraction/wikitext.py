"""Wikitext (``kind`` wikitext), the markup of Wikipedia and other MediaWiki sites → prose.

    comments, references and media out, code set apart → brackets matched: templates, tables, links
    → other markup → lines: headings, lists → sections without text out

What a template says is written on another page; so only those go into the text whose arguments readers see as they
stand (``{{lang|fr|mot}}``, ``{{convert|5|km|mi}}``). Time is linear in the text: brackets are matched in one pass on a
stack of bounded height, without recursion, and none is looked for twice.
"""

import html
import re
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

from groundup.core.errors import UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.extraction.names import names

Tables = Literal["drop", "cells"]


@dataclass(frozen=True)
class WikitextConfig:
    """What of a wiki page goes into its text."""

    tables: Tables = "drop"
    """drop, or cells: a line for every row, its cells separated by bars."""
    math: bool = True
    """Keep formulas, as LaTeX between dollar signs."""
    appendices: bool = False
    """Keep the sections of references, sources and links."""
    min_characters: int = 25
    """A page with less text than this is dropped."""
    max_megabytes: float = 10.0
    """A larger page is dropped unread (millions of characters)."""

    def __post_init__(self) -> None:
        if self.tables not in get_args(Tables):
            choices = ", ".join(get_args(Tables))
            raise UsageError(f"corpus.wikitext.tables is {self.tables!r}; it must be one of {choices}")
        if self.min_characters < 1:
            raise UsageError(f"corpus.wikitext.min-characters is {self.min_characters}; it must be at least 1")
        if not self.max_megabytes > 0:
            raise UsageError(f"corpus.wikitext.max-megabytes is {self.max_megabytes}; it must be above 0")


_DEFAULT = WikitextConfig()


def plain_text(wikitext: str, config: WikitextConfig = _DEFAULT) -> str:
    """The prose of a wiki page: paragraphs and headings separated by blank lines, list items as ``- item``."""
    apart = _Apart(config.math)
    text = apart.take(_COMMENT.sub("", wikitext.replace(_MARK, "")))
    text = _PARAMETER.sub("", text)
    text = _Brackets(config.tables).render(text)
    text = html.unescape(_without_markup(text))
    lines = _sections([_line(line) for line in text.split("\n")], config.appendices)
    return apart.put_back(_BLANK_LINES.sub("\n\n", "\n".join(lines)).strip("\n"))


_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.S)
_PARAMETER = re.compile(r"\{\{\{[^{}]*\}\}\}")
_BLANK_LINES = re.compile(r"\n{3,}")

# --- what is no wikitext ----------------------------------------------------------------------------------------------

# Stands for a piece set apart, as in MediaWiki's own parser; the texts of others do not have it.
_MARK = "\x7f"
_MARKED = re.compile(f"{_MARK}([0-9]+){_MARK}")
_CODE = frozenset(("pre", "syntaxhighlight", "source"))
_FORMULA = frozenset(("math", "chem", "ce"))
# MediaWiki shows these at another place, or as pictures.
_ELSEWHERE = names(
    "ref references gallery timeline imagemap templatestyles score hiero graph mapframe maplink indicator includeonly "
    "inputbox categorytree"
)
_APART = _CODE | _FORMULA | _ELSEWHERE | {"nowiki"}
_OPENING = re.compile(rf"<({'|'.join(sorted(_APART))})(?=[\s/>])([^<>]*)>", re.I)
_CLOSING = {tag: re.compile(rf"</{tag}\s*>", re.I) for tag in _APART}


@dataclass
class _Apart:
    """Takes the elements out whose content is no wikitext, and puts back those that belong to the prose."""

    math: bool
    pieces: list[str] = field(default_factory=list)

    def take(self, text: str) -> str:
        output: list[str] = []
        unclosed: set[str] = set()
        position = 0
        while opening := _OPENING.search(text, position):
            output.append(text[position : opening.start()])
            position = opening.end()
            tag = opening[1].lower()
            if opening[2].endswith("/") or tag in unclosed:
                continue
            closing = _CLOSING[tag].search(text, position)
            if closing is None:  # nor will a later one of this name be closed
                unclosed.add(tag)
                continue
            output.append(self._kept(tag, text[position : closing.start()]))
            position = closing.end()
        return "".join([*output, text[position:]])

    def _kept(self, tag: str, content: str) -> str:
        if tag in _ELSEWHERE or (tag in _FORMULA and not self.math):
            return ""
        if tag in _FORMULA:
            content = f"${' '.join(content.split())}$"
        self.pieces.append(html.unescape(content).strip("\n"))
        mark = f"{_MARK}{len(self.pieces) - 1}{_MARK}"
        return f"\n\n{mark}\n\n" if tag in _CODE else mark

    def put_back(self, text: str) -> str:
        return _MARKED.sub(lambda mark: self.pieces[int(mark[1])], text)


# --- brackets ---------------------------------------------------------------------------------------------------------

#: Brackets nested deeper than this are taken for text.
MAX_DEPTH = 100
_BRACKET = re.compile(r"\{\{|\}\}|\[\[|\]\]|^[ \t:]*\{\||^[ \t]*\|\}(?!\})", re.M)
_OPENS = {"}}": "{{", "]]": "[[", "|}": "{|"}


@dataclass
class _Brackets:
    """Renders templates, links and tables from the inside out, in one pass."""

    tables: Tables
    stack: list[tuple[str, list[str]]] = field(default_factory=list)
    """What is open: its bracket, and the pieces of text since."""

    def render(self, text: str) -> str:
        self.stack = [("", [])]
        position = 0
        for token in _BRACKET.finditer(text):
            self.stack[-1][1].append(text[position : token.start()])
            position = token.end()
            bracket = token[0].strip(" \t:")
            if bracket in _OPENS:
                self._close(bracket)
            elif len(self.stack) < MAX_DEPTH:
                self.stack.append((bracket, []))
        self.stack[-1][1].append(text[position:])
        self._close_down_to(1)
        return "".join(self.stack[0][1])

    def _close(self, bracket: str) -> None:
        """Render what ``bracket`` closes; a stray one goes. A link ends at the template or table it stands in."""
        wanted = _OPENS[bracket]
        for height in range(len(self.stack) - 1, 0, -1):
            opened = self.stack[height][0]
            if opened == wanted:
                self._close_down_to(height + 1)
                content = "".join(self.stack.pop()[1])
                self.stack[-1][1].append(self._rendered(wanted, content))
                return
            if wanted == "[[" or (wanted == "{{" and opened == "{|"):
                return

    def _close_down_to(self, height: int) -> None:
        """What is still open above ``height`` was never closed: a table ends here, the rest was text."""
        while len(self.stack) > height:
            opened, pieces = self.stack.pop()
            content = "".join(pieces)
            self.stack[-1][1].append(self._rendered(opened, content) if opened == "{|" else content)

    def _rendered(self, opened: str, content: str) -> str:
        if opened == "{{":
            return _template(content)
        if opened == "[[":
            return _link(content)
        return _table(content) if self.tables == "cells" else "\n"


# Which argument of a template readers see as it stands.
_SHOWN = {
    **dict.fromkeys(
        ("abbr", "tooltip", "nowrap", "nobr", "small", "smaller", "big", "sc", "smallcaps", "em", "strong"), 1
    ),
    **dict.fromkeys(
        ("sub", "sup", "val", "formatnum", "math", "mvar", "ill", "interlanguage link", "zitat", "as of"), 1
    ),
    **dict.fromkeys(("quote", "blockquote", "cquote", "quotation", "poemquote", "not a typo", "linktext", "dts"), 1),
    **dict.fromkeys(("lang", "langx", "transl", "transliteration", "sort", "font color"), 2),
}
_CHARACTERS = {
    **dict.fromkeys(("nbsp", "space", "spaces", "thinsp", "wbr"), " "),
    **dict.fromkeys(("ndash", "snd", "spnd", "spaced ndash", "spaced en dash", "dash"), " – "),
    **dict.fromkeys(("mdash", "em dash", "emdash"), "—"),
    **{"!": "|", "=": "=", "'": "'", "'s": "'s", "-": "-", "!!": "||", "(": "{", ")": "}"},
}
_QUOTATIONS = frozenset(("quote", "blockquote", "cquote", "quotation", "poemquote", "zitat"))


def _template(content: str) -> str:
    """What a template shows, where that is known; ``content`` has its inner brackets rendered."""
    name, *arguments = content.split("|")
    name = " ".join(name.replace("_", " ").split()).lower()
    if name in _CHARACTERS:
        return _CHARACTERS[name]
    given = _arguments(arguments)
    if name in ("convert", "cvt"):
        return f"{given.get('1', '')} {given.get('2', '')}".strip()
    if name in ("circa", "c."):
        return f"c. {given.get('1', '')}".strip()
    if name in ("frac", "sfrac"):
        return "/".join(value for key, value in given.items() if key.isdigit())
    place = 1 if name.startswith("lang-") else _SHOWN.get(name, 0)
    if not place:
        return ""
    shown = given.get(str(place)) or given.get("text") or ""
    return f"\n\n{shown}\n\n" if name in _QUOTATIONS else shown


def _arguments(arguments: list[str]) -> dict[str, str]:
    """Arguments by name, or by place from "1" for those without one."""
    given: dict[str, str] = {}
    place = 0
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and " " not in name.strip() and "<" not in name:
            given[name.strip()] = value.strip()
        else:
            place += 1
            given[str(place)] = argument.strip()
    return given


# Files and categories in the wikis with most articles; a page shows them at its edge.
_AT_THE_EDGE = names(
    "file image media category datei bild kategorie fichier catégorie archivo imagen categoría ficheiro imagem "
    "categoria immagine файл изображение категория зображення категорія plik grafika kategoria bestand afbeelding "
    "categorie fil kategori soubor dosya 文件 檔案 图像 圖像 分类 分類 ファイル 画像 カテゴリ 파일 그림 분류 ملف صورة "
    "تصنيف پرونده رده קובץ קטגוריה"
)
_OTHER_WIKI = re.compile(r"[a-z]{2,3}(?:-[a-z]+)?")


def _link(content: str) -> str:
    """The label of ``[[target|label]]``, or the target."""
    target, bar, label = content.partition("|")
    target = target.strip()
    prefix, colon, _ = target.partition(":")
    prefix = prefix.strip()
    if colon and prefix.lower() in _AT_THE_EDGE:
        return ""
    if colon and not bar and _OTHER_WIKI.fullmatch(prefix):
        return ""
    shown = label.strip() if label.strip() else target.lstrip(":#")
    if bar and not label.strip():  # the pipe trick: [[Mercury (planet)|]]
        shown = shown.partition(" (")[0].rpartition(":")[2]
    return shown


_CELL = re.compile(r"\|\||!!")


def _table(content: str) -> str:
    """A line for every row; ``content`` begins with the attributes of the table."""
    rows: list[list[str]] = [[]]
    for line in content.split("\n")[1:]:
        line = line.strip()
        if line.startswith("|-"):
            rows.append([])
        elif line.startswith("|+"):
            rows += [[_cell(line[2:])], []]
        elif line.startswith(("|", "!")):
            separator = _CELL.split(line[1:]) if line[0] == "!" else line[1:].split("||")
            rows[-1] += [_cell(cell) for cell in separator]
        elif line and rows[-1]:
            rows[-1][-1] = f"{rows[-1][-1]} {line}".strip()
    lines = [" | ".join(cell for cell in row if cell) for row in rows]
    return "\n\n" + "\n".join(line for line in lines if line) + "\n\n"


def _cell(cell: str) -> str:
    """A cell without the attributes that may stand before a bar."""
    attributes, bar, text = cell.partition("|")
    return text.strip() if bar and "=" in attributes else cell.strip()


# --- the rest of the markup -------------------------------------------------------------------------------------------

_EXTERNAL = re.compile(r"\[(?:https?:|ftp:|mailto:|//)[^\s\]]*[ \t]*([^\]\n]*)\]", re.I)
_QUOTES = re.compile(r"'{2,}")
_MAGIC = re.compile(r"__[A-Z]+__")
_BREAKING_TAG = re.compile(
    r"<(?:br|hr)\s*/?>|</?(?:p|div|blockquote|center|poem|li|ul|ol|dl|dd|dt|tr|table)\b[^<>]*>", re.I
)
_TAG = re.compile(r"</?[a-z][^<>]*>", re.I)
# What is left of "(Latin: {{lang-la|…}}, {{IPA|…}})" when nothing of it is shown.
_EMPTY_PARENTHESES = re.compile(r" ?\([ \t,;:]*\)")
_PARENTHESIS_BEGINS = re.compile(r"\([ \t]*[,;][ \t,;]*")
_PARENTHESIS_ENDS = re.compile(r" ?[,;] ?\)| \)")


def _without_markup(text: str) -> str:
    text = _EXTERNAL.sub(r"\1", text)
    text = _MAGIC.sub("", _QUOTES.sub("", text))
    text = _TAG.sub("", _BREAKING_TAG.sub("\n", text))
    text = _PARENTHESIS_BEGINS.sub("(", _EMPTY_PARENTHESES.sub("", text))
    return _PARENTHESIS_ENDS.sub(")", text)


# --- lines ------------------------------------------------------------------------------------------------------------

# A heading is told from a line of text by its level, 1 to 6; text has this one.
_TEXT = 7
_APPENDICES = names(
    "references|notes|notes and references|footnotes|citations|sources|bibliography|further reading|external links"
    "|see also|einzelnachweise|weblinks|literatur|siehe auch|notes et références|références|liens externes|voir aussi"
    "|bibliographie|referencias|enlaces externos|véase también|bibliografía|referências|ligações externas|ver também"
    "|note|collegamenti esterni|voci correlate|bibliografia|altri progetti|przypisy|linki zewnętrzne|примечания"
    "|литература|ссылки|см. также|参考文献|外部链接|脚注|外部リンク|関連項目",
    "|",
)


def _line(line: str) -> tuple[int, str]:
    """Level and text of a line: a heading has the number of its equals signs."""
    line = " ".join(line.split())
    if line.startswith("=") and line.endswith("=") and len(line) > 2:
        level = min(len(line) - len(line.lstrip("=")), len(line) - len(line.rstrip("=")), 6)
        return level, line[level:-level].strip()
    item = line.lstrip("*#:;")
    marks = line[: len(line) - len(item)]
    if not item.strip():
        return _TEXT, ""
    bullet = "- " if marks and marks[-1] in "*#" else ""
    return _TEXT, "  " * (len(marks) - 1) + bullet + item.strip()


def _sections(lines: list[tuple[int, str]], appendices: bool) -> list[str]:
    """The lines without headings that have nothing below them and, as wished, without appendices."""
    kept: list[tuple[int, str]] = []
    skipped = _TEXT  # the level of the appendix that is being left out
    for level, text in lines:
        if level < _TEXT and level <= skipped:
            skipped = level if not appendices and text.casefold() in _APPENDICES else _TEXT
        if skipped == _TEXT:
            kept.append((level, text))
    result: list[str] = []
    below = 0
    for level, text in reversed(kept):
        if level == _TEXT:
            result.append(text)
            below = _TEXT if text else below
        elif below > level:
            result += ["", text, ""]
            below = level
    return result[::-1]


# --- the step ---------------------------------------------------------------------------------------------------------

_REDIRECT = re.compile(
    r"\s*#(redirect|weiterleitung|redirection|redirección|redirecionamento|rinvia|doorverwijzing|przekieruj|patrz"
    r"|перенаправление|перенаправлення|重定向|転送|넘겨주기|تحويل)\b",
    re.I,
)


@dataclass(frozen=True)
class Wikitext:
    """Wikitext → prose; any other document passes. Measures ``wikitext.share``: characters out per character in."""

    config: WikitextConfig = _DEFAULT
    name: str = "wikitext"

    def __call__(self, document: Document) -> Document | Dropped:
        if document.facts.get("kind") != "wikitext":
            return document
        config, size = self.config, len(document.text)
        if size > (limit := int(config.max_megabytes * 1e6)):
            return Dropped.of(document, "page too large", f"{size} characters, the limit is {limit}")
        if redirect := _REDIRECT.match(document.text):
            return Dropped.of(document, "redirect", f"begins with #{redirect[1]}")
        text = plain_text(document.text, config)
        if len(text) < config.min_characters:
            detail = f"{len(text)} characters of text, the limit is {config.min_characters}"
            return Dropped.of(document, "no text", detail)
        facts = {key: value for key, value in document.facts.items() if key != "kind"}
        measures = {**document.measures, "wikitext.share": len(text) / size}
        return replace(document, text=text, facts=facts, measures=measures)
