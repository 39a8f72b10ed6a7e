"""The decoder: embed, repeat (attend, transform), normalise, project to the vocabulary.

Enters: ids [batch, time]. Leaves: logits [batch, time, vocabulary].
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundup.core.errors import UsageError
from groundup.model.attention import Attention, attention_weights, smeared
from groundup.model.cache import KVCache
from groundup.model.config import ModelConfig
from groundup.model.layers import RMSNorm, SwiGLU, rotary_angles


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x)): the pre-norm residual block."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(config.width)
        self.attention = Attention(config)
        self.feed_forward_norm = RMSNorm(config.width)
        self.feed_forward = SwiGLU(config.width, config.hidden)

    def forward(
        self,
        x: Tensor,
        angles: tuple[Tensor, Tensor],
        mask: Tensor | None,
        cache: tuple[KVCache, int, Tensor, int] | None,
    ) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        x = x + self.attention(self.attention_norm(x), angles, mask, cache)
        return x + self.feed_forward(self.feed_forward_norm(x))


class Transformer(nn.Module):
    """A decoder-only language model."""

    def __init__(self, config: ModelConfig, vocab_size: int) -> None:
        super().__init__()
        self.config = config
        self.vocab_size = vocab_size
        self.embedding = nn.Embedding(vocab_size, config.width)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.norm = RMSNorm(config.width)
        self.head = nn.Linear(config.width, vocab_size, bias=False)
        if config.tied:
            self.head.weight = self.embedding.weight

    @torch.no_grad()
    def initialise(self, generator: torch.Generator) -> "Transformer":
        """Draw all weights: normal with deviation 1/√fan-in; layers that write to the residual start at zero.

        A block that starts as the identity trains steadily at any depth (Zhang et al. 2019; Yang et al. 2022).
        """
        for name, parameter in self.named_parameters():
            if parameter.ndim < 2:
                parameter.fill_(1.0)
            elif name.endswith(("attention.output.weight", "feed_forward.down.weight")):
                parameter.zero_()
            else:
                deviation = 0.02 if name == "embedding.weight" else 1 / math.sqrt(parameter.shape[1])
                parameter.normal_(0.0, deviation, generator=generator)
        return self

    def forward(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: KVCache | None = None,
    ) -> Tensor:
        """Logits [batch, time, vocabulary] for the token after each position, in float32.

        Args:
            ids: token ids [batch, time].
            positions: place of each token in its own sequence [batch, time]; default 0, 1, 2 …
            segments: number of the packed sequence that each token belongs to [batch, time]; a token sees only
                its own segment. None: the row is one sequence.
            cache: keys and values of what came before; the new tokens are written to it. The caller then calls
                ``cache.advance`` with the number of real (not padding) tokens of each row.

        Raises:
            UsageError: a position lies beyond the model's context.
        """
        return self.head(self.norm(self.hidden(ids, positions, segments, cache))).float()

    def hidden(
        self, ids: Tensor, positions: Tensor | None = None, segments: Tensor | None = None, cache: KVCache | None = None
    ) -> Tensor:
        """The residual stream after the last block [batch, time, width]; arguments as :meth:`forward`."""
        time = ids.shape[1]
        mask = None if segments is None else packed_mask(segments)
        end = time
        if cache is not None:
            positions = cache.positions(time)
            end = int(cache.lengths.max()) + time
            mask = torch.arange(end, device=ids.device) <= positions[:, None, :, None]
        if end > self.config.context:
            raise UsageError(f"{end} tokens exceed the model's context of {self.config.context}")
        if positions is None:
            positions = torch.arange(time, device=ids.device)[None]
        angles = rotary_angles(positions, self.config.head_size, self.config.rope_base)
        x = F.embedding(ids, self.embedding.weight)
        for layer, block in enumerate(self.blocks):
            x = block(x, angles, mask, None if cache is None else (cache, layer, positions, end))
        return x

    @torch.no_grad()
    def attention_maps(self, ids: Tensor) -> list[Tensor]:
        """Attention weights [batch, heads, time, time] of every layer, for looking at."""
        positions = torch.arange(ids.shape[1], device=ids.device)[None]
        angles = rotary_angles(positions, self.config.head_size, self.config.rope_base)
        x = F.embedding(ids, self.embedding.weight)
        maps = []
        for block in self.blocks:
            assert isinstance(block, Block)
            query, key, _ = block.attention.heads(block.attention_norm(x), angles)
            if block.attention.smear is not None:
                key = smeared(key, block.attention.smear)
            maps.append(attention_weights(query, key))
            x = block(x, angles, None, None)
        return maps


def packed_mask(segments: Tensor) -> Tensor:
    """What a packed token may see, boolean [batch, 1, time, time]: its own segment, up to itself."""
    time = segments.shape[1]
    same = segments[:, None, :, None] == segments[:, None, None, :]
    return same & torch.ones(time, time, dtype=torch.bool, device=segments.device).tril()
