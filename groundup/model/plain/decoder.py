"""A decoder as a textbook prints it: from the ids of one sequence and a dictionary of weights to logits.

Every option of :class:`~groundup.model.config.ModelConfig` is here, in the order in which a token meets it. x is the
residual stream [time, width] throughout; a function takes the weights of its own part, under their names there.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from torch import Tensor

from groundup.model.config import FEED_FORWARDS, ModelConfig
from groundup.model.plain.attention import alibi_slopes, attention, smeared
from groundup.model.plain.experts import choose, mix
from groundup.model.plain.gradients import layer_norm, rms_norm
from groundup.model.plain.rotary import rotate, sinusoidal_positions, stretched_frequencies

Weights = Mapping[str, Tensor]
Heads = Iterator[tuple[Tensor, Tensor, Tensor]]
"""Query [time, size], key [time, size] and value [time, value_size] of each head."""

ACTIVATIONS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "relu": lambda z: z.clamp(min=0),
    "relu2": lambda z: z.clamp(min=0) ** 2,
    "gelu": lambda z: z * (1 + torch.erf(z / math.sqrt(2))) / 2,
    "gelu-tanh": lambda z: z * (1 + torch.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2,
    "silu": lambda z: z * torch.sigmoid(z),
}


def plain_logits(config: ModelConfig, weights: Weights, ids: Tensor) -> Tensor:
    """Logits [time, vocabulary] of the token after each of ``ids`` [time]; ``weights`` is a state dictionary."""
    config = config.resolved()
    x = start = embed(config, weights, ids)
    for layer in range(config.layers):
        if config.residual_scalars:
            kept, returned = weights["stream_scales"][layer]
            x = kept * x + returned * start
        x = block(config, layer, part(weights, f"blocks.{layer}"), x, ids)
    if config.norm_place != "post":
        x = norm(config, part(weights, "norm"), x)
    logits = x @ weights["head.weight"].T * config.logits_scale
    cap = config.logits_softcap
    return cap * torch.tanh(logits / cap) if cap else logits


def block(config: ModelConfig, layer: int, weights: Weights, x: Tensor, ids: Tensor) -> Tensor:
    """Attention, in which tokens exchange, then the feed-forward layer, in which each is alone; x in, x out."""
    x = residual(config, weights, "attention", x, lambda y: attend(config, layer, part(weights, "attention"), y, ids))
    return residual(
        config, weights, "feed_forward", x, lambda y: transform(config, layer, part(weights, "feed_forward"), y)
    )


def part(weights: Weights, name: str) -> Weights:
    """The weights of the part called ``name``, by their names within it."""
    return {key.removeprefix(f"{name}."): weight for key, weight in weights.items() if key.startswith(f"{name}.")}


def embed(config: ModelConfig, weights: Weights, ids: Tensor) -> Tensor:
    """Ids [time] → the stream's first state: the tokens' vectors, and for some models those of their places."""
    table = weights["embedding.weight"]
    x = table[ids]
    for length in range(2, config.ngrams + 1):
        rows = [ngram_row(config, ids.tolist(), end, length, len(table)) for end in range(len(ids))]
        x = x + weights[f"ngram_embedding.{length - 2}.weight"][rows]
    x = x * config.embedding_scale
    if config.positions.kind == "learned":
        x = x + weights["position_embedding.weight"][: len(ids)]
    if config.positions.kind == "sinusoidal":
        x = x + sinusoidal_positions(range(len(ids)), config.width).to(x)
    return x


def ngram_row(config: ModelConfig, ids: list[int], end: int, length: int, vocab_size: int) -> int:
    """The row of the n-gram whose last token is ids[end]: its number, in digits of the vocabulary's size, modulo the
    rows but one; row 0 is for what begins before the sequence does."""
    if end + 1 < length:
        return 0
    number = sum(ids[end - before] * vocab_size**before for before in range(length))
    return 1 + number % (config.ngram_rows - 1)


def residual(config: ModelConfig, weights: Weights, name: str, x: Tensor, branch: Callable[[Tensor], Tensor]) -> Tensor:
    """x and what ``branch`` makes of it, with a norm before (pre), after (output), around (sandwich) or on the sum."""
    place = config.norm_place
    added = branch(norm(config, part(weights, f"{name}_norm"), x) if place in ("pre", "sandwich") else x)
    if place == "post":
        return norm(config, part(weights, f"{name}_output_norm"), x + added)
    if place in ("output", "sandwich"):
        added = norm(config, part(weights, f"{name}_output_norm"), added)
    return x + added


def norm(config: ModelConfig, weights: Weights, x: Tensor) -> Tensor:
    """The stream's norm: RMSNorm or LayerNorm."""
    if config.norm == "rms":
        return scaled(config, weights["scale"], x)
    bias = weights.get("bias", torch.zeros_like(weights["scale"]))
    return layer_norm(x, weights["scale"], bias, config.norm_epsilon).output


def scaled(config: ModelConfig, scale: Tensor, x: Tensor) -> Tensor:
    """RMSNorm by a ``scale`` [size] that may be stored less 1."""
    return rms_norm(x, scale + config.norm_offset, config.norm_epsilon).output


def linear(weights: Weights, x: Tensor) -> Tensor:
    """x · weightᵀ + bias, where there is one."""
    return x @ weights["weight"].T + weights.get("bias", 0.0)


