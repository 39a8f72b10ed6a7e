"""Which models GGUF can hold, and the metadata that say their shape.

Enters: a :class:`ModelConfig`. Leaves: metadata. The reader is asked: a configuration that would not come back as it
was cannot be written, and neither can one that llama.cpp would run otherwise; the message names the option.
"""

import math
from dataclasses import asdict, replace
from typing import Any

from groundup.core.errors import DataError, UsageError
from groundup.model.config import ExpertConfig, ModelConfig, PositionConfig
from groundup.model.formats.gguf_metadata import PERIOD, SIGMOID, SOFTMAX, read_config, rope_factors_of
from groundup.model.positions import rotary_magnitude


def architecture_of(config: ModelConfig) -> str:
    """The architecture of llama.cpp that comes closest."""
    if config.latent.key_rank:
        return "deepseek2"
    if config.positions.kind == "learned":
        return "gpt2"
    if config.norm_place == "output":
        return "olmo2"
    if config.norm_place == "sandwich":
        return "gemma3" if config.qk_norm == "head" else "gemma2"
    if config.qk_norm == "head":
        return "qwen3moe" if config.experts.count else "qwen3"
    narrow = config.heads * config.head_size == config.width and not config.experts.count
    return "qwen2" if config.bias == "qkv" and narrow else "llama"


def write_config(config: ModelConfig, vocab_size: int) -> dict[str, Any]:
    """The metadata of a model.

    Args:
        config: resolved.
        vocab_size: rows of the embedding.

    Raises:
        UsageError: llama.cpp has no such model; the message names the option.
    """
    name = architecture_of(config)
    own = {
        **_write_shape(config, vocab_size, name),
        **_write_positions(config),
        **(_write_latent(config) if config.latent.key_rank else {}),
        **_write_window(config, name),
        **(_write_experts(config, name) if config.experts.count or name == "deepseek2" else {}),
    }
    if name == "gemma2":
        own["attn_logit_softcapping"] = float(config.attention.softcap)
    if name in ("gemma2", "gemma3"):
        own["final_logit_softcapping"] = float(config.logits_softcap)
    metadata = {
        "general.architecture": name,
        "general.type": "model",
        **{f"{name}.{key}": value for key, value in own.items()},
    }
    _check_llama_cpp(config, name)
    factors = rope_factors_of(config.rotary_size, config.positions) if config.positions.scaling == "llama3" else None
    biased = {"none": (), "qkv": ("blk.0.attn_q.bias",), "all": ("blk.0.ffn_up.bias",)}[config.bias]
    try:
        back = read_config(metadata, biased, factors)
    except DataError as error:
        raise UsageError(f"this model cannot be written as GGUF, for llama.cpp's {name} differs: {error}") from error
    wanted, found = _computation(config), _computation(back)
    for key, value in wanted.items():
        if not _equal(value, found[key]):
            raise UsageError(
                f"this model cannot be written as GGUF, for llama.cpp's {name} has no "
                f"model.{key.replace('_', '-')} {value!r}, only {found[key]!r}"
            )
    return metadata


def _write_shape(config: ModelConfig, vocab_size: int, name: str) -> dict[str, Any]:
    norm = "layer_norm_epsilon" if name == "gpt2" else "layer_norm_rms_epsilon"
    mixtral = name == "llama" and config.experts.count > 0
    return {
        "vocab_size": vocab_size,
        "context_length": config.context,
        "embedding_length": config.width,
        "block_count": config.layers,
        "feed_forward_length": config.experts.hidden if mixtral else config.hidden,
        "attention.head_count": config.heads,
        "attention.head_count_kv": 1 if config.latent.key_rank else config.kv_heads,
        "attention.key_length": config.head_size,
        "attention.value_length": config.head_size,
        f"attention.{norm}": float(config.norm_epsilon),
    }


def _write_latent(config: ModelConfig) -> dict[str, Any]:
    """To llama.cpp, all heads share one key: the small vector and the turned part."""
    latent = config.latent
    return {
        "attention.q_lora_rank": latent.query_rank,
        "attention.kv_lora_rank": latent.key_rank,
        "attention.key_length": latent.key_rank + latent.rotary_size,
        "attention.value_length": latent.key_rank,
        "attention.key_length_mla": config.head_size + latent.rotary_size,
        "attention.value_length_mla": latent.value_size,
    }


def _write_window(config: ModelConfig, name: str) -> dict[str, Any]:
    attention = config.attention
    if not attention.window or name not in PERIOD:
        return {}
    usual = "L" * (PERIOD[name] - 1) + "G"
    keys: dict[str, Any] = {"attention.sliding_window": attention.window}
    if attention.pattern != usual:
        keys["attention.sliding_window_pattern"] = [config.windowed(layer) for layer in range(config.layers)]
    if name != "olmo2":  # to which all layers have one base
        keys["rope.freq_base_swa"] = float(config.positions.local_base or config.positions.base)
    return keys


def _write_positions(config: ModelConfig) -> dict[str, Any]:
    positions = config.positions
    if positions.kind != "rotary":
        return {}
    keys: dict[str, Any] = {"rope.dimension_count": config.rotary_size, "rope.freq_base": float(positions.base)}
    if positions.scaling not in ("linear", "yarn") or positions.factor == 1:
        return keys
    keys |= {"rope.scaling.type": positions.scaling, "rope.scaling.factor": float(positions.factor)}
    if positions.scaling == "yarn":
        log_factor = math.log(positions.factor)
        keys["rope.scaling.original_context_length"] = positions.original_context
        if config.latent.key_rank:
            size = config.head_size + config.latent.rotary_size
            sharpening = math.sqrt(config.attention_scale * math.sqrt(size)) - 1
            keys["rope.scaling.yarn_log_multiplier"] = sharpening / log_factor
        else:
            keys["rope.scaling.attn_factor"] = rotary_magnitude(positions) / (0.1 * log_factor + 1)
    return keys


