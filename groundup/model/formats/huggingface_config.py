"""``config.json`` of Hugging Face ↔ ``ModelConfig``.

Enters: the fields of a ``config.json``. Leaves: the family, a ``ModelConfig`` and the size of the vocabulary; or the
other way. A field that no table knows is refused by name, for it may change what the model computes. A family can say a
configuration if what it would write reads back as the same computation; the options that do not are the obstacles.
"""

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from groundup.core.errors import DataError, UsageError
from groundup.model.config import ModelConfig, PositionConfig
from groundup.model.formats.families import ANYWHERE, FAMILIES, HARMLESS, Family, Fields
from groundup.model.positions import rotary_magnitude

Options = dict[str, Any]
"""Ours, with dots: ``attention.window``."""


@dataclass(frozen=True)
class Found:
    """What a ``config.json`` says."""

    family: Family
    config: ModelConfig
    vocab_size: int
    interleaved: bool
    """Rotary pairs are neighbours in its matrices, not halves apart."""
    predicting_layers: int
    """Layers after the last that predict tokens further ahead, and are no part of the decoder (DeepSeek-V3)."""


#: Field → our option, where they are the same value; where a field may be null, ours is 0.
SPELLED = {
    "hidden_size": "width",
    "n_embd": "width",
    "num_hidden_layers": "layers",
    "n_layer": "layers",
    "num_attention_heads": "heads",
    "n_head": "heads",
    "num_key_value_heads": "kv_heads",
    "head_dim": "head_size",
    "qk_nope_head_dim": "head_size",
    "intermediate_size": "hidden",
    "n_inner": "hidden",
    "max_position_embeddings": "context",
    "n_positions": "context",
    "rms_norm_eps": "norm_epsilon",
    "layer_norm_epsilon": "norm_epsilon",
    "tie_word_embeddings": "tied",
    "attn_logit_softcapping": "attention.softcap",
    "final_logit_softcapping": "logits_softcap",
    "kv_lora_rank": "latent.key_rank",
    "q_lora_rank": "latent.query_rank",
    "qk_rope_head_dim": "latent.rotary_size",
    "v_head_dim": "latent.value_size",
    "num_experts": "experts.count",
    "num_local_experts": "experts.count",
    "n_routed_experts": "experts.count",
    "num_experts_per_tok": "experts.active",
    "n_shared_experts": "experts.shared",
    "moe_intermediate_size": "experts.hidden",
    "first_k_dense_replace": "experts.dense_layers",
    "norm_topk_prob": "experts.normalise",
    "routed_scaling_factor": "experts.scale",
    "n_group": "experts.groups",
    "topk_group": "experts.active_groups",
}
#: These may be null, which says what our 0 says, or our default.
NULLABLE = frozenset(
    {"num_key_value_heads", "head_dim", "n_inner", "q_lora_rank", "attn_logit_softcapping"}
    | {"final_logit_softcapping", "n_group", "topk_group"}
)
#: These may be 0.
ZERO = frozenset({"first_k_dense_replace", "max_window_layers", "num_nextn_predict_layers"})
#: No number in a ``config.json`` is larger, no whole number, and none of those that count layers.
LARGEST, LARGEST_WHOLE, MOST_LAYERS = 1e15, 1 << 24, 1 << 12
_LAYER_COUNTS = ("num_hidden_layers", "n_layer", "num_nextn_predict_layers")

#: Their activations, by whether a gate multiplies them.
ACTIVATIONS = {
    False: {
        "gelu_new": "gelu-tanh",
        "gelu_pytorch_tanh": "gelu-tanh",
        "gelu": "gelu",
        "relu": "relu",
        "relu2": "relu2",
    },
    True: {
        "silu": "swiglu",
        "swish": "swiglu",
        "gelu": "geglu",
        "gelu_pytorch_tanh": "geglu-tanh",
        "gelu_new": "geglu-tanh",
    },
}
_GATED = ("hidden_act", "hidden_activation")
_ACTIVATION_FIELDS = (*_GATED, "activation_function")
_LAYER_TYPES = ("full_attention", "sliding_attention")

