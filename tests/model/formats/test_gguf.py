"""Models in GGUF files: what is written comes back, and what cannot be is refused by name."""

import struct
from collections.abc import Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.errors import ArtifactError, UsageError
from groundup.model import ModelConfig, Transformer
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, PositionConfig
from groundup.model.formats.gguf import Marks, OpenedGGUF, open_gguf, write_gguf
from groundup.model.formats.gguf_metadata import Keys, read_config, rope_factors_of
from groundup.model.formats.gguf_metadata_writing import write_config
from groundup.model.formats.gguf_weights import read_weights
from groundup.model.presets import names, preset, shrunk
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.characters import CharacterTokenizer
from groundup.tokenizer.formats.gguf_container import TensorPlace, read_header, write_header
from groundup.tokenizer.opening import open_tokenizer

TOKENIZER = BytePairTokenizer.train(["the theatre there, 12345 ", "it's that other thing\n"] * 9, 280)
VOCABULARY = TOKENIZER.vocab_size + 3
SMALL: Mapping[str, Any] = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "context": 48}
PLAIN = ModelConfig(**SMALL, qk_norm="none")
GEMMA: Mapping[str, Any] = {
    **SMALL,
    "norm_place": "sandwich",
    "norm_offset": True,
    "feed_forward": "geglu-tanh",
    "embedding_scale": 8.0,
}
LATENT = LatentConfig(key_rank=16, rotary_size=8, value_size=12)


def random_model(config: ModelConfig, vocab_size: int = VOCABULARY) -> Transformer:
    """A model in which every tensor matters."""
    model = Transformer(config, vocab_size)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            spread = 0.1 if tensor.ndim == 1 else tensor.shape[-1] ** -0.5
            centre = 1.0 if name.endswith("scale") and not config.norm_offset else 0.0
            tensor.normal_(centre, spread, generator=generator)
    return model.eval()


def written(path: Path, model: Transformer, **options: Any) -> OpenedGGUF:
    write_gguf(path, model.config, VOCABULARY, model.state_dict(), TOKENIZER, **{"kind": "F32", **options})
    return open_gguf(path)


def logits(model: Transformer) -> Tensor:
    ids = torch.arange(30)[None] * 7 % VOCABULARY
    with torch.no_grad():
        return model(ids)


