"""One model on many devices: its weights divided among processes, and what must be computed of all their parts.

Enters: a model, and the :class:`~groundup.core.world.World` of processes. Leaves: the same model, whose parameters are
sharded (PyTorch's DTensor), and whole tensors again for checkpoints. The model knows nothing of it.
"""

from groundup.distributed.muon import ShardedMuon
from groundup.distributed.sharding import Sharding, share
from groundup.distributed.zero import divide_by_grid, divide_state

__all__ = ["ShardedMuon", "Sharding", "divide_by_grid", "divide_state", "share"]
