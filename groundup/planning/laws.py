"""Scaling laws: what loss a model of N parameters reaches on D tokens, and which N and D make the most of C operations.

Enters: numbers of parameters and tokens, or operations. Leaves: losses in nats per token, and allocations. C is 6·N·D:
a multiplication and an addition per weight and token, in the forward pass and twice in the backward pass.

The constants belong to the papers' data, tokenizers and models. They tell how things go, not what yours will reach: fit
your own (:mod:`groundup.planning.fit`, ``groundup pretrain --sweep``).
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

Number = TypeVar("Number", float, npt.NDArray[np.float64])

#: Operations per parameter and token, in C = 6·N·D.
OPERATIONS = 6.0
#: Operations of a petaflop/s-day, the unit of Kaplan et al.
PETAFLOP_DAY = 1e15 * 24 * 3600


@dataclass(frozen=True)
class Allocation:
    """How an amount of computation is spent."""

    parameters: float
    """Of the model."""
    tokens: float
    """That it is trained on."""

    @property
    def operations(self) -> float:
        """What that takes."""
        return OPERATIONS * self.parameters * self.tokens


@dataclass(frozen=True)
class ParametricLaw:
    """L(N, D) = E + A / N^α + B / D^β (Hoffmann et al. 2022, "Training compute-optimal large language models", eq. 2).

    N counts all parameters.
    """

    irreducible: float
    """E, what is left of the loss with endless parameters and tokens: the entropy of the text."""
    parameter_factor: float
    """A."""
    token_factor: float
    """B."""
    parameter_exponent: float
    """α."""
    token_exponent: float
    """β."""

    def loss(self, parameters: Number, tokens: Number) -> Number:
        """L(N, D)."""
        missing_parameters = self.parameter_factor / parameters**self.parameter_exponent
        return self.irreducible + missing_parameters + self.token_factor / tokens**self.token_exponent

    def optimum(self, operations: float) -> Allocation:
        """The N and D of least loss with 6·N·D = C: N = G·(C/6)^a, D = (C/6)^b / G (eq. 4).

        At the optimum a little more of either lowers the loss alike: α·A/N^α = β·B/D^β.
        """
        alpha, beta = self.parameter_exponent, self.token_exponent
        balance = (alpha * self.parameter_factor / (beta * self.token_factor)) ** (1 / (alpha + beta))
        product = operations / OPERATIONS
        return Allocation(balance * product ** (beta / (alpha + beta)), product ** (alpha / (alpha + beta)) / balance)

    @property
    def optimal_exponent(self) -> float:
        """a, with which the best N grows: N ∝ C^a."""
        return self.token_exponent / (self.parameter_exponent + self.token_exponent)


@dataclass(frozen=True)
class JointLaw:
    """L(N, D) = ((N_c / N)^(α_N / α_D) + D_c / D)^α_D (Kaplan et al. 2020, "Scaling laws for neural language models",
    eq. 1.5), of models that train on D tokens until they overfit. N leaves embeddings out.
    """

    parameter_scale: float
    """N_c."""
    token_scale: float
    """D_c."""
    parameter_exponent: float
    """α_N."""
    token_exponent: float
    """α_D."""

    def loss(self, parameters: Number, tokens: Number) -> Number:
        """L(N, D)."""
        missing_parameters = (self.parameter_scale / parameters) ** (self.parameter_exponent / self.token_exponent)
        return (missing_parameters + self.token_scale / tokens) ** self.token_exponent

    def optimum(self, operations: float) -> Allocation:
        """The N and D of least loss with 6·N·D = C.

        What is raised to α_D has the form of :class:`ParametricLaw`, and least where the loss is.
        """
        exponent = self.parameter_exponent / self.token_exponent
        return ParametricLaw(0.0, self.parameter_scale**exponent, self.token_scale, exponent, 1.0).optimum(operations)


@dataclass(frozen=True)
class PowerLaw:
    """y = factor · x^exponent."""

    factor: float
    exponent: float

    def __call__(self, x: Number) -> Number:
        return self.factor * x**self.exponent

    @classmethod
    def through(cls, first: tuple[float, float], second: tuple[float, float]) -> "PowerLaw":
        """The one through two points (x, y)."""
        exponent = float(np.log(second[1] / first[1]) / np.log(second[0] / first[0]))
        return cls(first[1] / first[0] ** exponent, exponent)

    def optimum(self, operations: float) -> Allocation:
        """As a law of the best N for C: that, and the tokens for which 6·N·D = C."""
        parameters = self(operations)
        return Allocation(parameters, operations / (OPERATIONS * parameters))


#: Kaplan et al. 2020, eq. 1.1-1.3: the loss where only N (without embeddings), D, or C (operations, spent best) binds.
KAPLAN_PARAMETERS = PowerLaw(8.8e13**0.076, -0.076)
KAPLAN_TOKENS = PowerLaw(5.4e13**0.095, -0.095)
KAPLAN_COMPUTE = PowerLaw((3.1e8 * PETAFLOP_DAY) ** 0.050, -0.050)
#: The same, table 2: both bind.
KAPLAN = JointLaw(6.4e13, 1.8e13, 0.076, 0.103)
#: The same, table 6: the best N, without embeddings, for C; batches far below the critical size. Its learning rates
#: fell over one and the same number of steps whatever the run, which made short runs look worse than they are, and
#: larger models better (Hoffmann et al. 2022, section 2).
KAPLAN_OPTIMUM = PowerLaw(1.3e9 / PETAFLOP_DAY**0.73, 0.73)

#: Hoffmann et al. 2022, approach 1 (the envelope of training curves) and 2 (IsoFLOP profiles): the best N for C,
#: through the ends of tables 3 and A3.
CHINCHILLA_ENVELOPE = PowerLaw.through((1.92e19, 400e6), (1.30e28, 10e12))
CHINCHILLA_ISOFLOP = PowerLaw.through((1.84e19, 400e6), (1.75e28, 10e12))
#: The same, approach 3: the law fitted to all runs. The paper prints E 1.69, α 0.34 and β 0.28; these are the digits in
#: its source, without which the optimum is another (Besiroglu et al. 2024, section 3).
CHINCHILLA_PARAMETRIC = ParametricLaw(1.6934, 406.4, 410.7, 0.3392, 0.2849)
#: Besiroglu et al. 2024, "Chinchilla scaling: a replication attempt": the fit of approach 3 as it comes out when the
#: optimizer does not stop early. It agrees with approaches 1 and 2.
CHINCHILLA = ParametricLaw(1.8172, 482.01, 2085.43, 0.3478, 0.3658)