REFUSED_PRESETS = {
    "mistral-7b": "attention.window",
    "gemma-2-27b": "attention.scale",  # only right with its 46 layers
    "gemma-3-27b": "attention.scale",
    "deepseek-v2": "experts.groups",
}
SHAPES = {
    **{name: shrunk(preset(name).config) for name in names() if name not in REFUSED_PRESETS},
    "default": ModelConfig(**SMALL),
    "untied": ModelConfig(**SMALL, tied=False),
    "biases of llama": replace(PLAIN, bias="all"),
    "wide heads": replace(PLAIN, head_size=32, bias="qkv"),
    "biases of qwen3": ModelConfig(**SMALL, bias="qkv"),
    "linear": replace(PLAIN, positions=PositionConfig(scaling="linear", factor=4.0)),
    "yarn": replace(PLAIN, positions=PositionConfig(scaling="yarn", factor=4.0, magnitude=1.3)),
    "llama3": replace(PLAIN, positions=PositionConfig(scaling="llama3", factor=3.0, original_context=512)),
    "mixtral": replace(PLAIN, experts=ExpertConfig(count=4, hidden=32)),
    "tied olmo2": ModelConfig(**SMALL, norm_place="output", qk_norm="all"),
    "olmo3": ModelConfig(
        **{**SMALL, "layers": 4},
        norm_place="output",
        qk_norm="all",
        attention=AttentionConfig(window=8, pattern="LLLG"),
        positions=PositionConfig(scaling="yarn", factor=4.0, local_base=10_000.0),
    ),
    "gemma 3 with its own pattern": ModelConfig(
        **GEMMA,
        attention=AttentionConfig(window=8, pattern="LG"),
        positions=PositionConfig(scaling="linear", factor=4.0, local_base=500.0),
    ),
    "gemma 3 without windows": ModelConfig(**GEMMA),
    "latent without experts": ModelConfig(
        layers=2, width=64, heads=4, head_size=16, context=48, qk_norm="none", latent=LATENT
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_model_that_is_written_comes_back(name: str, tmp_path: Path) -> None:
    model = random_model(SHAPES[name])
    opened = written(tmp_path / "model.gguf", model)
    wanted = model.state_dict()
    for key, tensor in opened.weights.items():
        torch.testing.assert_close(tensor, wanted.pop(key), rtol=0, atol=2e-7)
    assert set(wanted) <= {"head.weight"}
    again = Transformer.from_weights(opened.config, opened.vocab_size, opened.weights)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5)


def test_the_published_shapes_come_back_as_they_were() -> None:
    for name in names():
        config = preset(name).config.resolved()
        if name in ("mistral-7b", "deepseek-v2"):
            continue
        metadata = write_config(config, preset(name).vocab_size)
        llama3 = config.positions.scaling == "llama3"
        factors = rope_factors_of(config.rotary_size, config.positions) if llama3 else None
        tensors = {"none": [], "qkv": ["blk.0.attn_q.bias"], "all": ["blk.0.ffn_up.bias"]}[config.bias]
        back = read_config(metadata, [*tensors, *([] if config.tied else ["output.weight"])], factors)
        assert back.attention_scale == pytest.approx(config.attention_scale, rel=1e-6)
        training = {"balance": config.experts.balance, "bias_rate": config.experts.bias_rate}
        same = {
            "init": config.init,
            "attention": replace(back.attention, scale=config.attention.scale),
            "experts": replace(back.experts, **training),
        }
        assert back.embedding_scale == pytest.approx(config.embedding_scale)
        assert replace(back, **same, embedding_scale=config.embedding_scale) == config, name


def test_plain_weights_are_the_file_and_nothing_is_copied(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    opened = written(path, random_model(replace(PLAIN, tied=False)), kind="F16")
    for name in ("embedding.weight", "head.weight", "blocks.1.feed_forward.up.weight", "norm.scale"):
        assert opened.weights[name].untyped_storage().nbytes() == path.stat().st_size
    assert opened.weights["embedding.weight"].data_ptr() == opened.weights["embedding.weight"].data_ptr()


@pytest.mark.parametrize(("kind", "bound"), [("F32", 0.0), ("F16", 2**-11), ("BF16", 2**-8), ("Q8_0", 0.0)])
def test_every_encoding_keeps_what_it_can(kind: str, bound: float, tmp_path: Path) -> None:
    model = random_model(PLAIN)
    opened = written(tmp_path / "model.gguf", model, kind=kind)
    for name, tensor in opened.weights.items():
        true = model.state_dict()[name]
        if tensor.ndim == 1:
            assert tensor.dtype == torch.float32 and torch.equal(tensor, true)
        elif kind == "Q8_0":
            step = true.unflatten(-1, (-1, 32)).abs().amax(-1, keepdim=True) / 127
            assert (
                (tensor - true).unflatten(-1, (-1, 32)).abs() <= 0.57 * step
            ).all()  # half a step, and a scale of 11 bits
        else:
            assert ((tensor.float() - true).abs() <= bound * true.abs() + 1e-7).all()


def test_rows_that_are_no_whole_blocks_stay_in_float16(tmp_path: Path) -> None:
    opened = written(tmp_path / "model.gguf", random_model(ModelConfig(**{**SMALL, "width": 72})), kind="Q8_0")
    assert opened.weights["embedding.weight"].dtype == torch.float16
    assert opened.weights["blocks.0.feed_forward.down.weight"].dtype == torch.float32  # decoded


def test_routers_and_positions_stay_in_float32(tmp_path: Path) -> None:
    model = random_model(SHAPES["mixtral"])
    opened = written(tmp_path / "model.gguf", model, kind="F16")
    assert opened.weights["blocks.0.feed_forward.router.weight"].dtype == torch.float32
    assert opened.weights["blocks.0.feed_forward.up"].dtype == torch.float16


def test_the_file_is_a_whole_model(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    opened = written(path, random_model(PLAIN), chat_template="{{ messages }}", name="Tiny")
    special = TOKENIZER.special_tokens
    document = special["<|document|>"]
    assert opened.marks == Marks(document, document, special["<|end|>"], special["<|pad|>"], True)
    assert opened.chat_template == "{{ messages }}"
    tokenizer = open_tokenizer(path)
    text = "the theatre's 123\n"
    assert tokenizer.encode(text) == TOKENIZER.encode(text)
    assert dict(tokenizer.special_tokens) == dict(special)


def test_the_marks_of_another_tokenizer_must_be_given(tmp_path: Path) -> None:
    model = random_model(PLAIN)
    vocabulary = replace(TOKENIZER.vocabulary, special_tokens={"<s>": 278, "</s>": 279})
    foreign = BytePairTokenizer(vocabulary)
    path = tmp_path / "model.gguf"
    with pytest.raises(UsageError, match="which token ends a text; give its marks"):
        write_gguf(path, model.config, VOCABULARY, model.state_dict(), foreign)
    write_gguf(path, model.config, VOCABULARY, model.state_dict(), foreign, marks=Marks(begin=278, end=279))
    assert open_gguf(path).marks == Marks(begin=278, end=279)


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"key_smear": True}, "model.key-smear"),
        ({"value_embeddings": True}, "model.value-embeddings"),
        ({"ngrams": 2}, "model.ngrams"),
        ({"residual_scalars": True}, "model.residual-scalars"),
        ({"attention": AttentionConfig(sinks=True)}, "model.attention.sinks"),
        ({"attention": AttentionConfig(window=8)}, "model.attention.window"),
        ({"attention": AttentionConfig(softcap=5.0)}, "model.attention.softcap"),
        ({"attention": AttentionConfig(scale=0.5)}, "model.attention.scale"),
        ({"positions": PositionConfig(kind="alibi")}, "model.positions.kind 'alibi'"),
        ({"positions": PositionConfig(kind="none")}, "model.positions.kind 'none'"),
        ({"positions": PositionConfig(fraction=0.5)}, "model.positions.fraction"),
        ({"positions": PositionConfig(scaling="ntk", factor=2.0)}, "model.positions.scaling 'ntk'"),
        ({"positions": PositionConfig(scaling="llama3", factor=2.0)}, "model.positions.scaling: it has none like"),
        ({"positions": PositionConfig(scaling="yarn", factor=2.0, beta_fast=20.0)}, "model.positions.beta-fast"),
        ({"norm": "layer"}, "model.norm 'layer'"),
        ({"norm_place": "post"}, "model.norm-place 'post'"),
        ({"feed_forward": "relu2"}, "model.feed-forward 'relu2'"),
        ({"embedding_scale": 2.0}, "model.embedding-scale"),
        ({"logits_softcap": 30.0}, "model.logits-softcap"),
        ({"bias": "all"}, "model.bias: it has fewer"),
        ({"mup_width": 32, "tied": False}, "model.mup-width"),
        ({"experts": ExpertConfig(count=4, normalise=False)}, "model.experts.normalise"),
        ({"experts": ExpertConfig(count=4, scale=2.0)}, "model.experts.scale"),
        ({"experts": ExpertConfig(count=4, shared=1)}, "model.experts.shared"),
        ({"experts": ExpertConfig(count=4, dense_layers=1)}, "model.experts.dense-layers"),
        ({"experts": ExpertConfig(count=4, groups=2)}, "model.experts.groups"),
        ({"norm_place": "output", "qk_norm": "all", "head_size": 8}, "model.head-size: its heads together"),
        ({"norm_place": "sandwich", "qk_norm": "none", "embedding_scale": 8.0}, "model.attention.softcap: it is above"),
    ],
)
def test_what_llama_cpp_cannot_do_is_refused_by_name(changes: dict[str, Any], option: str, tmp_path: Path) -> None:
    model = Transformer(ModelConfig(**{**SMALL, **changes}), VOCABULARY)
    with pytest.raises(UsageError) as caught:
        write_gguf(tmp_path / "model.gguf", model.config, VOCABULARY, model.state_dict(), TOKENIZER)
    assert option in str(caught.value) and "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", REFUSED_PRESETS)