def attend(config: ModelConfig, layer: int, weights: Weights, x: Tensor, ids: Tensor) -> Tensor:
    """What attention adds to the stream [time, width]: one head after the other, then the output matrix."""
    heads = latent_heads if config.latent.key_rank else ordinary_heads
    outputs = []
    for head, (query, key, value) in enumerate(heads(config, layer, weights, x, ids)):
        attended = attention(
            query,
            key,
            value,
            scale=config.attention_scale,
            softcap=config.attention.softcap,
            slope=alibi_slopes(config.heads)[head] if config.positions.kind == "alibi" else 0.0,
            window=config.attention.window if config.windowed(layer) else 0,
            sink=weights["sinks"][head] if config.attention.sinks else None,
        )
        outputs.append(attended.output)
    return linear(part(weights, "output"), torch.cat(outputs, dim=-1))


def ordinary_heads(config: ModelConfig, layer: int, weights: Weights, x: Tensor, ids: Tensor) -> Heads:
    """Heads of which neighbours share keys and values (Ainslie et al. 2023)."""
    query, key, value = (linear(part(weights, name), x) for name in ("query", "key", "value"))
    if config.qk_norm == "all":
        query, key = scaled(config, weights["query_norm.scale"], query), scaled(config, weights["key_norm.scale"], key)
    query = query.unflatten(-1, (config.heads, -1))  # [time, heads, head_size]
    key, value = (tensor.unflatten(-1, (config.kv_heads, -1)) for tensor in (key, value))
    if config.qk_norm == "head":
        query, key = scaled(config, weights["query_norm.scale"], query), scaled(config, weights["key_norm.scale"], key)
    if config.has_value_embedding(layer):
        value = value + weights["value_share"][:, None] * weights["value_embedding.weight"][ids].view_as(value)

    for head in range(config.heads):
        shared = head // (config.heads // config.kv_heads)
        head_key = turn(config, layer, key[:, shared])
        if config.key_smear:
            head_key = smeared(head_key, weights["smear"][shared])
        yield turn(config, layer, query[:, head]), head_key, value[:, shared]


def latent_heads(config: ModelConfig, layer: int, weights: Weights, x: Tensor, ids: Tensor) -> Heads:
    """Heads of latent attention, with every key and value written out (DeepSeek-V2, 2024, section 2.1).

    Keys and values are read from one small vector of the token. Queries and keys have a part for the content and a part
    for the place; the latter is the same key for all heads.
    """
    latent = config.latent
    if latent.query_rank:
        small = scaled(config, weights["query_norm.scale"], linear(part(weights, "query_down"), x))
        query = linear(part(weights, "query_up"), small)
    else:
        query = linear(part(weights, "query"), x)
    query = query.unflatten(-1, (config.heads, -1))  # [time, heads, head_size + rotary_size]

    small, place_key = linear(part(weights, "key_down"), x).split([latent.key_rank, latent.rotary_size], dim=-1)
    small = scaled(config, weights["key_norm.scale"], small)
    large = linear(part(weights, "key_up"), small).unflatten(-1, (config.heads, -1))

    for head in range(config.heads):
        content_query, place_query = query[:, head].split([config.head_size, latent.rotary_size], dim=-1)
        content_key, value = large[:, head].split([config.head_size, latent.value_size], dim=-1)
        whole_query = torch.cat([content_query, turn(config, layer, place_query)], dim=-1)
        whole_key = torch.cat([content_key, turn(config, layer, place_key)], dim=-1)
        yield whole_query, whole_key, value


def turn(config: ModelConfig, layer: int, x: Tensor) -> Tensor:
    """A query or key [time, size] with its rotary positions, if the model has such."""
    if config.positions.kind != "rotary":
        return x
    frequencies, magnitude = stretched_frequencies(config.rotary_size, config.positions, local=config.windowed(layer))
    return rotate(x, torch.arange(len(x), device=x.device), frequencies, magnitude)


def transform(config: ModelConfig, layer: int, weights: Weights, x: Tensor) -> Tensor:
    """What the feed-forward layer, or a mixture of them, adds to the stream [time, width]."""
    if not config.routed(layer):
        return feed_forward(config, weights, x)
    names = ("gate", "up", "down") if config.gated else ("up", "down")
    experts = [
        partial(feed_forward, config, {f"{name}.weight": weights[name][expert] for name in names})
        for expert in range(config.experts.count)
    ]
    logits = linear(part(weights, "router"), x)
    choices = [choose(scores, config.experts, weights.get("balancing_bias")) for scores in logits]
    mixed = torch.stack([mix(token, chosen, experts) for token, chosen in zip(x, choices, strict=True)])
    return mixed + feed_forward(config, part(weights, "shared"), x) if config.experts.shared else mixed


def feed_forward(config: ModelConfig, weights: Weights, x: Tensor) -> Tensor:
    """down(activation(up(x))), or with a gate down(activation(gate(x)) · up(x)) (Shazeer 2020)."""
    activation = ACTIVATIONS[FEED_FORWARDS[config.feed_forward][0]]
    inner = linear(part(weights, "up"), x)
    inner = activation(linear(part(weights, "gate"), x)) * inner if config.gated else activation(inner)
    return linear(part(weights, "down"), inner)
