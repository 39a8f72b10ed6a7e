"""Trees of source code, one document per file, with its language and its licence.

Not read: what others wrote and was only copied in (``node_modules``, ``vendor`` …), and minified scripts.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path, PurePosixPath

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.formats import Part, bare, read_whole
from groundup.corpus.reading.languages import language_of
from groundup.corpus.reading.text import decode_declared
from groundup.corpus.reading.urls import is_url

_VENDORED = frozenset(
    {
        "__pycache__",
        "bower_components",
        "dist-packages",
        "external",
        "externals",
        "godeps",
        "node_modules",
        "pods",
        "site-packages",
        "third-party",
        "third_party",
        "thirdparty",
        "vendor",
        "vendored",
    }
)
_MINIFIED_NAME = re.compile(r"[.-]min\.(js|css|mjs|cjs)$|\.bundle\.js$|\.(js|css)\.map$", re.I)
#: Scripts and style sheets whose lines are longer than this on average were written by a machine.
MINIFIED_LINE = 500

_LICENCE_FILE = re.compile(r"(un)?licen[cs]e([-_.].*)?|copying([-_.].*)?|mit-licen[cs]e.*", re.I)
_LICENCE_BYTES = 2**16
_SPDX = re.compile(r"SPDX-License-Identifier:\s*([\w.+() -]+?)\s*(?:\*/|-->|$)", re.M)
_SPDX_CHARACTERS = 4096
#: SPDX identifier → words that its text has and that of no licence before it in this list; white space is one blank.
_LICENCES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("AGPL-3.0", ("gnu affero general public license", "version 3")),
    ("LGPL-3.0", ("gnu lesser general public license", "version 3")),
    ("LGPL-2.1", ("gnu lesser general public license", "version 2.1")),
    ("GPL-3.0", ("gnu general public license", "version 3")),
    ("GPL-2.0", ("gnu general public license", "version 2")),
    ("MPL-2.0", ("mozilla public license", "version 2.0")),
    ("EPL-2.0", ("eclipse public license", "v 2.0")),
    ("Apache-2.0", ("apache license", "version 2.0")),
    ("BSL-1.0", ("boost software license", "version 1.0")),
    ("CC0-1.0", ("cc0 1.0 universal",)),
    ("Unlicense", ("this is free and unencumbered software released into the public domain",)),
    ("BSD-3-Clause", ("redistribution and use in source and binary forms", "endorse or promote products")),
    ("BSD-2-Clause", ("redistribution and use in source and binary forms",)),
    ("ISC", ("permission to use, copy, modify, and/or distribute this software",)),
    ("MIT", ("permission is hereby granted, free of charge, to any person obtaining a copy", "the above copyright")),
    ("Zlib", ("this software is provided 'as-is'", "must not be misrepresented")),
)


def read_code(part: Part, config: ReadingConfig) -> Iterator[Document | Dropped]:
    """A source file, kind ``code``."""
    path = PurePosixPath(part.name)
    if folder := next((folder for folder in path.parts[:-1] if folder.lower() in _VENDORED), None):
        yield Dropped(part.empty(config), "vendored", f"it lies in a folder called {folder}", part.bytes)
        return
    if _MINIFIED_NAME.search(path.name):
        yield Dropped(part.empty(config), "minified", f"its name is {path.name}", part.bytes)
        return
    for raw in read_whole(part, config):
        item = raw if isinstance(raw, Dropped) else decode_declared(part.empty(config), raw, config.encoding)
        yield item if isinstance(item, Dropped) else _source(item, part)


def _source(document: Document, part: Part) -> Document | Dropped:
    language = language_of(bare(part.name), tree=True)
    if language in ("JavaScript", "CSS"):
        mean = len(document.text) / (document.text.count("\n") + 1)
        if mean > MINIFIED_LINE:
            detail = f"lines have {mean:.0f} characters on average, the limit is {MINIFIED_LINE}"
            return Dropped.of(document, "minified", detail)
    spdx = _SPDX.search(document.text, 0, _SPDX_CHARACTERS)
    licence = spdx[1] if spdx else _licence_of_tree(part)
    facts = {"kind": "code", "path": part.name, "language": language, "licence": licence}
    return replace(document, title=PurePosixPath(part.name).name, facts={k: v for k, v in facts.items() if v})


def _licence_of_tree(part: Part) -> str:
    """The licence that the nearest licence file names, from the file's folder up to the one that the user named."""
    if is_url(part.path):
        return ""
    folders = Path(part.path).absolute().parents
    depth = len(PurePosixPath(part.name).parts)
    return next(filter(None, map(_licence_of_folder, folders[:depth])), "")


@lru_cache(maxsize=4096)
def _licence_of_folder(folder: Path) -> str:
    try:
        files = sorted(file for file in folder.iterdir() if _LICENCE_FILE.fullmatch(file.name) and file.is_file())
        for file in files:
            with file.open("rb") as handle:
                if licence := recognise_licence(handle.read(_LICENCE_BYTES).decode("utf-8", "replace")):
                    return licence
    except OSError:
        pass  # a folder whose files cannot be read has no licence that we know
    return ""


def recognise_licence(text: str) -> str:
    """The SPDX identifier of a licence's text, or nothing for one that is not known."""
    words = " ".join(text.lower().split())
    return next((name for name, marks in _LICENCES if all(mark in words for mark in marks)), "")
