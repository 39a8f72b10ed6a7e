"""Which parameter gets which rule, and the rates over time."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import UsageError
from groundup.model import ModelConfig, Transformer
from groundup.optim import Muon, OptimizerConfig, ScheduleConfig, build_optimizers


def tiny(tied: bool = True, qk_norm: str = "head") -> Transformer:
    return Transformer(ModelConfig(2, 16, 2, 1, 24, 8, tied=tied, qk_norm=qk_norm), 11)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("qk_norm", ["head", "none"])
@pytest.mark.parametrize("matrix_rate", [0.02, 0.0])
def test_every_parameter_belongs_to_exactly_one_group(tied: bool, qk_norm: str, matrix_rate: float) -> None:
    model = tiny(tied, qk_norm)
    optimizers = build_optimizers(model, OptimizerConfig(matrix_rate=matrix_rate))
    grouped = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    assert any(isinstance(optimizer, Muon) for optimizer in optimizers) == (matrix_rate > 0)


def test_muon_gets_the_hidden_matrices_and_vectors_are_not_decayed() -> None:
    model = tiny(tied=False)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    muon, adamw = build_optimizers(model, OptimizerConfig(matrix_rate=0.02, rate=0.004, weight_decay=0.1))
    by_muon = {names[id(p)] for p in muon.param_groups[0]["params"]}
    assert by_muon == {name for name, p in model.named_parameters() if name.startswith("blocks.") and p.ndim == 2}
    assert {group["full_lr"] for group in muon.param_groups} == {0.02}
    assert {group["full_lr"] for group in adamw.param_groups} == {0.004}
    for group in adamw.param_groups:
        for parameter in group["params"]:
            assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0.0)


def test_every_parameter_with_a_gradient_moves() -> None:
    model = tiny(tied=False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel()))
    for optimizer in build_optimizers(model, OptimizerConfig()):
        optimizer.step()
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []


@settings(deadline=None)
@given(warmup=st.floats(0, 1), share=st.floats(0, 1), steps=st.integers(1, 300))
def test_the_rate_warms_up_holds_and_decays(warmup: float, share: float, steps: int) -> None:
    schedule = ScheduleConfig(warmup, share * (1 - warmup))
    factors = [schedule.factor(step, steps) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    top = factors.index(max(factors))
    assert factors[: top + 1] == sorted(factors[: top + 1])
    assert factors[top:] == sorted(factors[top:], reverse=True)


def test_the_rate_at_known_steps() -> None:
    schedule = ScheduleConfig(warmup=0.1, decay=0.4)
    expected = {0: 0.1, 4: 0.5, 9: 1.0, 10: 1.0, 59: 1.0, 60: 1.0, 80: 0.5, 99: 1 / 40}
    assert {step: pytest.approx(schedule.factor(step, 100)) for step in expected} == expected
    assert ScheduleConfig(0.0, 0.0).factor(0, 1) == 1.0


@pytest.mark.parametrize("options", [{"warmup": -0.1}, {"decay": -0.1}, {"warmup": 0.6, "decay": 0.5}])
def test_impossible_schedules_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"schedule\.warmup"):
        ScheduleConfig(**options)


@pytest.mark.parametrize("name", ["matrix_rate", "rate", "weight_decay", "momentum", "beta1", "beta2"])
def test_impossible_rates_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"optimizer.{name}"):
        OptimizerConfig(**{name: -0.1})
