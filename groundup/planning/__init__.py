"""What a model costs: parameters, floating-point operations, memory."""

from groundup.planning.count import Operations, Parameters, cache_bytes, operations, parameters
from groundup.planning.size import count_parameters

__all__ = ["Operations", "Parameters", "cache_bytes", "count_parameters", "operations", "parameters"]
