"""Architectures of Hugging Face as data: what each one's ``config.json`` may say, and what each fixes.

The values are the defaults of their configuration classes, which files may leave out. How a field is read and written
is the same for all families that have it (``huggingface_config``), and so are, but for a few, the names of their
tensors (``huggingface_names``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Fields = Mapping[str, Any]
"""Of a ``config.json``."""


@dataclass(frozen=True)
class Family:
    """One architecture."""

    model_type: str
    architecture: str
    fields: Fields
    """What it says about the computation, and what holds where a file leaves it out."""
    only: Fields = field(default_factory=dict)
    """Fields of which we can say a single value."""
    implied: Fields = field(default_factory=dict)
    """Our options that it fixes."""
    spelled: Mapping[str, str] = field(default_factory=dict)
    """Fields that mean another option of ours here than elsewhere."""
    also: Mapping[str, str] = field(default_factory=dict)
    """Other names of its fields."""
    harmless: frozenset[str] = frozenset()
    """Fields that change nothing here, besides ``HARMLESS``."""
    prefix: str = "model."
    """Of the names of all tensors but the head's."""
    whole_heads: bool = False
    """Its width must be a multiple of its heads, although heads may have another size."""
    experts: tuple[str, str, str, str] = ("mlp", "gate_proj", "up_proj", "down_proj")
    """How it calls the module of the experts, and the matrices of one."""


#: Fields that change nothing that a model computes from ids: token ids, how it was saved, trained or is to be cached.
# fmt: off
HARMLESS = frozenset((
    "_attn_implementation", "_attn_implementation_autoset", "_commit_hash", "_name_or_path", "_num_labels",
    "architectures",
    "attention_dropout", "auto_map", "bos_token_id", "cache_implementation", "do_sample", "dtype", "eos_token_id",
    "id2label", "initializer_range", "is_llama_config", "label2id", "max_length", "model_type", "name_or_path",
    "num_labels", "output_attentions", "output_hidden_states", "output_past", "output_router_logits", "pad_token_id",
    "pretraining_tp",
    "problem_type", "return_dict", "router_aux_loss_coef", "router_jitter_noise", "sep_token_id",
    "task_specific_params", "temperature", "tokenizer_class", "top_p", "torch_dtype", "torchscript",
    "transformers.js_config", "transformers_version", "unk_token_id", "unsloth_fixed", "unsloth_version", "use_cache",
))
# fmt: on

#: Fields that any file may have, and the one value that we can say.
ANYWHERE: Fields = {
    "quantization_config": None,
    "is_encoder_decoder": False,
    "add_cross_attention": False,
    "chunk_size_feed_forward": 0,
    "partial_rotary_factor": 1.0,
    "rope_interleaved": False,
    "use_mrope": False,
}
_ROTARY: Fields = {"rope_theta": 10_000.0, "rope_scaling": None, "rope_parameters": None}
_LLAMA: Fields = {
    "vocab_size": 32_000,
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": None,
    "head_dim": None,
    "hidden_act": "silu",
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": False,
    **_ROTARY,
}
_WINDOWED: Fields = {"use_sliding_window": False, "sliding_window": 4096}
_LAYERED: Fields = {**_WINDOWED, "max_window_layers": 28, "layer_types": None}
_QWEN: Fields = {**_LLAMA, "vocab_size": 151_936, "intermediate_size": 22_016, "max_position_embeddings": 32_768}
_GEMMA: Fields = {
    **{name: value for name, value in _LLAMA.items() if name != "hidden_act"},
    "vocab_size": 256_000,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "hidden_activation": "gelu_pytorch_tanh",
    "max_position_embeddings": 8192,
    "tie_word_embeddings": True,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "layer_types": None,
    "final_logit_softcapping": 30.0,
}
_GEMMA_IMPLIED = {"norm_place": "sandwich", "norm_offset": True}
_GEMMA_ONLY = {"attention_bias": False, "use_bidirectional_attention": False}
_DEEPSEEK: Fields = {
    **{name: value for name, value in _LLAMA.items() if name not in ("head_dim", "rms_norm_eps")},
    "num_experts_per_tok": None,
    "moe_intermediate_size": 1407,
    "first_k_dense_replace": 0,
    "kv_lora_rank": 512,
    "q_lora_rank": 1536,
    "qk_rope_head_dim": 64,
    "qk_nope_head_dim": 128,
    "v_head_dim": 128,
    "n_group": None,
    "topk_group": None,
    "n_routed_experts": 64,
    "n_shared_experts": 2,
    "routed_scaling_factor": 1.0,
}
# The norms of the small vectors have 1e-6 in DeepSeek's code whatever the file says; ours are like all others.
_DEEPSEEK_ONLY = {"attention_bias": False, "mlp_bias": False, "moe_layer_freq": 1, "rms_norm_eps": 1e-6}
_DEEPSEEK_IMPLIED = {"qk_norm": "none", "norm_epsilon": 1e-6}
_DEEPSEEK_HARMLESS = frozenset(
    ("aux_loss_alpha", "ep_size", "head_dim", "num_nextn_predict_layers", "qk_head_dim", "seq_aux")
)

