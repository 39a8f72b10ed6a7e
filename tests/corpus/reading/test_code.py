from pathlib import Path
from typing import Any

import pytest

from groundup.corpus.reading import ReadingConfig
from groundup.corpus.reading.code import recognise_licence

MIT = """Copyright (c) 2024 Someone

Permission is hereby granted, free of charge, to any person
obtaining a copy of this software … The above copyright notice …"""


def write(root: Path, **files: str | bytes) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)


def test_languages_and_the_nearest_licence(tmp_path: Path, read: Any) -> None:
    files = {
        "LICENSE": MIT,
        "main.py": "x = 1\n",
        "src/deep/Main.java": "class Main {}\n",
        "lib/COPYING.txt": "GNU GENERAL PUBLIC LICENSE\n  Version 3, 29 June 2007",
        "lib/a.c": "int a;\n",
        "lib/b.h": "/* SPDX-License-Identifier: Apache-2.0 */\nint b;\n",
        "Makefile": "all:\n",
    }
    write(tmp_path, **files)
    kept, dropped = read(tmp_path, ReadingConfig(kind="code"))
    assert not dropped and all(d.facts["kind"] == "code" and d.facts["path"] == i for i, d in kept.items())
    assert {i: (d.title, d.facts["language"], d.facts["licence"]) for i, d in kept.items() if "L" not in i[:1]} == {
        "main.py": ("main.py", "Python", "MIT"),
        "src/deep/Main.java": ("Main.java", "Java", "MIT"),
        "lib/COPYING.txt": ("COPYING.txt", "Text", "GPL-3.0"),
        "lib/a.c": ("a.c", "C", "GPL-3.0"),
        "lib/b.h": ("b.h", "C", "Apache-2.0"),
        "Makefile": ("Makefile", "Makefile", "MIT"),
    }


def test_what_others_wrote_and_what_machines_wrote_is_passed_over(tmp_path: Path, read: Any) -> None:
    files: dict[str, str | bytes] = {
        "node_modules/x/index.js": "x",
        "third_party/y.c": "y",
        "jquery.min.js": "z",
        "packed.js": "var a;" * 1000,
        "app.js": "var a;\n" * 1000,
        "logo.png": b"\x89PNG\0",
    }
    write(tmp_path, **files)
    kept, dropped = read(tmp_path, ReadingConfig(kind="code"))
    assert list(kept) == ["app.js"] and "licence" not in kept["app.js"].facts
    assert {i: d.reason for i, d in dropped.items()} == {
        "node_modules/x/index.js": "vendored",
        "third_party/y.c": "vendored",
        "jquery.min.js": "minified",
        "packed.js": "minified",
        "logo.png": "binary",
    }


def test_suffixes_decide_unless_the_user_does(tmp_path: Path, read: Any) -> None:
    write(tmp_path, **{"a.py": "x = 1", "b.md": "# words", "c.html": "<p>words"})
    kinds = {
        kind: {i: d.facts.get("kind") for i, d in read(tmp_path, ReadingConfig(kind=kind))[0].items()}
        for kind in ("auto", "code", "prose")
    }
    assert kinds == {
        "auto": {"a.py": "code", "b.md": None, "c.html": "html"},
        "code": {"a.py": "code", "b.md": "code", "c.html": "code"},
        "prose": {"b.md": None, "c.html": "html"},
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (MIT, "MIT"),
        ("Apache License\n                           Version 2.0, January 2004", "Apache-2.0"),
        ("Redistribution and use in source and binary forms, with or without …", "BSD-2-Clause"),
        ("Redistribution and use in source and binary forms … endorse or promote products", "BSD-3-Clause"),
        ("GNU GENERAL PUBLIC LICENSE Version 2, June 1991", "GPL-2.0"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE Version 3", "AGPL-3.0"),
        ("Mozilla Public License Version 2.0", "MPL-2.0"),
        ("All rights reserved.", ""),
    ],
)
def test_licences_are_recognised_by_their_words(text: str, name: str) -> None:
    assert recognise_licence(text) == name
