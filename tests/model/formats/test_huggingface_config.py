"""``config.json`` of Hugging Face ↔ ``ModelConfig``."""

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import DataError, UsageError
from groundup.model import ModelConfig
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, PositionConfig
from groundup.model.formats.families import FAMILIES
from groundup.model.formats.huggingface_config import read_config, write_config
from groundup.model.positions import rotary_frequencies
from groundup.model.presets import names, preset

KNOWN = [family.model_type for family in FAMILIES]
#: What a file of each family cannot leave out, or that our experts cannot be.
LEAST: dict[str, dict[str, Any]] = {"deepseek_v2": {"num_experts_per_tok": 6, "moe_intermediate_size": 1408}}


def said(model_type: str, **fields: Any) -> dict[str, Any]:
    return {"model_type": model_type, **LEAST.get(model_type, {}), **fields}


def read(model_type: str, **fields: Any) -> ModelConfig:
    return read_config(said(model_type, **fields)).config


def refused(model_type: str, **fields: Any) -> str:
    with pytest.raises(DataError) as caught:
        read(model_type, **fields)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", [*names()])
def test_published_shapes_are_of_their_family_and_read_back(name: str) -> None:
    shape = preset(name)
    family, fields = write_config(shape.config, shape.vocab_size)
    stem = name.split("-")[0].replace("qwen2.5", "qwen2").replace("smollm2", "llama").replace("olmo", "olmo2")
    assert family.model_type.startswith(stem)
    assert ("moe" in family.model_type) == (name in ("qwen3-30b-a3b", "qwen3-235b-a22b"))
    found = read_config(json.loads(json.dumps(fields)))
    assert found.vocab_size == shape.vocab_size
    assert write_config(found.config, found.vocab_size) == (family, fields)
    assert found.config.context == shape.config.resolved().context


# --- what is refused


@pytest.mark.parametrize(
    ("model_type", "field", "value"),
    [
        ("llama", "quantization_config", {"quant_method": "fp8"}),
        ("llama", "hidden_act", "relu"),
        ("llama", "hidden_act", ["silu"]),
        ("llama", "partial_rotary_factor", 0.5),
        ("llama", "rope_interleaved", True),
        ("llama", "layer_types", ["full_attention"] * 32),
        ("llama", "a_field_of_the_future", 3),
        ("mistral", "attention_bias", True),
        ("qwen2", "use_mrope", True),
        ("qwen3", "attention_bias", True),
        ("olmo2", "attention_bias", True),
        ("gemma2", "use_bidirectional_attention", True),
        ("gemma3_text", "attn_logit_softcapping", 50.0),
        ("gemma3_text", "final_logit_softcapping", "30"),
        ("gemma3_text", "layer_types", ["linear_attention"] * 26),
        ("gemma3_text", "layer_types", ["full_attention"]),
        ("gpt2", "activation_function", "silu"),
        ("gpt2", "scale_attn_by_inverse_layer_idx", True),
        ("gpt2", "scale_attn_weights", False),
        ("gpt2", "add_cross_attention", True),
        ("qwen3_moe", "decoder_sparse_step", 2),
        ("qwen3_moe", "mlp_only_layers", [3]),
        ("deepseek_v2", "norm_topk_prob", True),
        ("deepseek_v2", "topk_method", "noaux_tc"),
        ("deepseek_v2", "rms_norm_eps", 1e-5),
        ("deepseek_v3", "scoring_func", "softmax"),
        ("deepseek_v3", "moe_layer_freq", 2),
        ("deepseek_v3", "mlp_bias", True),
        ("llama", "num_hidden_layers", 0),
        ("llama", "num_hidden_layers", "32"),
        ("llama", "num_hidden_layers", 10**9),
        ("llama", "hidden_size", None),
        ("llama", "hidden_size", True),
        ("llama", "hidden_size", -4096),
        ("llama", "hidden_size", 4096.0),
        ("llama", "vocab_size", 1 << 60),
        ("llama", "tie_word_embeddings", 1),
        ("llama", "rope_theta", float("nan")),
        ("llama", "rms_norm_eps", 0),
        ("qwen3", "use_sliding_window", "no"),
        ("deepseek_v3", "rope_interleave", "yes"),
        ("deepseek_v3", "num_nextn_predict_layers", 10**12),
    ],
)
def test_what_would_compute_otherwise_is_refused_by_name(model_type: str, field: str, value: Any) -> None:
    message = refused(model_type, **{field: value})
    assert field in message
    assert json.dumps(value)[:80] in message


