"""What a user may say about the update rules."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from groundup.core.errors import UsageError
from groundup.optim.orthogonal import Iteration

Rule = Literal["muon", "adamw", "lion"]


@dataclass(frozen=True)
class OptimizerConfig:
    """Rules, rates and decays."""

    matrix_rate: float = 0.01
    """Learning rate of hidden matrices; 0: they have no rule of their own, but AdamW at `rate`."""
    rate: float = 0.004
    """AdamW's learning rate for everything else: embedding, head, routers, norms, biases."""
    matrices: Rule = "muon"
    """Rule for hidden matrices: Muon learns most in a step, AdamW has the cheapest step, Lion remembers half as much as
    AdamW and wants a rate three to ten times lower."""
    weight_decay: float = 0.1
    """Decoupled weight decay of matrices, multiplied by the learning rate. Norms and biases are never decayed."""
    decay_embedding: bool = True
    """Decay token and position embeddings, too; a head that shares its matrix with them is one of them."""
    momentum: float = 0.95
    """Muon's momentum."""
    momentum_warmup: int = 0
    """Steps over which Muon's momentum rises from 0.85; 0: none."""
    iteration: Iteration = "polar-express"
    """How Muon makes a matrix orthogonal: the best polynomial at each step (Amsel et al. 2025), or Newton-Schulz
    with the same at all (Jordan et al. 2024)."""
    iteration_steps: int = 5
    """Polynomials that Muon applies. Fewer are cheaper and level the weak directions less."""
    beta1: float = 0.9
    """AdamW's decay of the mean gradient."""
    beta2: float = 0.95
    """AdamW's decay of the mean squared gradient."""
    embedding_factor: float = 1.0
    """What `rate` is multiplied by for embeddings."""
    head_factor: float = 1.0
    """What `rate` is multiplied by for an output head with a matrix of its own."""
    vector_factor: float = 1.0
    """What `rate` is multiplied by for norms, biases and other vectors."""
    tuned_width: int = 0
    """model.width at which the rates were tuned: for another they are multiplied by √(tuned-width / width), as the
    steps of wider layers must be smaller; 0: use them as they are."""

    def __post_init__(self) -> None:
        for name, choices in (("matrices", get_args(Rule)), ("iteration", get_args(Iteration))):
            if (value := getattr(self, name)) not in choices:
                raise UsageError(f"optimizer.{name} is {value!r}; it must be one of {', '.join(choices)}")
        factors = ("embedding_factor", "head_factor", "vector_factor")
        for name in ("matrix_rate", "rate", "weight_decay", "momentum_warmup", *factors, "tuned_width"):
            if getattr(self, name) < 0:
                raise UsageError(f"optimizer.{name} is {getattr(self, name)}; it cannot be negative")
        for name in ("momentum", "beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"optimizer.{name} is {getattr(self, name)}; it must be at least 0 and below 1")
        if not 1 <= self.iteration_steps <= 20:
            raise UsageError(f"optimizer.iteration_steps is {self.iteration_steps}; it must be from 1 to 20")

    @property
    def rule(self) -> Rule:
        """What hidden matrices get."""
        return self.matrices if self.matrix_rate else "adamw"

    def for_width(self, width: int) -> "OptimizerConfig":
        """With the rates of a model this wide."""
        if self.tuned_width in (0, width):
            return self
        factor = (self.tuned_width / width) ** 0.5
        return replace(self, matrix_rate=self.matrix_rate * factor, rate=self.rate * factor, tuned_width=width)
