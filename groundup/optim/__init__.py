"""Gradients → updates: which parameter gets which rule, at which rate."""

from groundup.optim.build import build_optimizers
from groundup.optim.config import OptimizerConfig
from groundup.optim.groups import group_of
from groundup.optim.lion import Lion
from groundup.optim.muon import Muon
from groundup.optim.orthogonal import orthogonalise
from groundup.optim.schedule import ScheduleConfig

__all__ = ["Lion", "Muon", "OptimizerConfig", "ScheduleConfig", "build_optimizers", "group_of", "orthogonalise"]
