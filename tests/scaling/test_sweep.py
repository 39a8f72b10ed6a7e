"""``groundup pretrain --sweep``: a miniseries is planned, trained, kept and fitted."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from groundup.core.errors import UsageError
from groundup.core.files import read_json, write_json
from groundup.planning import operations, parameters
from groundup.planning.plan import checkpoint_bytes
from groundup.recipes import load
from groundup.scaling.plan import tokens_of
from groundup.scaling.sweep import SweepOptions, key_and_values, plan, run
from groundup.scaling.words import split

Call = Callable[..., Any]
SMALL = ("smoke", "--model.layers=1", "--model.width=32", "--model.context=16", "--pretrain.steps=12",
         "--pretrain.rows=2", "--pretrain.validate-every=12", "--pretrain.save-every=6", "--pretrain.watch.every=0",
         "--pretrain.validation-windows=2", "--pretrain.samples=1", "--pretrain.sample-tokens=2")  # fmt: skip


def planned(*words: str) -> list[Any]:
    own, asked = split(words, SweepOptions)
    options = SweepOptions(**{
        name.removeprefix("--").replace("-", "_"): float(value) if "ratio" in name else value
        for name, value in (word.split("=", 1) for word in own)
    })  # fmt: skip
    key, values = key_and_values(options.sweep)
    return plan(asked, asked.over(asked.base(), "test"), key, values, options)


def test_every_size_gets_the_operations_of_the_recipe() -> None:
    variants = planned("smoke", "--sweep=model.hidden=64,128,192,256", "--pretrain.steps=100")
    recipe = load("smoke")
    wanted = 100 / 20 * tokens_of(recipe.pretrain, 256) * operations(recipe.model, 512, 256).training / 256
    assert [variant.value for variant in variants] == ["64", "128", "192", "256"]
    for variant in variants:
        assert variant.operations == pytest.approx(wanted, rel=0.01)
        assert variant.budget == pytest.approx(wanted)
        assert variant.parameters == parameters(variant.recipe.model, 512).total
        assert variant.tokens == tokens_of(variant.recipe.pretrain, 256)
    assert variants[0].tokens > variants[-1].tokens


def test_each_value_is_trained_with_each_amount_of_operations() -> None:
    variants = planned("smoke", "--sweep=hidden=64,128", "--sweep-flops=2e11,1e11")
    assert [(variant.value, variant.budget) for variant in variants] == [
        ("64", 1e11), ("128", 1e11), ("64", 2e11), ("128", 2e11)
    ]  # fmt: skip
    assert len({variant.folder for variant in variants}) == 4
    for variant in variants:
        assert variant.operations == pytest.approx(variant.budget, rel=0.05)


def test_tokens_in_proportion_to_the_parameters() -> None:
    for variant in planned("smoke", "--sweep=hidden=64,128", "--sweep-ratio=2"):
        assert variant.tokens / variant.parameters == pytest.approx(2, rel=0.01)


def test_a_key_that_does_not_change_the_size_leaves_the_recipe_as_it_is() -> None:
    for variant in planned("smoke", "--sweep=matrix-rate=0.01,0.02"):
        assert (variant.recipe.pretrain.steps, variant.budget) == (20, None)
    assert [variant.recipe.seed for variant in planned("smoke", "--sweep=seed=1,2")] == [1, 2]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("depht=2,3", "unknown key depht; did you mean depth?"),
        ("depth=2", "compares two values at least"),
        ("depth", "compares two values at least"),
        ("depth=2,2", "says a value twice"),
        ("sft.steps=2,3", "does not change pretraining"),
        ("hidden=64,x", "model.hidden"),
        ("hidden=64,128 --sweep-flops 1e3", "trained for 0 steps"),
        ("hidden=64,128 --sweep-flops x", "use numbers with commas between"),
        ("hidden=64,128 --sweep-flops=-1", "must be above 0"),
        ("hidden=64,128 --sweep-flops 1e11,1e11", "says a number twice"),
        ("hidden=64,128 --sweep-ratio -1", "sweep-ratio is -1"),
        ("hidden=64,128 --sweep-ratio 2 --sweep-flops 1e11", "give one of them"),
        ("pretrain.steps=20,40 --sweep-ratio 2", "leaves nothing to --sweep-flops and --sweep-ratio"),
        ("hidden=64,128 --tokenizer.vocab-size auto", "give --tokenizer.vocab-size a number"),
        ("hidden=64,128 --model.widht 3", "did you mean model.width?"),
    ],
)
def test_wrong_use_is_told_in_a_line_before_anything_is_trained(
    words: str, complaint: str, call: Call, tmp_path: Path
) -> None:
    outcome = call(run, "smoke", "--out", str(tmp_path / "run"), "--sweep", *words.split())
    assert outcome.code == UsageError.exit_code
    assert complaint in outcome.err
    assert outcome.err.count("\n") == 0
    assert not (tmp_path / "run").exists()


@pytest.fixture(scope="module")
def words(tiny_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, ...]:
    """A sweep of three sizes."""
    out = tmp_path_factory.mktemp("sweep") / "run"
    return (*SMALL, "--corpus.path", str(tiny_corpus), "--out", str(out), "--sweep", "model.hidden=32,64,128")


def newest(run_folder: Path) -> Path:
    """The last checkpoint of a run's pretraining."""
    return max((run_folder / "pretrain" / "checkpoints").glob("step-*"))


