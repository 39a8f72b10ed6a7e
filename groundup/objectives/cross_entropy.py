"""Cross-entropy straight from what the output head reads, without ever holding all logits.

Enters: the normalised residual stream [tokens, width], the head's matrix, the targets. Leaves: the summed loss. Logits
are made for some hundred tokens at a time and turn into their own gradient in place, while they are still in the
processor's cache (Wijmans et al. 2024, "Cut your losses in large-vocabulary language models").

Where the head's matrix is divided along the vocabulary (a DTensor), each process makes the logits of its words, and
tells the others two numbers per token: the logarithm of its part of the sum, and the target's logit, if it has that.
The gradient of ``hidden`` is then this process's part of a sum, which the model adds up.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from groundup.dataloader import IGNORED

if TYPE_CHECKING:  # it takes long to import, and one process needs none of it
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

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
    weight, words = _words(weight)
    return _HeadCrossEntropy.apply(hidden, weight, targets, scale, softcap, words)


def token_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, scale: float = 1.0, softcap: float = 0.0
) -> Tensor:
    """The terms of :func:`head_cross_entropy` one by one [tokens], 0 where nothing is learned; holds all its logits."""
    weight, words = _words(weight)
    logits = F.linear(hidden, weight).float() * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    evidence, chosen = words.sums(logits, *words.own(targets))
    return (evidence - chosen)[:, 0] * (targets != IGNORED)


def is_divided(weight: Tensor) -> "TypeGuard[DTensor]":
    """Whether a head's matrix is divided along the vocabulary."""
    return hasattr(weight, "device_mesh")


@dataclass(frozen=True)
class _Words:
    """The part of the vocabulary that this process has."""

    first: int
    count: int
    most: int
    """The largest count of all processes."""
    mesh: "DeviceMesh | None" = None

    def own(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The targets' places among these words, and whether they are there, both [tokens, 1]."""
        places = (targets - self.first)[:, None]
        return places.clamp(0, self.count - 1), (places >= 0) & (places < self.count)

    def sums(self, logits: Tensor, places: Tensor, here: Tensor) -> tuple[Tensor, Tensor]:
        """log Σ exp of all words' logits, and the targets' logits, both [tokens, 1]."""
        evidence, chosen = logits.logsumexp(dim=-1, keepdim=True), logits.gather(1, places)
        if self.mesh is None:
            return evidence, chosen
        from torch.distributed.tensor import DTensor, Replicate, Shard

        own = torch.stack((evidence, chosen * here))[None]
        parts = DTensor.from_local(own, self.mesh, (Shard(0),), run_check=False)
        evidences, chosens = parts.redistribute(placements=(Replicate(),)).to_local().unbind(1)
        return evidences.logsumexp(dim=0), chosens.sum(dim=0)


def _words(weight: Tensor) -> tuple[Tensor, _Words]:
    """What this process has of a head's matrix, and which words these are."""
    if not is_divided(weight):
        return weight, _Words(0, len(weight), len(weight))
    mesh = weight.device_mesh
    most = -(-len(weight) // mesh.size())
    own = weight.to_local()
    return own, _Words(mesh.get_local_rank() * most, len(own), most, mesh)


class _HeadCrossEntropy(torch.autograd.Function):
    """The gradient of a sum is known as soon as the sum is: forward computes both, backward scales."""

    @staticmethod
    def forward(
        ctx: Any, hidden: Tensor, weight: Tensor, targets: Tensor, scale: float, softcap: float, words: _Words
    ) -> Tensor:
        device = hidden.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else hidden.dtype
        rows, matrix = hidden.to(dtype), weight.to(dtype)
        learns = any(ctx.needs_input_grad)
        hidden_gradient, weight_gradient = torch.empty_like(hidden), torch.zeros_like(weight)
        loss = torch.zeros((), device=hidden.device)
        step = max(LEAST_TOKENS, LOGITS // words.most)  # the same in all processes
        for start in range(0, len(targets), step):
            part = slice(start, start + step)
            logits, slope = _logits(rows[part], matrix, scale, softcap)
            counts = targets[part] != IGNORED
            places, here = words.own(targets[part])
            evidence, chosen = words.sums(logits, places, here)
            loss += ((evidence - chosen)[:, 0] * counts).sum()
            if not learns:
                continue
            gradient = logits.sub_(evidence).exp_()  # softmax(z) - 1 at the target, 0 where nothing is learned
            gradient.scatter_add_(1, places, -here.to(gradient.dtype))
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
    def backward(ctx: Any, above: Tensor) -> tuple[Tensor, Tensor, None, None, None, None]:
        # What is scaled in place is given away. A kept graph may be run again (zero-bubble pipelines do, for the
        # weights), but only for the same: autograd does not count changes of ``data``, so this looks itself.
        hidden, weight = (tensor.data for tensor in ctx.saved_tensors)
        before, ctx.above = getattr(ctx, "above", None), above
        if before is None:
            hidden.mul_(above)
            weight.mul_(above)
        elif not torch.equal(before, above):
            raise RuntimeError("the gradient of this loss was given away, scaled otherwise; compute the loss again")
        return hidden, weight, None, None, None, None


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
