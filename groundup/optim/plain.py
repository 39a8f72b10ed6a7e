"""The update rules as their papers write them: one parameter, one step, nothing in place.

A learner reads these; the tests hold the fast ones against them. Each takes the weights, their gradient, what it
remembers and its settings, and returns the new weights and what to remember for the next step.
"""

import math

import torch
from torch import Tensor

from groundup.optim.orthogonal import Quintic


def adamw(
    weight: Tensor,
    gradient: Tensor,
    memory: tuple[Tensor, Tensor, int],
    *,
    rate: float,
    beta1: float,
    beta2: float,
    decay: float,
    epsilon: float = 1e-10,
) -> tuple[Tensor, tuple[Tensor, Tensor, int]]:
    """The mean gradient over the root of the mean squared one, decay apart (Loshchilov & Hutter 2019).

    Both means begin at zero; divided by 1 - betaᵗ they are as large as if they did not.
    """
    mean, square, step = memory
    step = step + 1
    mean = beta1 * mean + (1 - beta1) * gradient
    square = beta2 * square + (1 - beta2) * gradient**2
    update = mean / (1 - beta1**step) / ((square / (1 - beta2**step)).sqrt() + epsilon)
    return weight - rate * decay * weight - rate * update, (mean, square, step)


def muon(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    *,
    rate: float,
    momentum: float,
    decay: float,
    polynomials: tuple[Quintic, ...],
) -> tuple[Tensor, Tensor]:
    """The mean gradient and one more share of the gradient (Nesterov), made orthogonal (Jordan et al. 2024).

    A matrix of m rows and n columns whose singular values are all one has a root mean square of 1/√max(m, n); the
    update gets 0.2, as AdamW's has (Liu et al. 2025).
    """
    mean = momentum * mean + (1 - momentum) * gradient
    update = orthogonal(momentum * mean + (1 - momentum) * gradient, polynomials)
    return weight - rate * decay * weight - rate * 0.2 * math.sqrt(max(weight.shape)) * update, mean


def orthogonal(matrix: Tensor, polynomials: tuple[Quintic, ...]) -> Tensor:
    """U·Vᵀ of U·S·Vᵀ, nearly: to each singular value happens what a·x + b·x³ + c·x⁵ says of a number."""
    x = matrix / matrix.norm()
    for a, b, c in polynomials:
        x = a * x + b * x @ x.T @ x + c * x @ x.T @ x @ x.T @ x
    return x


def lion(
    weight: Tensor,
    gradient: Tensor,
    mean: Tensor,
    *,
    rate: float,
    beta1: float,
    beta2: float,
    decay: float,
) -> tuple[Tensor, Tensor]:
    """The sign of the mean gradient, with more of the newest gradient than is remembered (Chen et al. 2023)."""
    update = torch.sign(beta1 * mean + (1 - beta1) * gradient)
    return weight - rate * decay * weight - rate * update, beta2 * mean + (1 - beta2) * gradient
