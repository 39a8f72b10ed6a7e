"""Token ids → batches, in an order that is a function of the seed and the position alone."""

from groundup.dataloader.batch import IGNORED, Batch, Source
from groundup.dataloader.documents import PackedDocuments
from groundup.dataloader.mixture import Mixture
from groundup.dataloader.packing import pack
from groundup.dataloader.prefetch import Prefetch
from groundup.dataloader.rows import RowBatches
from groundup.dataloader.shards import Tokens, TokenWriter, open_tokens
from groundup.dataloader.windows import TokenSource, Windows

__all__ = [
    "IGNORED",
    "Batch",
    "Mixture",
    "PackedDocuments",
    "Prefetch",
    "RowBatches",
    "Source",
    "TokenSource",
    "TokenWriter",
    "Tokens",
    "Windows",
    "open_tokens",
    "pack",
]
