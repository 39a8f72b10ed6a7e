import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import ArtifactError, UsageError
from groundup.corpus.dedup import Exact, ExactConfig, Workspace, canonical_url, find_duplicates, run
from groundup.corpus.dedup.cross import _repeated
from groundup.corpus.dedup.exact import parts_of
from groundup.corpus.document import Document, Dropped

Cut = Callable[[list[Document], int], list[list[Document]]]


def documents_of(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "", "test", text) for number, text in enumerate(texts)]


def cut(documents: list[Document], size: int) -> list[list[Document]]:
    return [documents[start : start + size] for start in range(0, len(documents), size)]


def outcome(results: list[Document | Dropped]) -> list[str]:
    return [f"{r.reason}: {r.detail}" if isinstance(r, Dropped) else r.text for r in results]


@pytest.mark.parametrize(("shard_size", "memory"), [(1, 400), (2, 1 << 28), (100, 100)])
def test_the_first_of_equal_texts_stays_however_the_work_is_divided(
    tmp_path: Path, shard_size: int, memory: int
) -> None:
    documents = documents_of("To be\nor not", "other", "to  be or NOT", "", "other", " ", "to be or not")
    results = list(run(Exact(ExactConfig()), cut(documents, shard_size), tmp_path, memory))
    assert outcome(results) == [
        "To be\nor not",
        "other",
        "exact duplicate: same text as d0",
        "",
        "exact duplicate: same text as d1",
        "exact duplicate: same text as d3",
        "exact duplicate: same text as d0",
    ]


@settings(max_examples=12)
@given(st.lists(st.sampled_from("abcdef"), max_size=30), st.integers(5, 30), st.integers(600, 4000))
def test_exact_equals_a_set_of_seen_texts(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], shard_size: int, memory: int
) -> None:
    folder = tmp_path_factory.mktemp("exact")
    results = list(run(Exact(ExactConfig()), cut(documents_of(*texts), shard_size), folder, memory))
    seen: set[str] = set()
    for text, result in zip(texts, results, strict=True):
        assert isinstance(result, Dropped) == (text in seen)
        seen.add(text)


def test_any_order_of_work_and_any_interruption_give_the_same_files(tmp_path: Path) -> None:
    shards = cut(documents_of(*(f"text {number % 37}" for number in range(80))), 9)
    step: Exact = pickle.loads(pickle.dumps(Exact(ExactConfig())))
    straight = tmp_path / "straight"
    expected = outcome(list(run(step, shards, straight, memory=1000)))
    other = tmp_path / "other"
    workspace = Workspace(other, len(shards), memory=1000)
    for shard in reversed(range(len(shards))):  # as ranks that share nothing but the folder would, in any order
        sketches = step.sketches()
        for document in shards[shard]:
            sketches.add(document)
        sketches.write(Workspace(other, len(shards), memory=1000), shard)
    assert workspace.buckets > 4
    for bucket in (3, 1):
        step.resolve(workspace, bucket)
    shutil.rmtree(other / "sketches-000005")
    sketches = step.sketches()
    for document in shards[5]:
        sketches.add(document)
    sketches.write(workspace, 5)
    find_duplicates(step, workspace)
    for file in straight.rglob("*"):
        if file.is_file():
            assert file.read_bytes() == (other / file.relative_to(straight)).read_bytes()
    again = [step.verdicts(pickle.loads(pickle.dumps(workspace)), shard) for shard in range(len(shards))]
    found = [again[s](p, document) for s, shard in enumerate(shards) for p, document in enumerate(shard)]
    assert outcome(found) == expected


def test_hashes_that_agree_in_64_bits_only_are_different() -> None:
    keys = np.array([5, 5, 5, 5, 7], dtype=np.uint64)
    places = np.array([[0, 0, 1], [1, 0, 2], [2, 0, 1], [3, 0, 2], [4, 0, 1]], dtype=np.uint32)
    groups = _repeated(keys, places, places[:, 0].astype(np.int64))
    assert groups.documents.tolist() == [0, 2, 1, 3]
    assert groups.firsts.tolist() == [0, 0, 2, 2]


def test_missing_sketches_are_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="does not exist"):
        find_duplicates(Exact(ExactConfig()), Workspace(tmp_path, 1))


# --- paragraphs and lines

BANNER = "Subscribe to our newsletter and never miss a story again"


def test_repeated_paragraphs_leave_all_but_the_first_document(tmp_path: Path) -> None:
    texts = [f"One\n\n{BANNER}\n\nTwo", f"{BANNER.upper()}\n\nThree\nand four", f"{BANNER}\n \n{BANNER}", "Two"]
    results = list(run(Exact(ExactConfig(unit="paragraph")), cut(documents_of(*texts), 2), tmp_path))
    assert outcome(results) == [
        texts[0],
        "Three\nand four",
        "repeated paragraphs: nothing is left without 2 paragraphs of d0",
        "Two",
    ]
    changed = results[1]
    assert isinstance(changed, Document) and changed.measures == {"paragraphs.removed": 1.0}


def test_a_line_repeated_within_a_document_stays_once(tmp_path: Path) -> None:
    text = f"{BANNER}\nfirst\n{BANNER}\nsecond\n}}\n}}"
    results = list(run(Exact(ExactConfig(unit="line")), [documents_of(text)], tmp_path))
    assert outcome(results) == [f"{BANNER}\nfirst\nsecond\n}}\n}}"]


@given(st.text(alphabet="ab \n\t", max_size=40), st.sampled_from(["paragraph", "line"]))
def test_parts_joined_are_the_text(text: str, unit: str) -> None:
    assert "".join(parts_of(text, unit)) == text


# --- addresses


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/a/b?x=1&y=2",
        "https://www.Example.org:443/a/b/?y=2&x=1#top",
        "https://user@example.org/%61/b?x=1&y=2&utm_source=mail&gclid=7",
    ],
)
def test_spellings_of_one_address(url: str) -> None:
    assert canonical_url(url) == "example.org/a/b?x=1&y=2"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("http://example.org/a", "http://example.org/A"),
        ("http://example.org/?p=1", "http://example.org/?p=2"),
        ("http://example.org:8080/", "http://example.org/"),
        ("http://example.org/a%2Fb", "http://example.org/a/b"),
        ("http://[bad/1", "http://[bad/2"),
    ],
)
def test_different_addresses_stay_different(one: str, other: str) -> None:
    assert canonical_url(one) != canonical_url(other)


@given(st.text(max_size=30))
def test_any_text_has_a_canonical_address(text: str) -> None:
    canonical_url(text)
    canonical_url(f"http://{text}")


def test_pages_of_one_address(tmp_path: Path) -> None:
    documents = [
        Document("a", "", "web", "old", {"url": "http://example.org/x/"}),
        Document("b", "", "web", "new", {"url": "https://www.example.org/x"}),
        Document("c", "", "web", "no address"),
        Document("d", "", "web", "no address"),
    ]
    results = list(run(Exact(ExactConfig(unit="url")), [documents], tmp_path))
    assert outcome(results)[1] == "same address: https://www.example.org/x is also that of a"
    assert [isinstance(result, Dropped) for result in results] == [False, True, False, False]


def test_a_wrong_config_says_which_key() -> None:
    with pytest.raises(UsageError, match=r"corpus\.exact\.unit"):
        ExactConfig(unit="page")  # type: ignore[arg-type]
