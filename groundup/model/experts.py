"""Mixture of experts: a router sends each token through a few of many feed-forward layers.

Tokens are sorted by expert, so that each expert's are one matrix product, and no token is ever dropped (MegaBlocks,
Gale et al. 2022). ``plain`` shows the same as a loop.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from groundup.model.config import FEED_FORWARDS, ModelConfig
from groundup.model.grouped import grouped_product
from groundup.model.layers import ACTIVATIONS, FeedForward

if TYPE_CHECKING:
    from groundup.model.attention import Record


@dataclass(frozen=True)
class Routing:
    """What one layer's router decided."""

    logits: Tensor
    """[tokens, experts]."""
    weights: Tensor
    """Of the chosen experts [tokens, active]."""
    chosen: Tensor
    """Numbers of the chosen experts [tokens, active]."""


class Experts(nn.Module):
    """Routed experts, and shared ones beside them (DeepSeekMoE, Dai et al. 2024)."""

    balancing_bias: Tensor | None
    load: Tensor
    counted: int | None = None
    """How many tokens of each pass count as load, the first ones; None: all."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        experts = config.experts
        self.config = experts
        activation, gated = FEED_FORWARDS[config.feed_forward]
        self.activation = ACTIVATIONS[activation]
        self.router = nn.Linear(config.width, experts.count, bias=False)
        self.register_buffer("balancing_bias", torch.zeros(experts.count) if experts.router == "sigmoid" else None)
        # Tokens per expert since the last rebalancing; only counted where the bias is to follow it.
        self.register_buffer("load", torch.zeros(experts.count), persistent=False)
        inner = (experts.count, experts.hidden, config.width)
        self.gate = nn.Parameter(torch.empty(inner)) if gated else None
        self.up = nn.Parameter(torch.empty(inner))
        self.down = nn.Parameter(torch.empty(experts.count, config.width, experts.hidden))
        self.shared = FeedForward(config, experts.shared * experts.hidden) if experts.shared else None
        for stack in self.parameters(recurse=False):
            nn.init.normal_(stack, 0.0, stack.shape[-1] ** -0.5)

    def route(self, x: Tensor) -> Routing:
        """Which experts each token of x [tokens, width] passes, and with what weights; in float32, but for autocast."""
        config = self.config
        logits = F.linear(x.float(), self.router.weight.float())
        if config.router == "sigmoid":
            assert self.balancing_bias is not None
            scores = logits.sigmoid()
            preferred = scores + self.balancing_bias  # the bias decides who is chosen, not how much he counts
        else:
            scores = preferred = logits.softmax(dim=-1)
        if config.groups > 1:
            preferred = self._within_best_groups(preferred)
        chosen = preferred.topk(config.active, dim=-1).indices
        weights = scores.gather(-1, chosen)
        if config.normalise:
            weights = weights / (weights.sum(dim=-1, keepdim=True) + (1e-20 if config.router == "sigmoid" else 0))
        return Routing(logits, weights * config.scale, chosen)

    def _within_best_groups(self, preferred: Tensor) -> Tensor:
        """The scores [tokens, experts] with all but the best groups of experts ruled out (DeepSeek-V2, V3)."""
        grouped = preferred.unflatten(-1, (self.config.groups, -1))
        if self.config.router == "sigmoid":
            merit = grouped.topk(min(2, grouped.shape[-1]), dim=-1).values.sum(dim=-1)
        else:
            merit = grouped.amax(dim=-1)
        best = merit.topk(self.config.active_groups, dim=-1).indices
        allowed = torch.zeros_like(merit, dtype=torch.bool).scatter(-1, best, True)
        ruled_out = -torch.inf if self.config.router == "sigmoid" else 0.0
        return grouped.masked_fill(~allowed[..., None], ruled_out).flatten(-2)

    def forward(self, x: Tensor, record: "Record | None" = None) -> Tensor:
        """x [batch, time, width] → [batch, time, width]; ``record`` keeps what the router decided, if it wants to."""
        flat = x.flatten(0, -2)
        routing = self.route(flat)
        if record is not None and record.wants_routing:
            record.routing.append(routing)
        mixed = self._mixed(flat, routing).view_as(x)
        return mixed if self.shared is None else mixed + self.shared(x)

    def _mixed(self, x: Tensor, routing: Routing) -> Tensor:
        """The weighted sum of the chosen experts' outputs for x [tokens, width]."""
        active = self.config.active
        order = routing.chosen.flatten().argsort(stable=True)  # the (token, choice) pairs, expert by expert
        load = self._load(routing.chosen)
        if self.training and self.config.bias_rate and self.counted != 0:
            self.load += load if self.counted is None else self._load(routing.chosen[: self.counted])
        outputs = self.computed(x[order // active], load)[order.argsort()].unflatten(0, (-1, active))
        return (outputs * routing.weights[..., None].to(outputs.dtype)).sum(dim=1)

    def _load(self, chosen: Tensor) -> Tensor:
        """How many of the tokens with these experts [tokens, active] each expert has: int32 [experts]."""
        load = torch.zeros(self.config.count, dtype=torch.int32, device=chosen.device)
        return load.scatter_add(0, chosen.flatten(), torch.ones_like(chosen.flatten(), dtype=load.dtype))

    def computed(self, rows: Tensor, load: Tensor) -> Tensor:
        """What the experts make of rows [n, width], sorted by expert, of which each has ``load`` [experts].

        Where experts are divided among processes, it is this that is done elsewhere.
        """
        return self.products(rows, load.cumsum(0, dtype=torch.int32), self.gate, self.up, self.down)

    def products(self, rows: Tensor, ends: Tensor, gate: Tensor | None, up: Tensor, down: Tensor) -> Tensor:
        """The feed-forward layers of these stacks [experts, out, in], each of its rows, which end at ``ends``."""
        inner = grouped_product(rows, up, ends)
        if gate is None:
            inner = self.activation(inner)
        else:
            inner = self.activation(grouped_product(rows, gate, ends)) * inner
        return grouped_product(inner, down, ends)

    @torch.no_grad()
    def rebalance(self) -> None:
        """Move the bias of each expert against its load since the last call (Wang et al. 2024, loss-free balancing)."""
        if self.balancing_bias is not None and self.config.bias_rate:
            self.balancing_bias += self.config.bias_rate * (self.load.mean() - self.load).sign()
            self.load.zero_()


@contextmanager
def counting(model: nn.Module, tokens: int | None) -> Iterator[None]:
    """Within, the first so many tokens of each pass count as what experts have to do; None: all."""
    layers = [module for module in model.modules() if isinstance(module, Experts)]
    before = [layer.counted for layer in layers]
    for layer in layers:
        layer.counted = tokens
    try:
        yield
    finally:
        for layer, counted in zip(layers, before, strict=True):
            layer.counted = counted


def balance_loss(routing: Routing) -> Tensor:
    """How unevenly a router spreads its tokens: experts · Σ share of tokens · mean probability (Fedus et al. 2022).

    ``active`` when all experts are used alike, more otherwise.
    """
    probabilities = routing.logits.softmax(dim=-1).mean(dim=0)
    tokens, count = routing.logits.shape
    chosen = F.one_hot(routing.chosen, count).sum(dim=(0, 1)) / tokens
    return count * (chosen * probabilities).sum()
