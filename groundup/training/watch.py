"""What is measured beside the loss: gradients and updates by group of parameters, activations by block.

Enters: the models of a training. Leaves: a flat dict of numbers for ``metrics.jsonl``. On steps that are not due
nothing is computed; on the others the numbers come from the device in one piece, so it is waited for once.

The ratio of an update to the weights tells whether the learning rate fits: about 1/1000 is usual for AdamW, more for
Muon, whose updates have a fixed size.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from groundup.core.progress import say
from groundup.distributed.sharding import local
from groundup.optim import group_of
from groundup.training.working import Working

#: Numbers of a parameter that are kept to compare it with itself after the update; of larger ones evenly spaced rows.
COMPARED = 2**20


Hook = Callable[[nn.Module, tuple[object, ...], Tensor], None]


class Watch:
    """Measures a step of a training. The loop calls, on due steps::

        with watch.activations(first_batch.tensors):
            ...                     # forward and backward passes of all micro-batches
        watch.before_update()       # gradients are whole and not yet clipped
        ...                         # clip, update
        record |= watch.after_update()

    A compiled model runs no hooks; its blocks are then looked at in an extra forward pass, not compiled, over one row.

    Args:
        working: the model that is trained and the one that computes.
        every: steps between measurements; 0: never.
    """

    def __init__(self, working: Working, every: int) -> None:
        self._model = working.model
        self._sharding = working.sharding
        self._norm = working.sharding.norm
        self._every = every
        self._compiled = working.compiled
        self._told = False
        counted = set(working.sharding.counted(working.master))
        names = {p: name for name, p in working.master.named_parameters() if p.requires_grad and p in counted}
        groups = working.sharding.world.gathered(sorted({group_of(name) for name in names.values()}))
        # All processes measure all groups, those of a pipeline's other layers, too: a norm is a sum over all of them.
        self._groups: dict[str, list[nn.Parameter]] = {group: [] for each in groups for group in each}
        for parameter, name in names.items():
            self._groups[group_of(name)].append(parameter)
        self._forget()

    def due(self, step: int) -> bool:
        """Whether ``step``, counted from 1, is measured: the first and every multiple."""
        return self._every > 0 and (step == 1 or step % self._every == 0)

    @contextmanager
    def activations(self, tensors: Mapping[str, Tensor]) -> Iterator[None]:
        """Measure what the blocks give out in the forward passes inside the context.

        Args:
            tensors: of the first micro-batch, of which a compiled model's extra pass reads one row: "inputs", and
                "positions" and "segments" if there are any, each [rows, time].
        """
        self._forget()
        if not self._compiled:
            with self._listening():
                yield
            return
        yield
        self._look(tensors)

    @torch.no_grad()
    def before_update(self) -> None:
        """Measure the gradients and keep the weights to compare with."""
        for group, parameters in self._groups.items():
            gradients = [p.grad for p in parameters if p.grad is not None]
            if gradients or self._sharding.mesh is not None:
                self._numbers[f"gradient_norm/{group}"] = self._norm(gradients)
                self._before[group] = [_compared(p).clone() for p in parameters]

    @torch.no_grad()
    def after_update(self) -> dict[str, float]:
        """The step's numbers; without those that are not finite, such as the ratio to weights that are all zero."""
        for group, before in self._before.items():
            after = [_compared(parameter) for parameter in self._groups[group]]
            update = self._norm(torch._foreach_sub(after, before) if after else [])
            self._numbers[f"update_ratio/{group}"] = update / self._norm(before)
        for block, squares in self._squares.items():
            self._numbers[f"activation_rms/{block}"] = torch.stack(squares).mean().sqrt()
        told = self._sharding.world.gathered(_fetched(self._numbers))
        self._forget()
        return {name: value for each in reversed(told) for name, value in each.items()}

    def _forget(self) -> None:
        self._numbers: dict[str, Tensor] = {}
        self._before: dict[str, list[Tensor]] = {}
        self._squares: dict[int, list[Tensor]] = {}

    @contextmanager
    def _listening(self) -> Iterator[None]:
        """Note the mean square of every block's output, of every pass through it."""

        def noted(number: int) -> Hook:
            def note(module: nn.Module, inputs: tuple[object, ...], output: Tensor) -> None:
                square = output.detach().float().square().mean()
                self._squares.setdefault(number, []).append(square)

            return note

        blocks = self._model.blocks.named_children()
        handles = [block.register_forward_hook(noted(int(name) + 1)) for name, block in blocks]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @torch.no_grad()
    def _look(self, tensors: Mapping[str, Tensor]) -> None:
        if not self._told:
            say("watch: a compiled model runs no hooks; activations are measured in an extra pass over one row")
            self._told = True
        place = self._model.embedding.weight.device
        row = {name: tensors[name][:1].to(place) for name in ("positions", "segments") if name in tensors}
        training = self._model.training
        self._model.eval()  # no dropout, which would draw noise, and no counting of the experts' load
        try:
            with self._listening():
                self._model(tensors["inputs"][:1].to(place), **row, head=False)
        finally:
            self._model.train(training)


def _compared(parameter: Tensor) -> Tensor:
    """This process's part of a parameter, or of a large one evenly spaced rows: a view [rows, columns]."""
    part = local(parameter.detach())
    rows = part.reshape(-1, part.shape[-1]) if part.numel() else part
    return rows[:: max(1, math.ceil(rows.numel() / COMPARED))]


def _fetched(numbers: Mapping[str, Tensor]) -> dict[str, float]:
    """Scalars on devices as finite numbers, waiting once."""
    if not numbers:
        return {}
    place = next(iter(numbers.values())).device
    values = torch.stack([number.to(place, torch.float32) for number in numbers.values()]).tolist()
    return {name: value for name, value in zip(numbers, values, strict=True) if math.isfinite(value)}
