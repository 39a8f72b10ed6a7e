"""Reference bands: made of runs, and what they say of another."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.config import to_toml
from groundup.core.errors import DataError
from groundup.core.files import read_jsonl, write_jsonl, write_text
from groundup.diagnosis import bands, diagnose
from groundup.diagnosis.records import Stage
from groundup.recipes import load, with_options

Make = Callable[[Path, Any], Path]


@pytest.fixture(scope="module")
def runs(make_run: Make, plan: Any, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Runs that differ in their seeds."""
    folder = tmp_path_factory.mktemp("seeds")
    return [make_run(folder / str(seed), plan.but(seed=seed, steps=24)) for seed in (1, 2, 3, 4)]


@pytest.fixture
def known(runs: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The bands of three of the runs are those of a shipped recipe."""
    made = json.loads(json.dumps(bands.record(runs[:3])))
    monkeypatch.setattr(bands, "shipped", lambda: iter([("invented", made)]))


def verdict(run: Path) -> list[tuple[str, str]]:
    return [(finding.severity, finding.what) for finding in diagnose(run) if finding.name == "reference"]


def test_a_band_has_a_low_a_median_and_a_high_of_every_step(runs: list[Path]) -> None:
    band = bands.record(runs[:3])["pretrain"]
    assert band["seeds"] == [1, 2, 3]
    steps = [point[0] for point in band["points"]]
    assert (steps[0], steps[-1]) == (1, 24) and steps == sorted(set(steps))
    assert all(low < middle < high for _, low, middle, high in band["points"])


@pytest.mark.usefixtures("known")
def test_another_seed_is_normal(runs: list[Path]) -> None:
    assert verdict(runs[3]) == [("ok", "pretrain: the loss is normal")]


@pytest.mark.usefixtures("known")
def test_a_loss_outside_the_band_is_told(runs: list[Path], tmp_path: Path) -> None:
    run = Path(shutil.copytree(runs[3], tmp_path / "run"))
    log = run / "pretrain" / "metrics.jsonl"
    write_jsonl(log, [{**row, **({"loss": 2 * row["loss"]} if row["step"] > 8 else {})} for row in read_jsonl(log)])
    assert verdict(run) == [("warning", "the loss is higher than that of other runs of this recipe")]


@pytest.mark.usefixtures("known")
def test_a_run_of_other_settings_has_no_band(plan: Any, make_run: Make, tmp_path: Path) -> None:
    assert verdict(make_run(tmp_path / "run", plan.times(0.5).but(steps=24))) == []


def test_a_band_needs_several_runs_of_one_recipe(runs: list[Path], plan: Any, make_run: Make, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 3 runs"):
        bands.record(runs[:2])
    other = make_run(tmp_path / "run", plan.but(steps=12))
    with pytest.raises(DataError, match=r"pretrain\.steps 12, not 24"):
        bands.record([*runs[:2], other])


@pytest.mark.parametrize("name", [name for name, _ in bands.shipped()])
def test_a_shipped_band_is_that_of_the_recipe_as_it_is_now(name: str, tmp_path: Path) -> None:
    recipe = with_options(load(name), [], "test")
    write_text(tmp_path / "recipe.toml", to_toml(recipe))
    found: dict[str, Any] = dict(bands.shipped())[name]
    for stage_name, band in found.items():
        (tmp_path / stage_name).mkdir()
        assert bands.settings_of(Stage(tmp_path / stage_name, tmp_path)) == band["settings"]
        assert len(band["seeds"]) >= bands.LEAST_RUNS
        assert [step for step, *_ in band["points"]] == sorted({step for step, *_ in band["points"]})
        assert all(low < middle < high for _, low, middle, high in band["points"])
