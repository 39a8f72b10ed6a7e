"""Looking inside a model while it reads: attention, the residual stream, how a prediction forms, experts.

Enters: a model, its tokenizer and a text. Leaves: an :class:`Inspection`, as JSON and as pictures.
"""

from groundup.inspection.inspection import Inspection, inspect

__all__ = ["Inspection", "inspect"]
