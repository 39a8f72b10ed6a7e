"""Characters with the usual plain loop: what nanoGPT does on a CPU, written anew; the peer of ``benchmarks.training``.

``python -m benchmarks._plain_loop TEXT [SEED [STEPS]]``. Nothing of ours is imported, so that the start is the peer's
own. Shape, rates and evaluation are those of the README of https://github.com/karpathy/nanoGPT ("I only have a
macbook"): 4 layers, 4 heads, width 128, 64 characters, 12 rows, 2,000 updates of AdamW. Every 250 updates the loss of
20 random batches of each split is estimated and printed; at the end, outside the time that counts, that of the whole
validation split.
"""

import json
import math
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

LAYERS, HEADS, WIDTH, CONTEXT, ROWS = 4, 4, 128, 64, 12
STEPS, WARMUP, RATE, LEAST_RATE = 2000, 100, 1e-3, 1e-4
EVALUATE_EVERY, EVALUATION_BATCHES = 250, 20


class Attention(nn.Module):
    """Causal self-attention without biases."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        batch, time_, width = x.shape
        parts = self.qkv(x).split(width, dim=2)
        query, key, value = (part.view(batch, time_, self.heads, -1).transpose(1, 2) for part in parts)
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.out(mixed.transpose(1, 2).contiguous().view(batch, time_, width))


class Block(nn.Module):
    """Attention and a feed-forward layer with GELU, each after a LayerNorm without bias."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.attention = Attention(width, heads)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """x [batch, time, width] → [batch, time, width]."""
        x = x + self.attention(self.norm1(x))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class GPT(nn.Module):
    """ids [batch, time] and targets [batch, time] → mean cross-entropy."""

    def __init__(self, vocabulary: int, layers: int, heads: int, width: int, context: int) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, width), nn.Embedding(context, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width, bias=False)
        self.head = nn.Linear(width, vocabulary, bias=False)
        self.tokens.weight = self.head.weight
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                writes = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, 0.0, 0.02 / math.sqrt(2 * layers) if writes else 0.02)

    def forward(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The loss."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1]))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).flatten(0, 1), targets.flatten())


def adamw(
    model: nn.Module, rate: float, decay: float = 0.1, betas: tuple[float, float] = (0.9, 0.99)
) -> torch.optim.AdamW:
    """Decay of matrices and tables, none of vectors."""
    matrices = [parameter for parameter in model.parameters() if parameter.ndim >= 2]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, rate, betas)


def rate_at(step: int) -> float:
    """Linear warm-up, then a cosine down to the least rate."""
    if step < WARMUP:
        return RATE * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (STEPS - WARMUP)
    return LEAST_RATE + (RATE - LEAST_RATE) * 0.5 * (1 + math.cos(math.pi * share))


def batch_of(ids: np.ndarray) -> tuple[Tensor, Tensor]:
    """Random windows and their next characters, both [rows, context]."""
    starts = torch.randint(len(ids) - CONTEXT, (ROWS,))
    inputs = torch.stack([torch.from_numpy(ids[start : start + CONTEXT].astype(np.int64)) for start in starts])
    targets = torch.stack([torch.from_numpy(ids[start + 1 : start + 1 + CONTEXT].astype(np.int64)) for start in starts])
    return inputs, targets


@torch.no_grad()
def estimate(model: nn.Module, splits: dict[str, np.ndarray]) -> dict[str, float]:
    """Mean loss of some random batches of each split."""
    model.eval()
    losses = {
        name: float(np.mean([float(model(*batch_of(ids))) for _ in range(EVALUATION_BATCHES)]))
        for name, ids in splits.items()
    }
    model.train()
    return losses


@torch.no_grad()
def whole(model: nn.Module, ids: np.ndarray) -> float:
    """Nats per character of all of ``ids`` but the first, in windows that follow one another."""
    model.eval()
    total = 0.0
    for start in range(0, len(ids) - 1, CONTEXT * 128):
        part = torch.from_numpy(ids[start : start + CONTEXT * 128 + 1].astype(np.int64))
        full = (len(part) - 1) // CONTEXT * CONTEXT
        for inputs, targets in ((part[:full], part[1 : full + 1]), (part[full:-1], part[full + 1 :])):
            if len(inputs):
                time_ = min(CONTEXT, len(inputs))
                total += float(model(inputs.view(-1, time_), targets.view(-1, time_))) * len(inputs)
    model.train()
    return total / (len(ids) - 1)


def main() -> None:
    """Train; the last line on stdout is a record as JSON."""
    seed = int(sys.argv[2]) if len(sys.argv) > 2 else 1337
    steps = int(sys.argv[3]) if len(sys.argv) > 3 else STEPS
    text = Path(sys.argv[1]).read_text(encoding="utf-8")
    number = {character: place for place, character in enumerate(sorted(set(text)))}
    ids = np.array([number[character] for character in text], dtype=np.uint16)
    cut = int(0.9 * len(ids))
    splits = {"train": ids[:cut], "validation": ids[cut:]}
    torch.manual_seed(seed)
    model = GPT(len(number), LAYERS, HEADS, WIDTH, CONTEXT)
    optimizer = adamw(model, RATE)
    best, estimates = math.inf, []
    began = time.time()
    with tempfile.TemporaryDirectory() as folder:
        inputs, targets = batch_of(splits["train"])
        for step in range(steps + 1):
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step)
            if step % EVALUATE_EVERY == 0:
                losses = estimate(model, splits)
                estimates.append({"step": step, "time": time.time(), **losses})
                if losses["validation"] < best and step > 0:
                    best = losses["validation"]
                    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, f"{folder}/ckpt.pt")
            loss = model(inputs, targets)
            inputs, targets = batch_of(splits["train"])
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            print(f"iteration {step}: loss {float(loss.detach()):.4f}", file=sys.stderr)
    finished = time.time()
    record = {"began": began, "finished": finished, "estimates": estimates}
    print(json.dumps({**record, "whole_validation": whole(model, splits["validation"])}))


if __name__ == "__main__":
    main()
