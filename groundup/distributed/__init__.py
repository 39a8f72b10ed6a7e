"""One model on many devices: its weights divided among processes, and what must be computed of all their parts.

Enters: a model, and the :class:`~groundup.core.world.World` of processes. Leaves: the same model, whose parameters are
sharded (PyTorch's DTensor), and whole tensors again for checkpoints. The model knows nothing of it.
"""

from groundup.distributed.muon import ShardedMuon
from groundup.distributed.sharding import Sharding, share

__all__ = ["ShardedMuon", "Sharding", "share"]
