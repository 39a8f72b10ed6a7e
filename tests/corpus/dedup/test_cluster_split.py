import random
from collections.abc import Callable
from pathlib import Path

import pytest

from groundup.core.errors import UsageError
from groundup.corpus.dedup import MinHash, MinHashConfig, run, side_of
from groundup.corpus.document import Document

Prose = Callable[..., str]
SIDES = {"train": 0.8, "validation": 0.15, "test": 0.05}


def test_shares_are_met_and_a_side_depends_on_nothing_but_the_document() -> None:
    documents = [Document(f"d{number}", "", "test", "") for number in range(20_000)]
    sides = {document.id: side_of(document, SIDES, seed=1) for document in documents}
    for side, share in SIDES.items():
        found = sum(value == side for value in sides.values()) / len(documents)
        assert abs(found - share) < 4 * (share * (1 - share) / len(documents)) ** 0.5
    random.Random(1).shuffle(documents)
    assert all(side_of(document, SIDES, seed=1) == sides[document.id] for document in documents[:500])
    assert any(side_of(document, SIDES, seed=2) != sides[document.id] for document in documents[:500])


def test_no_twin_crosses_the_split(tmp_path: Path, prose: Prose) -> None:
    """Chains a+b, b+c, c+d: the middle one leaves, and the ends, which share nothing, stay on one side."""
    documents = []
    for chain in range(12):
        a, b, c, d = (prose(4 * chain + part, 200) for part in range(4))
        documents += [Document(f"{chain}-{n}", "", "test", text) for n, text in enumerate((a + b, b + c, c + d))]
    config = MinHashConfig(similarity=0.2, bands=64, rows=2)
    kept = [result for result in run(MinHash(config), [documents], tmp_path) if isinstance(result, Document)]
    sides: dict[str, set[str]] = {}
    for document in kept:
        sides.setdefault(document.id.split("-")[0], set()).add(side_of(document, {"train": 0.5, "test": 0.5}, seed=0))
    assert len(kept) == 24
    assert all(len(found) == 1 for found in sides.values())
    assert {side for found in sides.values() for side in found} == {"train", "test"}


@pytest.mark.parametrize("wrong", [{}, {"train": 0.5}, {"train": 1.1, "test": -0.1}])
def test_wrong_shares_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match="add up to 1"):
        side_of(Document("d", "", "test", ""), wrong, seed=0)
