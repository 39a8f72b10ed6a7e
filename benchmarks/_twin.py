"""Our model → the same model of Hugging Face transformers, with the same weights."""

from dataclasses import replace
from typing import Any

import torch

from groundup.model import ModelConfig, Transformer
from groundup.model.formats.huggingface_config import write_config
from groundup.model.formats.huggingface_names import links
from groundup.model.formats.links import write_links


def twin(model: Transformer) -> Any:
    """What ``from_pretrained`` would make of our export: GPT2LMHeadModel, LlamaForCausalLM, Qwen3ForCausalLM …"""
    import transformers

    family, fields = write_config(model.config, model.vocab_size)
    fields |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    config = transformers.AutoConfig.for_model(**fields)
    theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa", dtype=torch.float32)
    weights = dict(write_links(links(family, model.config, interleaved=True), model.state_dict()))
    missing = theirs.load_state_dict(weights, strict=False).missing_keys
    assert set(missing) <= {"lm_head.weight"}, missing
    theirs.tie_weights()
    return theirs.to(model.embedding.weight.device)


def shape_of(config: ModelConfig) -> ModelConfig:
    """The shape that the peer can have too: without smeared keys, which no model of the library knows."""
    return replace(config, key_smear=False)
