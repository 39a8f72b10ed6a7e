"""Causal self-attention: who looks at whom, and what is taken along.

Enters: the normalised residual stream [batch, time, width] and a :class:`Pass`, what all layers of one forward pass
share. Leaves: what attention adds to the stream. ``plain`` shows the same with every intermediate tensor.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundup.model.cache import KVCache
from groundup.model.config import ModelConfig
from groundup.model.experts import Routing
from groundup.model.layers import RMSNorm, query_key_norm, table
from groundup.model.positions import Angles, rotate


class Record:
    """What a forward pass is asked to keep for looking at; the lists fill up layer by layer.

    No dataclass, nor a mere list: those are copied on their way into a layer whose weights are divided.
    """

    def __init__(self, wants_attention: bool = True, wants_residuals: bool = True, wants_routing: bool = True) -> None:
        self.wants_attention = wants_attention
        self.wants_residuals = wants_residuals
        self.wants_routing = wants_routing
        self.attention: list[Tensor] = []
        """Attention weights [batch, heads, time, length] of each layer."""
        self.residuals: list[Tensor] = []
        """The residual stream [batch, time, width] after the embedding, and after each layer."""
        self.routing: list[Routing] = []
        """Decisions of each layer with experts."""
        self.uneven: list[Tensor] = []
        """What :func:`~groundup.model.experts.balance_loss` says of them, where they themselves are not here."""


class Others(Protocol):
    """The rest of the tokens, where a pass is over some of each row's: somebody else computes them at the same time."""

    def whole(self, part: Tensor) -> Tensor:
        """Of these tokens [batch, heads, time, size] → of all, in their order [batch, heads, length, size]."""

    def attend(self, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
        """Plain causal attention of these tokens to all: arguments and result as those of :func:`attend`."""

    def summed(self, part: Tensor) -> Tensor:
        """Of numbers about these tokens, the same about all."""


@dataclass
class Pass:
    """What the layers of one forward pass share. The pairs are for global and for windowed layers."""

    ids: Tensor
    """[batch, time]."""
    angles: tuple[Angles | None, Angles | None]
    """Rotary angles."""
    masks: tuple[Tensor | None, Tensor | None]
    """What may be seen: boolean, or added to the scores, [batch or 1, heads or 1, time, length]; None is causal."""
    segments: Tensor | None = None
    """Number of the packed sequence of each key [batch, length]."""
    cache: KVCache | None = None
    positions: Tensor | None = None
    """Places in the cache of the new tokens [batch, time]."""
    end: int = 0
    """Places of the cache to look at."""
    record: Record | None = None
    others: Others | None = None
    """Where these are some of the tokens of each row."""

    def with_cached(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of ``layer``, preceded by those that the cache has; new ones are written to it. Where these
        are some of the tokens, all of them."""
        if self.others is not None:
            whole = self.others.whole(torch.cat((key, value), dim=-1))
            return whole[..., : key.shape[-1]], whole[..., key.shape[-1] :]
        if self.cache is None or self.positions is None:
            return key, value
        return self.cache.write(layer, key, value, self.positions, self.end)

    @property
    def kept_attention(self) -> list[Tensor] | None:
        """Where attention weights are wanted."""
        return self.record.attention if self.record is not None and self.record.wants_attention else None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float,
    *,
    softcap: float = 0.0,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
    record: list[Tensor] | None = None,
) -> Tensor:
    """softmax(scale · q · kᵀ) · v (Vaswani et al. 2017), by PyTorch's fused kernels where they can.

    Args:
        query: [batch, heads, time, size].
        key: [batch, kv_heads, length, size]; each key head serves heads / kv_heads query heads.
        value: [batch, kv_heads, length, value size].
        mask: boolean (may be seen) or added to the scores, [batch or 1, heads or 1, time, length]; None is causal.
        scale: factor of the scores.
        softcap: bound of the scores, 0 for none.
        sinks: a score per head [heads] that takes weight and gives nothing.
        dropout: share of the weights that is dropped.
        record: the weights are appended to it.

    Returns:
        [batch, heads, time, value size].
    """
    groups = query.shape[1] // key.shape[1]
    if not softcap and sinks is None and record is None:
        return F.scaled_dot_product_attention(
            query, key, value, mask, dropout, is_causal=mask is None, scale=scale, enable_gqa=groups > 1
        )
    key, value = (part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (key, value))
    scores = query @ key.transpose(-2, -1) * scale
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    if mask is None:
        time, length = scores.shape[-2:]
        mask = torch.ones(time, length, dtype=torch.bool, device=scores.device).tril(length - time)
    scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
    if sinks is not None:
        extra = sinks[:, None, None].to(scores.dtype).expand(*scores.shape[:-1], 1)
        scores = torch.cat((scores, extra), dim=-1)
    weights = scores.float().softmax(dim=-1).to(value.dtype)
    if sinks is not None:
        weights = weights[..., :-1]
    if record is not None:
        record.append(weights)
    return F.dropout(weights, dropout) @ value


def smeared(key: Tensor, share: Tensor, segments: Tensor | None = None) -> Tensor:
    """Each key plus ``share`` [kv_heads] of the key before it (Elhage et al. 2022, "In-context learning and induction
    heads", smeared keys).

    ``key`` is [batch, kv_heads, length, head_size]. The first key of a sequence has none before it, nor has the first
    of each packed sequence, of which ``segments`` [batch, length] gives the number.
    """
    before = F.pad(key[:, :, :-1], (0, 0, 1, 0))
    if segments is not None:
        same = F.pad(segments[:, 1:] == segments[:, :-1], (1, 0))
        before = before * same[:, None, :, None]
    return key + share.to(key.dtype)[:, None, None] * before


class Attention(nn.Module):
    """Multi-head attention with grouped key/value heads (Ainslie et al. 2023)."""

    def __init__(self, config: ModelConfig, layer: int, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.layer = layer
        self.local = config.windowed(layer)
        size = config.head_size
        bias = config.bias != "none"
        self.query = nn.Linear(config.width, config.heads * size, bias=bias)
        self.key = nn.Linear(config.width, config.kv_heads * size, bias=bias)
        self.value = nn.Linear(config.width, config.kv_heads * size, bias=bias)
        self.output = nn.Linear(config.heads * size, config.width, bias=config.bias == "all")
        self.query_norm = query_key_norm(config, config.heads)
        self.key_norm = query_key_norm(config, config.kv_heads)
        self.smear = nn.Parameter(torch.ones(config.kv_heads)) if config.key_smear else None
        self.sinks = nn.Parameter(torch.zeros(config.heads)) if config.attention.sinks else None
        embedded = config.has_value_embedding(layer)
        self.value_embedding = table(vocab_size, config.kv_heads * size) if embedded else None
        self.value_share = nn.Parameter(torch.ones(config.kv_heads)) if embedded else None

    def heads(self, x: Tensor, shared: Pass) -> tuple[Tensor, Tensor, Tensor]:
        """x [batch, time, width] → query, key and value, each [batch, its heads, time, head_size]."""
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.config.qk_norm == "all":
            query, key = self.query_norm(query), self.key_norm(key)
        query, key, value = (part.unflatten(-1, (-1, self.config.head_size)) for part in (query, key, value))
        if self.config.qk_norm == "head":
            query, key = self.query_norm(query), self.key_norm(key)
        if self.value_embedding is not None and self.value_share is not None:
            value = value + self.value_share[:, None] * self.value_embedding(shared.ids).view_as(value)
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        angles = shared.angles[self.local]
        if angles is not None:
            query, key = rotate(query, angles), rotate(key, angles)
        return query, key, value

    def forward(self, x: Tensor, shared: Pass) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        config = self.config
        query, key, value = self.heads(x, shared)
        if shared.others is not None and shared.masks[self.local] is None:
            mixed = shared.others.attend(query, key, value, config.attention_scale)
            return self.output(mixed.transpose(1, 2).flatten(2))
        key, value = shared.with_cached(self.layer, key, value)
        if self.smear is not None:
            key = smeared(key, self.smear, shared.segments)
        mixed = attend(
            query,
            key,
            value,
            shared.masks[self.local],
            config.attention_scale,
            softcap=config.attention.softcap,
            sinks=self.sinks,
            dropout=config.attention.dropout if self.training else 0.0,
            record=shared.kept_attention,
        )
        return self.output(mixed.transpose(1, 2).flatten(2))


class LatentAttention(nn.Module):
    """Multi-head latent attention (DeepSeek-V2, 2024): keys and values of all heads are read from one small vector.

    A head's query and key are [content | rotated]; the rotated part of the key is shared by all heads. The cache keeps
    the small vector and the rotated key. When one token is decoded the matrices that would expand the small vector are
    applied to the query and to the result instead, so that a step never expands what is cached.
    """

    def __init__(self, config: ModelConfig, layer: int) -> None:
        super().__init__()
        self.config = config
        self.layer = layer
        self.local = config.windowed(layer)
        latent, epsilon = config.latent, config.norm_epsilon
        query_size = config.heads * (config.head_size + latent.rotary_size)
        if latent.query_rank:
            self.query_down = nn.Linear(config.width, latent.query_rank, bias=False)
            self.query_norm = RMSNorm(latent.query_rank, epsilon, config.norm_offset)
            self.query_up = nn.Linear(latent.query_rank, query_size, bias=False)
        else:
            self.query = nn.Linear(config.width, query_size, bias=False)
        self.key_down = nn.Linear(config.width, latent.key_rank + latent.rotary_size, bias=False)
        self.key_norm = RMSNorm(latent.key_rank, epsilon, config.norm_offset)
        self.key_up = nn.Linear(latent.key_rank, config.heads * (config.head_size + latent.value_size), bias=False)
        self.output = nn.Linear(config.heads * latent.value_size, config.width, bias=False)

    def forward(self, x: Tensor, shared: Pass) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        config, latent = self.config, self.config.latent
        angles = shared.angles[self.local]
        assert angles is not None
        query = self.query_up(self.query_norm(self.query_down(x))) if latent.query_rank else self.query(x)
        query = query.unflatten(-1, (config.heads, -1)).transpose(1, 2)
        content, turned = query.split([config.head_size, latent.rotary_size], dim=-1)
        turned = rotate(turned, angles)
        small, key_turned = self.key_down(x)[:, None].split([latent.key_rank, latent.rotary_size], dim=-1)
        small, key_turned = self.key_norm(small), rotate(key_turned, angles)
        small, key_turned = shared.with_cached(self.layer, small, key_turned)
        absorbed = shared.cache is not None and x.shape[1] == 1
        sizes = [config.head_size, latent.value_size]
        key_matrix, value_matrix = self.key_up.weight.unflatten(0, (config.heads, -1)).split(sizes, dim=1)
        if absorbed:
            query = torch.cat((content @ key_matrix, turned), dim=-1)
            key, value = torch.cat((small, key_turned), dim=-1), small
        else:
            expanded = self.key_up(small[:, 0]).unflatten(-1, (config.heads, -1)).transpose(1, 2)
            key_content, value = expanded.split(sizes, dim=-1)
            value = value.contiguous()  # or the backward pass would keep the contents of the keys along with it
            query = torch.cat((content, turned), dim=-1)
            key = torch.cat((key_content, key_turned.expand(-1, config.heads, -1, -1)), dim=-1)
        mixed = attend(
            query,
            key,
            value,
            shared.masks[self.local],
            config.attention_scale,
            softcap=config.attention.softcap,
            dropout=config.attention.dropout if self.training else 0.0,
            record=shared.kept_attention,
        )
        if absorbed:
            mixed = mixed @ value_matrix.transpose(1, 2)
        return self.output(mixed.transpose(1, 2).flatten(2))
