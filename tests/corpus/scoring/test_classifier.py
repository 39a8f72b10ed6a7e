"""The classifier finds the optimum of its convex problem, learns what can be learnt, and is the same after a trip to
the disk."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from groundup.core.errors import ArtifactError, DataError, UsageError
from groundup.corpus.scoring import Classifier, TrainingConfig, train
from groundup.corpus.scoring.classifier import features, fit

GOOD = [*("theorem", "experiment", "library", "harbour", "because", "evidence"), "history of science"]
BAD = [*("click", "winner", "free", "casino", "cheap", "subscribe"), "buy now"]
COMMON = ["the", "and", "of", "in", "with", "a", "to", "is", "on", "we"]
SMALL = TrainingConfig(buckets=1 << 12, epochs=5)


def texts(kind: list[str], count: int, seed: int) -> list[str]:
    rng = random.Random(seed)
    return [
        " ".join(rng.choices(COMMON, k=20) + rng.choices(kind, k=4) + rng.choices(COMMON, k=9)) for _ in range(count)
    ]


def test_training_ends_at_the_optimum_that_lbfgs_finds() -> None:
    rng = np.random.default_rng(0)
    buckets, l2 = 16, 0.01
    truth = rng.normal(size=buckets) * 3
    documents = [rng.integers(0, buckets, rng.integers(1, 8)).astype(np.int32) for _ in range(300)]
    labels = np.array([rng.random() < 1 / (1 + np.exp(-truth[one].mean() - 0.3)) for one in documents], np.float64)

    config = TrainingConfig(buckets=buckets, l2=l2, batch=300, epochs=400, learning_rate=1.0)
    weights, bias = fit(documents, labels, config, seed=1)

    rows = torch.tensor(np.array([np.bincount(one, minlength=buckets) / one.size for one in documents]))
    parameters = torch.zeros(buckets + 1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([parameters], max_iter=500, tolerance_grad=1e-10, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        logits = rows @ parameters[:-1] + parameters[-1]
        value = torch.nn.functional.binary_cross_entropy_with_logits(logits, torch.tensor(labels))
        value = value + l2 / 2 * parameters[:-1].square().sum()
        value.backward()
        return value

    optimizer.step(loss)
    assert np.append(weights, bias) == pytest.approx(parameters.detach().numpy(), abs=2e-3)


def test_unseen_texts_are_told_apart() -> None:
    classifier, report = train(texts(GOOD, 200, 1), texts(BAD, 200, 2), SMALL, seed=0)
    assert report.auc > 0.99
    assert report.at(0.5).f1 > 0.95
    assert report.good + report.bad + report.trained_on == 400
    assert classifier.score("the evidence of a theorem in the library") > 0.5
    assert classifier.score("click to subscribe to the cheap casino") < 0.5


def test_the_same_seed_gives_the_same_bits() -> None:
    one, _ = train(texts(GOOD, 60, 1), texts(BAD, 60, 2), SMALL, seed=3)
    same, _ = train(texts(GOOD, 60, 1), texts(BAD, 60, 2), SMALL, seed=3)
    other, _ = train(texts(GOOD, 60, 1), texts(BAD, 60, 2), SMALL, seed=4)
    assert np.array_equal(one.weights, same.weights) and one.bias == same.bias
    assert not np.array_equal(one.weights, other.weights)


def test_a_score_is_the_mean_of_the_weights() -> None:
    classifier = Classifier(np.arange(16, dtype=np.float32), bias=-7.0, order=2, characters=0)
    found = features("a b c", 2, 16, 0)
    assert found.size == 5
    assert classifier.log_odds("a b c") == pytest.approx(found.mean() - 7)
    assert classifier.log_odds("  ") == -7
    assert Classifier(classifier.weights, -7.0, 2, 3).log_odds("a b c") == classifier.log_odds("a b")


def test_it_is_the_same_after_a_trip_to_the_disk(tmp_path: Path) -> None:
    classifier, report = train(texts(GOOD, 40, 1), texts(BAD, 40, 2), SMALL, seed=0)
    classifier.save(tmp_path / "model", report)
    again = Classifier.open(tmp_path / "model")
    assert again.score(GOOD[0]) == classifier.score(GOOD[0])
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        "classifier.json",
        "weights.safetensors",
        "report.json",
    }
    (tmp_path / "model" / "weights.safetensors").write_bytes(b"short")
    with pytest.raises(ArtifactError, match="damaged"):
        Classifier.open(tmp_path / "model")
    with pytest.raises(ArtifactError):
        Classifier.open(tmp_path)


def test_too_few_examples_are_refused() -> None:
    with pytest.raises(DataError, match="3 bad texts are too few"):
        train(texts(GOOD, 40, 1), texts(BAD, 3, 2), SMALL, seed=0)


@pytest.mark.parametrize(
    "wrong", [{"order": 0}, {"buckets": 1000}, {"epochs": 0}, {"learning_rate": 0.0}, {"held_out": 1.0}, {"l2": -1.0}]
)
def test_a_wrong_option_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=next(iter(wrong))):
        replace(SMALL, **wrong)
