"""What GGUF calls our tensors, and where its numbers lie otherwise than ours.

Enters: the names of a model's tensors. Leaves: a link for each (``links``). The names are the same for all families;
three things are not as ours:

- Rotary pairs. We turn (x[i], x[i + n/2]); the files of Llama and DeepSeek have the pairs side by side, so that the
  rows of their queries and keys are in another order.
- The norms of Gemma, which we store less one, as its makers do.
- Latent attention's expansion, one matrix for us, is two for llama.cpp, one of them transposed; old files have one.
"""

import re
from collections.abc import Collection, Iterable, Sequence

import torch
from torch import Tensor

from groundup.core.errors import UsageError
from groundup.model.config import ModelConfig
from groundup.model.formats.links import Link, joined, same

_WHOLE_MODEL = {
    "embedding": "token_embd",
    "position_embedding": "position_embd",
    "norm": "output_norm",
    "head": "output",
}
_IN_BLOCK = {
    "attention_norm": "attn_norm",
    "attention_output_norm": "post_attention_norm",
    "feed_forward_norm": "ffn_norm",
    "feed_forward_output_norm": "post_ffw_norm",
    "attention.query": "attn_q",
    "attention.key": "attn_k",
    "attention.value": "attn_v",
    "attention.output": "attn_output",
    "attention.query_norm": "attn_q_norm",
    "attention.key_norm": "attn_k_norm",
    "attention.query_down": "attn_q_a",
    "attention.query_up": "attn_q_b",
    "attention.key_down": "attn_kv_a_mqa",
    "attention.key_up": "attn_kv_b",
    "feed_forward.gate": "ffn_gate",
    "feed_forward.up": "ffn_up",
    "feed_forward.down": "ffn_down",
    "feed_forward.router": "ffn_gate_inp",
    "feed_forward.shared.gate": "ffn_gate_shexp",
    "feed_forward.shared.up": "ffn_up_shexp",
    "feed_forward.shared.down": "ffn_down_shexp",
}
#: Names that do not follow from the module's: stacks of experts, and norms that latent attention names otherwise.
_EXPERTS = {f"feed_forward.{part}": f"ffn_{part}_exps.weight" for part in ("gate", "up", "down")}
_BALANCING_BIAS = "exp_probs_b.bias"
_LATENT_NORMS = {"attention.query_norm": "attn_q_a_norm", "attention.key_norm": "attn_kv_a_norm"}
_KIND = {"weight": "weight", "scale": "weight", "bias": "bias"}
_block = re.compile(r"blocks\.(\d+)\.(.+)")

#: Architectures whose rotary pairs are side by side.
SIDE_BY_SIDE = ("llama", "deepseek2")


def links(config: ModelConfig, architecture: str, ours: Iterable[str], theirs: Collection[str] = ()) -> list[Link]:
    """A link for each of our tensors.

    Args:
        config: resolved.
        architecture: GGUF's name of the family.
        ours: all names of the model's state dictionary.
        theirs: the names in the file that is read; when written, none, and the newest layout is chosen.

    Raises:
        UsageError: GGUF has no name for a tensor.
    """
    made: list[Link] = []
    for name in ours:
        if name == "head.weight" and config.tied:
            continue
        found = _block.fullmatch(name)
        if found is None:
            made.append(_plain(config, name, "", name, _WHOLE_MODEL))
            continue
        prefix, part = f"blk.{found[1]}.", found[2]
        module, _, kind = part.rpartition(".")
        if architecture == "gpt2" and module in ("attention.query", "attention.key", "attention.value"):
            if module == "attention.query":
                made.append(_fused(config, f"blocks.{found[1]}.attention.", prefix, kind))
        elif part == "attention.key_up.weight" and f"{prefix}attn_kv_b.weight" not in theirs:
            made.append(_expansion(config, name, prefix))
        elif part in _EXPERTS:
            made.append(same(name, prefix + _EXPERTS[part]))
        elif part == "feed_forward.balancing_bias":
            made.append(same(name, prefix + _BALANCING_BIAS))
        elif config.latent.key_rank and module in _LATENT_NORMS:
            made.append(_plain(config, name, prefix, part, _LATENT_NORMS))
        else:
            link = _plain(config, name, prefix, part, _IN_BLOCK)
            heads = _turning_heads(config, module)
            made.append(_side_by_side(link, *heads) if architecture in SIDE_BY_SIDE and heads else link)
    return made


def _plain(config: ModelConfig, name: str, prefix: str, part: str, names: dict[str, str]) -> Link:
    """One tensor under two names; a norm's scale may be stored less one by us."""
    module, _, kind = part.rpartition(".")
    if module not in names or kind not in _KIND:
        raise UsageError(f"GGUF has no name for the tensor {name}, so llama.cpp cannot run this model")
    link = same(name, f"{prefix}{names[module]}.{_KIND[kind]}")
    if kind == "scale" and config.norm_offset:
        return Link(link.ours, link.theirs, lambda t: [t[0] - 1], lambda t: [t[0] + 1])
    return link


def _fused(config: ModelConfig, ours: str, prefix: str, kind: str) -> Link:
    """GPT-2's queries, keys and values in one."""
    sizes = [config.heads * config.head_size, *[config.kv_heads * config.head_size] * 2]
    return joined([f"{ours}{part}.{kind}" for part in ("query", "key", "value")], f"{prefix}attn_qkv.{kind}", sizes)


def _expansion(config: ModelConfig, name: str, prefix: str) -> Link:
    """Latent attention's keys [heads, key_rank, head_size] and values [heads, value_size, key_rank]."""
    sizes = [config.head_size, config.latent.value_size]

    def read(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        return [torch.cat((tensors[0].transpose(1, 2), tensors[1]), dim=1).flatten(0, 1)]

    def write(tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        keys, values = tensors[0].unflatten(0, (config.heads, -1)).split(sizes, dim=1)
        return [keys.transpose(1, 2).contiguous(), values.contiguous()]

    return Link((name,), (f"{prefix}attn_k_b.weight", f"{prefix}attn_v_b.weight"), read, write)


def _turning_heads(config: ModelConfig, module: str) -> tuple[int, int] | None:
    """How many heads the rows of a matrix are, and how many of the last rows of each are turned, if any."""
    if config.latent.key_rank:
        heads = {"attention.query": config.heads, "attention.query_up": config.heads, "attention.key_down": 1}
    else:
        heads = {"attention.query": config.heads, "attention.key": config.kv_heads}
    return (heads[module], config.rotary_size) if module in heads else None


def _side_by_side(link: Link, heads: int, turned: int) -> Link:
    """The same with the last ``turned`` rows of each head reordered: pairs apart for us, side by side for them."""

    def reordered(tensor: Tensor, shape: tuple[int, int]) -> Tensor:
        rows = tensor.unflatten(0, (heads, -1))
        kept, turning = rows.split([rows.shape[1] - turned, turned], dim=1)
        turning = turning.unflatten(1, shape).transpose(1, 2).flatten(1, 2)
        return torch.cat((kept, turning), dim=1).flatten(0, 1)

    return Link(
        link.ours,
        link.theirs,
        lambda t: [reordered(t[0], (turned // 2, 2))],
        lambda t: [reordered(t[0], (2, turned // 2))],
    )