#: Kinds of rotary scaling, and of each the fields and our options ``positions.…``.
_STRETCHED = {"factor": "factor"}
_TRAINED = {"original_max_position_embeddings": "original_context"}
SCALINGS: Mapping[str, Mapping[str, str]] = {
    "default": {},
    "linear": _STRETCHED,
    "llama3": {**_STRETCHED, **_TRAINED, "low_freq_factor": "low_frequency", "high_freq_factor": "high_frequency"},
    "yarn": {**_STRETCHED, **_TRAINED, "beta_fast": "beta_fast", "beta_slow": "beta_slow"},
}
_YARN_MAGNITUDES = ("attention_factor", "mscale", "mscale_all_dim", "truncate")


def read_config(content: Fields) -> Found:
    """What a ``config.json`` says.

    Raises:
        DataError: an architecture or a field that we do not have, or a value that cannot be; the message names it.
    """
    family = _family_of(content)
    for name, usual in family.also.items():
        if name in content and content.get(usual, content[name]) != content[name]:
            raise DataError(f"its {name} and {usual}, two names of one thing, differ")
    given = {family.also.get(name, name): value for name, value in content.items()}
    only = {**ANYWHERE, **family.only}
    for name, value in given.items():
        if name in only:
            _check_only(name, value, only[name])
        elif name not in family.fields and name not in family.harmless and name not in HARMLESS:
            raise DataError(f"its {name} is {_shown(value)}, which is not supported for {family.model_type}")
    fields = {name: given.get(name, default) for name, default in family.fields.items()}
    options: Options = dict(family.implied)
    spelled = {**SPELLED, **family.spelled}
    for name in fields:
        if name in spelled and not (fields[name] is None and name in NULLABLE):
            options[spelled[name]] = _number(fields, name, type(_DEFAULTS[spelled[name]]))
    for topic in _TOPICS:
        options |= topic.read(fields)
    if "attention.window" not in options:
        options.pop("positions.local_base", None)
    if not options.get("experts.count"):
        options = {name: value for name, value in options.items() if not name.startswith("experts.")}
    try:
        config = ModelConfig.from_dict(_nested(options)).resolved()
    except UsageError as error:
        raise DataError(str(error)) from error
    interleaved = "kv_lora_rank" in fields and (
        "rope_interleave" not in fields or _number(fields, "rope_interleave", bool)
    )
    predicting = _number({"num_nextn_predict_layers": 0, **fields}, "num_nextn_predict_layers", int)
    return Found(family, config, _number(fields, "vocab_size", int), interleaved, predicting)


def write_config(config: ModelConfig, vocab_size: int) -> tuple[Family, dict[str, Any]]:
    """The family that can say ``config``, and the fields of its ``config.json``.

    Raises:
        UsageError: no family can; the message says which options stand in the way of the nearest.
    """
    config = _without_ntk(config.resolved())
    nearest: tuple[Family, list[str]] | None = None
    for family in FAMILIES:
        fields = _written(family, config, vocab_size)
        obstacles = _obstacles(family, config, fields)
        if obstacles == []:
            return family, fields
        if obstacles and (nearest is None or len(obstacles) < len(nearest[1])):
            nearest = family, obstacles
    least = f"the nearest, {nearest[0].model_type}, has no {', '.join(nearest[1])}" if nearest else "none is near"
    raise UsageError(f"no known architecture of Hugging Face computes what this model does: {least}")


def _family_of(content: Fields) -> Family:
    name, architectures = content.get("model_type"), content.get("architectures")
    for family in FAMILIES:
        if family.model_type == name or (name is None and architectures == [family.architecture]):
            return family
    known = ", ".join(family.model_type for family in FAMILIES)
    raise DataError(f"its model_type is {_shown(name)}; supported are {known}")


def _check_only(name: str, value: Any, wanted: Any) -> None:
    # Where a field may be off, null and 0 say so too.
    if value != wanted and (value or wanted) and not (value is None and wanted is not True):
        raise DataError(f"its {name} is {_shown(value)}; only {_shown(wanted)} is supported")


