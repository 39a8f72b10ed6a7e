"""Prompts to completions: sampling, continuous batching over one key/value cache."""

from groundup.inference.engine import Completion, Engine, Event, Request
from groundup.inference.sampling import Sampling

__all__ = ["Completion", "Engine", "Event", "Request", "Sampling"]
