"""Collective operations: seconds against closed forms, and against sending every message of a ring."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from groundup.planning.mesh import Mesh
from groundup.planning.network import Group, Network

QUIET = Network(8, 100.0, 10.0, inside_latency=0.0, between_latency=0.0)


def ring(size: float, group: Group, inside: float, between: float) -> float:
    """An all-gather over a ring that goes through all devices of a node before the next: in each of n - 1 rounds every
    device sends on one shard, and the slowest link tells. As many rings as devices in a node share the cards."""
    seconds = 0.0
    for _ in range(group.size - 1):
        shard = size / group.size
        links = [shard / inside] if group.neighbours > 1 else []
        links += [shard / (group.neighbours * between)] if group.nodes > 1 else []
        seconds += max(links)
    return seconds


@given(st.sampled_from([1, 2, 4, 8]), st.sampled_from([2, 4, 16]), st.floats(1, 1e6))
def test_an_all_gather_takes_what_its_ring_does(neighbours: int, nodes: int, size: float) -> None:
    inside = Group(neighbours, neighbours)
    assert QUIET.gather(size, inside) == pytest.approx(ring(size, inside, 100, 10) if neighbours > 1 else 0.0)
    both = Group(neighbours * nodes, neighbours)
    # A ring passes each shard over n - 1 links; what must come into a node, only (N - 1)/N of it, is the bound.
    assert QUIET.gather(size, both) <= ring(size, both, 100, 10) * (1 + 1e-9)
    assert QUIET.gather(size, both) >= size * (nodes - 1) / nodes / (10 * neighbours) * (1 - 1e-9)


def test_closed_forms() -> None:
    inside, between = Group(4, 4), Group(8, 2)
    assert QUIET.gather(800, inside) == pytest.approx(800 * 3 / 4 / 100)
    assert QUIET.gather(800, between) == pytest.approx(800 * 3 / 4 / 20)
    assert QUIET.reduce(800, inside) == pytest.approx(2 * QUIET.gather(800, inside))
    assert QUIET.exchange(800, inside) == pytest.approx(800 * 3 / 4 / 100)
    assert QUIET.exchange(800, between) == pytest.approx(800 * 6 / 8 / 10)
    assert QUIET.send(800, inside) == pytest.approx(8)
    assert QUIET.send(800, between) == pytest.approx(80)
    late = Network(8, 100.0, 10.0, inside_latency=1.0, between_latency=2.0)
    assert late.gather(0, between) == pytest.approx(1 + 2 * 2)
    for wait in (QUIET.gather, QUIET.reduce, QUIET.exchange, QUIET.send):
        assert wait(800, Group(1, 1)) == 0


def test_who_shares_a_node() -> None:
    mesh = Mesh(data=2, shard=4, tensor=4, pipeline=2, context=2, expert=2)
    assert QUIET.group(mesh, "tensor") == Group(4, 4)
    assert QUIET.group(mesh, "context") == Group(2, 2)
    assert QUIET.group(mesh, "expert") == Group(2, 1)
    assert QUIET.group(mesh, "context", "expert", "shard") == Group(16, 2)
    assert QUIET.group(mesh, "context", "shard") == Group(8, 2)
    assert QUIET.group(mesh, "data") == Group(2, 1)
    assert QUIET.group(mesh, "pipeline") == Group(2, 1)
    assert QUIET.group(Mesh(shard=32), "context", "expert", "shard") == Group(32, 8)
    assert Group(32, 8).nodes == 4
