"""Recipes and the command line go through one parser: the last word wins, a typo is refused with a suggestion."""

import ast
import dataclasses
import inspect
import io
import itertools
import re
import tomllib
from contextlib import redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.config import from_table, keys_of, parse, read_toml, to_json, to_toml
from groundup.core.errors import UsageError
from groundup.recipes import Recipe, load, shipped


@dataclass(frozen=True)
class Rates:
    """How fast."""

    rate: float = 0.1
    """Size of a step."""
    betas: tuple[float, ...] = (0.9, 0.95)
    """Decays."""


@dataclass(frozen=True)
class Training:
    """How to train."""

    steps: int = 10
    """How many."""
    save_every: int = 5
    """How often."""
    tied: bool = True
    """Whether tied."""
    precision: Literal["auto", "float32"] = "auto"
    """Which numbers."""
    optimizer: Rates = field(default_factory=Rates)

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise UsageError(f"steps is {self.steps}; it must be at least 1")


@dataclass(frozen=True)
class Config:
    """Everything."""

    name: str = ""
    """What it is called."""
    path: Path | None = None
    """Where."""
    pretrain: Training = field(default_factory=Training)
    sft: Training = field(default_factory=Training)


def given_options(*words: str) -> Config:
    return parse(Config, Config(), words, "groundup run", "command line")


def given_toml(text: str) -> Config:
    return from_table(Config, Config(), tomllib.loads(text), "recipe my.toml")


def test_options_reach_nested_fields_and_the_last_wins() -> None:
    config = given_options("--pretrain.steps", "3", "--pretrain.optimizer.rate=2e-3", "--pretrain.steps=4", "--name=x")
    assert config == Config("x", None, Training(steps=4, optimizer=Rates(rate=0.002)))


def test_a_section_may_be_given_as_a_whole() -> None:
    short = parse(Config, Config(), ["--pretrain", "steps=3,no-tied", "--sft=steps=4"], "program", "command line")
    long = ["--pretrain.steps", "3", "--pretrain.no-tied", "--sft.steps", "4"]
    assert short == parse(Config, Config(), long, "program", "command line")
    assert from_table(Config, Config(), {"pretrain": "steps=3"}, "recipe").pretrain.steps == 3
    assert from_table(Recipe, Recipe(), {"parallel": "auto"}, "recipe").parallel.auto
    with pytest.raises(UsageError, match=r"unknown key pretrain\.step; did you mean pretrain\.steps"):
        parse(Config, Config(), ["--pretrain", "step=3"], "program", "command line")
    with pytest.raises(UsageError, match=r"parallel\.auto chooses all of parallel"):
        parse(Recipe, Recipe(), ["--parallel", "auto,shard=2"], "program", "command line")


def test_the_command_line_speaks_after_the_recipe() -> None:
    recipe = given_toml("[pretrain]\nsteps = 7\nsave_every = 2\n[sft]\nsteps = 8")
    config = parse(Config, recipe, ["--pretrain.steps", "9"], "groundup run", "command line")
    assert config == Config(pretrain=Training(steps=9, save_every=2), sft=Training(steps=8))


def test_hyphen_and_underscore_are_one() -> None:
    expected = Config(pretrain=Training(save_every=3))
    assert given_options("--pretrain.save-every", "3") == expected == given_options("--pretrain.save_every=3")
    assert given_toml("[pretrain]\nsave-every = 3") == expected == given_toml("pretrain.save_every = 3")


@pytest.mark.parametrize("words", ["--pretrain.no-tied", "--pretrain.tied=false", "--pretrain.tied False"])
def test_booleans_can_be_switched_off(words: str) -> None:
    assert given_options(*words.split()) == Config(pretrain=Training(tied=False))


