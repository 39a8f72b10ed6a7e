"""Logits → one number to lower: a loss SUMMED over a batch's ``weight`` terms.

The loop divides once by the weight of the whole step, so that accumulation and packing never change
what a token counts. Enters: the model and a :class:`groundup.dataloader.Batch`.
"""

from collections.abc import Callable

from torch import Tensor

from groundup.dataloader import Batch
from groundup.model import Transformer
from groundup.objectives.next_token import next_token, token_log_probabilities
from groundup.objectives.policy import PolicyGradient
from groundup.objectives.preference import Preference

#: Any callable (model, batch) → summed loss.
Objective = Callable[[Transformer, Batch], Tensor]

__all__ = ["Objective", "PolicyGradient", "Preference", "next_token", "token_log_probabilities"]
