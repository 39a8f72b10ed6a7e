"""Experiments on a checkpoint: what does this model really compute, and what would it learn here?

Enters: a model, windows of a shard. Leaves: numbers; what they mean is said in ``learning.py`` and ``data.py``.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from groundup.core.seeding import torch_rng
from groundup.dataloader import Batch, Tokens
from groundup.diagnosis.records import Ids, Numbers, Stage
from groundup.model import Transformer
from groundup.objectives import next_token
from groundup.optim import OptimizerConfig, build_optimizers

#: Floating-point operations that one probe may cost: seconds on a laptop.
BUDGET = 3e11
#: Logits in one forward pass (64 MB), and windows of a probe at most.
LOGITS, MOST_WINDOWS = 1 << 24, 512
#: Steps of the probe of learning rates, and the tokens of each at most.
PROBE_STEPS, PROBE_TOKENS = 16, 2048
#: The farthest that the probe goes from the recipe's rates, as powers of ten.
FARTHEST = 5


class Unmasked(Transformer):
    """The same weights where every token sees the whole row: what a model that was trained without a mask expects."""

    def _mask(self, places: Tensor, end: int, *_: Any) -> Tensor:
        return torch.ones(1, 1, places.shape[-1], end, dtype=torch.bool, device=places.device)


def windows(tokens: Tokens, time: int, count: int) -> Tensor:
    """``count`` windows of ``time`` + 1 ids, evenly spread over the tokens: [count, time + 1]."""
    count = min(count, max(1, (len(tokens) - 1) // time))
    starts = np.linspace(0, max(0, len(tokens) - time - 1), count).astype(np.int64).tolist()
    return torch.from_numpy(np.stack([tokens.read(start, start + time + 1) for start in starts]))


def affordable_windows(model: Transformer, passes: int) -> int:
    """Windows that may be read ``passes`` times within the budget; 0 where not even one may."""
    operations = 2 * sum(parameter.numel() for parameter in model.parameters()) * model.config.context
    return min(MOST_WINDOWS, int(BUDGET / (operations * passes)))


@torch.no_grad()
def losses(model: Transformer, ids: Tensor, ahead: int = 1, mark: int | None = None) -> Numbers:
    """Mean cross-entropy of each window, in nats: [windows].

    Args:
        model: in evaluation mode.
        ids: [windows, time + 1].
        ahead: which token is the target: 1 the next one, 0 the one that is being read.
        mark: the document token, where no document sees another; None: a row sees all that stands before.
    """
    found = []
    for part in ids.split(max(1, LOGITS // (ids.shape[1] * model.vocab_size))):
        inputs, targets = part[:, :-1], part[:, ahead : ahead + part.shape[1] - 1]
        logits = model(inputs, **({} if mark is None else document_places(inputs, mark)))
        each = F.cross_entropy(logits.transpose(1, 2), targets, reduction="none")
        found += each.double().mean(dim=1).tolist()
    return np.array(found)


def document_places(ids: Tensor, mark: int) -> dict[str, Tensor]:
    """Number of the document of each token of ``ids`` [rows, time], and its position in it."""
    begins = ids == mark
    places = torch.arange(ids.shape[1]).expand_as(ids)
    return {"segments": begins.cumsum(dim=1), "positions": places - (places * begins).cummax(dim=1).values}


@torch.no_grad()
def end_probability(model: Transformer, ids: Ids, places: Sequence[int], token: int) -> Numbers:
    """Probability of ``token`` at each of the ``places`` of ``ids``, given what stands before it: [places]."""
    time, found = model.config.context, []
    for place in places:
        before = torch.from_numpy(ids[max(0, place - time) : place])[None]
        found.append(float(model(before)[0, -1].softmax(dim=-1)[token]))
    return np.array(found)


@dataclass(frozen=True)
class Leak:
    """How far earlier logits moved when a later token was changed."""

    positions: int
    """Earlier positions whose logits moved."""
    largest: float
    """By how much at most."""
    scale: float
    """Standard deviation of the logits."""
    changed: int
    """The position that was changed."""

    @property
    def found(self) -> bool:
        """Whether that is more than rounding."""
        return self.largest > 1e-3 * max(self.scale, 1e-6)


@torch.no_grad()
def look_ahead(model: Transformer, ids: Tensor) -> Leak:
    """Change a later token of each row of ``ids`` [rows, time] and see whether earlier logits move."""
    place = ids.shape[1] * 3 // 4
    changed = ids.clone()
    changed[:, place] = (changed[:, place] + model.vocab_size // 2) % model.vocab_size
    before, after = model(ids), model(changed)
    moved = (after - before)[:, :place].abs().amax(dim=-1).amax(dim=0)
    scale = float(before.std())
    return Leak(int((moved > 1e-3 * max(scale, 1e-6)).sum()), float(moved.max()), scale, place)


def gradients_by_block(model: Transformer, ids: Tensor) -> Numbers:
    """Norm of the gradient of the mean next-token loss in each block, the first one first: [layers]."""
    model.zero_grad()
    with torch.enable_grad():
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, ids[:, 1:].numel())
        (next_token(model, batch) / batch.weight).backward()
    norms = []
    for block in model.blocks:
        gradients = [parameter.grad for parameter in block.parameters() if parameter.grad is not None]
        norms.append(float(torch.nn.utils.get_total_norm(gradients)) if gradients else 0.0)
    model.zero_grad()
    return np.array(norms)


class RateProbe:
    """What the run's shape learns on its own shard in a few steps from new weights, at multiples of its rates."""

    def __init__(self, stage: Stage, model: Transformer, tokens: Tokens) -> None:
        self.model = model
        self.config = optimizer_config(stage)
        self.clip = float(stage.setting("clip", default=1.0))
        time = model.config.context
        self.rows = max(1, min(int(stage.setting("rows", default=16)), PROBE_TOKENS // time))
        every = windows(tokens, time, PROBE_STEPS * self.rows)
        self.batches = every[torch.randperm(len(every), generator=torch_rng(0, "probe"))].split(self.rows)

    @property
    def affordable(self) -> bool:
        """Whether the probe's steps at some five rates (forward and backward) stay within the budget."""
        parameters = sum(parameter.numel() for parameter in self.model.parameters())
        tokens = 5 * PROBE_STEPS * self.rows * self.model.config.context
        return 6 * parameters * tokens <= 2 * BUDGET

    @cached_property
    def results(self) -> dict[float, float]:
        """Multiplier → mean loss of the last quarter of the steps, infinite where it stopped being a number.

        From 1 the multiplier goes up, and down, by tens as long as that ends lower.
        """
        found = {1.0: self._train(1.0)}
        for direction in (1, -1):
            before = found[1.0]
            for power in range(1, FARTHEST + 1):
                multiplier = 10.0 ** (direction * power)
                found[multiplier] = self._train(multiplier)
                if not found[multiplier] < before:
                    break
                before = found[multiplier]
        return dict(sorted(found.items()))

    def _train(self, multiplier: float) -> float:
        model = Transformer(self.model.config, self.model.vocab_size).initialise(torch_rng(0, "probe")).train()
        optimizers = build_optimizers(model, self.config)
        seen = []
        for step in range(PROBE_STEPS):
            ids = self.batches[step % len(self.batches)]
            batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, ids[:, 1:].numel())
            loss = next_token(model, batch) / batch.weight
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), self.clip)
            for optimizer in optimizers:
                for group in optimizer.param_groups:
                    group["lr"] = group["full_lr"] * multiplier * min(1.0, (step + 1) / 4)
                optimizer.step()
                optimizer.zero_grad()
            seen.append(float(loss.detach()))
        late = float(np.mean(seen[-PROBE_STEPS // 4 :]))
        return late if np.isfinite(late) else float("inf")


def optimizer_config(stage: Stage) -> OptimizerConfig:
    """The optimizer of the stage's recipe, as far as it is known here."""
    known = OptimizerConfig.__dataclass_fields__
    table = stage.setting("optimizer", default={})
    return OptimizerConfig(
        **{key: value for key, value in table.items() if key in known and not isinstance(value, dict)}
    )
