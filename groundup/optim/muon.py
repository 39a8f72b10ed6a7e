"""Muon: momentum, orthogonalised (Jordan et al. 2024, "Muon: an optimizer for hidden layers").

The update of a weight matrix is its momentum with all singular values pushed to about one, so that every
direction of the matrix learns at the same speed, not only the loudest.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from groundup.optim.orthogonal import Quintic, orthogonalise, polar_express
from groundup.optim.uncompiled import Uncompiled

#: The momentum that a warm-up starts from (Jordan et al. 2024, "modded-nanogpt").
FIRST_MOMENTUM = 0.85


class Muon(Uncompiled):
    """Nesterov momentum, orthogonalised, for weight matrices [out, in], and for stacks of them (experts).

    The update is scaled by 0.2·√max(out, in), which gives it the root-mean-square of a typical AdamW update, so
    that one learning rate and one weight decay serve both (Liu et al. 2025, "Muon is scalable for LLM training").

    Args:
        parameters: tensors of two or more axes, or groups of them.
        lr: learning rate.
        momentum: share of the old mean gradient in the new one.
        weight_decay: decoupled: times the rate is what weights lose of themselves in a step.
        momentum_warmup: steps over which the momentum rises from 0.85, if it is larger.
        polynomials: of the iteration.
        dtype: of the iteration.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
        *,
        momentum_warmup: int = 0,
        polynomials: tuple[Quintic, ...] = polar_express(5),
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.polynomials = polynomials
        self.dtype = dtype
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "momentum_warmup": momentum_warmup}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "Muon evaluates no closure"
        for group in self.param_groups:
            if parameters := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self._update(parameters, group)

    def _update(self, parameters: list[Tensor], group: dict[str, Any]) -> None:
        """All at once: matrices of one shape, or of that shape turned, are a stack, and a stack is a few products."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        means = [self._state(parameter, "momentum", torch.zeros_like) for parameter in parameters]
        momentum = self._momentum(parameters, group)
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        ahead = torch._foreach_lerp(gradients, means, momentum)  # Nesterov: look one step ahead
        torch._foreach_mul_(parameters, 1 - group["lr"] * group["weight_decay"])
        self.apply(parameters, ahead, group["lr"])

    def apply(self, parameters: Sequence[Tensor], directions: Sequence[Tensor], rate: float) -> None:
        """Move the parameters against their orthogonalised directions."""
        for members, updates, scale in self.updates(directions):
            torch._foreach_add_([parameters[number] for number in members], updates, alpha=-rate * scale)

    def updates(self, directions: Sequence[Tensor]) -> Iterator[tuple[list[int], list[Tensor], float]]:
        """The directions with all singular values pushed to about one, stack by stack: numbers, updates, scale."""
        stacks: dict[tuple[int, ...], list[int]] = defaultdict(list)
        lying = [_lying(direction) for direction in directions]
        for number, stack in enumerate(lying):
            stacks[tuple(stack.shape[-2:])].append(number)
        for (_, columns), members in stacks.items():
            stack = torch.cat([lying[number] for number in members])
            orthogonal = orthogonalise(stack.to(self.dtype), self.polynomials).to(stack.dtype)
            parts = orthogonal.split([len(lying[number]) for number in members])
            updates = [_standing(part, directions[number]) for number, part in zip(members, parts, strict=True)]
            yield members, updates, 0.2 * columns**0.5

    def _momentum(self, parameters: list[Tensor], group: dict[str, Any]) -> float:
        """Of this step, which is counted where it matters."""
        last, warmup = float(group["momentum"]), int(group["momentum_warmup"])
        if warmup == 0 or last <= FIRST_MOMENTUM:
            return last
        steps = [self._state(parameter, "step", lambda _: torch.zeros(())) for parameter in parameters]
        torch._foreach_add_(steps, 1)
        return FIRST_MOMENTUM + (last - FIRST_MOMENTUM) * min(1.0, (float(steps[0]) - 1) / warmup)

    def _state(self, parameter: Tensor, key: str, first: Callable[[Tensor], Tensor]) -> Tensor:
        state = self.state[parameter]
        if key not in state:
            state[key] = first(parameter)
        return state[key]


def _lying(matrices: Tensor) -> Tensor:
    """A matrix or a stack as a view [count, rows, columns] with no more rows than columns."""
    stack = matrices.flatten(0, -3) if matrices.ndim > 2 else matrices[None]
    return stack.mT if stack.shape[-2] > stack.shape[-1] else stack


def _standing(stack: Tensor, like: Tensor) -> Tensor:
    """Undo :func:`_lying`: [count, rows, columns] in the shape of ``like``."""
    turned = stack.mT if like.shape[-2] > like.shape[-1] else stack
    return turned.unflatten(0, like.shape[:-2]) if like.ndim > 2 else turned[0]
