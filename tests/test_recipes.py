"""The recipes that ship, and one's own."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import UsageError
from groundup.recipes import Recipe, load, shipped, with_absolute_paths, with_options


def test_what_ships() -> None:
    assert {"overnight", "quickstart", "smoke"} <= set(shipped())


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_recipe_loads_and_says_what_it_is_for(name: str) -> None:
    recipe = load(name)
    assert 20 < len(recipe.description) < 120
    assert "\n" not in recipe.description


def test_the_command_lists_them(command: Callable[..., Any]) -> None:
    outcome = command("recipes")
    assert outcome.code == 0
    assert outcome.err == ""
    listed = dict(line.split(maxsplit=1) for line in outcome.out.splitlines())
    assert listed == {name: load(name).description for name in shipped()}
    assert command("recipes", "more").complaint.startswith("unexpected 'more'")


def test_ones_own_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("seed = 5\n[pretrain]\nsteps = 7\n[pretrain.optimizer]\nrate = 1e-4\n", encoding="utf-8")
    recipe = load(str(path))
    assert (recipe.seed, recipe.pretrain.steps, recipe.pretrain.optimizer.rate) == (5, 7, 1e-4)
    assert recipe.sft == Recipe().sft


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("quikstart", "unknown recipe 'quikstart'; did you mean 'quickstart'?"),
        ("smok", "did you mean 'smoke'?"),
        ("xyz", "unknown recipe 'xyz'; use "),
        ("absent.toml", "absent.toml does not exist; see `groundup recipes`"),
    ],
)
def test_an_unknown_recipe_is_refused(name: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        load(name)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[pretrain]\nstep = 3", "recipe mine.toml: unknown key pretrain.step; did you mean pretrain.steps?"),
        ("[pretrian]\nsteps = 3", "recipe mine.toml: unknown key pretrian.steps; did you mean pretrain.steps?"),
        ("[pretrian]", "recipe mine.toml: unknown section pretrian; did you mean pretrain?"),
        ("[model]\nwidth = 30\nheads = 4", "recipe mine.toml: model.width 30 cannot be split into 4 heads"),
        ("[model]\nwidth = 'wide'", "model.width"),
        ("[corpus]\nsource = 'nobody'", "corpus source 'nobody' is unknown"),
        ("[pretrain]\nsteps\nrows = 3", "line 2"),
    ],
)
def test_a_mistake_in_a_recipe_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(UsageError) as caught:
        load(str(path))
    assert words in str(caught.value)
    assert "mine.toml" in str(caught.value)


def test_the_users_path_means_the_same_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.toml"
    path.write_text("[corpus]\npath = 'texts'\n", encoding="utf-8")
    assert with_absolute_paths(load(str(path))).corpus.path == tmp_path / "texts"
    assert with_absolute_paths(Recipe()) == Recipe()


def test_the_recipe_of_a_run_is_complete_and_runs_it_again(
    tiny_run: Path, tiny_corpus: Path, command: Callable[..., Any]
) -> None:
    path = tiny_run / "recipe.toml"
    recipe = load(str(path))
    assert recipe.corpus.path == tiny_corpus
    assert recipe.pretrain.steps == 6
    assert (
        tomllib.loads(path.read_text(encoding="utf-8"))["pretrain"]["optimizer"]["rate"]
        == recipe.pretrain.optimizer.rate
    )
    outcome = command("run", path, "--out", tiny_run)
    assert outcome.code == 0
    assert outcome.err.count("up to date") == 8


def test_the_dial_carries_rates_and_batch_along() -> None:
    shipped = with_options(load("quickstart"), [], "test")
    deeper = with_options(load("quickstart"), ["--model.depth", "8"], "test")
    assert (deeper.model.layers, deeper.model.width, deeper.model.heads) == (8, 384, 6)
    assert deeper.pretrain.accumulation == 2 * shipped.pretrain.accumulation
    for stage in ("pretrain", "sft", "dpo", "grpo"):
        before, after = getattr(shipped, stage).optimizer, getattr(deeper, stage).optimizer
        assert after.rate == pytest.approx(before.rate * 0.5**0.5)
    assert with_options(deeper, [], "test") == deeper


def test_mup_keeps_the_rates_of_the_width_that_was_tuned() -> None:
    options = ["--model.depth", "8", "--model.no-tied", "--model.mup-width"]
    tuned = with_options(load("quickstart"), [*options, "192"], "test").pretrain.optimizer
    assert tuned.rate == load("quickstart").pretrain.optimizer.rate
    with pytest.raises(UsageError, match="set them alike"):
        with_options(load("quickstart"), [*options, "64"], "test")
