"""What a training step keeps between forward and backward, from the model's shape alone.

Enters: a :class:`ModelConfig`, a vocabulary size, a micro-batch. Leaves: bytes, part by part; each function tells the
tensors of one part. Counted is what PyTorch's operations save for the backward pass when they run one by one on a CPU,
of windows that are one sequence each, without dropout. Accelerators keep less, which ``MicroBatch.fused`` counts: their
norms save no normalised copy, and attention never writes its scores out. What an operation needs only while it runs
comes on top.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from groundup.model.config import FEED_FORWARDS, ModelConfig
from groundup.planning.count import layer_matrices

FLOAT, INDEX = 4, 8
#: Tensors of the inner size that a feed-forward layer keeps: before the activation, after it, the other factor, the
#: product; relu needs only what came out of it.
INNER_TENSORS: Mapping[str, int] = {"relu": 1, "relu2": 2, "gelu": 2, "gelu-tanh": 2, "silu": 2}


@dataclass(frozen=True)
class MicroBatch:
    """What one forward pass works on."""

    rows: int
    """Sequences."""
    time: int
    """Tokens of each."""
    element: int = 4
    """Bytes of a number in matrix products: 4 in float32, 2 under bfloat16 autocast. Norms and the stream have 4."""
    copied: bool = True
    """Autocast gives each product copies of its own; False: the weights that are read are of that dtype already, and so
    is the stream, as those are that fully sharded data parallelism gathers."""
    fused: bool = False
    """On an accelerator: a norm keeps what enters it and no normalised copy, and fused attention takes every shape."""
    whole: int = 0
    """Tokens of the whole sequence, of which this device has ``time``; 0: all of them."""

    @property
    def tokens(self) -> int:
        """In all sequences."""
        return self.rows * self.time

    @property
    def seen(self) -> int:
        """Tokens that a token may look at, itself and later ones included."""
        return self.whole or self.time

    @property
    def stream(self) -> int:
        """Bytes of a number of the residual stream."""
        return FLOAT if self.copied and not self.fused else self.element

    def read(self, inputs: int, *outputs: int, copies: int = 1) -> int:
        """Vectors of ``inputs`` numbers that matrices [outputs, inputs], or stacks of them, are multiplied with.

        Autocast gives each product copies of its own, of the vectors and of the matrices.
        """
        if self.element == FLOAT or not self.copied or self.fused:
            return self.element * self.tokens * inputs
        return self.element * sum(self.tokens * inputs + copies * inputs * size for size in outputs)

    def kept(self, numbers: int) -> int:
        """So many numbers per token, as matrix products give them."""
        return self.element * self.tokens * numbers


def activation_bytes(config: ModelConfig, vocab_size: int, batch: MicroBatch) -> dict[str, int]:
    """Bytes kept for the backward pass of next-token prediction on a micro-batch, by part."""
    config = config.resolved()
    parts = {"ngrams": INDEX * batch.tokens * max(0, config.ngrams - 1)}  # which rows of their tables were taken
    parts |= {"norms": 0, "attention": 0, "feed_forward": 0, "experts": 0}
    for layer in range(config.layers):
        for part, size in block(config, layer, batch, batch).items():
            parts[part] += size
    parts["norms"] += 0 if config.norm_place == "post" else stream_norm(config, batch)
    parts["positions"] = positions(config, batch)
    parts["loss"] = loss(config, vocab_size, batch)
    return {part: size for part, size in parts.items() if size}


def block(config: ModelConfig, layer: int, batch: MicroBatch, stream: MicroBatch) -> dict[str, int]:
    """One layer by part; ``stream`` is what a device has of the micro-batch between attention and feed-forward."""
    mixing = latent_attention if config.latent.key_rank else attention
    found = {"norms": stream_norms(config, stream), "attention": mixing(config, layer, batch)}
    if config.routed(layer):
        return {**found, "experts": experts(config, batch)}
    return {**found, "feed_forward": feed_forward(config, config.hidden, batch)}


def products_of(config: ModelConfig, layer: int, batch: MicroBatch) -> int:
    """What selective recomputation keeps of a layer: what its products with weights and its attention gave."""
    outputs = sum(matrix.active * matrix.outputs for matrix in layer_matrices(config, layer))
    value_size = config.latent.value_size if config.latent.key_rank else config.head_size
    return batch.kept(outputs + config.heads * value_size) + FLOAT * batch.tokens * config.heads


def rms_norm(size: int, count: int, offset: bool, batch: MicroBatch) -> int:
    """``count`` vectors: each normalised, its root mean square; and the scales, where 1 is added."""
    if batch.fused:
        return batch.stream * count * size + FLOAT * (count + size * offset)
    scales = size * (offset or batch.stream != FLOAT)  # a norm computes in float32, its scales are brought to it
    return FLOAT * (count * (size + 1) + scales)


def stream_norm(config: ModelConfig, batch: MicroBatch) -> int:
    """One norm of the residual stream; LayerNorm keeps what enters, its mean and its deviation."""
    if config.norm == "layer":
        if batch.fused:
            return batch.tokens * (batch.stream * config.width + 2 * FLOAT)
        scales = config.width * (2 if config.norm_bias else 1) * (batch.stream != FLOAT)
        return FLOAT * (batch.tokens * (config.width + 2) + scales)
    return rms_norm(config.width, batch.tokens, config.norm_offset, batch)


def stream_norms(config: ModelConfig, batch: MicroBatch) -> int:
    """The norms of a block; with residual scalars also the stream before it was scaled."""
    norms = (4 if config.norm_place == "sandwich" else 2) * stream_norm(config, batch)
    return norms + batch.stream * batch.tokens * config.width * config.residual_scalars


def attention(config: ModelConfig, layer: int, batch: MicroBatch) -> int:
    """The stream that it reads, queries, keys and values with their norms, and what makes the scores differentiable."""
    query, key = config.heads * config.head_size, config.kv_heads * config.head_size
    total = batch.read(config.width, query, key, key)
    for heads in (config.heads, config.kv_heads):
        if config.qk_norm == "head":
            total += rms_norm(config.head_size, batch.tokens * heads, config.norm_offset, batch)
        elif config.qk_norm == "all":
            total += rms_norm(config.head_size * heads, batch.tokens, config.norm_offset, batch)
    if config.has_value_embedding(layer):
        total += FLOAT * batch.tokens * key
    if config.key_smear:
        total += batch.kept(key)
    total += _mixing(config, layer, batch, config.head_size, config.head_size, config.kv_heads)
    return total + batch.read(query, config.width)


def _mixing(config: ModelConfig, layer: int, batch: MicroBatch, query_size: int, value_size: int, kv_heads: int) -> int:
    """Queries, keys, values, and the weights or what a fused kernel keeps instead of them."""
    heads = config.heads
    if config.attention.softcap or config.attention.sinks:
        return batch.kept(heads * (2 * query_size + value_size)) + _written_out_scores(config, batch)
    if (
        query_size != value_size and not batch.fused
    ):  # PyTorch has no fused kernel for that on a CPU: the scores are there, in float32
        return FLOAT * batch.tokens * heads * (2 * query_size + value_size + batch.seen)
    fused = batch.kept(heads * query_size + kv_heads * (query_size + value_size))
    fused += FLOAT * batch.tokens * heads  # the logarithms of the sums
    if config.positions.kind == "rotary":
        fused += batch.kept(heads * value_size)  # what comes out; else the output matrix reads it as it lies
    if config.positions.kind != "alibi" and config.windowed(layer) and config.attention.window < batch.seen:
        fused += batch.element * batch.time * batch.seen  # the mask
    return fused


def _written_out_scores(config: ModelConfig, batch: MicroBatch) -> int:
    """Soft-capped scores, their softmax in float32 and in the dtype of matrix products, and the mask."""
    pairs = config.heads * batch.seen * batch.tokens
    weights = pairs + config.heads * batch.tokens * config.attention.sinks
    total = FLOAT * weights + (batch.element * weights if batch.element != FLOAT else 0)
    if config.attention.softcap:
        total += batch.element * pairs
    return total + (batch.time * batch.seen if config.positions.kind != "alibi" else 0)


def latent_attention(config: ModelConfig, layer: int, batch: MicroBatch) -> int:
    """The same for keys and values that are read from a small vector."""
    latent, heads = config.latent, config.heads
    query_size = config.head_size + latent.rotary_size
    query, down = heads * query_size, latent.key_rank + latent.rotary_size
    total = batch.read(config.width, latent.query_rank or query, down)
    if latent.query_rank:
        total += rms_norm(latent.query_rank, batch.tokens, config.norm_offset, batch)
        total += batch.read(latent.query_rank, query)
    total += rms_norm(latent.key_rank, batch.tokens, config.norm_offset, batch)
    expanded = heads * (config.head_size + latent.value_size)
    total += batch.read(latent.key_rank, expanded)
    total += _mixing(config, layer, batch, query_size, latent.value_size, heads)
    return total + batch.read(heads * latent.value_size, config.width)


def feed_forward(config: ModelConfig, hidden: int, batch: MicroBatch) -> int:
    """What it reads, and the inner tensors."""
    return batch.read(config.width, *_entrances(config, hidden)) + _inner(config, hidden, batch)


def _entrances(config: ModelConfig, hidden: int) -> list[int]:
    """Outputs of the matrices that read the stream: gate and up."""
    return [hidden] * (2 if config.gated else 1)


def _inner(config: ModelConfig, hidden: int, batch: MicroBatch, copies: int = 1) -> int:
    """The inner tensors, of which the last matrix reads one."""
    activation, gated = FEED_FORWARDS[config.feed_forward]
    tensors = INNER_TENSORS[activation] + (2 if gated else 0)
    return batch.kept((tensors - 1) * hidden) + batch.read(hidden, config.width, copies=copies)


def experts(config: ModelConfig, batch: MicroBatch) -> int:
    """Router, the tokens laid out expert by expert, their inner tensors and outputs, and the balancing loss."""
    experts = config.experts
    shared = experts.shared * experts.hidden
    entrances = _entrances(config, shared) if shared else []
    router = batch
    if batch.stream == FLOAT:
        total = batch.read(config.width, experts.count, *entrances)
    else:  # the router computes in float32, of copies
        router = replace(batch, element=FLOAT)
        total = FLOAT * config.width * (batch.tokens + experts.count)
        total += batch.read(config.width, *entrances) if shared else 0
    total += router.kept(experts.count) + INDEX * batch.tokens * experts.active
    if experts.normalise:
        total += router.kept(experts.active + 1)
    laid_out = replace(batch, rows=1, time=batch.tokens * experts.active)
    total += laid_out.read(config.width, *_entrances(config, experts.hidden), copies=experts.count)
    total += _inner(config, experts.hidden, laid_out, experts.count) + laid_out.kept(config.width + 1)
    total += 2 * INDEX * laid_out.tokens + FLOAT * experts.count  # the order there and back; where each expert's end
    if experts.balance:
        total += router.kept(experts.count) + FLOAT * experts.count
    return total + (_inner(config, shared, batch) if shared else 0)


def positions(config: ModelConfig, batch: MicroBatch) -> int:
    """Places in the table of positions, or what layers share: cosines and sines, or distances as masks."""
    windowed = {config.windowed(layer) for layer in range(config.layers)}
    if config.positions.kind == "learned":
        return INDEX * batch.time
    if config.positions.kind == "alibi":
        fused = not (config.attention.softcap or config.attention.sinks)
        return FLOAT * config.heads * batch.time * batch.seen * len(windowed) * fused
    return FLOAT * batch.time * config.rotary_size * (len(windowed) if config.positions.local_base else 1)


def loss(config: ModelConfig, vocab_size: int, batch: MicroBatch) -> int:
    """The gradients of what the output head reads and of its matrix, in their dtypes; the loss makes them."""
    weights = FLOAT if batch.copied else batch.element
    return config.width * (batch.stream * batch.tokens + weights * vocab_size)
