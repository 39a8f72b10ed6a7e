"""How many devices share a training: along which dimensions, and whether a model can be divided so.

Enters: a model's shape and the sizes of the dimensions. Leaves: a :class:`Mesh`, checked, which layers each pipeline
stage has, and the shape of what one device computes. The arithmetic of plans (:mod:`groundup.planning.parallel`) and
the training itself ask here, so that what is planned is what can run.
"""

import math
from dataclasses import dataclass, fields, replace
from itertools import pairwise

from groundup.core.errors import UsageError
from groundup.core.world import DIMENSIONS, ParallelConfig
from groundup.core.world import Schedule as Schedule
from groundup.model.config import ModelConfig


@dataclass(frozen=True)
class Mesh(ParallelConfig):
    """The devices as a grid, nothing left open; the product of its dimensions is their number.

    The dimensions are those of Rajbhandari et al. 2020 (shard), Shoeybi et al. 2019 (tensor), Korthikanti et al. 2022
    (sequence), Huang et al. 2019 (pipeline), Liu et al. 2023 (context) and Lepikhin et al. 2021 (expert); the schedules
    gpipe, 1f1b and interleaved (Narayanan et al. 2021), zero-bubble (ZB-H1, Qi et al. 2023).
    """

    data: int = 1
    """Replicas of the model, which add up their gradients."""
    micro_batches: int = 1
    """Parts that each data-parallel rank splits its share of a step's batch into."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("data", "micro_batches"):
            if getattr(self, name) < 1:
                raise UsageError(f"parallel.{name.replace('_', '-')} is {getattr(self, name)}; it must be at least 1")

    @classmethod
    def of(cls, parallel: ParallelConfig, processes: int) -> "Mesh":
        """What ``parallel`` is for so many processes.

        Raises:
            UsageError: the sizes do not multiply to it.
        """
        whole = parallel.resolved(processes)
        return cls(**{item.name: getattr(whole, item.name) for item in fields(cls)})

    @property
    def devices(self) -> int:
        """All of them."""
        return self.data * self.sharded * self.tensor * self.pipeline

    @property
    def sharded(self) -> int:
        """Devices over which a weight that is no expert's is sharded."""
        return self.shard * self.context * self.expert

    @property
    def batch_ranks(self) -> int:
        """Groups of devices that get sequences of their own."""
        return self.data * self.shard * self.expert

    @property
    def stages(self) -> int:
        """Parts that the layers are split into."""
        return self.pipeline * self.chunks

    def stride(self, dimension: str) -> int:
        """How far apart neighbours along ``dimension`` are, in devices."""
        return math.prod(getattr(self, name) for name in DIMENSIONS[DIMENSIONS.index(dimension) + 1 :])

    def __str__(self) -> str:
        """Its dimensions that are more than 1: ``shard 8 × tensor 4``."""
        sizes = [f"{name} {getattr(self, name)}" for name in DIMENSIONS if getattr(self, name) > 1]
        return " × ".join(sizes) or "one device"

    def check(self, config: ModelConfig, devices: int | None = None, per_node: int | None = None) -> None:
        """Refuse what cannot be: for this model, on so many devices, in nodes of so many.

        Raises:
            UsageError: the first thing that is wrong, in one line.
        """
        config = config.resolved()
        if devices is not None and self.devices != devices:
            raise UsageError(f"the mesh has {self.devices} devices ({self}), but there are {devices}")
        if per_node is not None and self.tensor > per_node:
            raise UsageError(f"a tensor dimension of {self.tensor} does not fit a node of {per_node} devices")
        self._check_engine()
        self._check_tensor(config)
        if self.stages > config.layers:
            raise UsageError(
                f"{self.stages} pipeline stages need as many layers, but the model has {config.layers}; "
                "choose a smaller pipeline dimension"
            )
        if self.split and self.pipeline == 1:
            raise UsageError("parallel.split is for a pipeline; give --parallel.pipeline, or leave it out")
        if self.split and (
            len(self.split) != self.stages - 1
            or any(one >= other for one, other in pairwise((0, *self.split, config.layers)))
        ):
            raise UsageError(
                f"parallel.split is {' '.join(map(str, self.split))}; for {self.stages} stages it must be "
                f"{self.stages - 1} of the layers 1 to {config.layers - 1}, in order"
            )
        if self.expert > 1 and not config.experts.count:
            raise UsageError(f"an expert dimension of {self.expert}, but the model has no experts")
        if self.expert > 1 and config.experts.count % self.expert:
            raise UsageError(f"{config.experts.count} experts cannot be divided over {self.expert} devices")
        if self.context > 1 and config.context % (2 * self.context):
            raise UsageError(
                f"a context of {config.context} tokens cannot be divided over {self.context} devices; "
                f"it must be a multiple of {2 * self.context}"
            )

    def _check_engine(self) -> None:
        if self.engine == "torch":
            return
        own = ("data", "shard")
        if others := [name for name in DIMENSIONS if name not in own and getattr(self, name) > 1]:
            raise UsageError(
                f"parallel.engine deepspeed divides the state only; leave parallel.{others[0]} out, or the engine"
            )
        if self.data > 1 and self.shard > 1:
            told = f"parallel.engine deepspeed shards over all {self.devices} processes"
            raise UsageError(f"{told}; give --parallel.shard {self.devices}")
        if self.shard == 1 and not self.zero:
            raise UsageError(
                "parallel.engine deepspeed has nothing to divide; give --parallel.shard (ZeRO-3; with "
                "--parallel.no-reshard ZeRO-2) or --parallel.zero (ZeRO-1)"
            )

    def _check_tensor(self, config: ModelConfig) -> None:
        if self.tensor == 1:
            return
        divided = {"heads": config.heads, "feed-forward units (model.hidden)": config.hidden}
        if not config.latent.key_rank:
            divided["key/value heads"] = config.kv_heads
        if config.experts.count:
            divided["units of an expert (model.experts.hidden)"] = config.experts.hidden
        if self.sequence:
            divided["tokens of a sequence on a device"] = config.context // self.context
        for name, count in divided.items():
            if count % self.tensor:
                raise UsageError(
                    f"{count} {name} cannot be divided over a tensor dimension of {self.tensor}; "
                    f"choose one that divides {count}"
                )

    def layers_of(self, rank: int, layers: int) -> list[range]:
        """The layers of each chunk on a pipeline rank.

        As ``split`` says, or sizes that differ by one at most. The larger stages are in the middle: the first has the
        embedding, too, the last the output head.
        """
        if self.split:
            starts = [0, *self.split, layers]
            return [range(starts[n], starts[n + 1]) for n in range(rank, self.stages, self.pipeline)]
        size, more = divmod(layers, self.stages)
        first = (self.stages - more) // 2
        starts = [number * size + min(max(number - first, 0), more) for number in range(self.stages + 1)]
        return [range(starts[n], starts[n + 1]) for n in range(rank, self.stages, self.pipeline)]

    def local(self, config: ModelConfig) -> ModelConfig:
        """The shape of what one device of a tensor group computes; ``config`` is resolved and was checked.

        Experts are as wide as a device's part, but all there: ``expert`` divides their number.
        """
        if self.tensor == 1:
            return config
        experts = config.experts
        return replace(
            config,
            heads=config.heads // self.tensor,
            kv_heads=max(1, config.kv_heads // self.tensor),
            hidden=config.hidden // self.tensor,
            experts=replace(experts, hidden=experts.hidden // self.tensor) if experts.count else experts,
        )

    def bubble(self, forward: float, inputs: float, weights: float) -> float:
        """Seconds that each device of a pipeline waits in a step.

        ``forward``, ``inputs`` and ``weights`` are the seconds of one micro-batch on one device: its forward pass, and
        the gradients of what enters its layers and of their weights. GPipe and 1F1B wait (p - 1)(F + B + W) (Huang et
        al. 2019; Narayanan et al. 2021, 2.2), interleaved a v-th of it, v the chunks (there), ZB-H1 (p - 1)(F + B - W)
        (Qi et al. 2023, table 1); with fewer than p micro-batches ZB-H1 is taken for 1F1B, as its formula needs
        more.
        """
        waits = self.pipeline - 1
        if self.schedule == "zero-bubble" and self.micro_batches >= self.pipeline:
            return waits * max(0.0, forward + inputs - weights)
        return waits * (forward + inputs + weights) / self.chunks

    def in_flight(self, rank: int) -> int:
        """Most chunks of micro-batches whose activations a pipeline rank holds at once.

        GPipe holds all, 1F1B p - rank, interleaved (v - 1)p + 2(p - rank - 1) + 1 of v chunks each (Narayanan et al.
        2021; Korthikanti et al. 2022, 4.2.3), ZB-H1 p on every rank (Qi et al. 2023, table 1).
        """
        stages = self.pipeline
        most = {
            "gpipe": self.micro_batches,
            "1f1b": stages - rank,
            "interleaved": (self.chunks - 1) * stages + 2 * (stages - rank - 1) + 1,
            "zero-bubble": stages,
        }[self.schedule]
        return min(most, self.micro_batches * self.chunks)
