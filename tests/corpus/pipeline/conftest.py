"""A corpus of several shards, and steps that misbehave."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

Prose = Callable[..., str]


@pytest.fixture
def rows(tmp_path: Path, prose: Prose) -> Path:
    """A folder of JSON lines, 120 kB, with copies, crumbs, something to clean, and a broken line."""
    folder = tmp_path / "rows"
    folder.mkdir()
    for number in range(3):
        texts = [prose(100 * number + line, 120) for line in range(20)]
        texts += ["crumb", f"  {prose(7, 120)}  \r\n", "control\x07 " + prose(900 + number, 90)]
        lines = [json.dumps({"text": text}) for text in texts] + ["{broken"]
        (folder / f"part{number}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file but the one with times."""
    return {file.name: file.read_bytes() for file in sorted(folder.iterdir()) if file.name != "seconds.json"}
