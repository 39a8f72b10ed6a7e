import random
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.errors import DataError
from groundup.core.files import write_text
from groundup.corpus.build import CorpusConfig, prepare, related
from groundup.corpus.dedup import MinHashConfig
from groundup.corpus.document import Document
from groundup.corpus.pipeline.engine import Outcome, run
from groundup.corpus.pipeline.executor import executor_for
from groundup.corpus.split import Groups, Side, Split, cut, joined, linked, split

Prose = Callable[..., str]
#: Seeds of the split.
SEEDS = st.integers(0, 2**32)


def documents_of(*texts: str) -> list[Document]:
    return [Document(f"d{number}", f"D{number}", "test", text) for number, text in enumerate(texts)]


def parted(
    documents: list[Document], seed: int = 1, groups: Sequence[Sequence[int]] | None = None, **fractions: float
) -> Split:
    sides: dict[Side, float] = {"validation": 0.05, **fractions}  # type: ignore[dict-item]
    alone = [[number] for number in range(len(documents))]
    return split([document.bytes for document in documents], groups or alone, sides, seed, documents.__getitem__)


@given(
    st.lists(st.integers(100, 2000), min_size=60, max_size=120), SEEDS, st.integers(1, 4), st.sampled_from([0.0, 0.1])
)
def test_sides_are_disjoint_deterministic_large_enough_and_keep_groups(
    sizes: list[int], seed: int, width: int, test: float
) -> None:
    documents = documents_of(*("x" * size for size in sizes))
    groups = [range(start, min(start + width, len(sizes))) for start in range(0, len(sizes), width)]
    fractions = {"validation": 0.1, **({"test": test} if test else {})}
    result = parted(documents, seed, groups, **fractions)
    assert result == parted(documents, seed, groups, **fractions)
    assert result.sides == ("train", *fractions) and not result.pieces
    assert result.held_out["validation"] == parted(documents, seed, groups, validation=0.1).held_out["validation"]
    for chosen in result.held_out.values():
        assert len(chosen) >= 2
        assert all(chosen.issuperset(group) or chosen.isdisjoint(group) for group in groups)
        assert 0.025 * sum(sizes) <= sum(sizes[number] for number in chosen) <= 0.125 * sum(sizes)
    assert sum(map(len, result.held_out.values())) == len(set().union(*result.held_out.values())) <= len(sizes) - 2


def test_seed_chooses_the_documents() -> None:
    documents = documents_of(*("x" * 1000 for _ in range(50)))
    choices = {tuple(sorted(parted(documents, seed).held_out["validation"])) for seed in range(20)}
    assert len(choices) > 10


@pytest.mark.parametrize("joint", ["\n\n", "\n", " "])
def test_single_document_is_cut_near_its_end(prose: Prose, joint: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = joint.join(prose(1, 4000).split("\n\n" if joint == "\n\n" else None))
    pieces = parted(documents_of(text)).pieces[0]
    assert "end of 'd0' becomes the validation text" in capsys.readouterr().err
    assert {side: piece.id for side, piece in pieces.items()} == {"train": "d0#train", "validation": "d0#validation"}
    assert pieces["train"].text + joint + pieces["validation"].text.lstrip() == text
    assert 0.02 < pieces["validation"].bytes / len(text) < 0.08


def test_a_single_document_gives_three_sides(prose: Prose) -> None:
    text = prose(1, 4000)
    pieces = parted(documents_of(text), test=0.1).pieces[0]
    assert [pieces[side].id for side in ("train", "validation", "test")] == ["d0#train", "d0#validation", "d0#test"]
    assert "\n\n".join(pieces[side].text for side in ("train", "test", "validation")) == text
    assert 0.05 < pieces["test"].bytes / len(text) < 0.15


def test_one_giant_beside_crumbs_is_cut_too(prose: Prose) -> None:
    result = parted(documents_of(prose(1, 20000), prose(2, 40), prose(3, 40)))
    assert list(result.pieces) == [0] and result.side_of(1) == result.side_of(2) == "train"


def test_rather_a_document_without_relatives_is_cut(prose: Prose, capsys: pytest.CaptureFixture[str]) -> None:
    documents = documents_of(prose(1, 9000), prose(2, 8000), prose(3, 8000))
    assert list(parted(documents, groups=[[0, 1], [2]]).pieces) == [2]
    assert "related" not in capsys.readouterr().err
    assert list(parted(documents, groups=[[0, 1, 2]]).pieces) == [0]
    assert "2 documents that are related to it stay in the train text" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["too short", "x" * 100_000, "word " * 60], ids=["short", "one word", "few words"])