@pytest.mark.parametrize(
    ("scaling", "named"),
    [
        ({"rope_type": "dynamic", "factor": 2.0}, '"dynamic"'),
        ({"rope_type": "longrope", "factor": 2.0, "long_factor": [1.0]}, '"longrope"'),
        ({"type": "mrope", "mrope_section": [16, 24, 24]}, '"mrope"'),
        ({"rope_type": "default", "mrope_section": [16, 24, 24]}, "mrope_section"),
        ({"rope_type": "linear"}, "lack factor"),
        ({"rope_type": "linear", "factor": "2"}, '"2"'),
        ({"rope_type": "llama3", "factor": 2.0, "low_freq_factor": 1.0}, "lack high_freq_factor"),
        ({"rope_type": "linear", "factor": 2.0, "partial_rotary_factor": 0.5}, "partial_rotary_factor"),
        ({"rope_type": "yarn", "factor": 2.0, "truncate": False}, "truncate"),
        ({"rope_type": "yarn", "factor": 2.0, "attention_factor": 0}, "attention_factor"),
        ({"full_attention": {"rope_type": "default"}}, "full_attention"),
        ([1], "[1]"),
        ({"rope_type": ["yarn"]}, '["yarn"]'),
    ],
)
@pytest.mark.parametrize("field", ["rope_scaling", "rope_parameters"])
def test_rotary_positions_that_we_do_not_have(field: str, scaling: Any, named: str) -> None:
    assert named in refused("llama", **{field: scaling})


def test_an_unknown_architecture_lists_those_that_are_known() -> None:
    message = refused("mamba")
    assert '"mamba"' in message
    assert all(known in message for known in KNOWN)


def test_biases_of_half_the_layers() -> None:
    assert "mlp_bias" in refused("llama", attention_bias=True)
    assert read("llama", attention_bias=True, mlp_bias=True).bias == "all"


def test_two_names_of_one_field() -> None:
    assert read("qwen3_moe", num_local_experts=16).experts.count == 16
    assert read("qwen3_moe", num_local_experts=16, num_experts=16).experts.count == 16
    assert "num_local_experts and num_experts" in refused("qwen3_moe", num_local_experts=16, num_experts=8)


def test_values_that_contradict_each_other() -> None:
    assert "does not divide model.heads" in refused("llama", num_key_value_heads=5)
    assert "latent attention" in refused("deepseek_v3", num_key_value_heads=8)


@pytest.mark.parametrize("model_type", KNOWN)
def test_what_changes_nothing_is_passed_over(model_type: str) -> None:
    harmless = {"bos_token_id": 1, "torch_dtype": "bfloat16", "use_cache": True, "transformers_version": "4.40.0"}
    harmless |= {"initializer_range": 0.1, "quantization_config": None, "attention_dropout": 0.1, "_name_or_path": "x"}
    assert read(model_type, **harmless) == read(model_type)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["rope_type", "factor"]), inner),
    max_leaves=4,
)


@settings(max_examples=100)
@given(st.data())
def test_any_json_is_read_or_refused_in_one_line(data: st.DataObject) -> None:
    family = data.draw(st.sampled_from(FAMILIES))
    fields = {name: data.draw(JSON) for name in data.draw(st.sets(st.sampled_from([*family.fields, "x"]), max_size=2))}
    try:
        read(family.model_type, **fields)
    except DataError as error:
        assert "\n" not in str(error)


# --- what is read


def test_both_forms_of_rotary_positions_are_read_alike() -> None:
    scaling = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
    old = read("llama", rope_theta=5e5, rope_scaling={"type": "llama3", **scaling})
    new = read("llama", rope_parameters={"rope_type": "llama3", "rope_theta": 5e5, **scaling})
    assert old == new
    assert old.positions == replace(
        PositionConfig(), base=5e5, scaling="llama3", factor=8.0, original_context=8192, low_frequency=1.0
    )
    full, local = {"rope_theta": 1e6, "rope_type": "linear", "factor": 8.0}, {"rope_theta": 1e4, "rope_type": "default"}
    nested = read("gemma3_text", rope_parameters={"full_attention": full, "sliding_attention": local})
    flat = read("gemma3_text", rope_local_base_freq=1e4, rope_scaling={"rope_type": "linear", "factor": 8.0})
    assert nested == flat
    assert (flat.positions.base, flat.positions.local_base, flat.positions.factor) == (1e6, 1e4, 8.0)


def test_trained_length_is_the_context_where_a_file_does_not_say_it() -> None:
    positions = read("llama", max_position_embeddings=4096, rope_scaling={"type": "yarn", "factor": 4.0}).positions
    assert positions.original_context == 4096


@pytest.mark.parametrize(
    ("model_type", "fields", "local"),
    [
        ("mistral", {}, "LLLLLL"),
        ("mistral", {"sliding_window": None}, "GGGGGG"),
        ("qwen2", {"use_sliding_window": True, "max_window_layers": 4}, "GGGGLL"),
        ("qwen2", {"max_window_layers": 4}, "GGGGGG"),
        ("qwen3_moe", {"use_sliding_window": True}, "LLLLLL"),
        ("gemma2", {}, "LGLGLG"),
        ("gemma3_text", {}, "LLLLLG"),
        ("gemma3_text", {"sliding_window_pattern": 3}, "LLGLLG"),
        ("gemma3_text", {"layer_types": ["full_attention"] * 6}, "GGGGGG"),
    ],
)
def test_windowed_layers(model_type: str, fields: dict[str, Any], local: str) -> None:
    config = read(model_type, num_hidden_layers=6, **fields)
    assert "".join("L" if config.windowed(layer) else "G" for layer in range(6)) == local
    assert config.attention.window == (4096 if "L" in local else 0)
    assert (config.positions.local_base > 0) == (model_type == "gemma3_text" and "L" in local)


