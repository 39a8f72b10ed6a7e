"""Folders of Hugging Face: what we write comes back, and what is damaged or foreign ends in one line."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from groundup.core.errors import ArtifactError, UsageError
from groundup.model import ModelConfig, Transformer
from groundup.model.config import ExpertConfig, LatentConfig, PositionConfig
from groundup.model.formats.huggingface import open_huggingface, write_huggingface
from groundup.model.formats.safetensors import SINGLE
from groundup.tokenizer import BytePairTokenizer
from groundup.tokenizer.chat import JINJA_TEMPLATE
from groundup.tokenizer.formats import huggingface as tokenizer_json
from groundup.tokenizer.formats.prepared import tokenizer_of
from groundup.tokenizer.opening import open_tokenizer
from groundup.tokenizer.pretokenize import Pattern
from groundup.tokenizer.templates import open_template

VOCABULARY = 300
SHAPE: Mapping[str, Any] = {"layers": 2, "width": 32, "heads": 4, "hidden": 48, "context": 64}
SHAPES: Mapping[str, Mapping[str, Any]] = {
    "llama": {"qk_norm": "none", "kv_heads": 2},
    "qwen2": {"qk_norm": "none", "bias": "qkv", "tied": False},
    "qwen3": {},
    "gpt2": {"qk_norm": "none", "norm": "layer", "bias": "all", "feed_forward": "gelu-tanh"}
    | {"positions": PositionConfig(kind="learned")},
    "qwen3_moe": {"experts": ExpertConfig(count=3, hidden=16, dense_layers=1)},
    "deepseek_v3": {"qk_norm": "none", "norm_epsilon": 1e-6, "latent": LatentConfig(key_rank=16, query_rank=8)}
    | {"experts": ExpertConfig(count=4, hidden=16, shared=1, router="sigmoid", groups=2)},
}
TEXT = ["Hello world, this is a text about nothing at all. Numbers: 1, 2 and 345; don't they'll mind?"] * 9


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.train(TEXT, VOCABULARY)


def model(family: str) -> Transformer:
    made = Transformer(ModelConfig(**{**SHAPE, **SHAPES[family]}), VOCABULARY)
    generator = torch.Generator().manual_seed(0)
    for tensor in made.state_dict().values():
        tensor.normal_(0, 0.3, generator=generator)
    return made.eval()


def written(folder: Path, family: str = "qwen3", **options: Any) -> Path:
    made = model(family)
    write_huggingface(folder / family, made.config, VOCABULARY, made.state_dict(), **options)
    return folder / family


def edited(folder: Path, **fields: Any) -> None:
    content = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(content | fields))


def rewritten(folder: Path, change: Callable[[dict[str, Tensor]], Any]) -> None:
    tensors = load_file(folder / SINGLE)
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    changed = change(tensors)
    save_file(changed if isinstance(changed, dict) else tensors, folder / SINGLE)


def refused(folder: Path) -> str:
    with pytest.raises(ArtifactError) as caught:
        open_huggingface(folder)
    assert "\n" not in str(caught.value)
    assert str(folder) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("family", SHAPES)
@pytest.mark.parametrize("most", [10**9, 5000])
def test_what_is_written_is_read(tmp_path: Path, family: str, most: int) -> None:
    made = model(family)
    folder = written(tmp_path, family, max_shard_bytes=most)
    assert json.loads((folder / "config.json").read_text())["model_type"] == family
    assert (folder / SINGLE).exists() == (most > 5000)
    config, vocab_size, weights = open_huggingface(folder)
    again = Transformer.from_weights(config, vocab_size, weights)
    state = again.state_dict()
    assert state.keys() == made.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in made.state_dict().items())
    ids = torch.arange(20)[None]
    torch.testing.assert_close(again(ids), made(ids))


def test_weights_are_written_in_the_type_that_is_asked_for(tmp_path: Path) -> None:
    folder = written(tmp_path, "deepseek_v3", dtype=torch.bfloat16)
    types = {name: tensor.dtype for name, tensor in load_file(folder / SINGLE).items()}
    biases = {name for name in types if name.endswith("e_score_correction_bias")}
    assert {types[name] for name in biases} == {torch.float32}
    assert {types[name] for name in types.keys() - biases} == {torch.bfloat16}
    assert json.loads((folder / "config.json").read_text())["torch_dtype"] == "bfloat16"
    _, _, weights = open_huggingface(folder)
    expected = model("deepseek_v3").state_dict()["blocks.0.attention.key_up.weight"]
    assert torch.equal(weights["blocks.0.attention.key_up.weight"], expected.bfloat16())


# --- the tokenizer


def test_the_folder_suffices_for_text(tmp_path: Path, tokenizer: BytePairTokenizer) -> None:
    folder = written(tmp_path, tokenizer=tokenizer, chat_template=JINJA_TEMPLATE)
    ids = tokenizer.special_tokens
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation == {
        "bos_token_id": ids["<|document|>"],
        "eos_token_id": [ids["<|end|>"], ids["<|document|>"]],
        "pad_token_id": ids["<|pad|>"],
    }
    config = json.loads((folder / "config.json").read_text())
    assert (config["bos_token_id"], config["eos_token_id"]) == (ids["<|document|>"], ids["<|end|>"])
    again = open_tokenizer(folder)
    assert again.fingerprint == tokenizer.fingerprint
    assert open_template(folder, again).stop_ids == {ids["<|end|>"], ids["<|document|>"]}


def test_a_tokenizer_of_more_ids_than_the_model_is_refused(tmp_path: Path, tokenizer: BytePairTokenizer) -> None:
    larger = BytePairTokenizer.train(TEXT, VOCABULARY + 1)
    assert larger.vocab_size > VOCABULARY >= tokenizer.vocab_size
    with pytest.raises(UsageError, match="the tokenizer has 301 ids, the model only 300"):
        written(tmp_path, tokenizer=larger)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("roles", [{"eos_token": "<|nothing|>"}, {"mask_token": "<|end|>"}])
def test_a_role_that_cannot_be(tmp_path: Path, tokenizer: BytePairTokenizer, roles: dict[str, str]) -> None:
    with pytest.raises(UsageError, match="is no role of a special token"):
        written(tmp_path, tokenizer=tokenizer, roles=roles)


def test_roles_that_are_given(tmp_path: Path, tokenizer: BytePairTokenizer) -> None:
    folder = written(tmp_path, tokenizer=tokenizer, roles={"eos_token": "<|user|>"})
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert settings["eos_token"] == "<|user|>"
    assert "bos_token" not in settings
    assert "chat_template" not in settings
    generation = json.loads((folder / "generation_config.json").read_text())
    assert generation == {"eos_token_id": tokenizer.special_tokens["<|user|>"]}


class Spelled(BytePairTokenizer):
    """A tokenizer that ``tokenizer.json`` cannot say."""

    def save(self, folder: Path) -> None:
        (folder / "tokenizer.model").write_bytes(b"")


def test_a_tokenizer_that_tokenizer_json_cannot_say(tmp_path: Path, tokenizer: BytePairTokenizer) -> None:
    with pytest.raises(UsageError, match="put its own files beside"):
        written(tmp_path, tokenizer=Spelled(tokenizer.vocabulary))
    assert list(tmp_path.iterdir()) == []


def test_qwen2_is_written_only_with_a_tokenizer_that_cuts_like_qwens(
    tmp_path: Path, tokenizer: BytePairTokenizer
) -> None:
    with pytest.raises(UsageError, match="cuts text for every qwen2 model"):
        written(tmp_path, "qwen2", tokenizer=tokenizer)
    content = BytePairTokenizer.train(TEXT, VOCABULARY - 1, Pattern.named("qwen2")).to_json()
    content["normalizer"] = {"type": "NFC"}
    content["added_tokens"].append(content["added_tokens"][0] | {"id": VOCABULARY - 1, "content": "<|endoftext|>"})
    fitting = tokenizer_of(tokenizer_json.read(content))
    assert (written(tmp_path, "qwen2", tokenizer=fitting) / "tokenizer.json").is_file()


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "qwen3").mkdir()
    with pytest.raises(UsageError, match="exists; choose another"):
        written(tmp_path)


def test_nothing_is_left_where_no_family_can_say_the_model(tmp_path: Path) -> None:
    made = Transformer(ModelConfig(**SHAPE, key_smear=True), VOCABULARY)
    with pytest.raises(UsageError, match="key-smear True"):
        write_huggingface(tmp_path / "out", made.config, VOCABULARY, made.state_dict())
    assert list(tmp_path.iterdir()) == []


# --- folders of others


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    assert "has no config.json" in refused(tmp_path)
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert "nested too deeply" in refused(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    assert '"bert"' in refused(tmp_path)


def test_missing_tensors(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))
    assert "lacks model.layers.1.mlp.up_proj.weight" in refused(folder)


def test_tensors_left_over(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, lambda tensors: tensors.update({"model.layers.0.self_attn.q_proj.bias": torch.zeros(32)}))
    assert "holds model.layers.0.self_attn.q_proj.bias" in refused(folder)


@pytest.mark.parametrize(
    ("family", "fields"),
    [
        ("qwen3", {"vocab_size": VOCABULARY + 1}),
        ("qwen3", {"intermediate_size": 40}),
        ("qwen3", {"head_dim": 1 << 24, "num_attention_heads": 1 << 16, "num_key_value_heads": 1 << 16}),
        ("qwen3", {"head_dim": 1 << 24, "hidden_size": 1 << 24, "num_attention_heads": 1 << 16}),
        ("gpt2", {"n_inner": 40}),
        ("gpt2", {"n_embd": 36}),
        ("deepseek_v3", {"qk_nope_head_dim": 10}),
        ("deepseek_v3", {"kv_lora_rank": 18}),
        ("deepseek_v3", {"qk_rope_head_dim": 6}),
    ],
)
def test_tensors_of_other_shapes(tmp_path: Path, family: str, fields: dict[str, Any]) -> None:
    folder = written(tmp_path, family)
    edited(folder, **fields)
    refused(folder)


@pytest.mark.parametrize(
    ("family", "fields"),
    [("llama", {"num_hidden_layers": 4000}), ("qwen3_moe", {"num_experts": 1 << 20, "num_experts_per_tok": 1})],
)
def test_more_layers_or_experts_than_tensors(tmp_path: Path, family: str, fields: dict[str, Any]) -> None:
    folder = written(tmp_path, family)
    edited(folder, **fields)
    assert "too few for what its config.json says" in refused(folder)


def test_weights_of_whole_numbers(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(32, dtype=torch.int8)}))
    assert "model.norm.weight as I8" in refused(folder)


def test_a_tied_head_may_be_stored_if_it_is_the_same(tmp_path: Path) -> None:
    folder = written(tmp_path)
    rewritten(folder, lambda tensors: tensors.update({"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}))
    open_huggingface(folder)
    rewritten(folder, lambda tensors: tensors["lm_head.weight"].mul_(2))
    assert '"tie_word_embeddings" to false' in refused(folder)


def test_masks_and_frequencies_of_old_files_are_passed_over(tmp_path: Path) -> None:
    extra = {"model.rotary_emb.inv_freq": torch.ones(4), "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}
    folder = written(tmp_path)
    rewritten(folder, lambda tensors: tensors.update(extra))
    open_huggingface(folder)


def test_gpt2_as_it_was_published(tmp_path: Path) -> None:
    """Without the prefix of its names, and with its causal masks."""
    folder = written(tmp_path, "gpt2")
    mask = {"h.1.attn.bias": torch.ones(1, 1, 64, 64).bool(), "h.1.attn.masked_bias": torch.tensor(-1e4)}
    rewritten(folder, lambda tensors: {name.removeprefix("transformer."): t for name, t in tensors.items()} | mask)
    _, _, weights = open_huggingface(folder)
    assert all(torch.equal(weights[name], tensor) for name, tensor in model("gpt2").state_dict().items())


def test_layers_that_predict_further_tokens_are_left_out(tmp_path: Path) -> None:
    folder = written(tmp_path, "deepseek_v3")
    rewritten(folder, lambda tensors: tensors.update({"model.layers.2.eh_proj.weight": torch.ones(3)}))
    assert "model.layers.2.eh_proj.weight" in refused(folder)
    edited(folder, num_nextn_predict_layers=1)
    open_huggingface(folder)
