"""A tokenizer trained on text that every machine has: the standard library's sources."""

import sysconfig
from pathlib import Path

import pytest

from groundup.tokenizer.bpe import BytePairTokenizer


@pytest.fixture(scope="session")
def stdlib_text() -> str:
    """About 200 kB of Python: prose in docstrings, code, numbers and indentation."""
    folder = Path(sysconfig.get_path("stdlib"))
    return "\n".join((folder / name).read_text(encoding="utf-8") for name in ("argparse.py", "textwrap.py", "heapq.py"))


@pytest.fixture(scope="session")
def tokenizer(stdlib_text: str) -> BytePairTokenizer:
    """900 ids: 256 bytes, 638 merges, 6 special tokens."""
    return BytePairTokenizer.train([stdlib_text], 900)