def test_published_shapes_that_llama_cpp_runs_otherwise_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"model.{REFUSED_PRESETS[name]}"):
        write_config(shrunk(preset(name).config), 100)


def test_an_unknown_kind_another_tokenizer_or_too_few_ids_are_refused(tmp_path: Path) -> None:
    model, path = random_model(PLAIN), tmp_path / "model.gguf"
    with pytest.raises(UsageError, match="not written as 'Q4_K'; choose one of F32, F16, BF16, Q8_0"):
        write_gguf(path, model.config, VOCABULARY, model.state_dict(), TOKENIZER, kind="Q4_K")
    with pytest.raises(UsageError, match="CharacterTokenizer"):
        write_gguf(path, model.config, VOCABULARY, model.state_dict(), CharacterTokenizer.train(["ab"]))
    small = random_model(PLAIN, 270)
    with pytest.raises(UsageError, match="has 280 ids but the model only 270"):
        write_gguf(path, small.config, 270, small.state_dict(), TOKENIZER)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("value", "kind"), [(1e6, "F16"), (float("nan"), "F32"), (float("inf"), "Q8_0")])
def test_weights_that_an_encoding_cannot_hold_are_refused_and_nothing_is_left(
    value: float, kind: str, tmp_path: Path
) -> None:
    model = random_model(PLAIN)
    with torch.no_grad():
        model.embedding.weight[3, 5] = value
    with pytest.raises(UsageError, match=r"the weights of token_embd\.weight are not finite numbers"):
        written(tmp_path / "model.gguf", model, kind=kind)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("change", ["missing", "left over", "shape"])
