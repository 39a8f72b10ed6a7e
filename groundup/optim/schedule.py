"""The learning rate over time: warm up, hold, decay to zero (Hu et al. 2024, MiniCPM's WSD)."""

from dataclasses import dataclass

from groundup.core.errors import UsageError


@dataclass(frozen=True)
class ScheduleConfig:
    """Shares of the run; what is left between them is held at the full rate."""

    warmup: float = 0.02
    """Share of the steps over which the rate rises from zero."""
    decay: float = 0.5
    """Share of the steps over which the rate falls linearly to zero at the end."""

    def __post_init__(self) -> None:
        if self.warmup < 0 or self.decay < 0 or self.warmup + self.decay > 1:
            raise UsageError(
                f"schedule.warmup {self.warmup} and schedule.decay {self.decay} must be shares that add up to at most 1"
            )

    def factor(self, step: int, steps: int) -> float:
        """What the full rate is multiplied by at ``step`` (from 0) of ``steps``."""
        rise = (step + 1) / max(1.0, self.warmup * steps)
        fall = (steps - step) / max(1.0, self.decay * steps)
        return min(1.0, rise, fall)
