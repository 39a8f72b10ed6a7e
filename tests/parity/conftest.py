"""Our model and Hugging Face's, with the same weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from groundup.model import ModelConfig, Transformer

NAMES = {
    "attention.query_norm.scale": "self_attn.q_norm.weight",
    "attention.key_norm.scale": "self_attn.k_norm.weight",
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.output": "self_attn.o_proj",
    "feed_forward.gate": "mlp.gate_proj",
    "feed_forward.up": "mlp.up_proj",
    "feed_forward.down": "mlp.down_proj",
    "attention_norm.scale": "input_layernorm.weight",
    "feed_forward_norm.scale": "post_attention_layernorm.weight",
    "blocks.": "model.layers.",
    "embedding.": "model.embed_tokens.",
    "head.": "lm_head.",
}


def _renamed(name: str) -> str:
    if name == "norm.scale":
        return "model.norm.weight"
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


@pytest.fixture(scope="session")
def twins() -> Callable[[ModelConfig, int], tuple[Transformer, Any]]:
    """``twins(config, vocabulary)``: ours with random weights, and Llama (or, with qk_norm, Qwen3) with the same."""
    transformers = pytest.importorskip("transformers")

    def make(config: ModelConfig, vocabulary: int) -> tuple[Transformer, Any]:
        ours = Transformer(config, vocabulary).eval()
        config = ours.config
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in ours.parameters():
                parameter.normal_(0 if parameter.ndim > 1 else 1, 0.2, generator=generator)
        kind = "Qwen3" if config.qk_norm == "head" else "Llama"
        described = getattr(transformers, f"{kind}Config")(
            vocab_size=vocabulary,
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
        )
        theirs = getattr(transformers, f"{kind}ForCausalLM")(described).eval()
        theirs.load_state_dict({_renamed(name): tensor for name, tensor in ours.state_dict().items()})
        return ours, theirs

    return make