def test_weights_of_another_model_are_refused(change: str, tmp_path: Path) -> None:
    weights = dict(random_model(PLAIN).state_dict())
    if change == "missing":
        del weights["norm.scale"]
    elif change == "left over":
        weights["norm.bias"] = torch.zeros(64)
    else:
        weights["norm.scale"] = torch.zeros(63)
    with pytest.raises(ArtifactError, match=r"the weights do not fit the configuration: norm\."):
        write_gguf(tmp_path / "model.gguf", PLAIN, VOCABULARY, weights, TOKENIZER)


def test_weights_of_a_lower_precision_and_without_the_tied_head_are_written(tmp_path: Path) -> None:
    model = random_model(PLAIN).bfloat16()
    weights = {name: tensor for name, tensor in model.state_dict().items() if name != "head.weight"}
    write_gguf(tmp_path / "model.gguf", PLAIN, VOCABULARY, weights, TOKENIZER, kind="F32")
    opened = open_gguf(tmp_path / "model.gguf")
    assert torch.equal(opened.weights["embedding.weight"], weights["embedding.weight"].float())


def test_a_file_is_written_from_another_bit_for_bit(tmp_path: Path) -> None:
    """What is read lazily is written one tensor at a time, and nothing is lost on the way."""
    for name in ("deepseek-v3", "llama-3.1-8b", "gpt2"):
        first, second = tmp_path / f"{name}.gguf", tmp_path / "again.gguf"
        opened = written(first, random_model(SHAPES[name]), kind="Q8_0")
        write_gguf(second, opened.config, VOCABULARY, opened.weights, TOKENIZER, kind="Q8_0")
        assert first.read_bytes() == second.read_bytes()


