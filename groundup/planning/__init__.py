"""What a model costs: parameters, floating-point operations, memory."""

from groundup.planning.size import count_parameters, training_flops

__all__ = ["count_parameters", "training_flops"]