@pytest.mark.parametrize("words", ["--pretrain.tied", "--pretrain.tied=true", "--pretrain.tied TRUE"])
def test_booleans_can_be_switched_on(words: str) -> None:
    off = given_toml("[pretrain]\ntied = false")
    assert not off.pretrain.tied
    assert parse(Config, off, words.split(), "groundup", "command line") == given_toml("[pretrain]\ntied = true")
    assert parse(Config, off, [*words.split(), "--name", "x"], "groundup", "command line").name == "x"


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("pretrain.step", "pretrain.steps"),
        ("pretrain.setps", "pretrain.steps"),
        ("pretain.steps", "pretrain.steps"),
        ("pretrain.optimiser.rate", "pretrain.optimizer.rate"),
        ("pretrain.optimizer.beta", "pretrain.optimizer.betas"),
        ("sft.save-evry", "sft.save-every"),
        ("betas", "sft.optimizer.betas"),
        ("nam", "name"),
        ("sft.teid", "sft.tied"),
    ],
)
def test_a_typo_is_refused_with_what_was_meant(wrong: str, meant: str) -> None:
    sentence = f"unknown key {wrong}; did you mean {meant}?"
    with pytest.raises(UsageError) as caught:
        given_options(f"--{wrong}", "3")
    assert str(caught.value) == f"command line: {sentence}"
    with pytest.raises(UsageError) as caught:
        given_toml(f"{wrong} = 3")
    assert str(caught.value) == f"recipe my.toml: {sentence}"


@pytest.mark.parametrize("wrong", ["weather", "pretrain.weather"])
def test_a_key_like_no_other_gets_no_wild_guess(wrong: str) -> None:
    with pytest.raises(UsageError, match=f"unknown key {wrong}; --help lists all keys"):
        given_options(f"--{wrong}=fine")


def test_an_empty_section_is_no_hiding_place() -> None:
    assert given_toml("[pretrain]\n[pretrain.optimizer]\n[sft]") == Config()
    with pytest.raises(UsageError, match=r"unknown section pretrian; did you mean pretrain\?"):
        given_toml("[pretrian]")
    with pytest.raises(UsageError, match=r"unknown section sft.optimiser; did you mean sft.optimizer\?"):
        given_toml("[sft.optimiser]")


@pytest.mark.parametrize(
    ("words", "pattern"),
    [
        ("--pretrain.steps many", "pretrain.steps.*'many'"),
        ("--pretrain.steps 1.5", "pretrain.steps.*'1.5'"),
        ("--pretrain.steps", "pretrain.steps"),
        ("--pretrain.steps --name x", "pretrain.steps"),
        ("--pretrain.precision float16", "float16.*pretrain.precision.*auto.*float32"),
        ("--pretrain.tied maybe", "pretrain.tied is 'maybe'; it must be true or false"),
        ("--pretrain.optimizer.rate fast", "pretrain.optimizer.rate.*'fast'"),
        ("--pretrain.optimizer.rate nan", "pretrain.optimizer.rate is nan; it must be a finite number"),
        ("--pretrain.optimizer.betas 0.9 inf", r"pretrain.optimizer.betas is \(0.9, inf\)"),
        ("--pretrain.steps 0", "steps is 0; it must be at least 1"),
        ("stray", "unexpected stray"),
        ("--name one two", "unexpected two"),
        ("--name \udcff", "not valid Unicode"),
    ],
)
def test_wrong_values_are_named_in_one_line(words: str, pattern: str) -> None:
    with pytest.raises(UsageError, match=pattern) as caught:
        given_options(*words.split())
    assert str(caught.value).startswith("command line: ")
    assert "\n" not in str(caught.value)
    assert "---" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("pretrain.steps = 'many'", "pretrain.steps.*'many'"),
        ("pretrain.steps = true", "pretrain.steps.*'true'"),
        ("pretrain.tied = 3", "pretrain.tied is '3'; it must be true or false"),
        ("pretrain.optimizer.betas = 'x'", "pretrain.optimizer.betas.*'x'"),
        ("pretrain.optimizer.rate = nan", "pretrain.optimizer.rate is nan"),
        ("pretrain = 3", "unknown key pretrain"),
        ("[[pretrain]]\nsteps = 3", "unknown key pretrain"),
    ],
)
def test_wrong_values_in_a_recipe_are_named_with_the_recipe(text: str, pattern: str) -> None:
    with pytest.raises(UsageError, match=pattern) as caught:
        given_toml(text)
    assert str(caught.value).startswith("recipe my.toml: ")


def test_text_that_looks_like_an_option_is_text() -> None:
    assert given_toml('name = "--pretrain.steps 4 -h"').name == "--pretrain.steps 4 -h"