def _number(fields: Fields, name: str, kind: type = float) -> Any:
    """``fields[name]`` as a truth value, a whole number or any number, neither negative nor absurd."""
    value = fields[name]
    if kind is bool and isinstance(value, bool):
        return value
    number = isinstance(value, int if kind is int else (int, float)) and not isinstance(value, bool)
    if kind is bool or not number or not math.isfinite(value):
        wanted = {bool: "true or false", int: "a whole number"}.get(kind, "a number")
        raise DataError(f"its {name} is {_shown(value)} instead of {wanted}")
    most = MOST_LAYERS if name in _LAYER_COUNTS else LARGEST_WHOLE if kind is int else LARGEST
    if not 0 <= value <= most or (value == 0 and name not in ZERO):
        raise DataError(f"its {name} is {_shown(value)}; it must be above 0 and at most {most:,.0f}")
    return kind(value)


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 80 else text[:80] + "…"


# --- fields that need more than another name: how each topic is read, where a family has it, and written


def _read_activation(fields: Fields) -> Options:
    for name in fields.keys() & _ACTIVATION_FIELDS:
        known = ACTIVATIONS[name in _GATED]
        if not isinstance(fields[name], str) or fields[name] not in known:
            raise DataError(f"its {name} is {_shown(fields[name])}; supported are {', '.join(known)}")
        return {"feed_forward": known[fields[name]]}
    return {}


def _write_activation(config: ModelConfig) -> Fields:
    written = {}
    for name in _ACTIVATION_FIELDS:
        known = {ours: theirs for theirs, ours in reversed(ACTIVATIONS[name in _GATED].items())}
        written[name] = known.get(config.feed_forward, "gelu")
    return written


def _read_biases(fields: Fields) -> Options:
    if "mlp_bias" not in fields:
        return {}
    attention, feed_forward = _number(fields, "attention_bias", bool), _number(fields, "mlp_bias", bool)
    if attention != feed_forward:
        raise DataError(
            f"its attention_bias is {_shown(attention)} and its mlp_bias {_shown(feed_forward)}; "
            "only both or neither is supported"
        )
    return {"bias": "all" if attention else "none"}


def _write_biases(config: ModelConfig) -> Fields:
    return dict.fromkeys(("attention_bias", "mlp_bias"), config.bias == "all")


def _read_windows(fields: Fields) -> Options:
    if "sliding_window" not in fields:
        return {}
    layers = _number(fields, "num_hidden_layers", int)
    switch = "use_sliding_window" not in fields or _number(fields, "use_sliding_window", bool)
    windowed = switch and fields["sliding_window"] is not None
    kinds = fields.get("layer_types")
    if kinds is None:
        local = [windowed and _is_local(fields, layer) for layer in range(layers)]
    elif isinstance(kinds, list) and len(kinds) == layers and all(kind in _LAYER_TYPES for kind in kinds):
        local = [kind == _LAYER_TYPES[1] for kind in kinds]
    else:
        raise DataError(f"its layer_types is {_shown(kinds)}; {layers} of {' and '.join(_LAYER_TYPES)} are supported")
    if not any(local):
        return {}
    if not windowed:
        raise DataError("its layer_types has sliding_attention, but its sliding_window is off")
    pattern = "".join("L" if each else "G" for each in local)
    return {"attention.window": _number(fields, "sliding_window", int), "attention.pattern": _period(pattern)}


def _is_local(fields: Fields, layer: int) -> bool:
    """Whether a layer is windowed where a file does not list the kinds of the layers."""
    if "query_pre_attn_scalar" in fields:
        period = _number(fields, "sliding_window_pattern", int) if "sliding_window_pattern" in fields else 2
        return (layer + 1) % period != 0
    return "max_window_layers" not in fields or layer >= _number(fields, "max_window_layers", int)


