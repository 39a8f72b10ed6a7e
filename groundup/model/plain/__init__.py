"""The model as a textbook prints it, one page per part: what the fast modules beside this folder must give.

Everything is a function of tensors, differentiable, in the dtype of what enters, and takes one sequence where the
shapes allow it. The tests hold the model against :func:`plain_logits`, option by option.
"""

from groundup.model.plain.attention import Attended, alibi_slopes, attention
from groundup.model.plain.decoder import plain_logits
from groundup.model.plain.experts import Choice, choose, load_balancing_loss, mix

__all__ = ["Attended", "Choice", "alibi_slopes", "attention", "choose", "load_balancing_loss", "mix", "plain_logits"]
