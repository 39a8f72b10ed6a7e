"""The plan: its figures against what is built and trained, and the command that prints them."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from groundup.model import ModelConfig, Transformer
from groundup.model.presets import names, preset, shrunk
from groundup.optim import OptimizerConfig, build_optimizers
from groundup.planning import count_parameters, operations, parameters
from groundup.planning.plan import Training, figures, optimizer_bytes, table
from groundup.recipes import load, with_options

Command = Callable[..., Any]


def state_bytes(config: ModelConfig, optimizer: OptimizerConfig) -> int:
    """What the optimizers hold after a step, but for AdamW's count of steps."""
    model = Transformer(config, 50)
    optimizers = build_optimizers(model, optimizer)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    total = 0
    for each in optimizers:
        each.step()
        states = [value for state in each.state.values() for key, value in state.items() if key != "step"]
        total += sum(value.untyped_storage().nbytes() for value in states)
    return total


@pytest.mark.parametrize("muon", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "qwen3-30b-a3b", "deepseek-v3"])
def test_memory_of_the_optimizer(name: str, muon: bool) -> None:
    config = shrunk(preset(name).config)
    expected = state_bytes(config, OptimizerConfig() if muon else OptimizerConfig(matrix_rate=0.0))
    assert optimizer_bytes(parameters(config, 50), muon=muon) == expected


def test_memory_of_weights_is_that_of_the_model() -> None:
    config = shrunk(preset("mixtral-8x7b").config)
    model = Transformer(config, 50)
    found = figures(config, 50, Training(rows=2))
    stored = {p.untyped_storage().data_ptr(): p.untyped_storage().nbytes() for p in model.parameters()}
    assert found["training_bytes"]["weights"] == found["generation_bytes"]["weights"] == sum(stored.values())
    memory = found["training_bytes"]
    assert memory["total"] == sum(size for part, size in memory.items() if part != "total")


def test_training_and_its_time() -> None:
    config = shrunk(preset("llama-3-8b").config)
    per_sequence = operations(config, 50, config.context).training
    found = figures(config, 50, Training(rows=2, tokens=10 * config.context, operations_per_second=4.0))
    assert found["training"] == {
        "tokens": 10 * config.context,
        "operations": 10 * per_sequence,
        "seconds": 10 * per_sequence / 4,
    }
    assert "seconds" not in figures(config, 50, Training(rows=2, tokens=10))["training"]
    assert "training" not in figures(config, 50, Training(rows=2))


def test_the_table_shows_every_figure() -> None:
    found = figures(
        preset("qwen3-30b-a3b").config, 151_936, Training(rows=2, tokens=10**12, operations_per_second=4e15)
    )
    shown = table(found)
    for section, values in found.items():
        if section != "micro_batch":
            assert all(f"\n  {name.replace('_', ' ')} " in shown for name in values if name != "seconds")
    assert "3,353,032,704" in shown
    assert "time at the given speed" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80


def test_a_recipe_is_planned_as_it_would_run(command: Command) -> None:
    outcome = command("plan", "smoke", "--model.hidden", "96", "--pretrain.steps=7", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    found = json.loads(outcome.out)
    recipe = with_options(load("smoke"), ["--model.hidden=96"], "test")
    model = Transformer(recipe.model, 512)
    assert found["parameters"]["total"] == count_parameters(model)
    assert found["training"]["tokens"] == 7 * 4 * 256
    assert found["micro_batch"]["rows"] == 4
    assert command("plan", "smoke", "--tokens", "1000", "--json").out.count('"tokens": 1000') == 1


def test_matrix_products_in_two_bytes_keep_less(command: Command) -> None:
    sizes = {
        precision: json.loads(command("plan", "quickstart", "--pretrain.precision", precision, "--json").out)
        for precision in ("float32", "bfloat16")
    }
    assert sizes["bfloat16"]["micro_batch"]["precision"] == "bfloat16"
    kept = [sizes[precision]["training_bytes"]["activations"] for precision in ("bfloat16", "float32")]
    assert kept[0] < kept[1]


def test_without_a_recipe_a_preset_is_planned(command: Command) -> None:
    outcome = command("plan", "--model.preset", "llama-3.2-1b", "--model.context=4096")
    assert (outcome.code, outcome.err) == (0, "")
    assert "1,235,814,400" in outcome.out
    assert "pretraining" not in outcome.out
    assert "1 × 4,096 tokens at a time" in outcome.out
    timed = ("plan", "--model.preset=gpt2", "--tokens", "1024", "--flops-per-second", "1e9")
    found = json.loads(command(*timed, "--json").out)
    assert found["training"]["operations"] == operations(preset("gpt2").config, 50_257, 1024).training
    assert found["training"]["seconds"] == found["training"]["operations"] / 1e9
    assert "time at the given speed" in command(*timed).out


def test_a_recipe_keeps_its_vocabulary_under_a_preset(command: Command) -> None:
    found = json.loads(command("plan", "smoke", "--model.preset", "smollm2-135m", "--json").out)
    assert found["model"]["vocabulary"] == 512
    assert found["model"]["width"] == 576


def test_the_list_of_presets(command: Command) -> None:
    lines = command("plan", "--presets").out.splitlines()
    assert [line.split()[0] for line in lines] == ["name", *names()]
    [line] = [line for line in lines if line.startswith("mixtral-8x7b")]
    assert "46,702,792,704" in line
    assert "12,879,925,248" in line
    listed = json.loads(command("plan", "--presets", "--json").out)
    assert [entry["name"] for entry in listed] == list(names())


def test_the_plan_explains_itself(command: Command) -> None:
    outcome = command("plan", "--help")
    assert outcome.code == 0
    for option in ("--model.preset", "--presets", "--tokens", "--flops-per-second", "--json"):
        assert option in outcome.out
    assert "groundup plan [RECIPE]" in command("--help").out


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("plan quikstart", "unknown recipe 'quikstart'; did you mean 'quickstart'?"),
        ("plan --model.preset gpt-2", "unknown preset 'gpt-2'; did you mean 'gpt2'?"),
        ("plan smoke --model.preset", "--model.preset needs a value"),
        ("plan smoke --model.widht 3", "unknown key model.widht; did you mean model.width?"),
        ("plan smoke --tokens x", "--tokens"),
        ("plan smoke --tokens -3", "tokens is -3; it cannot be negative"),
        ("plan smoke --flops-per-second nan", "flops-per-second is nan; it must be a finite number"),
        ("plan smoke --flops-per-second=-1", "it cannot be negative"),
        ("plan smoke --tokenizer.vocab-size auto", "give --tokenizer.vocab-size a number"),
        ("plan smoke more", "unexpected more"),
        ("plan --presets smoke", "unexpected 'smoke'"),
    ],
)
def test_wrong_use_is_told_in_a_line(words: str, complaint: str, command: Command) -> None:
    outcome = command(*words.split())
    assert outcome.code == 2
    assert complaint in outcome.complaint