def test_what_cannot_be_split_is_refused_with_what_is_needed(text: str) -> None:
    with pytest.raises(DataError, match="too short to be split"):
        parted(documents_of(text))


@given(st.text(alphabet="ab \n", min_size=2000, max_size=4000), st.floats(0.15, 0.5))
def test_cut_loses_only_white_space(text: str, fraction: float) -> None:
    try:
        before, after = cut(Document("d", "D", "test", text), "test", fraction)
    except DataError:
        return
    assert (before.text + after.text).split() == text.split() or (
        before.text + " " + after.text
    ).split() == text.split()


# --- relatives --------------------------------------------------------------------------------------------------------


def test_groups_are_in_the_order_of_their_first_members() -> None:
    groups = Groups(7, [[1, 4], [2, 6]])
    assert list(groups) == [(0,), [1, 4], [2, 6], (3,), (5,)] and len(groups) == 5


def test_groups_that_share_members_are_one() -> None:
    assert joined([[5], [0, 3], [1], [2], [4]], [[2, 3], [4, 0], [1]]) == [[5], [0, 3, 2, 4], [1]]


def test_links_go_through_others() -> None:
    assert linked([[7, 3], [9], [3, 5], [1, 2]]) == [[1, 2], [3, 5, 7], [9]]


#: Pipelines that find twins, and what is set so that some of them stay.
PIPELINES = {
    "near duplicates": (("clean", "near-duplicates"), {}),
    "minhash": (("clean", "exact-duplicates", "minhash"), {}),
    "both": (("clean", "minhash", "near-duplicates"), {}),
    "both, the other way round": (("clean", "near-duplicates", "minhash"), {}),
    "near duplicates that keep": (("clean", "near-duplicates"), {"resemblance": 1.0, "containment": 1.0}),
    "minhash that keeps": (
        ("clean", "exact-duplicates", "minhash"),
        {"minhash": MinHashConfig(similarity=0.2, bands=64, rows=2)},
    ),
    "both that keep": (
        ("clean", "minhash", "near-duplicates"),
        {"resemblance": 1.0, "containment": 1.0, "minhash": MinHashConfig(similarity=0.2, bands=64, rows=2)},
    ),
}


def twins(prose: Prose, chains: int) -> Iterator[tuple[int, str]]:
    """Texts, and the family of each: a text, its copy, one with other words in it, one whose paragraphs are shifted;
    and chains of which the middle resembles both ends, which share nothing."""
    for family in range(6):
        text = prose(family, 400)
        words = text.split(" ")
        for place in range(10, len(words), 97):
            words[place] = "otherwise"
        paragraphs = text.split("\n\n")
        shifted = [*paragraphs[4:], *paragraphs[:4]]
        yield from ((family, each) for each in (text, text, " ".join(words), "\n\n".join(shifted)))
    for family in range(6, 6 + chains):
        a, b, c, d = (prose(100 + 4 * family + part, 200) for part in range(4))
        yield from ((family, f"{one}\n\n{other}") for one, other in ((a, b), (b, c), (c, d)))
    yield from ((family, prose(1000 + family, 300)) for family in range(6 + chains, 40))


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_no_twin_crosses_the_split(pipeline: str, prose: Prose, tmp_path: Path) -> None:
    texts = list(twins(prose, chains=0 if pipeline == "minhash" else 6))  # it takes a third for no resemblance
    random.Random(pipeline).shuffle(texts)
    for place, (family, text) in enumerate(texts):
        write_text(tmp_path / "texts" / f"{place:02}-{family}.txt", text)
    steps, options = PIPELINES[pipeline]
    config = CorpusConfig(path=tmp_path / "texts", steps=steps, workers=1, **options)  # type: ignore[arg-type]
    plan, shards = prepare(config, tmp_path / "corpus")
    run(plan, shards, executor_for(1, 0))
    outcome = Outcome.of(plan)
    sizes, groups = outcome.sizes().tolist(), related(outcome)
    families = [document.id.split("-")[1] for document in outcome.documents()]
    assert sorted(number for group in groups for number in group) == list(range(len(sizes)))

    @given(SEEDS)
    def never(seed: int) -> None:
        fractions: dict[Side, float] = {"validation": 0.2, "test": 0.2}
        result = split(sizes, groups, fractions, seed, lambda number: pytest.fail("whole documents suffice"))
        sides: dict[str, set[Side]] = {}
        for number, family in enumerate(families):
            sides.setdefault(family, set()).add(result.side_of(number))
        assert len(sides) == 40 and all(len(found) == 1 for found in sides.values())

    never()