def test_version_2_is_read(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    opened = written(path, random_model(PLAIN))
    data = path.read_bytes()
    path.write_bytes(data[:4] + struct.pack("<I", 2) + data[8:])
    assert open_gguf(path).config == opened.config


# What other tools write.


def parts_of(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    header, fetch = read_weights(path)
    return header.metadata, {name: get().clone() for name, get in fetch.items()}


def assemble(path: Path, metadata: Mapping[str, Any], tensors: Mapping[str, Tensor], kinds: int = 0) -> None:
    """A file of float32, made without our writer of weights."""
    places, data = [], b""
    for name, tensor in tensors.items():
        places.append(TensorPlace(name, tuple(tensor.shape), kinds, len(data)))
        data += tensor.contiguous().numpy().tobytes()
        data += bytes(-len(data) % 32)
    header = write_header(metadata, places)
    path.write_bytes(header + bytes(-len(header) % 32) + data)


@pytest.fixture
def plain_parts(tmp_path: Path) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """A path, and the metadata and tensors of a small Llama."""
    written(tmp_path / "model.gguf", random_model(PLAIN))
    return tmp_path / "other.gguf", *parts_of(tmp_path / "model.gguf")


Parts = tuple[Path, dict[str, Any], dict[str, Tensor]]


def test_rows_of_llama_are_side_by_side_in_the_file(plain_parts: Parts) -> None:
    """Two rows that we turn together, i and i + half a head, follow each other in the file."""
    tensors, weights = plain_parts[2], random_model(PLAIN).state_dict()
    ours, theirs = weights["blocks.0.attention.query.weight"], tensors["blk.0.attn_q.weight"]
    assert torch.equal(theirs[0:4], ours[[0, 8, 1, 9]])
    assert torch.equal(theirs[16:18], ours[[16, 24]])
    assert torch.equal(tensors["blk.0.attn_v.weight"], weights["blocks.0.attention.value.weight"])


def test_norms_of_gemma_have_one_added_in_the_file(tmp_path: Path) -> None:
    model = random_model(SHAPES["gemma-3-1b"])
    written(tmp_path / "model.gguf", model)
    tensors, weights = parts_of(tmp_path / "model.gguf")[1], model.state_dict()
    assert torch.equal(tensors["output_norm.weight"], weights["norm.scale"] + 1)
    assert torch.equal(tensors["blk.0.attn_q_norm.weight"], weights["blocks.0.attention.query_norm.scale"] + 1)
    assert torch.equal(tensors["blk.0.post_ffw_norm.weight"], weights["blocks.0.feed_forward_output_norm.scale"] + 1)


def test_queries_keys_and_values_of_gpt2_are_one_matrix_in_the_file(tmp_path: Path) -> None:
    model = random_model(SHAPES["gpt2"])
    written(tmp_path / "model.gguf", model)
    tensors, weights = parts_of(tmp_path / "model.gguf")[1], model.state_dict()
    for kind in ("weight", "bias"):
        parts = [weights[f"blocks.1.attention.{part}.{kind}"] for part in ("query", "key", "value")]
        assert torch.equal(tensors[f"blk.1.attn_qkv.{kind}"], torch.cat(parts))


def test_latent_keys_and_values_of_deepseek_are_two_stacks_in_the_file(tmp_path: Path) -> None:
    """A matrix a head: that of the keys is applied to the query, so it is the other way round."""
    model = random_model(SHAPES["deepseek-v3"])
    written(tmp_path / "model.gguf", model)
    tensors, weights, config = parts_of(tmp_path / "model.gguf")[1], model.state_dict(), model.config
    both = weights["blocks.0.attention.key_up.weight"].unflatten(0, (config.heads, -1))
    for head in range(config.heads):
        assert torch.equal(tensors["blk.0.attn_k_b.weight"][head], both[head, : config.head_size].T)
        assert torch.equal(tensors["blk.0.attn_v_b.weight"][head], both[head, config.head_size :])
    size = config.head_size + config.latent.rotary_size
    ours, theirs = weights["blocks.0.attention.query_up.weight"], tensors["blk.0.attn_q_b.weight"]
    assert torch.equal(theirs[:size], ours[[*range(config.head_size), 8, 10, 9, 11]])
    shared = weights["blocks.1.feed_forward.shared.gate.weight"]
    assert torch.equal(tensors["blk.1.ffn_gate_shexp.weight"], shared)
    assert torch.equal(tensors["blk.1.exp_probs_b.bias"], weights["blocks.1.feed_forward.balancing_bias"])
    assert torch.equal(tensors["blk.1.ffn_down_exps.weight"], weights["blocks.1.feed_forward.down"])


def test_metadata_have_the_names_that_llama_cpp_asks_for() -> None:
    """Those of published conversions of Gemma 3 and DeepSeek-V3."""
    gemma = write_config(preset("gemma-3-4b").config.resolved(), 262_208)
    assert gemma == {
        "general.architecture": "gemma3",
        "general.type": "model",
        "gemma3.vocab_size": 262_208,
        "gemma3.context_length": 131_072,
        "gemma3.embedding_length": 2560,
        "gemma3.block_count": 34,
        "gemma3.feed_forward_length": 10_240,
        "gemma3.attention.head_count": 8,
        "gemma3.attention.head_count_kv": 4,
        "gemma3.attention.key_length": 256,
        "gemma3.attention.value_length": 256,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
        "gemma3.attention.sliding_window": 1024,
        "gemma3.final_logit_softcapping": 0.0,
        "gemma3.rope.dimension_count": 256,
        "gemma3.rope.freq_base": 1e6,
        "gemma3.rope.freq_base_swa": 10_000.0,
        "gemma3.rope.scaling.type": "linear",
        "gemma3.rope.scaling.factor": 8.0,
    }
    deepseek = write_config(preset("deepseek-v3").config.resolved(), 129_280)
    assert deepseek.pop("deepseek2.rope.scaling.yarn_log_multiplier") == pytest.approx(0.1)
    assert deepseek == {
        "general.architecture": "deepseek2",
        "general.type": "model",
        "deepseek2.vocab_size": 129_280,
        "deepseek2.context_length": 163_840,
        "deepseek2.embedding_length": 7168,
        "deepseek2.block_count": 61,
        "deepseek2.feed_forward_length": 18_432,
        "deepseek2.attention.head_count": 128,
        "deepseek2.attention.head_count_kv": 1,
        "deepseek2.attention.key_length": 576,
        "deepseek2.attention.value_length": 512,
        "deepseek2.attention.key_length_mla": 192,
        "deepseek2.attention.value_length_mla": 128,
        "deepseek2.attention.q_lora_rank": 1536,
        "deepseek2.attention.kv_lora_rank": 512,
        "deepseek2.attention.layer_norm_rms_epsilon": 1e-6,
        "deepseek2.rope.dimension_count": 64,
        "deepseek2.rope.freq_base": 10_000.0,
        "deepseek2.rope.scaling.type": "yarn",
        "deepseek2.rope.scaling.factor": 40.0,
        "deepseek2.rope.scaling.original_context_length": 4096,
        "deepseek2.leading_dense_block_count": 3,
        "deepseek2.expert_feed_forward_length": 2048,
        "deepseek2.expert_count": 256,
        "deepseek2.expert_used_count": 8,
        "deepseek2.expert_shared_count": 1,
        "deepseek2.expert_weights_scale": 2.5,
        "deepseek2.expert_weights_norm": True,
        "deepseek2.expert_gating_func": 2,
        "deepseek2.expert_group_count": 8,
        "deepseek2.expert_group_used_count": 4,
    }


def test_an_old_file_of_deepseek_has_one_matrix_for_keys_and_values(tmp_path: Path) -> None:
    model = random_model(SHAPES["deepseek-v3"])
    opened = written(tmp_path / "model.gguf", model)
    metadata, tensors = parts_of(tmp_path / "model.gguf")
    for layer in range(2):
        del tensors[f"blk.{layer}.attn_v_b.weight"], tensors[f"blk.{layer}.attn_k_b.weight"]
        tensors[f"blk.{layer}.attn_kv_b.weight"] = model.state_dict()[f"blocks.{layer}.attention.key_up.weight"]
    prefix = "deepseek2.attention."
    latent = opened.config.latent
    metadata |= {
        f"{prefix}key_length": opened.config.head_size + latent.rotary_size,
        f"{prefix}value_length": latent.value_size,
        f"{prefix}head_count_kv": opened.config.heads,
    }
    del metadata[f"{prefix}key_length_mla"], metadata[f"{prefix}value_length_mla"]
    assemble(tmp_path / "old.gguf", metadata, tensors)
    old = open_gguf(tmp_path / "old.gguf")
    assert old.config == opened.config
    again = Transformer.from_weights(old.config, old.vocab_size, old.weights)
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", [8, 64, 128])
@pytest.mark.parametrize(("factor", "trained"), [(8.0, 8192), (32.0, 8192), (4.0, 2048)])
def test_the_stretching_of_llama_3_is_recovered_from_its_factors(size: int, factor: float, trained: int) -> None:
    positions = PositionConfig(base=500_000.0, scaling="llama3", factor=factor, original_context=trained)
    config = ModelConfig(**{**SMALL, "width": 4 * size}, qk_norm="none", positions=positions).resolved()
    factors = rope_factors_of(size, positions)
    back = read_config(write_config(config, 100), [], factors).positions
    assert (back.scaling, back.factor, back.base) == ("llama3", factor, 500_000.0)
    torch.testing.assert_close(rope_factors_of(size, back), factors)
    if size > 8:
        assert back.original_context == trained


def test_factors_of_another_kind_are_refused(plain_parts: Parts) -> None:
    path, metadata, tensors = plain_parts
    assemble(path, metadata, {**tensors, "rope_freqs.weight": torch.ones(8)})
    assert open_gguf(path).config.positions.scaling == "none"
    for factors, reason in [
        (torch.linspace(1, 9, 8), "not Llama 3.1's"),
        (torch.ones(7), "is no 8 factors"),
        (torch.full((8,), torch.nan), "is no 8 factors"),
    ]:
        assemble(path, metadata, {**tensors, "rope_freqs.weight": factors})
        with pytest.raises(ArtifactError, match=reason):
            open_gguf(path)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"general.architecture": "bert"}, "its architecture is 'bert'; known are llama, qwen2"),
        ({"general.architecture": 7}, "its architecture is 7"),
        ({"general.architecture": None}, "its architecture is None"),
        ({"general.type": "adapter"}, "it holds no model but 'adapter'"),
        ({"split.count": 3}, "several parts"),
        ({"llama.attention.causal": False}, "an encoder"),
        ({"llama.attention.new_trick": 3}, "'llama.attention.new_trick' may change what the model computes"),
        ({"llama.attention.sliding_window": 8}, "'llama.attention.sliding_window' may change"),
        ({"llama.expert_weights_scale": 2.0}, "may change what the model computes"),
        ({"llama.block_count": None}, "it lacks llama.block_count"),
        ({"llama.block_count": 2.0}, "its llama.block_count is 2.0; one number"),
        ({"llama.block_count": True}, "its llama.block_count is True; one number"),
        ({"llama.block_count": 0}, "it has 0 layers"),
        ({"llama.block_count": 4_000_000_000}, "its llama.block_count is 4000000000"),
        ({"llama.block_count": 2_000_000_000}, "it has 2,000,000,000 layers"),
        ({"llama.attention.head_count": 2_000_000_000}, "it has 2 layers of 64 with 2,000,000,000 heads"),
        ({"llama.attention.head_count": 3}, "kv-heads"),
        ({"llama.attention.head_count": [4, 2]}, "one number for all layers"),
        ({"llama.attention.key_length": 20}, "keys have 20 dimensions but its values 16"),
        ({"llama.attention.layer_norm_rms_epsilon": "small"}, "no number that can be used"),
        ({"llama.attention.layer_norm_rms_epsilon": 5.0}, "norm-epsilon"),
        ({"llama.rope.freq_base": float("nan")}, "no number that can be used"),
        ({"llama.rope.freq_base": 0.5}, "positions.base"),
        ({"llama.rope.dimension_count": 8}, "it turns 8 of the 16 dimensions"),
        ({"llama.rope.scaling.type": "longrope"}, "its rope.scaling is 'longrope'"),
        ({"llama.rope.scaling.type": 3}, "no text"),
        ({"llama.rope.scaling.factor": 0.5}, "its rope.scaling.factor is 0.5"),
        ({"llama.rope.scaling.factor": -2.0}, "its rope.scaling.factor is -2"),
        ({"llama.feed_forward_length": 1_000}, "its tensor blk.0.ffn_gate.weight is (192, 64), but its metadata ask"),
        ({"llama.feed_forward_length": (1 << 31) - 1}, "but its metadata ask for (2147483647, 64)"),
        ({"llama.embedding_length": 32}, "its tensor token_embd.weight is (283, 64)"),
        ({"llama.block_count": 400}, "it says that it has 400 layers, but it has 20 tensors"),
        ({"llama.block_count": 1}, "holds blk.1.attn_k.weight, blk.1.attn_norm.weight"),
        ({"llama.block_count": 3}, "lacks blk.2.attn_k.weight"),
        ({"tokenizer.ggml.bos_token_id": -1}, "no id"),
        ({"tokenizer.ggml.add_bos_token": 1}, "neither true nor false"),
        ({"tokenizer.chat_template": 1}, "its chat template is no text"),
    ],
)
def test_metadata_that_make_no_model_are_refused(plain_parts: Parts, changes: dict[str, Any], reason: str) -> None:
    path, metadata, tensors = plain_parts
    metadata = {key: value for key, value in {**metadata, **changes}.items() if value is not None}
    if metadata.get("tokenizer.ggml.bos_token_id") == -1:
        metadata["tokenizer.ggml.bos_token_id"] = [-1]
    assemble(path, metadata, tensors)
    with pytest.raises(ArtifactError) as caught:
        open_gguf(path)
    assert reason in str(caught.value) and "\n" not in str(caught.value)
    assert str(caught.value).startswith(f"{path} ")


