"""Causal self-attention with grouped queries, and the plain version that shows what it computes."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundup.model.cache import KVCache
from groundup.model.config import ModelConfig
from groundup.model.layers import RMSNorm, rotate


def attention_weights(query: Tensor, key: Tensor, mask: Tensor | None = None) -> Tensor:
    """Who looks at whom: softmax(q · kᵀ / √d) (Vaswani et al. 2017), in the open.

    Args:
        query: [batch, heads, time, head_size].
        key: [batch, kv_heads, length, head_size]; each key head serves heads / kv_heads query heads.
        mask: what may be seen, boolean [batch, 1, time, length]; None is causal.

    Returns:
        Weights [batch, heads, time, length]; each row sums to 1.
    """
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query @ key.transpose(-2, -1) / math.sqrt(query.shape[-1])
    if mask is None:
        time, length = scores.shape[-2:]
        mask = torch.ones(time, length, dtype=torch.bool, device=scores.device).tril(length - time)
    return scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)


def plain_attention(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """What :func:`torch.nn.functional.scaled_dot_product_attention` computes; the tests hold one against the other."""
    value = value.repeat_interleave(query.shape[1] // value.shape[1], dim=1)
    return attention_weights(query, key, mask) @ value


def smeared(key: Tensor, share: Tensor, mask: Tensor | None = None) -> Tensor:
    """Each key plus ``share`` [kv_heads] of the key before it (Elhage et al. 2022, "In-context learning and induction
    heads", smeared keys).

    ``key`` is [batch, kv_heads, length, head_size]. The first key of a sequence has none before it, nor has the first
    of each packed sequence: ``mask`` [batch, 1, length, length] says whether a position may see the one before.
    """
    before = F.pad(key[:, :, :-1], (0, 0, 1, 0))
    if mask is not None:
        seen = F.pad(mask.diagonal(offset=-1, dim1=-2, dim2=-1), (1, 0))  # [batch, 1, length]
        before = before * seen[..., None]
    return key + share.to(key.dtype)[:, None, None] * before


class Attention(nn.Module):
    """Multi-head attention with grouped key/value heads (Ainslie et al. 2023) and rotary positions."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        size = config.head_size
        self.query = nn.Linear(config.width, config.heads * size, bias=False)
        self.key = nn.Linear(config.width, config.kv_heads * size, bias=False)
        self.value = nn.Linear(config.width, config.kv_heads * size, bias=False)
        self.output = nn.Linear(config.heads * size, config.width, bias=False)
        self.query_norm = RMSNorm(size) if config.qk_norm else nn.Identity()
        self.key_norm = RMSNorm(size) if config.qk_norm else nn.Identity()
        self.smear = nn.Parameter(torch.ones(config.kv_heads)) if config.key_smear else None

    def heads(self, x: Tensor, angles: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """x [batch, time, width] → query, key and value, each [batch, its heads, time, head_size]."""
        batch, time, _ = x.shape
        query = self.query(x).view(batch, time, -1, self.config.head_size).transpose(1, 2)
        key = self.key(x).view(batch, time, -1, self.config.head_size).transpose(1, 2)
        value = self.value(x).view(batch, time, -1, self.config.head_size).transpose(1, 2)
        return rotate(self.query_norm(query), *angles), rotate(self.key_norm(key), *angles), value

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: tuple[KVCache, int, Tensor, int] | None = None,
    ) -> Tensor:
        """x [batch, time, width] → [batch, time, width].

        Args:
            x: the normalised residual stream.
            angles: rotary cosine and sine of x's positions.
            mask: what may be seen, boolean [batch, 1, time, length]; None is causal.
            cache: (cache, layer index, positions [batch, time], number of positions to attend to).
        """
        query, key, value = self.heads(x, angles)
        if cache is not None:
            store, layer, positions, end = cache
            key, value = store.write(layer, key, value, positions, end)
        if self.smear is not None:
            key = smeared(key, self.smear, None if cache is not None else mask)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            is_causal=mask is None,
            enable_gqa=self.config.kv_heads < self.config.heads,
        )
        return self.output(mixed.transpose(1, 2).flatten(2))
