"""What every training stage has in common: how long, how precise, how careful, and what is watched."""

from dataclasses import dataclass, field
from typing import Any, Literal

from groundup.core.device import Precision
from groundup.core.errors import UsageError
from groundup.optim import OptimizerConfig, ScheduleConfig


@dataclass(frozen=True)
class MemoryConfig:
    """Time for memory."""

    recompute: Literal["none", "block", "selective"] = "none"
    """Activations that the backward pass computes again instead of keeping: none, whole blocks (Chen et al. 2016), or
    all but the results of matrix products and attention (selective)."""
    offload: bool = False
    """Keep float32 weights and the optimizer's state in the memory of the CPU and update them there."""
    fit: bool = False
    """Split micro-batches until they fit the memory; tokens per step, and so the loss curve, stay."""


@dataclass(frozen=True)
class SafetyConfig:
    """When a step is not trusted."""

    patience: int = 5
    """Consecutive steps with a loss or gradient that is not finite before training gives up."""
    spike: float = 0.0
    """A loss further above the recent median than this many deviations (scaled median absolute deviations) is a spike:
    training returns to the last good checkpoint and leaves out the batches since; 0: never."""
    rewinds: int = 3
    """Returns to a checkpoint before training gives up."""

    def __post_init__(self) -> None:
        at_least(1, self, "safety.", "patience")
        at_least(0, self, "safety.", "spike", "rewinds")


@dataclass(frozen=True)
class CheckpointConfig:
    """Which checkpoints stay."""

    last: int = 2
    """The newest ones that are kept: with the one before the last, a loss that spikes can go back twice."""
    best: int = 0
    """Those with the lowest validation that are kept beside them."""
    every: int = 0
    """Steps whose multiples are kept for ever; 0: none."""
    background: bool = True
    """Write while training goes on."""
    sharded: Literal["auto", "on", "off"] = "auto"
    """Each process writes the part of the tensors that it has; else the first one gathers and writes all. auto: where
    the processes divide weights or the optimizer's state. The last checkpoint of a stage is made whole in any case."""

    def __post_init__(self) -> None:
        at_least(1, self, "checkpoints.", "last")
        at_least(0, self, "checkpoints.", "best", "every")


@dataclass(frozen=True)
class WatchConfig:
    """What is measured beside the loss, and where it goes beside `metrics.jsonl`."""

    every: int = 20
    """Steps between measurements of gradients by group, the size of updates and activations; 0: never."""
    tensorboard: bool = False
    """Write TensorBoard's event files, too (extra `tensorboard`)."""
    wandb: str = ""
    """Project of Weights & Biases to report to, too (extra `wandb`)."""
    trackio: str = ""
    """Project of Trackio to report to, too (extra `trackio`)."""
    price: float = 0.0
    """Price of an hour on this device, in your currency, to count what the training costs; 0: not counted."""

    def __post_init__(self) -> None:
        at_least(0, self, "watch.", "every", "price")


@dataclass(frozen=True)
class TrainingConfig:
    """What every training stage has in common."""

    steps: int = 500
    """Number of updates."""
    accumulation: int = 1
    """Micro-batches per update."""
    clip: float = 1.0
    """Largest norm of the whole gradient; larger ones are scaled down to it."""
    precision: Precision = "auto"
    """Dtype of matrix products. auto: bfloat16 where the hardware multiplies it, else float32; weights stay float32."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda, mps …"""
    compile: Literal["auto", "on", "off"] = "auto"
    """Compile the model (torch.compile). auto: on CUDA devices."""
    save_every: int = 100
    """Steps between checkpoints; a killed run loses at most these."""
    prefetch: int = 2
    """Steps' batches that are made ready in the background; 0: none."""
    workers: int = 1
    """Threads that make them; more than one help where batches are planned, as those of pretraining are."""
    average: float = 0.0
    """Decay of a running mean of the weights, kept beside them (EMA); hooks and later stages use it; 0: none."""
    stop_after: int = 0
    """Validations in a row without a better one after which training ends early; 0: never."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained, as patterns of their names: embedding.weight, blocks.0.*"""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    safety: SafetyConfig = field(default_factory=SafetyConfig)
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    watch: WatchConfig = field(default_factory=WatchConfig)

    def __post_init__(self) -> None:
        at_least(1, self, "", "steps", "accumulation", "save_every", "workers")
        at_least(0, self, "", "prefetch", "stop_after")
        if self.clip <= 0:
            raise UsageError(f"clip is {self.clip}; it must be greater than 0")
        if not 0 <= self.average < 1:
            raise UsageError(f"average is {self.average}; it must be at least 0 and below 1")


def at_least(limit: int, section: Any, prefix: str, *names: str) -> None:
    """Refuse values of ``section`` below ``limit``.

    Raises:
        UsageError: the message names the key.
    """
    for name in names:
        if (value := getattr(section, name)) < limit:
            key = f"{prefix}{name.replace('_', '-')}"
            raise UsageError(f"{key} is {value}; it must be at least {limit}")
