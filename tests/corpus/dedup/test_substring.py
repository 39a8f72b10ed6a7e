import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.corpus.dedup import Substring, SubstringConfig, run
from groundup.corpus.dedup.suffix import first_occurrences
from groundup.corpus.document import Document, Dropped

Prose = Callable[..., str]


def documents_of(*texts: str) -> list[Document]:
    return [Document(f"d{number}", "", "test", text) for number, text in enumerate(texts)]


def texts_of(results: list[Document | Dropped]) -> list[str]:
    return ["" if isinstance(result, Dropped) else result.text for result in results]


def brute_force(texts: list[list[str]], length: int) -> list[list[str]]:
    """Cut every run that occurred before, except what it shares with its first occurrence."""
    seen: dict[tuple[str, ...], tuple[int, int]] = {}
    left = []
    for number, words in enumerate(texts):
        cut: set[int] = set()
        for start in range(len(words) - length + 1):
            run_ = tuple(words[start : start + length])
            owner, place = seen.setdefault(run_, (number, start))
            if (owner, place) != (number, start):
                kept = range(place, place + length) if owner == number else range(0)
                cut |= set(range(start, start + length)) - set(kept)
        left.append([word for place, word in enumerate(words) if place not in cut])
    return left


@settings(max_examples=10)
@given(
    st.lists(st.lists(st.sampled_from(["a", "b", "c"]), max_size=25), min_size=1, max_size=6),
    st.integers(2, 5),
    st.integers(1, 3),
)
def test_words_equal_brute_force(
    tmp_path_factory: pytest.TempPathFactory, texts: list[list[str]], length: int, size: int
) -> None:
    documents = documents_of(*(" ".join(words) for words in texts))
    shards = [documents[start : start + size] for start in range(0, len(documents), size)]
    folder = tmp_path_factory.mktemp("substring")
    results = list(run(Substring(SubstringConfig(length=length)), shards, folder, memory=20_000))
    assert texts_of(results) == [" ".join(words) for words in brute_force(texts, length)]


def test_a_suffix_array_finds_the_same_runs(tmp_path: Path) -> None:
    rng = random.Random(2)
    texts = [[rng.choice("abcd") for _ in range(200)] for _ in range(10)]
    length = 6
    results = list(run(Substring(SubstringConfig(length=length)), [documents_of(*map(" ".join, texts))], tmp_path))
    tokens, starts = [], []
    for number, words in enumerate(texts):
        starts.append(len(tokens))
        tokens += [*(ord(word) for word in words), -1 - number]
    first = first_occurrences(np.array(tokens), length)
    cut: set[int] = set()
    for place, original in enumerate(first.tolist()):
        if 0 <= original < place:
            cut |= set(range(place, place + length)) - set(range(original, original + length))
    expected = [
        " ".join(word for place, word in enumerate(words) if start + place not in cut)
        for start, words in zip(starts, texts, strict=True)
    ]
    assert texts_of(results) == expected


def test_a_passage_of_fifty_words_stays_once(tmp_path: Path, prose: Prose) -> None:
    passage = " ".join(prose(9, 50).split())
    ends = [prose(seed, 80) for seed in range(4)]
    texts = [f"{ends[0]}\n\n{passage}", f"{ends[1]}\n\n{passage.upper()}!\n\n{ends[2]}", passage, ends[3]]
    results = list(run(Substring(SubstringConfig()), [documents_of(*texts[:2]), documents_of(*texts[2:])], tmp_path))
    first, second, third, fourth = results
    assert isinstance(first, Document) and first.text == texts[0]
    assert isinstance(second, Document) and second.text.split() == [*ends[1].split(), ".!", *ends[2].split()]
    assert second.measures == {"passages.removed": 1.0, "words.removed": 50.0}
    assert isinstance(third, Dropped) and third.detail == "nothing is left without what d0 says"
    assert isinstance(fourth, Document) and fourth.text == ends[3]


def test_forty_nine_words_may_repeat(tmp_path: Path, prose: Prose) -> None:
    passage = " ".join(prose(9, 49).split())
    texts = [f"{prose(1, 60)} {passage}", f"{passage} {prose(2, 60)}"]
    assert texts_of(list(run(Substring(SubstringConfig()), [documents_of(*texts)], tmp_path))) == texts


def test_a_loop_keeps_one_passage(tmp_path: Path) -> None:
    results = list(run(Substring(SubstringConfig(length=50)), [documents_of("la " * 500)], tmp_path))
    assert texts_of(results) == [" ".join(["la"] * 50)]


def test_bytes_part_no_character(tmp_path: Path) -> None:
    config = SubstringConfig(length=8, unit="bytes")
    texts = ["größenwahn zwölf", "x größenwahn z", "ößöß öß", "aößöß öb"]
    results = texts_of(list(run(Substring(config), [documents_of(*texts)], tmp_path)))
    assert results[:3] == [texts[0], "x", texts[2]]
    assert results[3].encode() and results[3] in ("ab", "a b")


@pytest.mark.parametrize("wrong", [{"length": 1}, {"unit": "pages"}])
def test_a_wrong_config_says_which_key(wrong: dict[str, object]) -> None:
    with pytest.raises(UsageError, match=rf"corpus\.substring\.{next(iter(wrong))}"):
        SubstringConfig(**wrong)  # type: ignore[arg-type]
