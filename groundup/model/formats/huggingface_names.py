"""Names of our tensors in the folders of Hugging Face, and how the same numbers are laid out there.

Enters: a family and a configuration. Leaves: one ``Link`` per tensor or group of tensors.
"""

import re
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from groundup.model.config import ModelConfig
from groundup.model.formats.families import Family
from groundup.model.formats.links import Link, joined, same, stacked, transposed

HEAD = "lm_head.weight"
#: Tensors in files of old that hold no weights: causal masks, rotary frequencies.
NO_WEIGHTS = re.compile(r"(h\.\d+\.attn\.(masked_)?bias|(layers\.\d+\.self_attn\.)?rotary_emb\.inv_freq)$")

#: Our norms of a block, and theirs, by where a block normalises.
_NORMS: Mapping[str, Mapping[str, str]] = {
    "pre": {"attention_norm": "input_layernorm", "feed_forward_norm": "post_attention_layernorm"},
    "output": {
        "attention_output_norm": "post_attention_layernorm",
        "feed_forward_output_norm": "post_feedforward_layernorm",
    },
    "sandwich": {
        "attention_norm": "input_layernorm",
        "attention_output_norm": "post_attention_layernorm",
        "feed_forward_norm": "pre_feedforward_layernorm",
        "feed_forward_output_norm": "post_feedforward_layernorm",
    },
}


def links(family: Family, config: ModelConfig, interleaved: bool) -> Iterator[Link]:
    """Where each tensor of a model of ``config`` (resolved) lies in the files of ``family``.

    Args:
        interleaved: the files have rotary pairs as neighbours (DeepSeek).
    """
    if not config.tied:
        yield same("head.weight", HEAD)
    if family.model_type == "gpt2":
        yield from _gpt2(config)
        return
    yield same("embedding.weight", "model.embed_tokens.weight")
    yield same("norm.scale", "model.norm.weight")
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"model.layers.{layer}."
        for mine, other in _NORMS[config.norm_place].items():
            yield same(f"{ours}{mine}.scale", f"{theirs}{other}.weight")
        attention = _latent_attention if config.latent.key_rank else _attention
        yield from attention(config, f"{ours}attention.", f"{theirs}self_attn.", interleaved)
        if config.routed(layer):
            yield from _experts(family, config, f"{ours}feed_forward.", theirs)
        else:
            yield from _feed_forward(config, f"{ours}feed_forward.", f"{theirs}mlp.")


def _linear(ours: str, theirs: str, bias: bool) -> Iterator[Link]:
    for part in ("weight", "bias")[: 1 + bias]:
        yield same(f"{ours}.{part}", f"{theirs}.{part}")


def _attention(config: ModelConfig, ours: str, theirs: str, _: bool) -> Iterator[Link]:
    for mine, other in (("query", "q_proj"), ("key", "k_proj"), ("value", "v_proj")):
        yield from _linear(ours + mine, theirs + other, config.bias != "none")
    yield from _linear(f"{ours}output", f"{theirs}o_proj", config.bias == "all")
    if config.qk_norm != "none":
        yield same(f"{ours}query_norm.scale", f"{theirs}q_norm.weight")
        yield same(f"{ours}key_norm.scale", f"{theirs}k_norm.weight")


def _latent_attention(config: ModelConfig, ours: str, theirs: str, interleaved: bool) -> Iterator[Link]:
    latent = config.latent

    def turned(mine: str, other: str, kept: int) -> Link:
        names = (f"{ours}{mine}.weight", f"{theirs}{other}.weight")
        return _halved(*names, kept, latent.rotary_size) if interleaved else same(*names)

    if latent.query_rank:
        yield same(f"{ours}query_down.weight", f"{theirs}q_a_proj.weight")
        yield same(f"{ours}query_norm.scale", f"{theirs}q_a_layernorm.weight")
        yield turned("query_up", "q_b_proj", config.head_size)
    else:
        yield turned("query", "q_proj", config.head_size)
    yield turned("key_down", "kv_a_proj_with_mqa", latent.key_rank)
    yield same(f"{ours}key_norm.scale", f"{theirs}kv_a_layernorm.weight")
    yield same(f"{ours}key_up.weight", f"{theirs}kv_b_proj.weight")
    yield same(f"{ours}output.weight", f"{theirs}o_proj.weight")


def _halved(ours: str, theirs: str, kept: int, rotary: int) -> Link:
    """Heads of ``kept`` rows and ``rotary`` more, whose pairs are neighbours there and halves apart here."""

    def change(to_pairs: bool, tensors: Sequence[Tensor]) -> list[Tensor]:
        heads = tensors[0].unflatten(0, (-1, kept + rotary))
        pairs = heads[:, kept:].unflatten(1, (2, -1) if to_pairs else (-1, 2)).transpose(1, 2).flatten(1, 2)
        return [torch.cat((heads[:, :kept], pairs), dim=1).flatten(0, 1)]

    return Link((ours,), (theirs,), lambda tensors: change(False, tensors), lambda tensors: change(True, tensors))


def _feed_forward(config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    for part in ("gate", "up", "down"):
        yield from _linear(ours + part, f"{theirs}{part}_proj", config.bias == "all")


def _experts(family: Family, config: ModelConfig, ours: str, theirs: str) -> Iterator[Link]:
    module, *matrices = family.experts
    theirs += f"{module}."
    yield same(f"{ours}router.weight", f"{theirs}gate.weight")
    if config.experts.router == "sigmoid":
        yield same(f"{ours}balancing_bias", f"{theirs}gate.e_score_correction_bias")
    for mine, other in zip(("gate", "up", "down"), matrices, strict=True):
        names = [f"{theirs}experts.{number}.{other}.weight" for number in range(config.experts.count)]
        yield stacked(ours + mine, names)
    if config.experts.shared:
        yield from _feed_forward(config, f"{ours}shared.", f"{theirs}shared_experts.")


def _gpt2(config: ModelConfig) -> Iterator[Link]:
    """GPT-2 stores matrices as [in, out], and those of query, key and value side by side."""
    yield same("embedding.weight", "transformer.wte.weight")
    yield same("position_embedding.weight", "transformer.wpe.weight")
    norms = [("norm", "ln_f")]
    for layer in range(config.layers):
        ours, theirs = f"blocks.{layer}.", f"transformer.h.{layer}."
        norms += [(f"blocks.{layer}.attention_norm", f"h.{layer}.ln_1")]
        norms += [(f"blocks.{layer}.feed_forward_norm", f"h.{layer}.ln_2")]
        for part in ("weight", "bias"):
            fused = [f"{ours}attention.{name}.{part}" for name in ("query", "key", "value")]
            yield joined(fused, f"{theirs}attn.c_attn.{part}", [config.width] * 3, transpose=True)
        for mine, other in (
            ("attention.output", "attn.c_proj"),
            ("feed_forward.up", "mlp.c_fc"),
            ("feed_forward.down", "mlp.c_proj"),
        ):
            yield transposed(f"{ours}{mine}.weight", f"{theirs}{other}.weight")
            yield same(f"{ours}{mine}.bias", f"{theirs}{other}.bias")
    for mine, other in norms:
        yield same(f"{mine}.scale", f"transformer.{other}.weight")
        yield same(f"{mine}.bias", f"transformer.{other}.bias")