FAMILIES = (
    Family(
        "llama",
        "LlamaForCausalLM",
        {**_LLAMA, "attention_bias": False, "mlp_bias": False},
        implied={"qk_norm": "none"},
        whole_heads=True,
    ),
    Family(
        "mistral",
        "MistralForCausalLM",
        {
            **_LLAMA,
            "intermediate_size": 14_336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131_072,
            "sliding_window": 4096,
        },
        implied={"qk_norm": "none"},
    ),
    Family(
        "qwen2",
        "Qwen2ForCausalLM",
        {**_QWEN, **_LAYERED, "num_key_value_heads": 32},
        implied={"qk_norm": "none", "bias": "qkv"},
    ),
    Family(
        "qwen3",
        "Qwen3ForCausalLM",
        {**_QWEN, **_LAYERED, "num_key_value_heads": 32, "head_dim": 128},
        only={"attention_bias": False},
        implied={"qk_norm": "head"},
    ),
    Family(
        "olmo2",
        "Olmo2ForCausalLM",
        {**_LLAMA, "vocab_size": 50_304, "rms_norm_eps": 1e-5},
        only={"attention_bias": False},
        implied={"qk_norm": "all", "norm_place": "output"},
    ),
    Family(
        "gemma2",
        "Gemma2ForCausalLM",
        {**_GEMMA, "attn_logit_softcapping": 50.0},
        only=_GEMMA_ONLY,
        implied={**_GEMMA_IMPLIED, "qk_norm": "none"},
        harmless=frozenset(("hidden_act",)),
        whole_heads=True,
    ),
    Family(
        "gemma3_text",
        "Gemma3ForCausalLM",
        {
            **_GEMMA,
            "vocab_size": 262_208,
            "max_position_embeddings": 131_072,
            "rope_theta": 1_000_000.0,
            "rope_local_base_freq": 10_000.0,
            "sliding_window_pattern": 6,
            "final_logit_softcapping": None,
        },
        only={**_GEMMA_ONLY, "attn_logit_softcapping": None},
        implied={**_GEMMA_IMPLIED, "qk_norm": "head"},
        harmless=frozenset(("hidden_act", "_sliding_window_pattern")),
        whole_heads=True,
    ),
    Family(
        "gpt2",
        "GPT2LMHeadModel",
        {
            "vocab_size": 50_257,
            "n_positions": 1024,
            "n_embd": 768,
            "n_layer": 12,
            "n_head": 12,
            "n_inner": None,
            "activation_function": "gelu_new",
            "layer_norm_epsilon": 1e-5,
            "tie_word_embeddings": True,
        },
        only={"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
        implied={"positions.kind": "learned", "norm": "layer", "bias": "all", "qk_norm": "none"},
        harmless=frozenset(
            {"attn_pdrop", "embd_pdrop", "resid_pdrop", "n_ctx", "reorder_and_upcast_attn", "summary_activation"}
            | {"summary_first_dropout", "summary_proj_to_labels", "summary_type", "summary_use_proj"}
        ),
        prefix="transformer.",
    ),
    Family(
        "mixtral",
        "MixtralForCausalLM",
        {
            **_LLAMA,
            "intermediate_size": 14_336,
            "num_key_value_heads": 8,
            "max_position_embeddings": 131_072,
            "rms_norm_eps": 1e-5,
            "rope_theta": 1_000_000.0,
            "sliding_window": None,
            "num_local_experts": 8,
            "num_experts_per_tok": 2,
        },
        implied={"qk_norm": "none"},
        spelled={"intermediate_size": "experts.hidden"},
        also={"num_experts": "num_local_experts"},
        experts=("block_sparse_moe", "w1", "w3", "w2"),
    ),
    Family(
        "qwen3_moe",
        "Qwen3MoeForCausalLM",
        {
            **_QWEN,
            **_WINDOWED,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 24,
            "num_key_value_heads": 4,
            "num_experts": 128,
            "num_experts_per_tok": 8,
            "moe_intermediate_size": 768,
            "norm_topk_prob": False,
            "mlp_only_layers": None,
        },
        only={"attention_bias": False, "decoder_sparse_step": 1},
        implied={"qk_norm": "head"},
        also={"num_local_experts": "num_experts"},
        harmless=frozenset(("max_window_layers",)),
    ),
    Family(
        "deepseek_v2",
        "DeepseekV2ForCausalLM",
        {**_DEEPSEEK, "vocab_size": 102_400, "topk_method": "greedy"},
        only={**_DEEPSEEK_ONLY, "norm_topk_prob": False, "scoring_func": "softmax"},
        implied={**_DEEPSEEK_IMPLIED, "experts.normalise": False},
        harmless=_DEEPSEEK_HARMLESS,
        whole_heads=True,
    ),
    Family(
        "deepseek_v3",
        "DeepseekV3ForCausalLM",
        {
            **_DEEPSEEK,
            "vocab_size": 129_280,
            "hidden_size": 7168,
            "intermediate_size": 18_432,
            "moe_intermediate_size": 2048,
            "num_hidden_layers": 61,
            "num_attention_heads": 128,
            "num_key_value_heads": 128,
            "max_position_embeddings": 4096,
            "n_routed_experts": 256,
            "n_shared_experts": 1,
            "num_experts_per_tok": 8,
            "routed_scaling_factor": 2.5,
            "n_group": 8,
            "topk_group": 4,
            "first_k_dense_replace": 3,
            "norm_topk_prob": True,
            "rope_interleave": True,
            "num_nextn_predict_layers": 1,
        },
        only={**_DEEPSEEK_ONLY, "scoring_func": "sigmoid", "topk_method": "noaux_tc"},
        implied={**_DEEPSEEK_IMPLIED, "experts.router": "sigmoid"},
        harmless=_DEEPSEEK_HARMLESS,
    ),
)