def test_a_list_with_one_number_for_all_layers_is_that_number() -> None:
    keys = Keys({"llama.feed_forward_length": [192, 192]}, "llama")
    assert keys.integer("feed_forward_length") == 192


def test_tensors_that_are_missing_or_left_over_are_refused(plain_parts: Parts) -> None:
    path, metadata, tensors = plain_parts
    assemble(path, metadata, {name: tensor for name, tensor in tensors.items() if "norm" not in name})
    with pytest.raises(ArtifactError, match=r"lacks blk\.0\.attn_norm\.weight, .* output_norm\.weight"):
        open_gguf(path)
    assemble(path, metadata, {**tensors, "blk.0.attn_smell.weight": torch.zeros(3)})
    with pytest.raises(ArtifactError, match=r"holds blk\.0\.attn_smell\.weight, which its kind of model has no place"):
        open_gguf(path)


# Damaged files.


def crafted(tensors: list[TensorPlace], data: int = 4096, alignment: int | None = None) -> bytes:
    metadata = {"general.architecture": "llama"} | ({} if alignment is None else {"general.alignment": alignment})
    header = write_header(metadata, tensors)
    return header + bytes(-len(header) % 32 + data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (crafted([TensorPlace("a", (8, 8), 0, 4096 - 128)]), "'a' ends at byte .* it is truncated"),
        (crafted([TensorPlace("a", (1 << 40, 1 << 40), 0, 0)]), "it is truncated"),
        (crafted([TensorPlace("a", (1 << 63, 1 << 63, 8), 0, 0)]), "it is truncated"),
        (crafted([TensorPlace("a", (8,), 0, 1 << 62)]), "it is truncated"),
        (crafted([TensorPlace("a", (64,), 0, 0), TensorPlace("b", (8,), 0, 128)]), "'a' and 'b' overlap"),
        (crafted([TensorPlace("a", (8,), 0, 4)]), "does not begin at a multiple of 32"),
        (crafted([TensorPlace("a", (8,), 0, 32)], alignment=64), "does not begin at a multiple of 64"),
        (crafted([TensorPlace("a", (8,), 16, 0)]), "has the encoding 16 of ggml; known are F32, F16"),
        (crafted([TensorPlace("a", (4, 33), 8, 0)]), "has rows of 33, no whole blocks of Q8_0"),
        (crafted([TensorPlace("a", (8, 0), 0, 0)]), "'a' has no elements"),
        (crafted([TensorPlace("a", (1, 1, 1, 1, 8), 0, 0)]), "'a' has 5 dimensions; 1 to 4"),
        (crafted([TensorPlace("a", (8,), 0, 0)] * 2), "two of its tensors are called 'a'"),
        (crafted([TensorPlace("a\nb", (8,), 0, 0)]), r"called 'a\\nb', which is no name"),
        (crafted([TensorPlace("a" * 200, (8,), 0, 0)]), "which is no name"),
        (crafted([], alignment=0), "it aligns tensors to 0 bytes"),
        (crafted([], alignment=48), "it aligns tensors to 48 bytes"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "claims 1,152,921,504,606,846,976 tensors"),
        (b"GGUF" + struct.pack("<IQQ", 3, 3, 0), "it is truncated"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "other byte order"),
        (b"\x80\x02}q\x00.", "it is no GGUF file"),
        (b"", "it is truncated"),
    ],
)
def test_a_damaged_file_is_refused_in_one_line(data: bytes, reason: str, tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    with pytest.raises(ArtifactError, match=reason) as caught:
        open_gguf(path)
    assert "\n" not in str(caught.value)


def test_a_key_that_comes_twice_is_refused(tmp_path: Path) -> None:
    entry = struct.pack("<Q", 1) + b"a" + struct.pack("<II", 4, 1)
    (tmp_path / "model.gguf").write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 0, 2) + 2 * entry)
    with pytest.raises(ArtifactError, match="its metadata 'a' comes twice"):
        open_gguf(tmp_path / "model.gguf")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.gguf"):
        with pytest.raises(ArtifactError, match="there is no such file"):
            open_gguf(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A valid file, of which few bytes are weights."""
    path = tmp_path_factory.mktemp("whole") / "model.gguf"
    written(path, random_model(ModelConfig(layers=1, width=8, heads=1, context=8, hidden=8)), kind="F16")
    return path.read_bytes()


def opens_or_tells(path: Path) -> None:
    """The file opens as a model of which every weight can be fetched, or one line tells why it does not."""
    try:
        opened = open_gguf(path)
        for tensor in opened.weights.values():
            assert tensor.numel() < 1 << 20
    except ArtifactError as error:
        assert "\n" not in str(error) and len(str(error)) < 1000


@pytest.fixture(scope="module")
def latent_parts(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, Tensor]]:
    path = tmp_path_factory.mktemp("latent") / "model.gguf"
    written(path, random_model(SHAPES["deepseek-v3"]))
    metadata, tensors = parts_of(path)
    return {key: value for key, value in metadata.items() if not isinstance(value, list)}, tensors


EXTREMES = [0, 1, 3, 1 << 20, (1 << 32) - 1, True, 0.0, -2.0, 1e38, float("nan"), "", "a\nb", [], [2, 2]]


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_metadata_make_a_model_or_are_refused(
    latent_parts: tuple[dict[str, Any], dict[str, Tensor]], tmp_path: Path, data: st.DataObject
) -> None:
    metadata, tensors = latent_parts
    changes = data.draw(st.dictionaries(st.sampled_from(sorted(metadata)), st.sampled_from(EXTREMES), max_size=3))
    assemble(tmp_path / "model.gguf", {**metadata, **changes}, tensors)
    opens_or_tells(tmp_path / "model.gguf")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_the_beginning_of_a_file_is_refused(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """At every length; the last tensor's padding alone may be missing."""
    path = tmp_path / "model.gguf"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 32))])
    with pytest.raises(ArtifactError):
        open_gguf(path)


@settings(max_examples=250, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_changed_bytes_never_end_in_a_traceback(whole: bytes, tmp_path: Path, data: st.DataObject) -> None:
    """Most of a header is the vocabulary: bytes at its ends are changed more often."""
    size = read_header(BytesIO(whole)).size
    places = st.one_of(st.integers(0, 700), st.integers(size - 900, size - 1), st.integers(0, size - 1))
    changed = bytearray(whole)
    for place in data.draw(st.lists(places, min_size=1, max_size=3)):
        changed[place] = data.draw(st.integers(0, 255))
    path = tmp_path / "model.gguf"
    path.write_bytes(changed)
    opens_or_tells(path)
