"""The recipes that ship, and one's own."""

import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import UsageError
from groundup.recipes import Recipe, load, shipped, with_absolute_paths


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
