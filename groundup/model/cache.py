"""Keys and values of tokens already seen, so that generating one token costs one token.

A cache is a batch of rows, one per running sequence, each with its own length. Rows come and go: the
engine keeps the survivors with :meth:`KVCache.select` and adds newcomers with :meth:`KVCache.join`.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from groundup.model.config import ModelConfig


class KVCache:
    """Keys and values [layers][rows, kv_heads, capacity, head_size] and the rows' lengths [rows].

    ``ids`` [rows, capacity] are kept for models that look at n-grams; others have none, [rows, 0]. Latent attention
    keeps its shared vector in the place of the keys, and the rotated key in the place of the values.
    """

    def __init__(self, keys: list[Tensor], values: list[Tensor], lengths: Tensor, ids: Tensor) -> None:
        self.keys = keys
        self.values = values
        self.lengths = lengths
        self.ids = ids
        self.longest = int(lengths.max()) if len(lengths) else 0
        """No row is longer; known without asking the device."""

    @classmethod
    def empty(cls, config: ModelConfig, rows: int, capacity: int, like: Tensor) -> "KVCache":
        """An empty cache for ``rows`` sequences of up to ``capacity`` tokens, of ``like``'s dtype and device."""
        config = config.resolved()
        key, value = cached_shapes(config)
        dtype, device = like.dtype, like.device  # never its class, which may be that of a divided tensor
        shapes = [(rows, heads, capacity, size) for heads, size in (key, value)]
        keys, values = (
            [torch.zeros(shape, dtype=dtype, device=device) for _ in range(config.layers)] for shape in shapes
        )
        ids = torch.zeros(rows, capacity if config.ngrams > 1 else 0, dtype=torch.long, device=like.device)
        return cls(keys, values, torch.zeros(rows, dtype=torch.long, device=like.device), ids)

    @property
    def capacity(self) -> int:
        """How many tokens a row can hold."""
        return self.keys[0].shape[2]

    def positions(self, time: int) -> Tensor:
        """Positions [rows, time] of the next ``time`` tokens of every row."""
        return self.lengths[:, None] + torch.arange(time, device=self.lengths.device)

    def write(self, layer: int, key: Tensor, value: Tensor, positions: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """Store new keys and values [rows, kv_heads, time, size]; return all of the first ``end`` positions."""
        rows = torch.arange(key.shape[0], device=key.device)[:, None]
        self.keys[layer][rows, :, positions] = key.transpose(1, 2).to(self.keys[layer].dtype)
        self.values[layer][rows, :, positions] = value.transpose(1, 2).to(self.values[layer].dtype)
        return self.keys[layer][:, :, :end].to(key.dtype), self.values[layer][:, :, :end].to(value.dtype)

    def write_ids(self, ids: Tensor, positions: Tensor) -> Tensor:
        """Store new ids [rows, time] at their positions; return all [rows, capacity]."""
        self.ids = self.ids.scatter(1, positions, ids)
        return self.ids

    def advance(self, counts: Tensor | int) -> None:
        """Declare ``counts`` more tokens of each row as seen. What lies beyond a row's length is ignored."""
        self.lengths = self.lengths + counts
        self.longest = self.longest + counts if isinstance(counts, int) else int(self.lengths.max())

    def free(self, row: int) -> None:
        """Forget a row's tokens."""
        self.lengths[row] = 0
        self.longest = int(self.lengths.max())

    def select(self, rows: Sequence[int]) -> "KVCache":
        """A cache of the given rows, in that order; a row may be repeated."""
        index = torch.as_tensor(rows, dtype=torch.long, device=self.lengths.device)
        keys, values = [k[index] for k in self.keys], [v[index] for v in self.values]
        return KVCache(keys, values, self.lengths[index], self.ids[index])

    def join(self, other: "KVCache") -> "KVCache":
        """This cache's rows followed by ``other``'s, with the larger capacity of the two."""
        capacity = max(self.capacity, other.capacity)

        def together(mine: Tensor, theirs: Tensor) -> Tensor:
            both = mine.new_zeros(len(mine) + len(theirs), mine.shape[1], capacity, mine.shape[3])
            both[: len(mine), :, : mine.shape[2]] = mine
            both[len(mine) :, :, : theirs.shape[2]] = theirs
            return both

        return KVCache(
            [together(a, b) for a, b in zip(self.keys, other.keys, strict=True)],
            [together(a, b) for a, b in zip(self.values, other.values, strict=True)],
            torch.cat([self.lengths, other.lengths]),
            together(self.ids[:, None, :, None], other.ids[:, None, :, None])[:, 0, :, 0],
        )


def cached_shapes(config: ModelConfig) -> tuple[tuple[int, int], tuple[int, int]]:
    """(heads, size) of what a layer keeps per token in the place of the keys, and of the values."""
    if config.latent.key_rank:
        return (1, config.latent.key_rank), (1, config.latent.rotary_size)
    return (config.kv_heads, config.head_size), (config.kv_heads, config.head_size)
