"""The steps keep and drop by their thresholds, and say why without quoting."""

import pickle
from pathlib import Path

import numpy as np
import pytest

from groundup.core.errors import ArtifactError, UsageError
from groundup.corpus.document import Document, Dropped
from groundup.corpus.scoring import (
    Classifier,
    ClassifierConfig,
    ClassifierFilter,
    NgramModel,
    PerplexityConfig,
    PerplexityFilter,
    WordListConfig,
    WordListFilter,
)
from groundup.corpus.scoring.classifier import features

BUCKETS = 1 << 16
GOOD, BAD = "evidence " * 20, "casino " * 20


def document(text: str) -> Document:
    return Document("1", "", "test", text, measures={"other": 1.0})


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    weights = np.zeros(BUCKETS, np.float32)
    weights[features("evidence", 1, BUCKETS, 0)], weights[features("casino", 1, BUCKETS, 0)] = 2.0, -2.0
    Classifier(weights, bias=0.0, order=1, characters=0).save(tmp_path / "classifier")
    return tmp_path / "classifier"


@pytest.fixture
def ngram(tmp_path: Path) -> Path:
    NgramModel.fit([GOOD], 2).save(tmp_path / "ngram")
    return tmp_path / "ngram"


@pytest.fixture
def words(tmp_path: Path) -> Path:
    path = tmp_path / "words.txt"
    path.write_text("# listed\nGrumble\nfilthy weather\n\n", encoding="utf-8")
    return path


def test_the_classifier_keeps_good_and_drops_bad(classifier: Path) -> None:
    step = ClassifierFilter(ClassifierConfig(classifier, threshold=0.5))
    kept, dropped = step(document(GOOD)), step(document(BAD))
    assert isinstance(kept, Document)
    assert kept.measures == {"other": 1.0, "quality.score": pytest.approx(1 / (1 + np.exp(-2)))}
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.detail) == ("quality score", "score 0.119, the limit is 0.5")
    assert dropped.document.measures["quality.score"] < 0.5
    short = document("casino")
    assert step(short) is short
    assert pickle.loads(pickle.dumps(step))(document(GOOD)) == kept


def test_perplexity_has_an_upper_and_a_lower_limit(ngram: Path) -> None:
    low = NgramModel.open(ngram).perplexity(GOOD)
    kept = PerplexityFilter(PerplexityConfig(ngram))(document(BAD))
    assert isinstance(kept, Document) and kept.measures["perplexity"] > low
    high = PerplexityFilter(PerplexityConfig(ngram, maximum=low + 0.1))(document(BAD))
    assert isinstance(high, Dropped) and high.reason == "high perplexity"
    same = PerplexityFilter(PerplexityConfig(ngram, minimum=low + 0.1))(document(GOOD))
    assert isinstance(same, Dropped) and same.reason == "low perplexity"
    blank = document(" " * 99)
    assert PerplexityFilter(PerplexityConfig(ngram))(blank) is blank


def test_listed_words_are_counted_and_not_quoted(words: Path) -> None:
    step = WordListFilter(WordListConfig(words, most=0.1, fewest=2))
    once = step(document("we GRUMBLE about it"))
    assert isinstance(once, Document) and once.measures["listed.share"] == 0.25
    dropped = step(document("filthy weather, they grumble"))
    assert isinstance(dropped, Dropped)
    assert (dropped.reason, dropped.detail) == ("listed words", "2 of 5 words listed, the limit is 0.1")
    diluted = step(document("grumble grumble " + "word " * 50))
    assert isinstance(diluted, Document)
    clean = document("filthy old weather")
    assert step(clean) is clean


def test_what_cannot_be_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError):
        ClassifierFilter(ClassifierConfig(tmp_path / "nothing"))
    with pytest.raises(ArtifactError):
        PerplexityFilter(PerplexityConfig(tmp_path / "nothing"))
    (tmp_path / "empty.txt").write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(UsageError, match="lists no word"):
        WordListFilter(WordListConfig(tmp_path / "empty.txt"))
    with pytest.raises(UsageError, match=r"corpus\.classifier\.threshold"):
        ClassifierConfig(threshold=2)
    with pytest.raises(UsageError, match=r"corpus\.perplexity\.maximum"):
        PerplexityConfig(maximum=5, minimum=10)
    with pytest.raises(UsageError, match=r"corpus\.word_list\.most"):
        WordListConfig(most=2)
