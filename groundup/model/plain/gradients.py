"""The layers of a decoder and their gradients, derived by hand.

Each layer is a pair: ``layer`` returns its output and what the way back needs, ``layer_backward`` turns the gradient of
the loss by the output into the gradients by what went in (the chain rule). The derivations use the notation of the
papers: x̂ is the normalised x, ḡ the gradient that comes back, ⟨·⟩ a mean over the last axis, ⊙ a product by element.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from groundup.model.plain.attention import softmax


class Normalised(NamedTuple):
    """The output of a norm, and what its way back needs."""

    output: Tensor
    """[..., size]."""
    unit: Tensor
    """x̂: the input with mean square 1 (and for LayerNorm mean 0) [..., size]."""
    spread: Tensor
    """What the input was divided by [..., 1]."""


def rms_norm(x: Tensor, scale: Tensor, epsilon: float) -> Normalised:
    """x̂ ⊙ scale, x̂ = x / r, r = √(⟨x²⟩ + ε) (Zhang & Sennrich 2019); x is [..., size], scale [size]."""
    spread = (x.square().mean(dim=-1, keepdim=True) + epsilon).sqrt()
    unit = x / spread
    return Normalised(unit * scale, unit, spread)


def rms_norm_backward(gradient: Tensor, forward: Normalised, scale: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by x [..., size] and scale [size].

    With n elements, ∂r/∂xⱼ = xⱼ / (n r) = x̂ⱼ / n, so ∂x̂ᵢ/∂xⱼ = (δᵢⱼ - x̂ᵢ x̂ⱼ / n) / r. Summed against
    ḡ = gradient ⊙ scale this is (ḡ - x̂ ⟨ḡ ⊙ x̂⟩) / r: what would only lengthen x̂ is taken out.
    """
    _, unit, spread = forward
    back = gradient * scale
    by_x = (back - unit * (back * unit).mean(dim=-1, keepdim=True)) / spread
    return by_x, _total(gradient * unit)


def layer_norm(x: Tensor, scale: Tensor, bias: Tensor, epsilon: float) -> Normalised:
    """x̂ ⊙ scale + bias, x̂ = (x - ⟨x⟩) / s, s = √(⟨(x - ⟨x⟩)²⟩ + ε) (Ba et al. 2016); scale and bias are [size]."""
    centred = x - x.mean(dim=-1, keepdim=True)
    unit, _, spread = rms_norm(centred, torch.ones_like(scale), epsilon)
    return Normalised(unit * scale + bias, unit, spread)


def layer_norm_backward(gradient: Tensor, forward: Normalised, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients by x [..., size], scale [size] and bias [size].

    LayerNorm is RMSNorm of x - ⟨x⟩. The way back through the RMSNorm is above; that through the centring takes the mean
    out, since ∂(xᵢ - ⟨x⟩)/∂xⱼ = δᵢⱼ - 1/n. As ⟨x̂⟩ = 0, what remains is (ḡ - ⟨ḡ⟩ - x̂ ⟨ḡ ⊙ x̂⟩) / s.
    """
    by_centred, by_scale = rms_norm_backward(gradient, forward, scale)
    return by_centred - by_centred.mean(dim=-1, keepdim=True), by_scale, _total(gradient)


def cross_entropy(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Σ -ln p(target), p = softmax(logits), and p; logits are [tokens, vocabulary], targets [tokens]."""
    probabilities = softmax(logits)
    return -probabilities[torch.arange(len(targets)), targets].log().sum(), probabilities


def cross_entropy_backward(probabilities: Tensor, targets: Tensor) -> Tensor:
    """Gradient by the logits [tokens, vocabulary].

    -ln p(t) = ln Σⱼ exp(zⱼ) - z(t). The first term's derivative by zᵢ is exp(zᵢ) / Σⱼ exp(zⱼ) = pᵢ, the second's is 1
    at the target: the model's probabilities less the truth's.
    """
    truth = torch.zeros_like(probabilities)
    truth[torch.arange(len(targets)), targets] = 1
    return probabilities - truth


def swiglu(gate: Tensor, up: Tensor) -> tuple[Tensor, Tensor]:
    """silu(gate) ⊙ up, silu(z) = z σ(z) (Shazeer 2020), and σ(gate); all [..., hidden]."""
    opening = torch.sigmoid(gate)
    return gate * opening * up, opening


def swiglu_backward(gradient: Tensor, gate: Tensor, up: Tensor, opening: Tensor) -> tuple[Tensor, Tensor]:
    """Gradients by gate and up [..., hidden].

    σ' = σ (1 - σ), so (z σ)' = σ + z σ (1 - σ) = σ (1 + z (1 - σ)).
    """
    return gradient * up * opening * (1 + gate * (1 - opening)), gradient * gate * opening


def _total(x: Tensor) -> Tensor:
    """The sum over all axes but the last: a parameter that many positions share gathers the gradients of all."""
    return x.flatten(end_dim=-2).sum(dim=0)
