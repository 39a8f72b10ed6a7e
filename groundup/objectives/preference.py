"""Direct preference optimisation: raise the chosen answer over the rejected one.

Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
equation 7.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from groundup.dataloader import Batch
from groundup.model import Transformer
from groundup.objectives.next_token import over_rows, token_log_probabilities


def dpo_loss(chosen: Tensor, rejected: Tensor, beta: float) -> Tensor:
    """-Σ log σ(β (chosen - rejected)) over pairs.

    ``chosen`` and ``rejected`` [pairs] are log-ratios log π(answer) - log π_ref(answer), in nats.
    """
    return -F.logsigmoid(beta * (chosen - rejected)).sum()


@dataclass(frozen=True)
class Preference:
    """DPO with an anchor: ``anchor`` times the chosen answer's own cross-entropy keeps it likely.

    Without the anchor DPO may lower both answers, only the rejected one faster (Pang et al. 2024,
    "Iterative Reasoning Preference Optimization").

    A batch holds ``inputs`` and ``targets`` [2 · pairs, time], all chosen answers first, and ``reference``
    [2 · pairs]: the log-probability of each answer under the frozen reference. Its weight is the number of pairs.
    The share of pairs ranked rightly and their mean margin, in nats, are left in the batch's ``metrics``.
    """

    beta: float
    anchor: float = 0.0

    def __call__(self, model: Transformer, batch: Batch) -> Tensor:
        """The loss summed over the batch's pairs."""
        answers = over_rows(model, batch, token_log_probabilities(model, batch).sum(dim=1))
        chosen, rejected = (answers - batch.tensors["reference"]).chunk(2)
        margins = self.beta * (chosen - rejected).detach()
        batch.metrics["accuracy"] = float((margins > 0).float().mean())
        batch.metrics["margin"] = float(margins.mean())
        loss = dpo_loss(chosen, rejected, self.beta)
        if self.anchor:
            lengths = over_rows(model, batch, (batch.tensors["targets"] >= 0).sum(dim=1))
            loss = loss - self.anchor * (answers / lengths.clamp(min=1)).chunk(2)[0].sum()
        return loss
