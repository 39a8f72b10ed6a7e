from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.corpus.document import Document, Dropped
from groundup.corpus.reading import ReadingConfig, open_records

Read = Callable[..., tuple[dict[str, Document], dict[str, Dropped]]]


@pytest.fixture
def read() -> Read:
    """Documents and drops by id; no id occurs twice."""

    def read(path: Path | str, config: ReadingConfig | None = None) -> tuple[dict[str, Document], dict[str, Dropped]]:
        found = list(open_records(path, config))
        kept = {item.id: item for item in found if isinstance(item, Document)}
        dropped = {item.document.id: item for item in found if isinstance(item, Dropped)}
        assert len(kept) + len(dropped) == len(found)
        return kept, dropped

    return read
