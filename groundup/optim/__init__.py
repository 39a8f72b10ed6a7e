"""Gradients → updates: which parameter gets which rule, at which rate."""

from groundup.optim.build import OptimizerConfig, build_optimizers
from groundup.optim.groups import group_of
from groundup.optim.muon import Muon, orthogonalise
from groundup.optim.schedule import ScheduleConfig

__all__ = ["Muon", "OptimizerConfig", "ScheduleConfig", "build_optimizers", "group_of", "orthogonalise"]
