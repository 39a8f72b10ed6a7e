"""How long devices talk: bytes of a collective operation and the groups that they cross → seconds.

Devices of a node reach each other faster than those of different nodes, so every group is described by its size and by
how many of its members share a node. Bytes are those of the whole tensor: of all shards after an all-gather, of one
member's input before a reduce-scatter.
"""

import math
from dataclasses import dataclass

from groundup.planning.mesh import Mesh


@dataclass(frozen=True)
class Group:
    """Devices that take part in a collective operation together."""

    size: int
    """How many."""
    neighbours: int
    """How many of them are in one node."""

    @property
    def nodes(self) -> int:
        """That it spans."""
        return self.size // self.neighbours


@dataclass(frozen=True)
class Network:
    """What connects the devices; bytes per second of one device in one direction, as reached, and seconds."""

    per_node: int
    inside: float
    between: float
    inside_latency: float = 5e-6
    """Of one message, NVLink or PCIe; the orders of magnitude of NCCL's tuning table (5 µs, 15 µs)."""
    between_latency: float = 15e-6

    def group(self, mesh: Mesh, *dimensions: str) -> Group:
        """The group along ``dimensions``."""
        neighbours = 1
        for name in dimensions:
            neighbours *= math.gcd(getattr(mesh, name), max(1, self.per_node // mesh.stride(name)))
        return Group(math.prod(getattr(mesh, name) for name in dimensions), neighbours)

    def gather(self, size: float, group: Group) -> float:
        """Seconds of an all-gather or of a reduce-scatter, which take the same (Thakur et al. 2005; Patarasuk & Yuan
        2009).

        Every device receives (n - 1)/n of the bytes; between nodes, each node receives (N - 1)/N of them through the
        cards of its g members. Rings keep both ways busy at once, so that the slower one tells. Messages wait for g - 1
        others inside a node and, in NCCL's trees, for log2 N between nodes.
        """
        if group.size == 1:
            return 0.0
        inside = size * (group.size - 1) / group.size / self.inside if group.neighbours > 1 else 0.0
        between = size * (group.nodes - 1) / group.nodes / (group.neighbours * self.between)
        return max(inside, between) + self._latency(group)

    def reduce(self, size: float, group: Group) -> float:
        """Seconds of an all-reduce: a reduce-scatter and an all-gather (Patarasuk & Yuan 2009)."""
        return 2 * self.gather(size, group)

    def exchange(self, size: float, group: Group) -> float:
        """Seconds of an all-to-all of which each device sends ``size`` bytes, an equal part to each of the others."""
        if group.size == 1:
            return 0.0
        inside = size * (group.neighbours - 1) / group.size / self.inside
        between = size * (group.size - group.neighbours) / group.size / self.between
        return max(inside, between) + self._latency(group)

    def send(self, size: float, group: Group) -> float:
        """Seconds from a device to the next one of ``group``; to the next node, if the group spans any."""
        if group.size == 1:
            return 0.0
        if group.nodes > 1:
            return size / self.between + self.between_latency
        return size / self.inside + self.inside_latency

    def _latency(self, group: Group) -> float:
        return (group.neighbours - 1) * self.inside_latency + math.ceil(math.log2(group.nodes)) * self.between_latency
