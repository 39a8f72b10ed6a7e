"""Which parameter gets which rule, at which rate, and that a checkpoint loses nothing of it."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.core.errors import UsageError
from groundup.core.seeding import torch_rng
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig, PositionConfig
from groundup.optim import Lion, Muon, OptimizerConfig, build_optimizers, group_of
from groundup.optim.uncompiled import AdamW

RULES = {
    "muon": OptimizerConfig(),
    "muon, momentum warm-up": OptimizerConfig(momentum_warmup=5),
    "adamw": OptimizerConfig(matrices="adamw", matrix_rate=0.003),
    "lion": OptimizerConfig(matrices="lion", matrix_rate=0.001),
    "one rate": OptimizerConfig(matrix_rate=0.0),
}
every_rule = pytest.mark.parametrize("config", RULES.values(), ids=RULES)


def tiny(**options: Any) -> Transformer:
    shape: dict[str, Any] = {"layers": 2, "width": 16, "heads": 2, "kv_heads": 1, "hidden": 24, "context": 8}
    return Transformer(ModelConfig(**{**shape, **options}), 11).initialise(torch_rng(0))


def everything() -> Transformer:
    """A model with a parameter of each kind."""
    return tiny(
        tied=False,
        bias="qkv",
        norm="layer",
        key_smear=True,
        value_embeddings=True,
        residual_scalars=True,
        positions=PositionConfig(kind="learned"),
        experts=ExpertConfig(count=4, shared=1, dense_layers=1),
    )


def groups_of(optimizers: list[torch.optim.Optimizer]) -> list[dict[str, Any]]:
    return [group for optimizer in optimizers for group in optimizer.param_groups]


def step(model: Transformer, optimizers: list[torch.optim.Optimizer], seed: int) -> None:
    """With gradients made up from ``seed``."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.grad = torch.randn(parameter.shape, generator=generator)
    for optimizer in optimizers:
        optimizer.step()


@every_rule
@pytest.mark.parametrize("make", [tiny, everything])
def test_every_parameter_belongs_to_exactly_one_group(make: Any, config: OptimizerConfig) -> None:
    model = make()
    groups = groups_of(build_optimizers(model, config))
    assert sorted(id(p) for group in groups for p in group["params"]) == sorted(id(p) for p in model.parameters())
    assert len({group["name"] for group in groups}) == len(groups)
    assert all(group["full_lr"] == group["lr"] for group in groups)


def test_the_groups_of_a_model_with_everything() -> None:
    model = everything()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        group["name"]: {names[id(p)] for p in group["params"]}
        for group in groups_of(build_optimizers(model, OptimizerConfig()))
    }
    assert found["embedding"] == {n for n in names.values() if n.endswith("embedding.weight")}
    assert len(found["embedding"]) == 3
    assert found["head"] == {"head.weight"}
    assert found["routers"] == {"blocks.1.feed_forward.router.weight"}
    assert "stream_scales" in found["vectors"] and "blocks.0.attention.query.bias" in found["vectors"]
    assert "blocks.1.feed_forward.up" in found["matrices"] and "blocks.0.attention.query.weight" in found["matrices"]


def test_a_shared_matrix_is_the_embeddings() -> None:
    names = {group["name"] for group in groups_of(build_optimizers(tiny(tied=True), OptimizerConfig()))}
    assert names == {"embedding", "vectors", "matrices"}


@pytest.mark.parametrize(("rule", "kind"), [("muon", Muon), ("lion", Lion), ("adamw", AdamW)])
def test_the_matrices_get_the_chosen_rule(rule: Any, kind: type) -> None:
    config = OptimizerConfig(matrices=rule, matrix_rate=0.02)
    (owner,) = [
        optimizer
        for optimizer in build_optimizers(tiny(), config)
        if "matrices" in {group["name"] for group in optimizer.param_groups}
    ]
    assert type(owner) is kind and config.rule == rule
    assert replace(config, matrix_rate=0.0).rule == "adamw"


def test_rates_and_decays_by_group() -> None:
    config = OptimizerConfig(
        matrix_rate=0.02,
        rate=0.004,
        weight_decay=0.1,
        embedding_factor=2.0,
        head_factor=0.5,
        vector_factor=3.0,
        decay_embedding=False,
    )
    found = {group["name"]: group for group in groups_of(build_optimizers(everything(), config))}
    rates = {name: (pytest.approx(group["full_lr"]), group["weight_decay"]) for name, group in found.items()}
    assert rates == {
        "embedding": (0.008, 0.0),
        "head": (0.002, 0.1),
        "vectors": (0.012, 0.0),
        "matrices": (0.02, 0.1),
        "routers": (0.004, 0.1),
    }
    decayed = groups_of(build_optimizers(everything(), replace(config, decay_embedding=True)))
    assert {group["weight_decay"] for group in decayed if group["name"] == "embedding"} == {0.1}