def test_unreadable_recipes_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"absent.toml does not exist"):
        read_toml(tmp_path / "absent.toml")
    for content, words in ((b"a = \n", "line 1"), (b"\xff", "utf-8"), (b"a = 1\na = 2", "at end")):
        (tmp_path / "bad.toml").write_bytes(content)
        with pytest.raises(UsageError, match=f"bad.toml cannot be read: .*{words}"):
            read_toml(tmp_path / "bad.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        read_toml(tmp_path)


texts = st.text(st.characters(exclude_categories=["Cs"]))
numbers = st.floats(allow_nan=False, allow_infinity=False)
trainings = st.builds(
    Training,
    steps=st.integers(1),
    save_every=st.integers(),
    tied=st.booleans(),
    precision=st.sampled_from(["auto", "float32"]),
    optimizer=st.builds(Rates, rate=numbers, betas=st.lists(numbers, min_size=1, max_size=3).map(tuple)),
)
configs = st.builds(Config, texts, st.none() | st.just(Path("some folder/ü.txt")), trainings, trainings)


@settings(max_examples=25)
@given(configs)
def test_toml_reads_back(config: Config) -> None:
    text = to_toml(config)
    assert from_table(Config, Config(), tomllib.loads(text), "recipe") == config
    assert to_json(config)["pretrain"]["optimizer"]["betas"] == list(config.pretrain.optimizer.betas)


@pytest.mark.parametrize("name", list(shipped()))
def test_shipped_recipes_read_back(name: str, tmp_path: Path) -> None:
    recipe = load(name)
    (tmp_path / "recipe.toml").write_text(to_toml(recipe), encoding="utf-8")
    assert load(str(tmp_path / "recipe.toml")) == recipe


@pytest.fixture(scope="module")
def help_texts() -> dict[str, str]:
    """Option → its text, as ``groundup run --help`` prints them."""
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as leaving:
        patch.setenv("COLUMNS", "80")  # wider terminals get two columns
        with redirect_stdout(io.StringIO()) as heard:
            parse(Recipe, Recipe(), ["--help"], "groundup run", "command line")
    assert leaving.value.code in (0, None)
    texts: dict[str, list[str]] = {}
    lines: list[str] = []
    choosing = False  # within {choices} that go over several lines
    # A long switch stands above its negation.
    for line in re.sub(r",[ │]*\n[ │]*(?=--[\w.-]*no-)", ", ", heard.getvalue()).splitlines():
        inner = line.strip("│ ")
        if option := re.match(r"(?:-h, )?(--[a-z][\w.-]*)", inner):
            lines = texts.setdefault(option.group(1), [])
            choosing = inner.count("{") > inner.count("}")
        elif choosing:
            choosing = "}" not in inner
            lines += inner.partition("}")[2].split()
        elif not inner.strip("╭╮╰╯─- "):  # the end of a section
            lines = []
        else:
            lines += inner.split()
    return {option: " ".join(words) for option, words in texts.items()}


def documented(kind: Any, default: Any, prefix: str = "") -> dict[str, tuple[str, Any]]:
    """Key → docstring under the field, as the source code has it, and its value in ``default``."""
    found: dict[str, tuple[str, Any]] = {}
    for base in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(base):
            continue
        [body] = [node.body for node in ast.parse(inspect.getsource(base)).body if isinstance(node, ast.ClassDef)]
        texts = {
            before.target.id: after.value.value
            for before, after in itertools.pairwise(body)
            if isinstance(before, ast.AnnAssign)
            and isinstance(before.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        }
        for entry in dataclasses.fields(base):
            key = f"{prefix}{entry.name.replace('_', '-')}"
            if entry.name not in vars(base).get("__annotations__", {}):
                continue
            if dataclasses.is_dataclass(entry.type):
                found |= documented(entry.type, getattr(default, entry.name), key + ".")
            else:
                found[key] = (texts.get(entry.name, ""), getattr(default, entry.name))
    return found


def test_help_explains_every_field_with_its_default(help_texts: dict[str, str]) -> None:
    expected = documented(Recipe, Recipe())
    assert set(expected) == {key for key, _ in keys_of(Recipe)}
    assert set(help_texts) == {"--help", *(f"--{key}" for key in expected)}
    for key, (text, default) in expected.items():
        shown = re.sub(r"^((FLOAT|INT|STR|PATH) )+", "", help_texts[f"--{key}"])  # of many values, over several lines
        assert len(text) > 5, f"{key} has no docstring"
        assert shown.startswith(" ".join(text.split())), key
        assert re.search(r"\(default: .*\)$", shown), key
        if isinstance(default, int | float | str) and default != "":
            assert f"(default: {default})" in shown.replace("'", ""), key
