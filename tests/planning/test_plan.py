"""The plan: its figures against what is built and trained."""

import pytest
import torch

from groundup.model import ModelConfig, Transformer
from groundup.model.presets import preset, shrunk
from groundup.optim import OptimizerConfig, build_optimizers
from groundup.planning import operations, parameters
from groundup.planning.plan import Training, figures, optimizer_bytes, table


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


def test_training_and_what_it_executes() -> None:
    config = shrunk(preset("llama-3-8b").config)
    per_sequence = operations(config, 50, config.context).training
    found = figures(config, 50, Training(rows=2, tokens=10 * config.context))
    assert found["training"] == {"tokens": 10 * config.context, "operations": 10 * per_sequence}
    assert "training" not in figures(config, 50, Training(rows=2))


def test_a_mean_of_the_weights_takes_their_memory_again() -> None:
    config = shrunk(preset("gpt2").config)
    without, with_mean = (figures(config, 50, Training(2, averaged=mean))["training_bytes"] for mean in (False, True))
    assert with_mean["mean_of_weights"] == with_mean["weights"]
    assert with_mean["total"] - without["total"] == without["weights"]


def test_the_table_shows_every_figure() -> None:
    found = figures(preset("qwen3-30b-a3b").config, 151_936, Training(rows=2, tokens=10**12))
    shown = table(found)
    for section, values in found.items():
        if section != "micro_batch":
            assert all(f"\n  {name.replace('_', ' ')} " in shown for name in values)
    assert "3,353,032,704" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80
