"""What a model costs, from its shape alone: parameters, floating-point operations, key/value cache.

Enters: a :class:`ModelConfig` and a vocabulary size. Leaves: exact numbers in closed form; no model is built. Counted
are the operations of matrix products, a multiplication and an addition being two; norms, activation functions, rotary
positions and softmax take a per cent or less and are left out, as everywhere in the field (Kaplan et al. 2020).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from groundup.model.cache import cached_shapes
from groundup.model.config import ModelConfig


@dataclass(frozen=True)
class Matrix:
    """A weight matrix [outputs, inputs], and the tokens that are multiplied by it."""

    part: str
    outputs: int
    inputs: int
    bias: bool = False
    copies: int = 1
    """How many there are, one per expert."""
    active: int = 1
    """How many of them a token passes."""

    @property
    def parameters(self) -> int:
        """Of all copies, with their biases."""
        return self.copies * (self.outputs * self.inputs + self.bias * self.outputs)


@dataclass(frozen=True)
class Parameters:
    """Weights of a model, a shared matrix counted once."""

    parts: Mapping[str, int]
    """What they are for."""
    active: int
    """Those that one token uses: all but the experts that it does not pass."""
    hidden_matrices: int
    """Those in matrices between embedding and output head, routers left out: what Muon trains."""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.parts.values())

    @property
    def embedding(self) -> int:
        """Those in tables, which are looked up and not multiplied; a tied output head is such a table."""
        return sum(count for part, count in self.parts.items() if part.endswith("embedding"))


@dataclass(frozen=True)
class Operations:
    """Floating-point operations of the forward pass over one sequence; backward takes twice as many.

    ``backward`` is exact where the scores are kept. Fused kernels compute them again, which adds half of ``scores``.
    """

    time: int
    """Tokens of the sequence."""
    weights: int
    """Products with weight matrices."""
    scores: int
    """Queries with keys and weights with values over all pairs of tokens: what is executed, and what PyTorch counts."""
    seen_scores: int
    """The same over the pairs that the causal mask and the windows let see each other: what is useful."""

    @property
    def forward(self) -> int:
        """As executed."""
        return self.weights + self.scores

    @property
    def training(self) -> int:
        """Forward and backward, as executed."""
        return 3 * self.forward

    @property
    def useful_training(self) -> int:
        """Forward and backward, without the pairs that are masked: the numerator of model FLOPs utilisation."""
        return 3 * (self.weights + self.seen_scores)


def parameters(config: ModelConfig, vocab_size: int) -> Parameters:
    """Number of weights by part, in the order in which a token meets them."""
    config = config.resolved()
    tables = ("token_embedding", "ngram_embedding", "position_embedding", "value_embedding")
    parts = dict.fromkeys((*tables, "attention", "feed_forward"), 0)
    parts["token_embedding"] = vocab_size * config.width
    parts["ngram_embedding"] = max(0, config.ngrams - 1) * config.ngram_rows * config.width
    if config.positions.kind == "learned":
        parts["position_embedding"] = config.context * config.width
    idle = hidden = 0
    for layer in range(config.layers):
        if config.has_value_embedding(layer):
            parts["value_embedding"] += config.kv_heads * (vocab_size * config.head_size + 1)
        for matrix in layer_matrices(config, layer):
            parts[matrix.part] = parts.get(matrix.part, 0) + matrix.parameters
            idle += matrix.parameters // matrix.copies * (matrix.copies - matrix.active)
            hidden += matrix.copies * matrix.outputs * matrix.inputs * (matrix.part != "router")
    parts["attention"] += config.layers * config.heads * config.attention.sinks
    parts["attention"] += config.layers * config.kv_heads * config.key_smear
    parts["norms"] = config.layers * block_norms(config) + last_norm(config)
    parts["stream_scales"] = 2 * config.layers * config.residual_scalars
    parts["output_head"] = 0 if config.tied else vocab_size * config.width
    return Parameters({part: count for part, count in parts.items() if count}, sum(parts.values()) - idle, hidden)


def operations(config: ModelConfig, vocab_size: int, time: int) -> Operations:
    """Of the forward pass over a sequence of ``time`` tokens, with logits for each."""
    config = config.resolved()
    products = config.width * vocab_size
    for layer in range(config.layers):
        products += sum(matrix.active * matrix.outputs * matrix.inputs for matrix in layer_matrices(config, layer))
    latent = config.latent
    query_size = config.head_size + latent.rotary_size
    value_size = latent.value_size if latent.key_rank else config.head_size
    per_pair = 2 * config.heads * (query_size + value_size)
    seen = sum(seen_pairs(time, config.attention.window if config.windowed(n) else time) for n in range(config.layers))
    return Operations(time, 2 * products * time, per_pair * config.layers * time**2, per_pair * seen)


def cache_bytes(config: ModelConfig, tokens: int, element_bytes: int) -> int:
    """Memory of the key/value cache of ``tokens`` tokens; a windowed layer keeps them all, as :class:`KVCache` does.

    Latent attention keeps its small vector and the rotated key instead of keys and values.
    """
    shapes = cached_shapes(config.resolved())
    return config.resolved().layers * tokens * element_bytes * sum(heads * size for heads, size in shapes)


def layer_matrices(config: ModelConfig, layer: int) -> Iterator[Matrix]:
    """The weight matrices of one block that tokens are multiplied by; ``config`` is resolved."""
    yield from _latent_attention(config) if config.latent.key_rank else _attention(config)
    if not config.routed(layer):
        yield from _feed_forward(config, "feed_forward", config.hidden)
        return
    experts = config.experts
    yield Matrix("router", experts.count, config.width)
    yield from _feed_forward(config, "routed_experts", experts.hidden, experts.count, experts.active)
    if experts.shared:
        yield from _feed_forward(config, "shared_experts", experts.shared * experts.hidden)


def _attention(config: ModelConfig) -> Iterator[Matrix]:
    width, size = config.width, config.head_size
    for heads in (config.heads, config.kv_heads, config.kv_heads):  # query, key, value
        yield Matrix("attention", heads * size, width, config.bias != "none")
    yield Matrix("attention", width, config.heads * size, config.bias == "all")


def _latent_attention(config: ModelConfig) -> Iterator[Matrix]:
    width, latent = config.width, config.latent
    query_size = config.heads * (config.head_size + latent.rotary_size)
    if latent.query_rank:
        yield Matrix("attention", latent.query_rank, width)
    yield Matrix("attention", query_size, latent.query_rank or width)
    yield Matrix("attention", latent.key_rank + latent.rotary_size, width)
    yield Matrix("attention", config.heads * (config.head_size + latent.value_size), latent.key_rank)
    yield Matrix("attention", width, config.heads * latent.value_size)


def _feed_forward(config: ModelConfig, part: str, hidden: int, copies: int = 1, active: int = 1) -> Iterator[Matrix]:
    bias = config.bias == "all"
    for _ in range(2 if config.gated else 1):  # gate and up
        yield Matrix(part, hidden, config.width, bias, copies, active)
    yield Matrix(part, config.width, hidden, bias, copies, active)


def block_norms(config: ModelConfig) -> int:
    """Scales and biases of the norms of one block; ``config`` is resolved."""
    found = {"pre": 2, "post": 2, "output": 2, "sandwich": 4}[config.norm_place] * _stream_norm(config)
    if config.latent.key_rank:
        found += config.latent.key_rank + config.latent.query_rank
    return (
        found
        + {
            "none": 0,
            "head": 2 * config.head_size,
            "all": (config.heads + config.kv_heads) * config.head_size,
        }[config.qk_norm]
    )


def last_norm(config: ModelConfig) -> int:
    """Scales and biases of the norm after the last block; ``config`` is resolved."""
    return 0 if config.norm_place == "post" else _stream_norm(config)


def _stream_norm(config: ModelConfig) -> int:
    return config.width * (2 if config.norm_bias else 1)


def seen_pairs(time: int, window: int) -> int:
    """Pairs of a token and one that it sees: itself and those before it, ``window`` at most."""
    full = min(time, window)
    return full * (full + 1) // 2 + (time - full) * full
