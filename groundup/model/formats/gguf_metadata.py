"""What the metadata of a GGUF file say of a model's shape.

Enters: metadata. Leaves: a :class:`ModelConfig`. What llama.cpp does without being told is filled in. A key that is not
known here, and that could change what is computed, is refused. ``gguf_metadata_writing`` goes the way back.
"""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from groundup.core.errors import DataError
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, ModelConfig, PositionConfig
from groundup.model.positions import rotary_frequencies

#: What is always so in the models of an architecture.
_FIXED: Mapping[str, Mapping[str, Any]] = {
    "llama": {"qk_norm": "none"},
    "qwen2": {"qk_norm": "none"},
    "qwen3": {"qk_norm": "head"},
    "qwen3moe": {"qk_norm": "head"},
    "gemma2": {"qk_norm": "none", "norm_place": "sandwich", "norm_offset": True, "feed_forward": "geglu-tanh"},
    "gemma3": {"qk_norm": "head", "norm_place": "sandwich", "norm_offset": True, "feed_forward": "geglu-tanh"},
    "gpt2": {"qk_norm": "none", "norm": "layer", "feed_forward": "gelu-tanh", "bias": "all"},
    "olmo2": {"qk_norm": "all", "norm_place": "output"},
    "deepseek2": {"qk_norm": "none"},
}
ARCHITECTURES = tuple(_FIXED)
#: Layers per period of windowed and global ones; the last of them is global. Zero: no layer is windowed.
PERIOD = {"gemma2": 2, "gemma3": 6, "olmo2": 4}
#: The models whose scores are scaled by the width per head instead of the head's size, by their number of layers.
_SCALED_BY_WIDTH = {"gemma2": 46, "gemma3": 62}
#: Rotary factors of Llama 3.1 and later.
ROPE_FACTORS = "rope_freqs.weight"
#: More than any model in use has.
MOST_LAYERS, MOST_HEADS = 1 << 9, 1 << 12
SOFTMAX, SIGMOID = 1, 2


class Keys:
    """The metadata of one architecture: each value of the type that it must have, and which were asked for."""

    def __init__(self, metadata: Mapping[str, Any], architecture: str) -> None:
        prefix = architecture + "."
        self._values = {name.removeprefix(prefix): value for name, value in metadata.items() if name.startswith(prefix)}
        self._prefix, self._asked = prefix, set[str]()

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number; of a list with one for each layer, the one that all layers have."""
        value = self._value(name, default)
        if isinstance(value, list) and value and all(item == value[0] for item in value):
            value = value[0]
        if type(value) is not int or not 0 <= value < 1 << 31:
            raise DataError(f"its {self._prefix}{name} is {value!r:.60}; one number for all layers is supported")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A fraction, as the shortest one that is the same in float32."""
        value = self._value(name, default)
        if type(value) is not float or not abs(value) < 1e38:
            raise DataError(f"its {self._prefix}{name} is {value!r:.60}, no number that can be used")
        return float(str(np.float32(value))) if name in self._values else value

    def text(self, name: str, default: str) -> str:
        """A string."""
        value = self._value(name, default)
        if type(value) is not str:
            raise DataError(f"its {self._prefix}{name} is {value!r:.60}, no text")
        return value

    def flag(self, name: str, default: bool) -> bool:
        """A truth value."""
        value = self._value(name, default)
        if type(value) is not bool:
            raise DataError(f"its {self._prefix}{name} is {value!r:.60}, neither true nor false")
        return value

    def any(self, name: str) -> Any:
        """A value of any type; None where there is none."""
        self._asked.add(name)
        return self._values.get(name)

    def check_all_asked(self) -> None:
        """Refuse what nobody asked for: it could change what the model computes.

        Raises:
            DataError: there is such a key.
        """
        if left := sorted(self._values.keys() - self._asked):
            name = self._prefix + left[0]
            raise DataError(f"its {name!r:.100} may change what the model computes, in a way that is not known here")

    def _value(self, name: str, default: Any) -> Any:
        self._asked.add(name)
        if name not in self._values and default is None:
            raise DataError(f"it lacks {self._prefix}{name}")
        return self._values.get(name, default)