def _write_experts(config: ModelConfig, name: str) -> dict[str, Any]:
    experts = config.experts
    keys: dict[str, Any] = {"expert_count": experts.count, "expert_used_count": experts.active if experts.count else 0}
    if name != "llama":
        keys["expert_feed_forward_length"] = experts.hidden or config.hidden
    if name == "deepseek2":
        keys |= {
            "leading_dense_block_count": experts.dense_layers if experts.count else config.layers,
            "expert_shared_count": experts.shared,
            "expert_weights_norm": experts.normalise,
            "expert_weights_scale": float(experts.scale),
            "expert_gating_func": SIGMOID if experts.router == "sigmoid" else SOFTMAX,
        }
        if experts.groups > 1:
            keys |= {"expert_group_count": experts.groups, "expert_group_used_count": experts.active_groups}
    return keys


def _check_llama_cpp(config: ModelConfig, name: str) -> None:
    """What llama.cpp does not do though its files can say it.

    Raises:
        UsageError: the model needs that.
    """
    experts, positions = config.experts, config.positions
    wide = config.heads * config.head_size != config.width
    refused = {
        "head-size: its heads together are as wide as the stream": wide and name in ("qwen2", "gpt2", "olmo2"),
        "bias: it has fewer": {
            "none": False,
            "qkv": name not in ("llama", "qwen2", "qwen3", "qwen3moe"),
            "all": name not in ("llama", "gpt2"),
        }[config.bias],
        "positions.fraction: it turns whole heads": positions.kind == "rotary" and positions.fraction != 1,
        "positions.beta-fast and beta-slow: they are 32 and 1": (
            positions.scaling == "yarn" and (positions.beta_fast, positions.beta_slow) != (32.0, 1.0)
        ),
        "positions.scaling: it has none like Llama 3's": positions.scaling == "llama3" and name != "llama",
        "positions.local-base: it stretches all layers alike": (
            name == "gemma2" and positions.local_base > 0 and positions.scaling != "none"
        ),
        "experts.groups: it chooses groups by two experts, as the sigmoid router does": (
            experts.groups > 1 and experts.router == "softmax"
        ),
        "experts.active-groups: it uses some and not all": 1 < experts.groups == experts.active_groups,
        "experts.shared: there is at least one": name == "deepseek2" and experts.count > 0 and experts.shared == 0,
        "attention.softcap: it is above 0": name == "gemma2" and config.attention.softcap == 0,
        "logits-softcap: it is above 0": name == "gemma2" and config.logits_softcap == 0,
        "latent.query-rank: with 26 or 27 layers there is none": (
            name == "deepseek2" and config.layers in (26, 27) and config.latent.query_rank > 0
        ),
        "mup-width: it scales no logits": config.logits_scale != 1.0,
    }
    for option, wrong in refused.items():
        if wrong:
            raise UsageError(f"this model cannot be written as GGUF, for llama.cpp's {name} differs in model.{option}")


def _computation(config: ModelConfig) -> dict[str, Any]:
    """The options that decide what a trained model computes, in one spelling of each, by their dotted names."""
    pattern = "".join("L" if config.windowed(layer) else "G" for layer in range(config.layers))
    experts = replace(config.experts, balance=0.0, bias_rate=0.0) if config.experts.count else ExpertConfig()
    values = asdict(
        replace(
            config,
            positions=_positions_in_use(config),
            attention=replace(config.attention, scale=config.attention_scale, pattern=pattern, dropout=0.0),
            experts=experts,
        )
    )
    for training_only in ("preset", "aspect", "depth", "dropout", "init", "mup_width", "norm_offset", "tied"):
        del values[training_only]
    hidden = values.pop("hidden")
    flat: dict[str, Any] = {}
    for key in ("attention", *values):  # a window, of which local bases are a part, comes before positions
        value = values[key]
        flat |= {f"{key}.{inner}": item for inner, item in value.items()} if isinstance(value, dict) else {key: value}
    return {**flat, "hidden": 0 if experts.count and not experts.dense_layers else hidden}


def _positions_in_use(config: ModelConfig) -> PositionConfig:
    """The positions without what their kind and their stretching do not use."""
    positions = config.positions
    if positions.kind != "rotary":
        return PositionConfig(kind=positions.kind)
    scaling = "none" if positions.factor == 1 else positions.scaling
    used = {
        "none": (),
        "linear": ("factor",),
        "ntk": ("factor",),
        "yarn": ("factor", "original_context", "beta_fast", "beta_slow"),
        "llama3": ("factor",),  # the rest is found so that the frequencies are the same
    }[scaling]
    local_base = positions.local_base or (positions.base if scaling == "none" else 0.0)
    return PositionConfig(
        base=positions.base,
        local_base=local_base if config.attention.window else 0.0,
        fraction=positions.fraction,
        scaling=scaling,
        magnitude=rotary_magnitude(positions),
        **{option: getattr(positions, option) for option in used},
    )


def _equal(value: Any, other: Any) -> bool:
    if isinstance(value, float):
        return math.isclose(value, other, rel_tol=1e-6)
    return bool(value == other)
