"""The steps keep and drop by their thresholds, and say why without quoting."""

import pickle
import shutil
from dataclasses import replace
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
    ToxicityConfig,
    ToxicityFilter,
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


def test_toxicity_drops_what_is_like_the_bad_examples_of_any_classifier(classifier: Path, tmp_path: Path) -> None:
    other = np.zeros(BUCKETS, np.float32)
    other[features("grumble", 1, BUCKETS, 0)] = -3.0
    Classifier(other, bias=3.0, order=1, characters=0).save(tmp_path / "insults")
    step = ToxicityFilter(ToxicityConfig((classifier, tmp_path / "insults"), threshold=0.6))
    kept = step(document(GOOD))
    assert isinstance(kept, Document)
    assert kept.measures["toxicity.score"] == pytest.approx(1 / (1 + np.exp(2)))  # the higher of the two
    for text, reason in ((BAD, "toxicity: classifier"), ("evidence grumble grumble " * 9, "")):
        result = step(document(text))
        assert (result.reason if isinstance(result, Dropped) else "") == reason
    strict = ToxicityFilter(ToxicityConfig((classifier, tmp_path / "insults"), threshold=0.2))
    insult = strict(document("evidence evidence grumble " * 9))
    assert isinstance(insult, Dropped) and insult.reason == "toxicity: classifier"
    short = document("casino")
    assert step(short) is short


def test_a_step_made_anew_reads_its_model_anew(classifier: Path) -> None:
    """In a process that lives long, the file may have changed between two corpora."""
    config = ClassifierConfig(classifier)
    assert isinstance(ClassifierFilter(config)(document(GOOD)), Document)
    shutil.rmtree(classifier)
    Classifier(np.full(BUCKETS, -1, np.float32), bias=0.0, order=1, characters=0).save(classifier)
    assert isinstance(ClassifierFilter(config)(document(GOOD)), Dropped)


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


def test_the_limits_of_perplexity_may_be_percentiles(tmp_path: Path) -> None:
    texts = [" ".join("known" if number < size else f"x{'y' * number}" for number in range(60)) for size in range(50)]
    model = NgramModel.fit(["known known known of all"], 2).with_percentiles({"bad": texts})
    model.save(tmp_path / "ngram")
    values = sorted(map(model.perplexity, texts))
    config = PerplexityConfig(
        tmp_path / "ngram", minimum_percentile=20, maximum_percentile=67, percentiles_of="bad", minimum_characters=0
    )
    step = PerplexityFilter(config)
    reasons = [result.reason if isinstance(result, Dropped) else "" for result in map(step, map(document, texts))]
    assert abs(reasons.count("low perplexity") - 10) <= 1
    assert abs(reasons.count("high perplexity") - 16) <= 1
    assert values[8] < model.at_percentile("bad", 20) < values[11]
    with pytest.raises(ArtifactError, match="without good texts"):
        PerplexityFilter(replace(config, percentiles_of="good"))
    for wrong in ({"maximum_percentile": 100}, {"maximum": 5, "maximum_percentile": 50}, {"minimum_percentile": 67}):
        with pytest.raises(UsageError, match=r"corpus\.perplexity\.m"):
            replace(config, **wrong)


def test_listed_words_are_counted_and_not_quoted(words: Path) -> None:
    step = WordListFilter(WordListConfig((words,), most=0.1, fewest=2))
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
        WordListFilter(WordListConfig((tmp_path / "empty.txt",)))
    with pytest.raises(UsageError, match="names no list"):
        WordListFilter(WordListConfig())
    with pytest.raises(UsageError, match="names no classifier"):
        ToxicityFilter(ToxicityConfig())
    with pytest.raises(UsageError, match=r"corpus\.toxicity\.threshold"):
        ToxicityConfig(threshold=-1)
    with pytest.raises(UsageError, match=r"corpus\.classifier\.threshold"):
        ClassifierConfig(threshold=2)
    with pytest.raises(UsageError, match=r"corpus\.perplexity\.maximum"):
        PerplexityConfig(maximum=5, minimum=10)
    with pytest.raises(UsageError, match=r"corpus\.word_list\.most"):
        WordListConfig(most=2)
