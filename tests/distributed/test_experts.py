"""A model whose experts are divided: called outside of training it does what the whole one does."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch

from groundup.core.device import choose_numerics
from groundup.core.errors import UsageError
from groundup.core.world import ParallelConfig, World
from groundup.model import ModelConfig
from groundup.model.config import ExpertConfig
from groundup.model.experts import Experts, counting
from groundup.planning.mesh import Mesh
from groundup.training import TrainingConfig
from groundup.training.prepare import _check

SIGMOID = ExpertConfig(count=4, router="sigmoid", bias_rate=0.01)
CONFIG = ModelConfig(layers=1, width=8, heads=1, hidden=8, experts=SIGMOID).resolved()


def test_called_and_writing_and_gathered_it_is_the_whole_one(together: Callable[..., Any]) -> None:
    for name, differences in together(2, "tests.distributed.called", "experts").items():
        assert max(differences.values()) < 1e-5, (name, differences)


def test_only_tokens_that_count_are_a_load() -> None:
    layer, x = Experts(CONFIG).train(), torch.randn(3, 4, 8)
    for rows, tokens in ((3, None), (1, 4), (0, 0)):
        with counting(layer, tokens):
            layer(x)
        found, layer.load = layer.load, torch.zeros(4)
        layer(x[:rows]) if rows else None
        assert torch.equal(found, layer.load)
        layer.load.zero_()


def test_experts_that_processes_do_not_divide_are_refused() -> None:
    config = replace(CONFIG, experts=replace(SIGMOID, count=6)).resolved()
    with pytest.raises(UsageError, match="6 experts cannot be divided over"):
        Mesh(expert=4).check(config)


def test_compiled_they_are_not_divided_by_unit_as_well() -> None:
    device = torch.device("cpu")
    world = World(size=4, parallel=ParallelConfig(expert=2, tensor=2))
    with pytest.raises(UsageError, match="compile on cannot be with parallel"):
        _check(TrainingConfig(compile="on"), device, choose_numerics("float32", device), world)
