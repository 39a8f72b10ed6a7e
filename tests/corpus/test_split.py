from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.corpus.document import Document
from groundup.corpus.split import cut, split

Prose = Callable[..., str]


def documents_of(*texts: str) -> list[Document]:
    return [Document(f"d{number}", f"D{number}", "test", text) for number, text in enumerate(texts)]


def alone(documents: list[Document]) -> list[list[str]]:
    return [[document.id] for document in documents]


@given(st.lists(st.integers(100, 2000), min_size=60, max_size=120), st.integers(0, 2**32), st.integers(1, 4))
def test_split_is_disjoint_complete_deterministic_and_keeps_groups(sizes: list[int], seed: int, width: int) -> None:
    documents = documents_of(*("x" * size for size in sizes))
    ids = [document.id for document in documents]
    groups = [ids[start : start + width] for start in range(0, len(ids), width)]
    train, validation = split(documents, groups, 0.1, seed)
    assert (train, validation) == split(documents, groups, 0.1, seed)
    assert sorted([*train, *validation], key=lambda d: ids.index(d.id)) == documents
    chosen = {document.id for document in validation}
    assert len(chosen) >= 2 and len(train) >= 2
    assert all(chosen.issuperset(group) or chosen.isdisjoint(group) for group in groups)
    assert 0.025 * sum(sizes) <= sum(d.bytes for d in validation) <= 0.125 * sum(sizes)


def test_seed_chooses_the_documents() -> None:
    documents = documents_of(*("x" * 1000 for _ in range(50)))
    choices = {tuple(d.id for d in split(documents, alone(documents), 0.05, seed)[1]) for seed in range(20)}
    assert len(choices) > 10


@pytest.mark.parametrize("joint", ["\n\n", "\n", " "])
def test_single_document_is_cut_near_its_end(prose: Prose, joint: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = joint.join(prose(1, 4000).split("\n\n" if joint == "\n\n" else None))
    documents = documents_of(text)
    train, validation = split(documents, alone(documents), 0.05, seed=1)
    assert "end of 'd0' becomes the validation text" in capsys.readouterr().err
    assert [train[0].id, validation[0].id] == ["d0#train", "d0#validation"]
    assert train[0].text + joint + validation[0].text.lstrip() == text
    assert 0.02 < validation[0].bytes / len(text) < 0.08


def test_one_giant_beside_crumbs_is_cut_too(prose: Prose) -> None:
    documents = documents_of(prose(1, 20000), prose(2, 40), prose(3, 40))
    train, validation = split(documents, alone(documents), 0.05, seed=1)
    assert [d.id for d in train] == ["d0#train", "d1", "d2"]
    assert [d.id for d in validation] == ["d0#validation"]


@pytest.mark.parametrize("text", ["too short", "x" * 100_000, "word " * 60])
def test_what_cannot_be_split_is_refused_with_what_is_needed(text: str) -> None:
    documents = documents_of(text)
    with pytest.raises(DataError, match="too short to be split"):
        split(documents, alone(documents), 0.05, seed=1)


@given(st.text(alphabet="ab \n", min_size=2000, max_size=4000), st.floats(0.15, 0.5))
def test_cut_loses_only_white_space(text: str, fraction: float) -> None:
    try:
        before, after = cut(Document("d", "D", "test", text), fraction)
    except DataError:
        return
    assert (before.text + after.text).split() == text.split() or (
        before.text + " " + after.text
    ).split() == text.split()