def test_without_a_rate_of_their_own_matrices_have_that_of_the_rest() -> None:
    groups = groups_of(build_optimizers(tiny(), OptimizerConfig(matrix_rate=0.0, rate=0.004)))
    assert {group["full_lr"] for group in groups} == {0.004}


@every_rule
def test_every_parameter_with_a_gradient_moves(config: OptimizerConfig) -> None:
    model = everything()
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    step(model, build_optimizers(model, config), seed=1)
    assert [name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])] == []


@every_rule
def test_what_is_frozen_is_not_remembered(config: OptimizerConfig) -> None:
    model = tiny()
    model.blocks[0].requires_grad_(False)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    optimizers = build_optimizers(model, config)
    step(model, optimizers, seed=1)
    still = {name for name, parameter in model.named_parameters() if torch.equal(parameter, before[name])}
    assert still == {name for name in before if name.startswith("blocks.0.")}
    assert len([p for group in groups_of(optimizers) for p in group["params"]]) == len(before) - len(still)


def test_a_wholly_frozen_model_has_nothing_to_optimise() -> None:
    assert build_optimizers(tiny().requires_grad_(False), OptimizerConfig()) == []


@every_rule
def test_its_state_is_tensors_and_restores_bit_for_bit(config: OptimizerConfig) -> None:
    """As checkpoints do it: the tensors of the state, and the groups as built."""
    model, twin = everything(), everything()
    optimizers, others = build_optimizers(model, config), build_optimizers(twin, config)
    for seed in range(3):
        step(model, optimizers, seed)
    twin.load_state_dict(model.state_dict())
    for optimizer, other in zip(optimizers, others, strict=True):
        state: dict[int, dict[str, Tensor]] = optimizer.state_dict()["state"]
        assert all(isinstance(entry, Tensor) for entries in state.values() for entry in entries.values())
        copied = {number: {key: entry.clone() for key, entry in entries.items()} for number, entries in state.items()}
        other.load_state_dict({"state": copied, "param_groups": other.state_dict()["param_groups"]})
    for seed in range(3, 9):
        step(model, optimizers, seed)
        step(twin, others, seed)
    for one, same in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(one, same)


def test_training_does_not_wait_for_the_compiler() -> None:
    """To import it takes a second and much memory; PyTorch's own optimizers do."""
    program = """
import sys, torch
from groundup.model import ModelConfig, Transformer
from groundup.optim import OptimizerConfig, build_optimizers
for rule in "muon", "lion":
    model = Transformer(ModelConfig(1, 16, 2, 1, 24, 8), 11)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    for optimizer in build_optimizers(model, OptimizerConfig(matrices=rule)):
        optimizer.step()
        optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert found.stdout.strip() == "False", found.stderr


def test_the_group_of_every_parameter() -> None:
    expected = {
        "embedding.weight": "embedding",
        "position_embedding.weight": "embedding",
        "blocks.3.attention.value_embedding.weight": "embedding",
        "blocks.3.attention.query.weight": "attention",
        "blocks.3.attention.output.bias": "attention",
        "blocks.3.attention.smear": "attention",
        "blocks.3.attention.query_norm.scale": "norms",
        "blocks.3.attention_norm.bias": "norms",
        "norm.scale": "norms",
        "blocks.3.feed_forward.up.weight": "feed_forward",
        "blocks.3.feed_forward.down": "feed_forward",
        "blocks.3.feed_forward.shared.gate.weight": "feed_forward",
        "blocks.3.feed_forward.router.weight": "routers",
        "head.weight": "head",
        "_orig_mod.head.weight": "head",
        "stream_scales": "other",
    }
    assert {name: group_of(name) for name in expected} == expected
    assert {group_of(name) for name, _ in everything().named_parameters()} == set(expected.values())


@pytest.mark.parametrize("name", ["matrix_rate", "rate", "weight_decay", "momentum", "beta1", "beta2", "head_factor"])
def test_impossible_rates_are_refused_by_name(name: str) -> None:
    with pytest.raises(UsageError, match=f"optimizer.{name}"):
        OptimizerConfig(**{name: -0.1})


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"matrices": "sgd"}, "optimizer.matrices is 'sgd'; it must be one of muon, adamw, lion"),
        ({"iteration": "svd"}, "optimizer.iteration is 'svd'"),
        ({"iteration_steps": 0}, "optimizer.iteration_steps is 0"),
        ({"iteration_steps": 21}, "optimizer.iteration_steps is 21"),
        ({"momentum": 1.0}, "optimizer.momentum is 1.0"),
        ({"momentum_warmup": -1}, "optimizer.momentum_warmup is -1"),
    ],
)
def test_impossible_rules_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as caught:
        OptimizerConfig(**options)
    assert words in str(caught.value)
