"""The learning rate and the batch over time.

Enters: how far the training is. Leaves: what the full rate is multiplied by, and how many micro-batches make a step.

    kind                   after the warm-up, from 1 to the floor
    warmup-stable-decay    hold, then a straight line over the last `decay` (Hu et al. 2024, MiniCPM)
    cosine                 half a cosine (Loshchilov & Hutter 2017)
    linear                 a straight line
    inverse-sqrt           √(warmup / progress), which ends where it ends (Vaswani et al. 2017)
    constant               hold
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Literal, get_args

from groundup.core.errors import UsageError

Kind = Literal["warmup-stable-decay", "cosine", "linear", "inverse-sqrt", "constant"]
Unit = Literal["steps", "tokens"]


@dataclass(frozen=True)
class ScheduleConfig:
    """Shares of the run, from 0 to 1."""

    kind: Kind = "warmup-stable-decay"
    """Course after the warm-up: hold and fall at the end, half a cosine, a straight line, 1/√progress, or hold."""
    warmup: float = 0.02
    """Share of the run over which the rate rises from zero."""
    decay: float = 0.5
    """warmup-stable-decay: share of the run over which the rate falls linearly to the floor at the end."""
    floor: float = 0.0
    """Share of the full rate that is left at the end."""
    rewarm: float = 0.0
    """For weights that were trained before (Ibrahim et al. 2024): share of the run over which the rate rises from the
    floor, where that training left it, instead of `warmup` from zero; 0: as `warmup` says."""
    unit: Unit = "steps"
    """What the run's shares are shares of; they differ while the batch warms up."""
    batch_warmup: float = 0.0
    """Share of the steps over which the batch grows from one micro-batch to all (Brown et al. 2020, GPT-3)."""

    def __post_init__(self) -> None:
        for name, choices in (("kind", get_args(Kind)), ("unit", get_args(Unit))):
            if (value := getattr(self, name)) not in choices:
                raise UsageError(f"schedule.{name} is {value!r}; it must be one of {', '.join(choices)}")
        for name in ("warmup", "decay", "floor", "rewarm", "batch_warmup"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise UsageError(f"schedule.{name.replace('_', '-')} is {value}; it must be a share from 0 to 1")
        rise = "rewarm" if self.rewarm else "warmup"
        if self.kind == "warmup-stable-decay" and self._rise + self.decay > 1:
            raise UsageError(
                f"schedule.{rise} {self._rise} and schedule.decay {self.decay} must add up to at most 1; lower one"
            )
        if self.kind == "inverse-sqrt" and not self._rise:
            raise UsageError("schedule.warmup is 0, from where inverse-sqrt has no scale; set it, to 0.02 perhaps")

    @property
    def _rise(self) -> float:
        return self.rewarm or self.warmup

    def factor(self, step: int, steps: int, accumulation: int = 1) -> float:
        """What the full rate is multiplied by at ``step`` (from 0) of ``steps``.

        ``accumulation`` is the number of micro-batches of a whole step: what the unit of tokens counts, as all of them
        have as many.
        """
        if self.unit == "steps":
            return self.at(step / steps, (step + 1) / steps)
        seen = _micro_batches(self, steps, accumulation)
        return self.at(seen[step] / seen[steps], seen[step + 1] / seen[steps])

    def at(self, begin: float, end: float) -> float:
        """What the full rate is multiplied by in an update that takes the run from the share ``begin`` to ``end``.

        The rise is counted at the end of the update and the fall at its begin, so that neither the first nor the last
        one is wasted on a rate of zero.
        """
        rise = max(self._rise, end - begin)
        start = self.floor if self.rewarm else 0.0
        risen = 1.0 if end >= rise else start + (1 - start) * end / rise
        return min(risen, self._course(begin, end - begin))

    def _course(self, begin: float, update: float) -> float:
        """Without the warm-up."""
        if self.kind == "constant" or (begin <= self._rise and self.kind != "warmup-stable-decay"):
            return 1.0
        if self.kind == "inverse-sqrt":
            return max(self.floor, math.sqrt(self._rise / begin))
        if self.kind == "warmup-stable-decay":
            left = (1 - begin) / max(self.decay, update) if 1 - begin < max(self.decay, update) else 1.0
        else:
            left = (1 - begin) / (1 - self._rise)
        if self.kind == "cosine":
            left = (1 - math.cos(math.pi * left)) / 2
        return self.floor + (1 - self.floor) * left

    def accumulation_at(self, step: int, steps: int, accumulation: int) -> int:
        """Micro-batches of ``step`` (from 0) of ``steps``, of the ``accumulation`` that a step has in the end.

        Each number from 1 on is held for as long.
        """
        warmup = self.batch_warmup * steps
        return accumulation if step + 1 >= warmup else math.ceil(accumulation * (step + 1) / warmup)


@lru_cache(maxsize=8)
def _micro_batches(schedule: ScheduleConfig, steps: int, accumulation: int) -> tuple[int, ...]:
    """Micro-batches before each step, and in the end."""
    each = (schedule.accumulation_at(step, steps, accumulation) for step in range(steps))
    return tuple(accumulate(each, initial=0))
