"""GPT-2 as a good programmer writes it in an afternoon: the peer of ``benchmarks.model`` in the style of nanoGPT.

One product for query, key and value, PyTorch's fused attention and layer norm, cross-entropy over all logits.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundup.model import Transformer


class _Block(nn.Module):
    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, time, width = x.shape
        parts = self.qkv(self.norm1(x)).split(width, dim=2)
        query, key, value = (part.view(batch, time, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).contiguous().view(batch, time, width))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class PlainGPT(nn.Module):
    """ids [batch, time] and targets [batch, time] → mean cross-entropy."""

    def __init__(self, model: Transformer) -> None:
        """With the shape and the weights of ``model``, a GPT-2."""
        super().__init__()
        config = model.config
        self.tokens = nn.Embedding(model.vocab_size, config.width)
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(_Block(config.width, config.heads, config.hidden) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, model.vocab_size, bias=False)
        self.head.weight = self.tokens.weight
        self._copy(model)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())

    @torch.no_grad()
    def _copy(self, model: Transformer) -> None:
        weights = model.state_dict()
        self.tokens.weight.copy_(weights["embedding.weight"])
        self.positions.weight.copy_(weights["position_embedding.weight"])
        for number, block in enumerate(self.blocks):
            here = f"blocks.{number}."
            for kind in ("weight", "bias"):
                parts = [weights[f"{here}attention.{name}.{kind}"] for name in ("query", "key", "value")]
                getattr(block.qkv, kind).copy_(torch.cat(parts))
                getattr(block.out, kind).copy_(weights[f"{here}attention.output.{kind}"])
                getattr(block.up, kind).copy_(weights[f"{here}feed_forward.up.{kind}"])
                getattr(block.down, kind).copy_(weights[f"{here}feed_forward.down.{kind}"])
            for norm, name in ((block.norm1, "attention_norm"), (block.norm2, "feed_forward_norm")):
                norm.weight.copy_(weights[f"{here}{name}.scale"])
                norm.bias.copy_(weights[f"{here}{name}.bias"])
        self.norm.weight.copy_(weights["norm.scale"])
        self.norm.bias.copy_(weights["norm.bias"])