def interrupt(stage: Path) -> None:
    """Make a finished stage one that was killed before its last checkpoint."""
    manifest = read_json(stage / "manifest.json")
    kept = ("identity", "inputs", "config", "config_hash", "code_version", "seed", "started")
    write_json(stage / "started.json", {**{name: manifest[name] for name in kept}, "seconds_before": 0.0})
    (stage / "manifest.json").unlink()
    shutil.rmtree(newest(stage.parent))


def test_a_sweep_is_trained_once_and_continues_where_it_was(words: tuple[str, ...], call: Call) -> None:
    outcome = call(run, *words)
    assert outcome.code == 0, outcome.err
    out = Path(words[words.index("--out") + 1])
    folder = out / "sweep-hidden"
    results = read_json(folder / "results.json")
    assert [one["value"] for one in results["runs"]] == ["32", "64", "128"]
    for name in ("sweep.svg", "sweep.png"):
        assert (folder / name).stat().st_size > 1000
    assert "best size" in outcome.out
    runs = {one["value"]: folder / one["folder"] for one in results["runs"]}
    written = {}
    for one in results["runs"]:
        manifest = read_json(runs[one["value"]] / "pretrain" / "manifest.json")
        assert [manifest["metrics"][name] for name in ("parameters", "tokens", "steps")] == [
            one[name] for name in ("parameters", "tokens", "steps")
        ]
        weights = newest(runs[one["value"]]) / "model.safetensors"
        written[one["value"]] = weights.stat().st_mtime_ns
        size = weights.stat().st_size + weights.with_name("optimizer.safetensors").stat().st_size
        sizes = parameters(load(str(runs[one["value"]] / "recipe.toml")).model, 512)
        # The plan's size of a checkpoint; names, shapes and counters come on top, which are much here.
        assert checkpoint_bytes(sizes, muon=True) <= size <= 1.2 * checkpoint_bytes(sizes, muon=True)
    made, used = (each / "tokenizer" / "tokenizer.json" for each in (out, runs["32"]))
    assert made.read_bytes() == used.read_bytes()

    interrupt(runs["64"] / "pretrain")
    again = call(run, *words, "--json")
    assert again.code == 0, again.err
    assert again.err.count("✓ pretrain: up to date") == 2
    assert again.err.count("▶ pretrain: continues where it was interrupted") == 1
    found = json.loads(again.out)
    assert [one["bits_per_byte"] for one in found["runs"]] == [one["bits_per_byte"] for one in results["runs"]]
    for value in ("32", "128"):
        assert (newest(runs[value]) / "model.safetensors").stat().st_mtime_ns == written[value]
