"""Group-relative policy optimisation: make answers that beat their group's mean more likely.

Shao et al. 2024, "DeepSeekMath" (GRPO); token-level normalisation and no KL term as in Yu et al. 2025
(DAPO); no division by the group's deviation as in Liu et al. 2025 (Dr. GRPO), optional here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from groundup.dataloader import IGNORED, Batch
from groundup.model import Transformer
from groundup.objectives.next_token import token_log_probabilities


def group_advantages(rewards: Tensor, normalise: bool = True) -> Tensor:
    """Rewards [prompts, group] → advantages: each less its group's mean, over the group's deviation if asked."""
    centred = rewards - rewards.mean(dim=1, keepdim=True)
    return centred / (rewards.std(dim=1, keepdim=True, correction=0) + 1e-4) if normalise else centred


def clipped_policy_loss(log_probabilities: Tensor, old: Tensor, advantages: Tensor, clip: float) -> Tensor:
    """-min(r·A, clamp(r, 1-clip, 1+clip)·A) for each token, r = π/π_old (Schulman et al. 2017, equation 7).

    All [rows, time] but ``advantages`` [rows, 1].
    """
    ratio = torch.exp(log_probabilities - old)
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages)


@dataclass(frozen=True)
class PolicyGradient:
    """The clipped policy gradient summed over the answers' tokens.

    A batch holds ``inputs`` and ``targets`` [rows, time], ``advantages`` [rows] and, unless the answers come from
    the very weights being trained, ``old`` [rows, time]: the log-probabilities under the policy that wrote them.
    Its weight is the number of answer tokens.
    """

    clip: float = 0.2

    def __call__(self, model: Transformer, batch: Batch) -> Tensor:
        """The loss summed over the batch's answer tokens."""
        now = token_log_probabilities(model, batch)
        old = batch.tensors.get("old", now.detach())
        losses = clipped_policy_loss(now, old, batch.tensors["advantages"][:, None], self.clip)
        return losses[batch.tensors["targets"] != IGNORED].sum()
