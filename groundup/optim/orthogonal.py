"""Gradient matrices → matrices with the same directions and all strengths near one.

A matrix is U·S·Vᵀ, and U·Vᵀ, its polar factor, is wanted. It takes no decomposition: an odd polynomial of a matrix acts
on its singular values alone, so that a few polynomials in a row, each of three products, push all of them to one.
"""

import math
from functools import cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Iteration = Literal["newton-schulz", "polar-express"]
#: Of a·x + b·x³ + c·x⁵.
Quintic = tuple[float, float, float]

#: Jordan et al. 2024, "Muon": the same at every step, chosen for its slope at zero; ends in about [0.7, 1.2].
NEWTON_SCHULZ: Quintic = (3.4445, -4.7750, 2.0315)
#: Share of the upper bound below which singular values are not aimed at, which keeps rounding errors small.
CUSHION = 0.02407327424182761
#: Rounding may leave singular values a little above the bound: all but the last polynomial are made for this much more.
SAFETY = 1.01


def quintics(iteration: Iteration, steps: int) -> tuple[Quintic, ...]:
    """The polynomials that ``iteration`` applies, one after the other."""
    return (NEWTON_SCHULZ,) * steps if iteration == "newton-schulz" else polar_express(steps)


@cache
def polar_express(steps: int, lower: float = 0.0) -> tuple[Quintic, ...]:
    """Each polynomial is the best that there is for where the one before it leaves the singular values.

    Amsel, Persson, Musco & Gower 2025, "The Polar Express". They are made for singular values in [``lower``, 1]; 0:
    4^-steps, as a step raises the smallest about fourfold, which ends near [0.85, 1.15].
    """
    low, high = lower or 4.0**-steps, 1.0
    found = []
    for step in range(steps):
        a, b, c = best_quintic(max(low, CUSHION * high), high)
        ends = [a * x + b * x**3 + c * x**5 for x in (low, high)]
        centre = 2 / sum(ends)  # where the cushion was used, one is no longer the middle
        low, high = centre * ends[0], centre * ends[1]
        safety = SAFETY if step < steps - 1 else 1.0
        found.append((centre * a / safety, centre * b / safety**3, centre * c / safety**5))
    return tuple(found)


def best_quintic(low: float, high: float) -> Quintic:
    """The odd polynomial of degree 5 nearest to one on [``low``, ``high``]: nowhere is its largest distance smaller.

    By Remez's exchange: the best polynomial goes from 1 - error to 1 + error and back at four points, of which the
    inner two are its extrema.
    """
    if high - low < 1e-5 * high:
        return 15 / 8 / high, -10 / 8 / high**3, 3 / 8 / high**5  # in the limit the first derivatives are zero at one
    inner = np.array([(3 * low + high) / 4, (low + 3 * high) / 4])
    for _ in range(50):
        points = np.array([low, *inner, high])
        system = np.stack([points, points**3, points**5, [1.0, -1.0, 1.0, -1.0]], axis=1)
        a, b, c, _ = np.linalg.solve(system, np.ones(4))
        root = math.sqrt(9 * b * b - 20 * a * c)
        before, inner = inner, np.sqrt((-3 * b + np.array([-root, root])) / (10 * c))
        if np.allclose(inner, before, rtol=1e-12, atol=0):
            break
    return float(a), float(b), float(c)


def orthogonalise(matrices: Tensor, polynomials: tuple[Quintic, ...] = polar_express(5)) -> Tensor:
    """Push the singular values of each matrix [..., rows, columns] to about one; zero stays zero.

    The result is near U·Vᵀ for a matrix U·S·Vᵀ, in the dtype of ``matrices``. Works on stacks of matrices.
    """
    rows, columns = matrices.shape[-2:]
    if rows > columns:
        return orthogonalise(matrices.mT, polynomials).mT
    x = matrices.reshape(-1, rows, columns)
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    # The products of the square form need precision: x·xᵀ has the squares of the singular values.
    square = 2 * columns > 3 * rows and x.dtype != torch.bfloat16
    return (_by_squares(x, polynomials) if square else _directly(x, polynomials)).view(matrices.shape)


def _directly(x: Tensor, polynomials: tuple[Quintic, ...]) -> Tensor:
    """x ← (a + b·x·xᵀ + c·(x·xᵀ)²)·x for stacks [count, rows, columns]."""
    for a, b, c in polynomials:
        gram = torch.bmm(x, x.mT)
        factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, factor, x, beta=a)
    return x


def _by_squares(x: Tensor, polynomials: tuple[Quintic, ...]) -> Tensor:
    """The same from x·xᵀ, which is much smaller than a wide x: the product of all factors, and only then times x.

    Everything is a polynomial of x·xᵀ, so that the order of products does not matter.
    """
    first, *others = polynomials
    gram = torch.bmm(x, x.mT)
    product = factor = _factor(gram, first)
    for polynomial in others:
        gram = torch.bmm(torch.bmm(factor, gram), factor)  # of factor·x
        factor = _factor(gram, polynomial)
        product = torch.bmm(factor, product)
    return torch.bmm(product, x)


def _factor(gram: Tensor, polynomial: Quintic) -> Tensor:
    """a + b·gram + c·gram²."""
    a, b, c = polynomial
    factor = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
    factor.diagonal(dim1=-2, dim2=-1).add_(a)
    return factor
