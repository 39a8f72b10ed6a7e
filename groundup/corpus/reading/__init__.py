"""Files of every kind → documents: what is read becomes a ``Document``, what is not a ``Dropped`` with its reason.

``find_shards`` divides the input into pieces of bounded size, ``read_shard`` reads one of them in bounded memory;
``find_files`` and ``read_files`` read a small folder at once.
"""

from groundup.corpus.reading.config import ReadingConfig
from groundup.corpus.reading.formats import Part
from groundup.corpus.reading.plain import PLAIN_SUFFIXES, SUFFIXES, find_files, read_files
from groundup.corpus.reading.shards import Shard, find_shards, open_records, read_shard

__all__ = [
    "PLAIN_SUFFIXES",
    "SUFFIXES",
    "Part",
    "ReadingConfig",
    "Shard",
    "find_files",
    "find_shards",
    "open_records",
    "read_files",
    "read_shard",
]