def _period(pattern: str) -> str:
    """The shortest beginning that gives ``pattern`` when it is repeated."""
    return next(
        pattern[:size]
        for size in range(1, len(pattern) + 1)
        if (pattern[:size] * (len(pattern) // size + 1))[: len(pattern)] == pattern
    )


def _write_windows(config: ModelConfig) -> Fields:
    local = [config.windowed(layer) for layer in range(config.layers)]
    period = _period("".join("L" if each else "G" for each in local))
    return {
        "use_sliding_window": any(local),
        "sliding_window": config.attention.window if any(local) else None,
        "max_window_layers": local.index(True) if any(local) else config.layers,
        "layer_types": [_LAYER_TYPES[each] for each in local],
        "sliding_window_pattern": len(period) if period == "L" * (len(period) - 1) + "G" else config.layers + 1,
    }


def _read_rotary(fields: Fields) -> Options:
    if "rope_theta" not in fields:
        return {}
    # Files of old have rope_theta and rope_scaling, those of transformers 5 one or the other form of rope_parameters.
    stated = fields["rope_scaling"] or fields["rope_parameters"] or {}
    options: Options = {}
    if "rope_local_base_freq" in fields:
        nested = _object(fields, "rope_parameters")
        local = {"rope_theta": fields["rope_local_base_freq"], **_object(nested, _LAYER_TYPES[1])}
        if local.get("rope_type", "default") != "default" or local.keys() - {"rope_type", "rope_theta"}:
            raise DataError(f"its rope_parameters of windowed layers are {_shown(local)}, which are not supported")
        if nested.keys() - set(_LAYER_TYPES):
            raise DataError(
                f"its rope_parameters are {_shown(nested)}; those of {' and '.join(_LAYER_TYPES)} are supported"
            )
        options["positions.local_base"] = _number(local, "rope_theta")
        stated = {**_object(nested, _LAYER_TYPES[0]), **_object(fields, "rope_scaling")}
    if not isinstance(stated, dict):
        raise DataError(f"its rope_scaling is {_shown(stated)} instead of an object")
    stated = {"rope_theta": fields["rope_theta"], **stated}
    options["positions.base"] = _number(stated, "rope_theta")
    return options | _read_scaling(stated, fields)


def _read_scaling(stated: Fields, fields: Fields) -> Options:
    """Options of the rotary scaling that an object of theirs states."""
    kind = stated.get("rope_type") or stated.get("type") or "default"
    if not isinstance(kind, str) or kind not in SCALINGS:
        raise DataError(f"its rope_type is {_shown(kind)}; supported are {', '.join(SCALINGS)}")
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *SCALINGS[kind]}
    for name in sorted(stated.keys() - known - set(_YARN_MAGNITUDES if kind == "yarn" else ())):
        raise DataError(f"its {name} of the {kind} rotary positions is {_shown(stated[name])}, which is not supported")
    _check_only("partial_rotary_factor", stated.get("partial_rotary_factor"), 1.0)
    _check_only("truncate", stated.get("truncate", True), True)
    if kind == "default":
        return {}
    context = _number(fields, "max_position_embeddings", int)
    values = {name: value for name, value in stated.items() if value is not None}
    values.setdefault("original_max_position_embeddings", context)
    if kind == "yarn":
        values.setdefault("factor", context / _number(values, "original_max_position_embeddings", int))
    options: Options = {"positions.scaling": kind}
    for name, option in SCALINGS[kind].items():
        if name in values:
            options[f"positions.{option}"] = _number(values, name, type(_DEFAULTS[f"positions.{option}"]))
        elif name not in ("beta_fast", "beta_slow"):
            raise DataError(f"its {kind} rotary positions lack {name}")
    factor = options["positions.factor"]
    every = values.get("mscale_all_dim") and _number(values, "mscale_all_dim")
    if kind == "yarn" and "attention_factor" in values:
        options["positions.magnitude"] = _number(values, "attention_factor")
    elif kind == "yarn" and every and values.get("mscale"):
        options["positions.magnitude"] = _sharpened(factor, _number(values, "mscale")) / _sharpened(factor, every)
    if every and "kv_lora_rank" in fields:
        options["attention.scale"] = _latent_scale(fields) * _sharpened(factor, every) ** 2
    return options


def _write_rotary(config: ModelConfig) -> Fields:
    positions = config.positions
    scaling: dict[str, Any] | None = None
    if positions.scaling != "none":
        scaling = dict.fromkeys(("rope_type", "type"), positions.scaling)  # the older name is the one OLMo 2 knew
        scaling |= {name: getattr(positions, option) for name, option in SCALINGS[positions.scaling].items()}
    if scaling is not None and positions.magnitude:
        scaling["attention_factor"] = positions.magnitude
    plain = (config.head_size + config.latent.rotary_size) ** -0.5
    if scaling is not None and _sharpens_scores(config) and not math.isclose(config.attention_scale, plain):
        # DeepSeek's scale of the scores is said by how strongly YaRN sharpens them.
        every = math.sqrt(config.attention_scale / plain)
        for name, value in (("mscale", every * rotary_magnitude(positions)), ("mscale_all_dim", every)):
            scaling[name] = round((value - 1) / (0.1 * math.log(positions.factor)), 12)
    return {
        "rope_theta": positions.base,
        "rope_scaling": scaling,
        "rope_local_base_freq": positions.local_base or positions.base,
    }


def _sharpens_scores(config: ModelConfig) -> bool:
    return bool(config.latent.key_rank) and config.positions.scaling == "yarn" and config.positions.factor > 1


def _object(fields: Fields, name: str) -> dict[str, Any]:
    value = fields.get(name)
    if value is not None and not isinstance(value, dict):
        raise DataError(f"its {name} is {_shown(value)} instead of an object")
    return value or {}


def _sharpened(factor: float, share: float) -> float:
    """YaRN's factor of queries and keys at ``share`` of its strength."""
    return 0.1 * share * math.log(factor) + 1.0 if factor > 1 else 1.0


def _latent_scale(fields: Fields) -> float:
    return (_number(fields, "qk_nope_head_dim", int) + _number(fields, "qk_rope_head_dim", int)) ** -0.5


def _read_gemma(fields: Fields) -> Options:
    if "query_pre_attn_scalar" not in fields:
        return {}
    return {
        "attention.scale": _number(fields, "query_pre_attn_scalar") ** -0.5,
        "embedding_scale": _number(fields, "hidden_size", int) ** 0.5,
    }


def _write_gemma(config: ModelConfig) -> Fields:
    return {"query_pre_attn_scalar": max(1, round(config.attention_scale**-2))}


def _read_dense_layers(fields: Fields) -> Options:
    if fields.get("first_k_dense_replace", 0) and fields["first_k_dense_replace"] >= fields["num_hidden_layers"]:
        return {"experts.count": 0}
    if "mlp_only_layers" not in fields:
        return {}
    dense = fields["mlp_only_layers"] or []
    if not isinstance(dense, list) or dense != list(range(len(dense))):
        raise DataError(f"its mlp_only_layers is {_shown(dense)}; only the first layers are supported")
    return {"experts.dense_layers": len(dense)}


def _write_dense_layers(config: ModelConfig) -> Fields:
    return {"mlp_only_layers": list(range(config.experts.dense_layers))}


def _read_groups(fields: Fields) -> Options:
    if fields.get("topk_method", "greedy") not in ("greedy", "group_limited_greedy"):
        raise DataError(f"its topk_method is {_shown(fields['topk_method'])}, which is not supported")
    return {"experts.groups": 1, "experts.active_groups": 1} if fields.get("topk_method") == "greedy" else {}


def _write_groups(config: ModelConfig) -> Fields:
    return {"topk_method": "group_limited_greedy" if config.experts.groups > 1 else "greedy"}


@dataclass(frozen=True)
class _Topic:
    read: Callable[[Fields], Options]
    write: Callable[[ModelConfig], Fields]


_TOPICS = (
    _Topic(_read_activation, _write_activation),
    _Topic(_read_biases, _write_biases),
    _Topic(_read_windows, _write_windows),
    _Topic(_read_gemma, _write_gemma),
    _Topic(_read_rotary, _write_rotary),
    _Topic(_read_dense_layers, _write_dense_layers),
    _Topic(_read_groups, _write_groups),
)


# --- writing, and whether what is written says everything


def _written(family: Family, config: ModelConfig, vocab_size: int) -> dict[str, Any]:
    """The fields of ``family`` that come nearest to ``config``."""
    options = _flat(asdict(config))
    unused = [section for section, used in _sections(config) if not used]
    values = {**family.fields, "vocab_size": vocab_size}
    for name, option in {**SPELLED, **family.spelled}.items():
        if name in values and not option.startswith(tuple(unused)):
            values[name] = None if options[option] == 0 and name in NULLABLE else options[option]
    for topic in _TOPICS:
        values |= topic.write(config)
    if "query_pre_attn_scalar" in family.fields and values["sliding_window"] is None:
        values["sliding_window"] = config.context  # Gemma's code wants a window even where no layer has one
    if "n_shared_experts" in family.fields:
        values["n_shared_experts"] = max(1, values["n_shared_experts"])  # DeepSeek's cannot do without
    if "num_nextn_predict_layers" in family.fields:
        values["num_nextn_predict_layers"] = 0
    if "first_k_dense_replace" in family.fields and not config.experts.count:
        values["first_k_dense_replace"] = config.layers
    stated = {name: values[name] for name in family.fields if name != "rope_parameters"}
    fixed = {name: value for name, value in family.only.items() if value is not None}
    return {"architectures": [family.architecture], "model_type": family.model_type, **stated, **fixed}


def _obstacles(family: Family, config: ModelConfig, fields: Fields) -> list[str] | None:
    """Options of ``config`` that the fields of ``family`` do not say; None where it is of another kind altogether."""
    wanted = _computation(config)
    try:
        found = _computation(read_config(fields).config)
    except DataError:
        return None
    names = [name for name in wanted.keys() | found.keys() if not _equal(wanted.get(name), found.get(name))]
    if family.whole_heads and config.width % config.heads:
        names.append("width")
    for section, leader in _LEADERS.items():
        if leader in names:
            names = [name for name in names if name == leader or not name.startswith(section)]
    values = _flat(asdict(config))
    return [f"model.{name.replace('_', '-')} {values[name]}" for name in sorted(names)]


def _sections(config: ModelConfig) -> tuple[tuple[str, int], ...]:
    """The sections of options that a model may do without, and whether it does."""
    return ("latent.", config.latent.key_rank), ("experts.", config.experts.count)


#: The options of a section mean nothing, or something else, where this one differs.
_LEADERS = {"latent.": "latent.key_rank", "experts.": "experts.count", "positions.": "positions.kind"}


def _equal(ours: Any, theirs: Any) -> bool:
    if isinstance(ours, float) and isinstance(theirs, (int, float)):
        return math.isclose(ours, theirs, rel_tol=1e-9)
    return bool(ours == theirs)


#: Options of training, and those from which others are derived.
_OF_TRAINING = ("attention.dropout", "context", "dropout", "experts.balance", "experts.bias_rate", "init")
_NOT_COMPUTED = frozenset((*_OF_TRAINING, "aspect", "depth", "preset"))


def _computation(config: ModelConfig) -> Options:
    """The options that decide what a model computes, each in one spelling."""
    positions, experts = config.positions, config.experts
    rotary, windowed = positions.kind == "rotary", [config.windowed(layer) for layer in range(config.layers)]
    options = {name: value for name, value in _flat(asdict(config)).items() if name not in _NOT_COMPUTED}
    kept = {f"positions.{option}" for option in SCALINGS.get(positions.scaling, {}).values()} if rotary else set()
    kept |= {"positions.kind"} | ({"positions.base", "positions.fraction", "positions.scaling"} if rotary else set())
    options = {name: value for name, value in options.items() if not name.startswith("positions.") or name in kept}
    if rotary:
        options["positions.magnitude"] = rotary_magnitude(positions)
        scaled = positions.scaling != "none"
        if any(windowed) and (positions.local_base or not scaled):
            options["positions.local_base"] = positions.local_base or positions.base
    options["attention.pattern"] = windowed
    options["attention.window"] = config.attention.window if any(windowed) else 0
    options["attention.scale"], options["mup_width"] = config.attention_scale, config.logits_scale
    for section, used in _sections(config):
        if not used:
            options = {name: value for name, value in options.items() if not name.startswith(section)}
    if experts.count and not experts.dense_layers:
        del options["hidden"]
    return options


def _without_ntk(config: ModelConfig) -> ModelConfig:
    """NTK-aware scaling is a larger base and nothing else."""
    positions, size = config.positions, config.rotary_size
    if positions.scaling != "ntk":
        return config
    base = positions.base * positions.factor ** (size / max(1, size - 2))
    plain = PositionConfig(kind="rotary", base=base, local_base=positions.local_base, fraction=positions.fraction)
    return replace(config, positions=plain)


def _flat(values: Mapping[str, Any], prefix: str = "") -> Options:
    """A configuration's dictionary with dots in the names."""
    options: Options = {}
    for name, value in values.items():
        options |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return options


def _nested(options: Options) -> dict[str, Any]:
    """The inverse."""
    nested: dict[str, Any] = {}
    for name, value in options.items():
        section, _, option = name.rpartition(".")
        (nested.setdefault(section, {}) if section else nested)[option] = value
    return nested


_DEFAULTS = _flat(asdict(ModelConfig()))
