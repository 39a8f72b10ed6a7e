"""``groundup corpus train-classifier``: files of examples become a model that opens, and a report."""

import json
from pathlib import Path

import pytest

from groundup.core.errors import DataError, UsageError
from groundup.corpus.scoring import Classifier, NgramModel
from groundup.corpus.scoring.command import main


@pytest.fixture
def examples(tmp_path: Path) -> tuple[Path, Path]:
    paths = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    for path, phrase in zip(paths, ("evidence of a theorem", "casino for the winner"), strict=True):
        rows = [json.dumps({"text": f"{phrase} number {'i' * number}"}) for number in range(60)]
        path.write_text("\n".join(rows), encoding="utf-8")
    return paths


def words(examples: tuple[Path, Path], out: Path, *more: str) -> list[str]:
    return ["--good", str(examples[0]), "--bad", str(examples[1]), "--out", str(out), *more]


def test_a_classifier_is_trained_and_reported(
    examples: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(examples, tmp_path / "model", "--json", "--training.buckets", "4096")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["auc"] == 1
    assert report["trained_on"] + report["good"] + report["bad"] == 120
    assert Classifier.open(tmp_path / "model").score("evidence of a theorem") > 0.5


def test_an_ngram_model_is_fitted_and_reported(
    examples: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(words(examples, tmp_path / "model", "--ngram")) == 0
    assert "perplexity per word" in capsys.readouterr().out
    assert NgramModel.open(tmp_path / "model").order == 3


def test_what_is_missing_or_in_the_way_is_told(examples: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--good FILE"):
        main(["--good", str(examples[0])])
    with pytest.raises(UsageError, match="exists; choose another"):
        main(words(examples, tmp_path))
    with pytest.raises(DataError, match=r"missing\.jsonl does not exist"):
        main(words((examples[0], tmp_path / "missing.jsonl"), tmp_path / "model"))
    with pytest.raises(UsageError, match="ngram-order"):
        main(words(examples, tmp_path / "model", "--ngram-order", "9"))
