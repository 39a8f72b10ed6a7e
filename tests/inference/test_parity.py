"""The engine's greedy answers against Hugging Face transformers' Llama with the same weights."""

import pytest
import torch

from groundup.inference.engine import Engine
from groundup.inference.sampling import Sampling
from groundup.model.config import ModelConfig
from groundup.model.transformer import Transformer

transformers = pytest.importorskip("transformers")

NAMES = {
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


def renamed(name: str) -> str:
    if name == "norm.scale":
        return "model.norm.weight"
    for ours, theirs in NAMES.items():
        name = name.replace(ours, theirs)
    return name


def test_greedy_answers_equal_transformers() -> None:
    config = ModelConfig(2, 32, 4, 2, 48, 64, qk_norm="none", tied=False)
    model = Transformer(config, 71)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.3 if parameter.ndim > 1 else 1.0, generator=generator)
    theirs = transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            vocab_size=71,
            hidden_size=config.width,
            intermediate_size=config.hidden,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.kv_heads,
            max_position_embeddings=config.context,
            rms_norm_eps=1e-5,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=0,
        )
    ).eval()
    theirs.load_state_dict({renamed(name): tensor for name, tensor in model.state_dict().items()})
    prompts = [[3, 9, 27], [1, 2, 3, 4, 5, 6, 7, 8], [70], [10, 20] * 10]
    answers = Engine(model, frozenset()).generate(prompts, Sampling(temperature=0, max_tokens=24))
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.tensor([prompt])
        expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False)
        assert list(answer.ids) == expected[0, len(prompt) :].tolist()
