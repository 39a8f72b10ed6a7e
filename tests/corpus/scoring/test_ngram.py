"""The n-gram model: probabilities that add up to one, the formula in dictionaries, and surprise where it belongs."""

import random
import re
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.corpus.scoring import NgramModel

TEXTS = [
    "the cat sat on the mat",
    "the dog sat on the cat",
    "a cat and a dog",
    "the mat is flat",
    "on the mat sat a dog",
]


def plain_probability(texts: list[str], order: int, context: tuple[str, ...], word: str) -> float:
    """Interpolated Kneser-Ney in dictionaries; a text begins after <s>."""
    streams = [("<s>", *text.split()) for text in texts]
    vocabulary = {word for stream in streams for word in stream[1:]}

    def counts(length: int) -> dict[tuple[str, ...], int]:
        grams = Counter(
            stream[start : start + length] for stream in streams for start in range(len(stream) - length + 1)
        )
        grams.pop(("<s>",), None)
        if length == order:
            return grams
        before = defaultdict(set)
        for stream in streams:
            for start in range(len(stream) - length):
                before[stream[start + 1 : start + 1 + length]].add(stream[start])
        return {gram: len(before[gram]) or count for gram, count in grams.items()}

    def probability(context: tuple[str, ...], word: str) -> float:
        length = len(context) + 1
        level = counts(length)
        sizes = Counter(level.values())
        discount = sizes[1] / (sizes[1] + 2 * sizes[2]) if sizes[1] and sizes[2] else 0.5
        followers = [count for gram, count in level.items() if gram[:-1] == context]
        lower = probability(context[1:], word) if context else 1 / (len(vocabulary) + 1)
        if not followers:
            return lower
        own = max(level.get((*context, word), 0) - discount, 0)
        return (own + discount * len(followers) * lower) / sum(followers)

    return probability(context, word)


@pytest.mark.parametrize("order", [1, 2, 3, 4])
@pytest.mark.parametrize("text", ["the cat sat on a mat", "dog dog the", "unknown words sat on the cat", "the"])
def test_probabilities_are_those_of_the_formula(order: int, text: str) -> None:
    model = NgramModel.fit(TEXTS, order)
    words = ["<s>", *text.split()]
    expected = [
        np.log2(plain_probability(TEXTS, order, tuple(words[max(0, place - order + 1) : place]), words[place]))
        for place in range(1, len(words))
    ]
    assert model.log2_probabilities(text) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("start", ["", "the", "the cat", "sat on", "never seen"])
def test_probabilities_of_all_words_add_up_to_one(start: str) -> None:
    model = NgramModel.fit(TEXTS, 3)
    words = {*" ".join(TEXTS).split(), "neverseen"}
    assert len(words) == model.vocabulary + 1
    total = sum(2 ** model.log2_probabilities(f"{start} {word}")[-1] for word in words)
    assert total == pytest.approx(1, abs=1e-5)


def test_disorder_and_foreign_words_surprise() -> None:
    rng = random.Random(0)
    sentences = [f"{rng.choice(['the', 'a'])} {rng.choice(['cat', 'dog'])} sat on {rng.choice(['the', 'a'])} mat ."] * 3
    model = NgramModel.fit([" ".join(sentences) for _ in range(50)], 3)
    ordered = "the cat sat on the mat ."
    shuffled = " ".join(sorted(re.findall(r"\S+", ordered)))
    assert model.perplexity(ordered) < model.perplexity(shuffled) < model.perplexity("lorem ipsum dolor sit amet")


def test_it_is_the_same_after_a_trip_to_the_disk(tmp_path: Path) -> None:
    model = NgramModel.fit(TEXTS, 3)
    model.save(tmp_path / "ngram")
    again = NgramModel.open(tmp_path / "ngram")
    assert again.perplexity("the cat sat") == model.perplexity("the cat sat")
    (tmp_path / "ngram" / "tables.safetensors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="damaged"):
        NgramModel.open(tmp_path / "ngram")


def test_nothing_to_learn_from_is_refused() -> None:
    with pytest.raises(DataError, match="no word"):
        NgramModel.fit(["", "  "], 3)
    with pytest.raises(UsageError, match="order 9"):
        NgramModel.fit(TEXTS, 9)


def test_a_text_without_words_has_no_finite_perplexity() -> None:
    assert NgramModel.fit(TEXTS, 3).perplexity(" ") == float("inf")
