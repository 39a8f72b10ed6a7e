"""Our model → the same model of Hugging Face transformers, with the same weights."""

from dataclasses import replace
from typing import Any

from groundup.model import ModelConfig, Transformer

#: Our names of parts → theirs, replaced one after the other.
NAMES = {
    "attention.query_norm.scale": "self_attn.q_norm.weight",
    "attention.key_norm.scale": "self_attn.k_norm.weight",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "attention_norm.scale": "input_layernorm.weight",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
    "feed_forward_norm.scale": "post_attention_layernorm.weight",
    "blocks.": "model.layers.",
    "embedding.": "model.embed_tokens.",
    "head.": "lm_head.",
}


def twin(model: Transformer) -> Any:
    """``LlamaForCausalLM`` or, where queries and keys are normalised, ``Qwen3ForCausalLM``, in ``model``'s place."""
    import transformers

    config = model.config
    kind = "Qwen3" if config.qk_norm == "head" else "Llama"
    described = getattr(transformers, f"{kind}Config")(
        vocab_size=model.vocab_size,
        hidden_size=config.width,
        intermediate_size=config.hidden,
        num_hidden_layers=config.layers,
        num_attention_heads=config.heads,
        num_key_value_heads=config.kv_heads,
        head_dim=config.head_size,
        max_position_embeddings=config.context,
        rms_norm_eps=1e-5,
        rope_theta=config.positions.base,
        tie_word_embeddings=config.tied,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
        attn_implementation="sdpa",
    )
    theirs = getattr(transformers, f"{kind}ForCausalLM")(described)
    theirs.load_state_dict({_renamed(name): tensor for name, tensor in model.state_dict().items()})
    return theirs.to(model.embedding.weight.device)


def _renamed(name: str) -> str:
    if name == "norm.scale":
        return "model.norm.weight"
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def shape_of(config: ModelConfig) -> ModelConfig:
    """The shape that the peer can have too: without smeared keys, which no model of the library knows."""
    return replace(config, key_smear=False)