def read_config(metadata: Mapping[str, Any], names: Collection[str], rope_factors: Tensor | None = None) -> ModelConfig:
    """The model that the metadata describe, resolved.

    Args:
        metadata: of the file.
        names: of its tensors, which tell where there are biases and whether the head is one of its own.
        rope_factors: the tensor ``ROPE_FACTORS``, if the file has one [rotary_size / 2].

    Raises:
        DataError: an unknown architecture, a key that is missing, unknown or of another type.
        UsageError: values that contradict each other.
    """
    name = metadata.get("general.architecture")
    if not isinstance(name, str) or name not in _FIXED:
        raise DataError(f"its architecture is {name!r:.40}; known are {', '.join(ARCHITECTURES)}")
    keys = Keys(metadata, name)
    layers, width, heads = (keys.integer(key) for key in ("block_count", "embedding_length", "attention.head_count"))
    if not (0 < layers <= MOST_LAYERS and 0 < heads <= min(width, MOST_HEADS)):
        raise DataError(f"it has {layers:,} layers of {width:,} with {heads:,} heads, which cannot be")
    _check_is_decoder(keys, metadata)
    latent, head_size = _read_latent(keys, name, width // heads)
    kv_heads = keys.integer("attention.head_count_kv", heads)
    hidden = keys.integer("feed_forward_length")
    context = keys.integer("context_length")
    window = _read_window(keys, name, layers)
    positions = _read_positions(keys, name, context, head_size, window["window"] > 0, rope_factors)
    norm = "layer_norm_epsilon" if name == "gpt2" else "layer_norm_rms_epsilon"
    scale = 0.0
    if layers == _SCALED_BY_WIDTH.get(name):
        scale = (width // heads) ** -0.5
    elif latent.key_rank:
        scale = _latent_scale(keys, head_size + latent.rotary_size, positions)
    gemma = name in ("gemma2", "gemma3")
    config = ModelConfig(
        **{"bias": _bias(names), **_FIXED[name]},
        layers=layers,
        width=width,
        heads=heads,
        kv_heads=heads if latent.key_rank else kv_heads,
        head_size=head_size,
        hidden=hidden,
        context=context,
        norm_epsilon=keys.number(f"attention.{norm}"),
        tied="output.weight" not in names,
        embedding_scale=math.sqrt(width) if gemma else 1.0,
        logits_softcap=keys.number("final_logit_softcapping", 30.0 if name == "gemma2" else 0.0) if gemma else 0.0,
        positions=positions,
        attention=AttentionConfig(
            scale=scale, softcap=keys.number("attn_logit_softcapping", 50.0) if name == "gemma2" else 0.0, **window
        ),
        latent=latent,
        experts=_read_experts(keys, name, hidden),
    ).resolved()
    keys.check_all_asked()
    return config


def _check_is_decoder(keys: Keys, metadata: Mapping[str, Any]) -> None:
    """Refuse adapters, parts of a model, encoders, and what predicts more than one token."""
    if metadata.get("general.type", "model") != "model":
        raise DataError(f"it holds no model but {metadata['general.type']!r:.40}")
    if metadata.get("split.count", 1) not in (0, 1):
        raise DataError("it is one of several parts of a model; join them with llama-gguf-split --merge")
    if not keys.flag("attention.causal", True) or keys.integer("pooling_type", 0):
        raise DataError("it is an encoder, whose tokens see what follows them; decoders are supported")
    if keys.integer("nextn_predict_layers", 0):
        raise DataError("it has layers that predict a second token, which are not supported")
    keys.integer("vocab_size", 0)  # the embedding tells
    keys.flag("use_parallel_residual", True)  # of other architectures only, but some files have it
    keys.text("tensor_data_layout", "")


def _bias(names: Collection[str]) -> str:
    """Which linear layers have a bias; that all of those have one is checked with the tensors."""
    if "blk.0.ffn_up.bias" in names:
        return "all"
    return "qkv" if "blk.0.attn_q.bias" in names else "none"


def _read_latent(keys: Keys, name: str, usual: int) -> tuple[LatentConfig, int]:
    """Latent attention, and the size of a head without the part that latent attention turns."""
    length, value_length = keys.integer("attention.key_length", usual), keys.integer("attention.value_length", usual)
    if name != "deepseek2":
        if value_length != length:
            raise DataError(f"its keys have {length:,} dimensions but its values {value_length:,}, which differ")
        return LatentConfig(), length
    length = keys.integer("attention.key_length_mla", length)
    rotary = keys.integer("rope.dimension_count")
    rank = keys.integer("attention.kv_lora_rank")
    if not (rank > 0 and length > rotary > 0):
        raise DataError(f"its latent attention has rank {rank:,} and turns {rotary:,} of {length:,} dimensions")
    return (
        LatentConfig(
            key_rank=rank,
            query_rank=keys.integer("attention.q_lora_rank", 0),
            rotary_size=rotary,
            value_size=keys.integer("attention.value_length_mla", value_length),
        ),
        length - rotary,
    )


def _read_window(keys: Keys, name: str, layers: int) -> dict[str, Any]:
    """The window, and which layers have it."""
    if name not in PERIOD:
        return {"window": 0}
    window = keys.integer("attention.sliding_window", 4096 if name == "gemma2" else 0)
    pattern = keys.any("attention.sliding_window_pattern")
    if window == 0:
        return {"window": 0}
    if pattern is None:
        pattern = PERIOD[name]
    if type(pattern) is int and 0 < pattern <= MOST_LAYERS:
        return {"window": window, "pattern": "L" * (pattern - 1) + "G"}
    if isinstance(pattern, list) and len(pattern) == layers and {type(item) for item in pattern} <= {bool, int}:
        return {"window": window, "pattern": "".join("L" if windowed else "G" for windowed in pattern)}
    raise DataError("its attention.sliding_window_pattern is neither a period nor a truth value for each layer")


def _read_positions(
    keys: Keys, name: str, context: int, head_size: int, windowed: bool, rope_factors: Tensor | None
) -> PositionConfig:
    if name == "gpt2":
        return PositionConfig(kind="learned")
    size = keys.integer("rope.dimension_count", head_size)
    if name != "deepseek2" and size != head_size:
        raise DataError(f"it turns {size:,} of the {head_size:,} dimensions of a head; all or none are supported")
    base = keys.number("rope.freq_base", 10_000.0)
    local_base = 0.0
    if windowed:
        # Gemma 2 stretches all layers alike, Gemma 3 and OLMo 3 only those that see everything.
        local_base = keys.number("rope.freq_base_swa", 10_000.0 if name == "gemma3" else base)
        local_base = 0.0 if name == "gemma2" and local_base == base else local_base
    positions = PositionConfig(
        base=base,
        local_base=local_base,
        **_read_scaling(keys, name, context),
    )
    if rope_factors is None:
        return positions
    if rope_factors.shape != (size // 2,) or not bool(rope_factors.isfinite().all()):
        raise DataError(f"its tensor {ROPE_FACTORS} is no {size // 2:,} factors of rotary frequencies")
    if bool((rope_factors == 1).all()):
        return positions
    if positions.scaling != "none":
        raise DataError(f"it has both a rope.scaling and the tensor {ROPE_FACTORS}")
    return _read_rope_factors(rope_factors, size, positions)


def _read_scaling(keys: Keys, name: str, context: int) -> dict[str, Any]:
    """How rotary frequencies are stretched."""
    scaling = keys.text("rope.scaling.type", "linear")
    factor = keys.number("rope.scaling.factor", keys.number("rope.scale_linear", 1.0)) or 1.0
    if factor < 1:
        raise DataError(f"its rope.scaling.factor is {factor:g}; it must be at least 1")
    trained = keys.integer("rope.scaling.original_context_length", context)
    keys.flag("rope.scaling.finetuned", False)
    sharpened = keys.number("rope.scaling.attn_factor", 1.0)
    magnitude = keys.number("rope.scaling.yarn_attn_factor", (0.1 * math.log(factor) + 1) * sharpened)
    betas = keys.number("rope.scaling.yarn_beta_fast", 32.0), keys.number("rope.scaling.yarn_beta_slow", 1.0)
    if scaling == "yarn":
        if keys.number("rope.scaling.yarn_ext_factor", 1.0) != 1.0:
            raise DataError("its rope.scaling.yarn_ext_factor is not 1, which is not supported")
        return {
            "scaling": "yarn",
            "factor": factor,
            "original_context": trained,
            "beta_fast": betas[0],
            "beta_slow": betas[1],
            "magnitude": 1.0 if name == "deepseek2" else magnitude,
        }
    if scaling not in ("none", "linear") or sharpened != 1.0:
        raise DataError(f"its rope.scaling is {scaling!r:.40}; linear, yarn and none are supported")
    return {"scaling": "linear", "factor": factor} if scaling == "linear" and factor != 1.0 else {}


def _latent_scale(keys: Keys, size: int, positions: PositionConfig) -> float:
    """The factor of query · key of DeepSeek, whose scores YaRN sharpens instead of its queries and keys.

    The files say a tenth of what its makers call ``mscale_all_dim``.
    """
    if positions.scaling != "yarn":
        return 0.0
    sharpening = keys.number("rope.scaling.yarn_log_multiplier") * math.log(positions.factor) + 1
    return sharpening**2 * size**-0.5


def _read_rope_factors(factors: Tensor, size: int, positions: PositionConfig) -> PositionConfig:
    """The stretching of Llama 3.1 from the factors by which each frequency is divided [size / 2].

    The file holds the factors alone. The stretching is the largest; the trained length is found by trying powers of
    two, with the bounds that all models in use have.
    """
    for trained in (8192, *(2**power for power in range(4, 21))):
        found = replace(
            positions, scaling="llama3", factor=max(1.0, round(float(factors.max()), 4)), original_context=trained
        )
        if torch.allclose(rope_factors_of(size, found), factors.float(), rtol=1e-4):
            return found
    raise DataError(f"its tensor {ROPE_FACTORS} stretches rotary frequencies in a way that is not Llama 3.1's")


def rope_factors_of(size: int, positions: PositionConfig) -> Tensor:
    """By how much each frequency is divided [size / 2]."""
    return rotary_frequencies(size, replace(positions, scaling="none")) / rotary_frequencies(size, positions)


def _read_experts(keys: Keys, name: str, hidden: int) -> ExpertConfig:
    if name not in ("llama", "qwen3moe", "deepseek2"):
        return ExpertConfig()
    count, active = keys.integer("expert_count", 0), keys.integer("expert_used_count", 0)
    more: dict[str, Any] = {}
    if name == "qwen3moe":
        usual = hidden // max(1, active)
        more = {"hidden": keys.integer("expert_feed_forward_length", usual) or usual}
    if name == "deepseek2":
        gating = keys.integer("expert_gating_func", SOFTMAX) or SOFTMAX
        if gating not in (SOFTMAX, SIGMOID):
            raise DataError(f"its router makes probabilities by the function {gating}; softmax and sigmoid are known")
        more = {
            "hidden": keys.integer("expert_feed_forward_length", hidden),
            "shared": keys.integer("expert_shared_count", 0),
            "dense_layers": keys.integer("leading_dense_block_count", 0),
            "router": "sigmoid" if gating == SIGMOID else "softmax",
            "normalise": keys.flag("expert_weights_norm", False),
            "scale": keys.number("expert_weights_scale", 1.0) or 1.0,
            "groups": keys.integer("expert_group_count", 1) or 1,
            "active_groups": keys.integer("expert_group_used_count", 1) or 1,
        }
    if count == 0 and name != "qwen3moe":
        return ExpertConfig()
    return ExpertConfig(count=count, active=active, **{"hidden": hidden, **more})
