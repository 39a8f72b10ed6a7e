"""Which rows fall to whom."""

import torch
from hypothesis import given
from hypothesis import strategies as st

from groundup.core.world import ALONE, World
from groundup.dataloader import IGNORED, Batch
from groundup.distributed import share


def batch_of(rows: int, paired: bool = False) -> Batch:
    ids = torch.arange(rows * 4).view(rows, 4)
    terms = rows // 2 if paired else ids.numel()
    return Batch({"inputs": ids, "targets": ids + 1}, terms, {"number": 1.0}, paired)


@given(rows=st.integers(1, 9), size=st.integers(1, 12), paired=st.booleans())
def test_every_term_falls_to_one_process(rows: int, size: int, paired: bool) -> None:
    batch = batch_of(2 * rows if paired else rows, paired)
    shares = [share(batch, World(rank, size)) for rank in range(size)]
    assert sum(part.weight for part in shares) == batch.weight
    assert all(len(part.tensors["inputs"]) >= 1 + paired for part in shares)  # everybody computes
    seen = torch.cat([part.tensors["inputs"] for part in shares if part.weight])
    assert sorted(seen[:, 0].tolist()) == batch.tensors["inputs"][:, 0].tolist()
    for part in shares:
        if not part.weight:
            assert (part.tensors["targets"] == IGNORED).all()


def test_alone_nothing_is_shared() -> None:
    batch = batch_of(3)
    assert share(batch, ALONE) is batch
