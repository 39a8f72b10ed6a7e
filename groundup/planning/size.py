"""The number of weights of a model that exists; :mod:`groundup.planning.count` needs none."""

from torch import nn


def count_parameters(model: nn.Module) -> int:
    """Number of weights; a shared matrix counts once."""
    return sum(parameter.numel() for parameter in model.parameters())