def test_deepseek_sharpens_the_scores_by_its_scaling() -> None:
    """DeepSeek-V3's own numbers: 0.1 · ln 40 + 1, squared, over √192."""
    scaling = {"type": "yarn", "factor": 40, "mscale": 1.0, "mscale_all_dim": 1.0, "beta_fast": 32, "beta_slow": 1}
    config = read("deepseek_v3", rope_scaling=scaling | {"original_max_position_embeddings": 4096})
    assert config.positions.magnitude == 1.0
    assert config.attention_scale == pytest.approx(1.8738 / 192**0.5, rel=1e-4)


def test_layers_without_experts() -> None:
    assert read("qwen3_moe", mlp_only_layers=[0, 1]).experts.dense_layers == 2
    config = read("deepseek_v3", num_hidden_layers=4, first_k_dense_replace=4)
    assert not config.experts.count
    assert read_config(write_config(config, 100)[1]).config.experts == ExpertConfig()


# --- what is written


def plain(**options: Any) -> ModelConfig:
    sizes = {"layers": 2, "width": 32, "heads": 4, "kv_heads": 2, "hidden": 48, "context": 64, "qk_norm": "none"}
    return ModelConfig(**{**sizes, **options})


@pytest.mark.parametrize(
    ("options", "family"),
    [
        ({}, "llama"),
        ({"qk_norm": "head"}, "qwen3"),
        ({"qk_norm": "all", "norm_place": "output"}, "olmo2"),
        ({"bias": "qkv"}, "qwen2"),
        ({"bias": "all"}, "llama"),
        ({"width": 30, "head_size": 8}, "mistral"),
        ({"attention": AttentionConfig(window=8)}, "mistral"),
        ({"attention": AttentionConfig(window=8, pattern="LG"), "qk_norm": "head"}, "qwen3"),
        ({"experts": ExpertConfig(count=4, hidden=16)}, "mixtral"),
        ({"experts": ExpertConfig(count=4, hidden=16), "qk_norm": "head"}, "qwen3_moe"),
        ({"positions": PositionConfig(scaling="yarn", factor=4.0)}, "llama"),
        ({"dropout": 0.1, "init": "normal"}, "llama"),
        ({"mup_width": 32, "tied": False}, "llama"),
        (
            {"norm": "layer", "bias": "all", "kv_heads": 4, "feed_forward": "relu2"}
            | {"positions": PositionConfig(kind="learned")},
            "gpt2",
        ),
        (
            {"kv_heads": 4, "latent": LatentConfig(key_rank=16), "norm_epsilon": 1e-6},
            "deepseek_v3",
        ),
    ],
)
def test_the_first_family_that_can_say_it_is_chosen(options: dict[str, Any], family: str) -> None:
    assert write_config(plain(**options), 100)[0].model_type == family


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"key_smear": True}, "the nearest, llama, has no model.key-smear True"),
        ({"attention": AttentionConfig(sinks=True)}, "the nearest, llama, has no model.attention.sinks True"),
        ({"qk_norm": "head", "residual_scalars": True}, "the nearest, qwen3, has no model.residual-scalars True"),
        ({"feed_forward": "relu2"}, "the nearest, llama, has no model.feed-forward relu2"),
        ({"positions": PositionConfig(kind="alibi")}, "has no model.positions.kind alibi"),
        ({"positions": PositionConfig(fraction=0.5)}, "has no model.positions.fraction 0.5"),
        ({"logits_softcap": 5.0}, "has no model.logits-softcap 5.0"),
        ({"mup_width": 16, "tied": False}, "model.mup-width 16"),
        ({"experts": ExpertConfig(count=4, hidden=16, normalise=False)}, "has no model.experts.normalise False"),
        (
            {"kv_heads": 4, "latent": LatentConfig(key_rank=16), "norm_epsilon": 1e-5},
            "the nearest, deepseek_v3, has no model.norm-epsilon 1e-05",
        ),
    ],
)
def test_what_no_family_can_say_is_refused_by_option(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        write_config(plain(**options), 100)
    assert message in str(caught.value)


def test_ntk_scaling_is_written_as_the_larger_base_that_it_is() -> None:
    config = plain(positions=PositionConfig(scaling="ntk", factor=4.0)).resolved()
    _, fields = write_config(config, 100)
    assert fields["rope_scaling"] is None
    again = read_config(fields).config
    torch.testing.assert_close(rotary_frequencies(8, again.positions), rotary_frequencies(8, config.positions))


def test_rotary_positions_are_written_so_that_old_versions_read_them() -> None:
    _, fields = write_config(plain(positions=PositionConfig(scaling="linear", factor=4.0, base=500.0)), 100)
    assert "rope_parameters" not in fields
    assert fields["rope_theta"] == 500.0
    assert fields["rope_scaling"] == {"rope_type": "linear", "type": "linear", "factor": 4.0}
