"""Cross-entropy straight from what the output head reads, without ever holding all logits.

Enters: the normalised residual stream [tokens, width], the head's matrix, the targets. Leaves: the summed loss. Logits
are made for some hundred tokens at a time and turn into their own gradient in place, while they are still in the
processor's cache (Wijmans et al. 2024, "Cut your losses in large-vocabulary language models").
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from groundup.dataloader import IGNORED

#: Logits in memory at once …
LOGITS = 2**21
#: … but never those of fewer tokens, which would make the matrix products inefficient.
LEAST_TOKENS = 512


def head_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float = 1.0, softcap: float = 0.0
) -> Tensor:
    """-Σ log softmax(z)[target] over the targets that are not ignored, in nats.

    Args:
        hidden: [tokens, width].
        weight: [vocabulary, width]; the logits z are hidden · weightᵀ · ``scale``.
        targets: [tokens]; :data:`~groundup.dataloader.IGNORED` where nothing is learned.
        scale: factor of the logits.
        softcap: bounds them to softcap · tanh(z / softcap); 0 does not.
    """
    return _HeadCrossEntropy.apply(hidden, weight, targets, scale, softcap)


class _HeadCrossEntropy(torch.autograd.Function):
    """The gradient of a sum is known as soon as the sum is: forward computes both, backward scales."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, softcap: float) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        rows, matrix = hidden.to(dtype), weight.to(dtype)
        learns = any(ctx.needs_input_grad)
        hidden_gradient, weight_gradient = torch.empty_like(hidden), torch.zeros_like(weight)
        loss = torch.zeros((), device=hidden.device)
        step = max(LEAST_TOKENS, LOGITS // len(weight))
        for start in range(0, len(targets), step):
            part = slice(start, start + step)
            logits, slope = _logits(rows[part], matrix, scale, softcap)
            counts = targets[part] != IGNORED
            target = targets[part].clamp(min=0)[:, None]
            evidence = logits.logsumexp(dim=-1, keepdim=True)
            loss += ((evidence - logits.gather(1, target))[:, 0] * counts).sum()
            if not learns:
                continue
            gradient = logits.sub_(evidence).exp_()  # softmax(z) - 1 at the target, 0 where nothing is learned
            gradient.scatter_add_(1, target, gradient.new_full((1, 1), -1.0).expand_as(target))
            gradient *= counts[:, None]
            if slope is not None:
                gradient *= slope
            gradient = gradient.to(dtype)
            hidden_gradient[part] = gradient @ matrix
            _add_product(weight_gradient, gradient.T, rows[part])
        if learns:
            ctx.save_for_backward(hidden_gradient, weight_gradient)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        hidden, weight = ctx.saved_tensors
        return hidden.mul_(above), weight.mul_(above), None, None, None


def _logits(rows: Tensor, matrix: Tensor, scale: float, softcap: float) -> tuple[Tensor, Tensor | None]:
    """Bounded logits in float32, and their slope over the matrix product; None when that is 1."""
    logits = (rows @ matrix.T).float()
    if scale != 1.0:
        logits *= scale
    if softcap:
        bounded = torch.tanh(logits / softcap)
        return softcap * bounded, scale * (1 - bounded.square())
    return logits, None if scale == 1.0 else logits.new_tensor(scale)


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """total += left · right, in total's dtype."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right
