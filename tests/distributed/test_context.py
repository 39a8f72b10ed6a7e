"""Sequences on several processes: the ring and the slices, in one process; memory, in two."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F

from groundup.core.world import ParallelConfig, World
from groundup.dataloader import IGNORED, Batch
from groundup.distributed import context, share
from groundup.distributed.context import attended, dealt, gradients_of, in_order, places_of, slice_of
from groundup.model import ModelConfig, Transformer

ATTENDING = [
    (context._attend, context._attend_backward),
    (context.plain_attend, context.plain_attend_backward),
]


@given(
    count=st.integers(1, 4),
    chunk=st.integers(1, 3),
    key_heads=st.sampled_from([1, 2]),
    shared=st.sampled_from([1, 3]),
    kernel=st.sampled_from(ATTENDING),
    seed=st.integers(0, 99),
)
def test_the_ring_is_attention(
    count: int, chunk: int, key_heads: int, shared: int, kernel: tuple[Any, Any], seed: int
) -> None:
    time, generator = 2 * count * chunk, torch.Generator().manual_seed(seed)

    def drawn(heads: int) -> torch.Tensor:
        return torch.randn(2, heads, time, 8, generator=generator)

    query, key, value = (drawn(heads).requires_grad_() for heads in (key_heads * shared, key_heads, key_heads))
    above = drawn(key_heads * shared)
    whole = F.scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.4, enable_gqa=True)
    whole.backward(above)
    places = [places_of(time, rank, count) for rank in range(count)]
    pairs = torch.stack((key, value)).detach()
    of_pairs = torch.zeros_like(pairs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(context, "_attend", kernel[0])
        patch.setattr(context, "_attend_backward", kernel[1])
        for rank, own in enumerate(places):
            order = [(rank - step) % count for step in range(count)]
            visits = [(source, pairs[:, :, :, places[source]]) for source in order]
            asking = query.detach()[:, :, own]
            mixed, total = attended(asking, visits, rank, 0.4)
            torch.testing.assert_close(mixed, whole[:, :, own])
            of_query = torch.zeros_like(asking)
            found = gradients_of(above[:, :, own], asking, mixed, total, visits, rank, 0.4, of_query)
            for source, gradient in zip(order, found, strict=True):
                of_pairs[:, :, :, places[source]] += gradient
            assert query.grad is not None
            torch.testing.assert_close(of_query, query.grad[:, :, own], rtol=1e-4, atol=5e-5)
    assert key.grad is not None and value.grad is not None
    torch.testing.assert_close(of_pairs, torch.stack((key.grad, value.grad)), rtol=1e-4, atol=5e-5)


@given(count=st.integers(1, 5), chunk=st.integers(1, 3))
def test_slices_are_all_of_a_row_once_and_equally_much_work(count: int, chunk: int) -> None:
    time = 2 * count * chunk
    places = [places_of(time, rank, count) for rank in range(count)]
    assert sorted(torch.cat(places).tolist()) == list(range(time))
    assert len({int((own + 1).sum()) for own in places}) == 1  # keys that its queries look at
    whole = torch.randn(3, time, 2)
    parts = torch.stack([whole[:, own] for own in places])
    assert torch.equal(in_order(parts), whole)
    assert torch.equal(dealt(whole, count), parts)


@given(rows=st.integers(1, 4), time=st.integers(1, 23), count=st.integers(2, 4), seed=st.integers(0, 99))
def test_every_target_is_in_one_slice(rows: int, time: int, count: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(9, (rows, time), generator=generator)
    targets = torch.where(torch.rand(rows, time, generator=generator) < 0.5, ids, IGNORED)
    segments = torch.zeros(rows, time, dtype=torch.long)
    batch = Batch({"inputs": ids, "targets": targets, "segments": segments}, int((targets != IGNORED).sum()))
    slices = [slice_of(batch, rank, count) for rank in range(count)]
    assert sum(part.weight for part in slices) == batch.weight
    assert len({part.tensors["places"].shape for part in slices}) == 1
    found = torch.full((rows, slices[0].tensors["inputs"].shape[1]), 7)
    for part in slices:
        found.scatter_(1, part.tensors["places"], part.tensors["targets"])
        assert torch.equal(part.tensors["inputs"][:, :time], ids)
        assert (part.tensors["segments"][:, time:] == -1).all()  # the tail is nobody's
    assert torch.equal(found[:, :time], targets)
    assert (found[:, time:] == IGNORED).all()


def test_pairs_count_in_every_slice() -> None:
    ids = torch.zeros(4, 8, dtype=torch.long)
    batch = Batch({"inputs": ids, "targets": ids, "reference": torch.zeros(4)}, 2, paired=True)
    world = World(1, 2, ParallelConfig(context=2))
    part = share(batch, world)
    assert part.weight == 2
    assert part.tensors["reference"].shape == (4,)


def test_whole_rows_need_no_others() -> None:
    config = ModelConfig(layers=1, width=16, heads=2, context=8)
    model = Transformer(config, 11).eval()
    ids = torch.arange(8)[None]
    expected = model(ids)
    model.others = context.Others("a group that there is not")
    assert torch.equal(model(ids), expected)


@pytest.mark.parametrize(("kind", "most"), [("plain", 0.55), ("windowed", 0.65)])  # gathered keys are not divided
def test_a_process_keeps_less_of_a_long_sequence(kind: str, most: float, together: Callable[..., Any]) -> None:
    kept = [together(processes, "tests.distributed.longer", kind, "512")["kept"] for processes in (1, 2)]
    assert kept[1] < most * kept[0]
