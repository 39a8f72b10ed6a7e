"""Token ids → batches, in an order that is a function of the seed and the position alone."""

from groundup.dataloader.batch import IGNORED, Batch, Source
from groundup.dataloader.packing import pack
from groundup.dataloader.shards import TokenSource, read_shard, write_shard

__all__ = ["IGNORED", "Batch", "Source", "TokenSource", "pack", "read_shard", "write_shard"]
