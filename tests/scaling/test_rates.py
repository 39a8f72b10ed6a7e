"""``groundup pretrain --find-lr``: a search in a run directory that leaves the run alone."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.files import read_json
from groundup.scaling.rates import run

Call = Callable[..., Any]
SMALL = ("smoke", "--model.layers=1", "--model.width=32", "--model.context=16", "--pretrain.rows=2",
         "--pretrain.optimizer.matrix-rate=0.05", "--pretrain.optimizer.rate=0.05")  # fmt: skip


def test_a_search_leaves_a_curve_and_nothing_else(call: Call, tiny_corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = (*SMALL, "--corpus.path", str(tiny_corpus), "--out", str(out), "--find-lr", "--lr-steps", "50")
    outcome = call(run, *words)
    assert outcome.code == 0, outcome.err
    figures = read_json(out / "pretrain-rates" / "rates.json")
    factor = figures["factors"]["proposal"]
    assert figures["proposal"] == {
        "matrix_rate": pytest.approx(0.05 * factor),
        "rate": pytest.approx(0.05 * factor),
    }
    assert f"--pretrain.optimizer.matrix-rate {0.05 * factor:.3g}" in outcome.out
    assert len(outcome.out.splitlines()) > 12
    assert {path.name for path in out.iterdir() if path.is_dir()} == {"corpus", "tokenizer", "pretrain-rates"}
    drawn = {path.name for path in (out / "pretrain-rates").iterdir()}
    assert drawn == {"rates.json", "rates.svg", "rates.png"}
    again = call(run, *words, "--json")
    assert read_json(out / "pretrain-rates" / "rates.json") == figures
    assert again.out.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("--lr-steps x", "lr-steps"),
        ("--lr-steps 5", "lr-steps is 5"),
        ("--lr-low 3 --lr-high 2", "lr-low is 3 and lr-high 2"),
        ("--lr-hihg 2", "unknown key lr-hihg"),
    ],
)
def test_wrong_use_is_told_before_anything_is_made(words: str, complaint: str, call: Call, tmp_path: Path) -> None:
    outcome = call(run, "smoke", "--find-lr", "--out", str(tmp_path / "run"), *words.split())
    assert outcome.code == 2
    assert complaint in outcome.err
    assert not (tmp_path / "run").exists()
