"""Every architecture of Hugging Face that we open, against ``transformers``: the same weights, the same numbers.

Small models with loud random weights in float32, of several shapes each. Differences are max|ours - theirs| divided by
max|theirs|, per tensor. ``python -m tests.parity.table`` runs these tests and writes what they measured to
``docs/parity.md``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from groundup.model import KVCache, ModelConfig, Transformer
from groundup.model.formats.huggingface import open_huggingface, write_huggingface
from groundup.model.formats.huggingface_config import read_config
from groundup.model.formats.huggingface_names import links
from groundup.model.formats.links import write_links
from groundup.model.formats.safetensors import open_tensors, read_object
from groundup.tasks.conversation import Conversation, Message
from groundup.tokenizer import BytePairTokenizer, ChatTemplate, Tokenizer
from groundup.tokenizer.chat import JINJA_TEMPLATE
from groundup.tokenizer.formats import huggingface
from groundup.tokenizer.formats.prepared import tokenizer_of
from groundup.tokenizer.pretokenize import Pattern

#: No difference may be larger.
BOUND = 1e-5
VOCABULARY = 71
TIME = 44

_SMALL: Mapping[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 128,
    "rope_theta": 500.0,
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
}
_OTHER = {"hidden_size": 48, "intermediate_size": 40, "num_hidden_layers": 3, "num_attention_heads": 6}
_TRAINED = {"original_max_position_embeddings": 16}
_LINEAR = {"rope_scaling": {"rope_type": "linear", "factor": 4.0}}
_LLAMA3 = {
    "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **_TRAINED}
}
_YARN = {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, **_TRAINED}}
_HEADS = {"head_dim": 12}
_QWEN_WINDOWS = {"use_sliding_window": True, "sliding_window": 7, "max_window_layers": 1}
_MLA = {
    **{"num_key_value_heads": 4, "kv_lora_rank": 20, "q_lora_rank": 12, "qk_rope_head_dim": 8, "qk_nope_head_dim": 10},
    **{"v_head_dim": 6, "n_routed_experts": 8, "num_experts_per_tok": 3, "moe_intermediate_size": 24},
    **{"first_k_dense_replace": 1, "num_hidden_layers": 3, "n_shared_experts": 2},
}
_DEEP_YARN = {
    "rope_scaling": {
        "rope_type": "yarn",
        "factor": 4.0,
        "mscale": 1.0,
        "mscale_all_dim": 0.7,
        "beta_fast": 8,
        **_TRAINED,
    }
}
_MIXED = {"num_experts_per_tok": 2}

#: Family → shape → what its configuration says beyond ``_SMALL``.
SHAPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "gpt2": {
        "small": {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 128},
        "untied": {
            "n_embd": 48,
            "n_head": 6,
            "n_layer": 3,
            "n_positions": 64,
            "n_inner": 40,
            "tie_word_embeddings": False,
        }
        | {"activation_function": "relu"},
    },
    "llama": {
        "grouped": {},
        "tied": {**_OTHER, "num_key_value_heads": 1, "tie_word_embeddings": True, "rms_norm_eps": 1e-3},
        "biased": {"attention_bias": True, "mlp_bias": True, "hidden_act": "gelu", "num_key_value_heads": None},
        "llama3": {**_LLAMA3, **_HEADS},
        "linear": _LINEAR,
        "yarn": _YARN,
    },
    "mistral": {
        "windowed": {"sliding_window": 7},
        "whole": {**_OTHER, **_HEADS, "num_key_value_heads": 3, "sliding_window": None, "hidden_size": 40},
        "yarn": {**_YARN, "sliding_window": 9, "tie_word_embeddings": True},
    },
    "qwen2": {
        "grouped": {},
        "tied": {**_OTHER, "num_key_value_heads": 3, "tie_word_embeddings": True},
        "windowed": {**_QWEN_WINDOWS, "num_hidden_layers": 3},
        "yarn": _YARN,
    },
    "qwen3": {
        "grouped": _HEADS,
        "tied": {**_OTHER, "head_dim": 8, "num_key_value_heads": 1, "tie_word_embeddings": True},
        "windowed": {**_QWEN_WINDOWS, **_HEADS, "num_hidden_layers": 3},
        "yarn": {**_YARN, **_HEADS},
    },
    "gemma2": {
        "windowed": {**_HEADS, "sliding_window": 7, "query_pre_attn_scalar": 9, "attn_logit_softcapping": 3.0},
        "untied": {**_OTHER, "head_dim": 8, "num_key_value_heads": 3, "sliding_window": 5, "tie_word_embeddings": False}
        | {"final_logit_softcapping": None},
        "linear": {**_LINEAR, "head_dim": 8, "sliding_window": 7, "attn_logit_softcapping": None},
    },
    "gemma3_text": {
        "windowed": {**_HEADS, "sliding_window": 7, "sliding_window_pattern": 3, "num_hidden_layers": 4},
        "untied": {**_OTHER, "head_dim": 8, "num_key_value_heads": 1, "tie_word_embeddings": False}
        | {"layer_types": ["full_attention", "sliding_attention", "sliding_attention"], "sliding_window": 5},
        "linear": {**_LINEAR, "head_dim": 8, "sliding_window": 7, "sliding_window_pattern": 2}
        | {"final_logit_softcapping": 5.0, "query_pre_attn_scalar": 20},
    },
    "olmo2": {
        "grouped": {},
        "tied": {**_OTHER, "num_key_value_heads": 6, "tie_word_embeddings": True},
        "linear": _LINEAR,
    },
    "mixtral": {
        "grouped": {**_MIXED, "num_local_experts": 5},
        "windowed": {**_OTHER, **_MIXED, "num_key_value_heads": 3, "num_local_experts": 4, "sliding_window": 7}
        | {"tie_word_embeddings": True},
        "yarn": {**_YARN, **_MIXED, "num_local_experts": 3, "head_dim": 8},
    },
    "qwen3_moe": {
        "grouped": {**_HEADS, **_MIXED, "num_experts": 5, "moe_intermediate_size": 24, "norm_topk_prob": True},
        "dense-first": {**_OTHER, "head_dim": 8, "num_key_value_heads": 3, "num_experts": 6, "num_experts_per_tok": 3}
        | {"moe_intermediate_size": 16, "mlp_only_layers": [0], "use_sliding_window": True, "sliding_window": 7},
        "yarn": {**_YARN, **_MIXED, "head_dim": 8, "num_experts": 4, "moe_intermediate_size": 24},
    },
    "deepseek_v2": {
        "greedy": {**_MLA, "routed_scaling_factor": 1.5},
        "groups": {**_MLA, "topk_method": "group_limited_greedy", "n_group": 4, "topk_group": 2, "q_lora_rank": None},
        "yarn": {**_MLA, **_DEEP_YARN, "tie_word_embeddings": True},
    },
    "deepseek_v3": {
        "groups": {**_MLA, "n_group": 4, "topk_group": 2},
        "halves": {**_MLA, "n_group": 1, "topk_group": 1, "rope_interleave": False, "q_lora_rank": None}
        | {"norm_topk_prob": False},
        "yarn": {**_MLA, **_DEEP_YARN, "n_group": 2, "topk_group": 1},
        "dense": {**_MLA, "num_hidden_layers": 2, "first_k_dense_replace": 2},
    },
}
EVERY = [(family, shape) for family, shapes in SHAPES.items() for shape in shapes]
SCALED = [(family, shape) for family, shape in EVERY if "rope_scaling" in SHAPES[family][shape]]


@dataclass(frozen=True)
class Twins:
    """Ours and theirs with the same weights, and ids [2, TIME]."""

    config: ModelConfig
    ours: Transformer
    theirs: Any
    ids: Tensor


@cache
def twins(family: str, shape: str) -> Twins:
    """A model of theirs with random weights, and what we read of the folder that it saves."""
    transformers = pytest.importorskip("transformers")
    said = {**_SMALL, **SHAPES[family][shape]}
    if family == "gpt2":
        said = {name: value for name, value in said.items() if name not in _SMALL or "token" in name or "vocab" in name}
    config = transformers.AutoConfig.for_model(family, **said)
    generator = torch.Generator().manual_seed(len(family) + 7 * len(shape))
    theirs = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, tensor in theirs.state_dict().items():
            noise = torch.randn(tensor.shape, generator=generator)
            loud = 0.2 if tensor.ndim < 2 else tensor.shape[-1] ** -0.5
            norm = tensor.ndim < 2 and name.endswith("weight") and not family.startswith("gemma")
            if name != "lm_head.weight" or not config.tie_word_embeddings:
                tensor.copy_(loud * noise + (1.0 if norm else 0.0))
    ids = torch.randint(VOCABULARY, (2, TIME), generator=generator)
    with TemporaryDirectory() as folder:
        theirs.save_pretrained(folder)
        described, vocab_size, weights = open_huggingface(Path(folder))
        ours = Transformer(described, vocab_size).eval()
        ours.load_state_dict(weights)
    return Twins(described, ours, theirs, ids)


def difference(ours: Tensor, theirs: Tensor) -> float:
    """max|ours - theirs| / max|theirs|."""
    assert ours.shape == theirs.shape
    largest = theirs.abs().max().item()
    gap = (ours - theirs).abs().max().item()
    return gap / largest if largest else gap


@pytest.fixture
def check(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Callable[..., None]:
    """``check("logits", *differences)``: all are within the bound, and the largest goes into the table."""
    about = request.node.callspec.params

    def within(name: str, *differences: float) -> None:
        record_property("measured", (about["family"], about["shape"], name, max(differences)))
        assert all(value <= BOUND for value in differences)

    return within


Check = Callable[..., None]
each = pytest.mark.parametrize(("family", "shape"), EVERY)


@each
@torch.no_grad()
def test_logits_and_loss(family: str, shape: str, check: Check) -> None:
    pair = twins(family, shape)
    expected = pair.theirs(pair.ids, labels=pair.ids)
    assert expected.logits.std() > 0.3  # loud enough for a difference to show
    logits = pair.ours(pair.ids)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), pair.ids[:, 1:].flatten())
    check("logits", difference(logits, expected.logits))
    check("loss", difference(loss, expected.loss))


@each
def test_gradients(family: str, shape: str, check: Check, tmp_path: Path) -> None:
    """Of every parameter, by their names. Theirs are saved as if they were weights, ours go the way of weights too."""
    pair = twins(family, shape)
    pair.theirs.zero_grad()
    pair.theirs(pair.ids, labels=pair.ids).loss.backward()
    pair.ours.zero_grad()
    logits = pair.ours(pair.ids)
    F.cross_entropy(logits[:, :-1].flatten(0, 1), pair.ids[:, 1:].flatten()).backward()
    weights = {name: parameter.data for name, parameter in pair.theirs.named_parameters()}
    try:
        for parameter in pair.theirs.parameters():
            assert parameter.grad is not None
            parameter.data = parameter.grad
        pair.theirs.save_pretrained(tmp_path)
    finally:
        for name, parameter in pair.theirs.named_parameters():
            parameter.data = weights[name]
    found = read_config(read_object(tmp_path / "config.json"))
    gradients = {name: parameter.grad for name, parameter in pair.ours.named_parameters(remove_duplicate=False)}
    assert all(gradient is not None for gradient in gradients.values())
    buffers = dict(pair.ours.named_buffers())
    named = dict(write_links(links(found.family, found.config, found.interleaved), {**buffers, **gradients}))
    expected = {name: fetch() for name, fetch in open_tensors(tmp_path).items()}
    assert named.keys() == expected.keys()
    check("gradients", *(difference(named[name], expected[name]) for name in expected))


@each
@torch.no_grad()
def test_cached_decoding(family: str, shape: str, check: Check) -> None:
    """A prompt, single tokens, and several tokens at once."""
    pair = twins(family, shape)
    store = KVCache.empty(pair.config, 2, TIME, pair.ours.embedding.weight)
    past, start, differences = None, 0, []
    for count in (20, 1, 1, 5):
        piece = pair.ids[:, start : start + count]
        expected = pair.theirs(piece, past_key_values=past, use_cache=True)
        past = expected.past_key_values
        differences.append(difference(pair.ours(piece, cache=store), expected.logits))
        store.advance(count)
        start += count
    check("cached", *differences)


@each
@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_padded_batches(family: str, shape: str, side: str, check: Check) -> None:
    pair = twins(family, shape)
    real = torch.ones_like(pair.ids)
    padding = slice(0, 13) if side == "left" else slice(TIME - 13, TIME)
    real[1, padding] = 0
    positions = (real.cumsum(-1) - 1).clamp(min=0)
    expected = pair.theirs(pair.ids, attention_mask=real, position_ids=positions).logits
    logits = pair.ours(pair.ids, positions=positions, segments=real)
    check(f"{side} padding", difference(logits[real.bool()], expected[real.bool()]))


@each
@torch.no_grad()
def test_packed_sequences(family: str, shape: str, check: Check) -> None:
    """Three sequences in one row of ours, one after the other in theirs."""
    pair = twins(family, shape)
    sizes = (17, 3, TIME - 20)
    segments = torch.cat([torch.full((size,), number) for number, size in enumerate(sizes)])[None]
    positions = torch.cat([torch.arange(size) for size in sizes])[None]
    logits = pair.ours(pair.ids[:1], positions=positions, segments=segments)
    alone = [pair.theirs(piece).logits for piece in pair.ids[:1].split(sizes, dim=1)]
    check("packed", *(difference(*pieces) for pieces in zip(logits.split(sizes, dim=1), alone, strict=True)))


@pytest.mark.parametrize(("family", "shape"), SCALED)
@torch.no_grad()
def test_beyond_the_trained_length(family: str, shape: str, check: Check) -> None:
    """Up to the end of the context, which is several times what the frequencies were made for."""
    pair = twins(family, shape)
    context = pair.config.context
    ids = torch.randint(VOCABULARY, (1, context), generator=torch.Generator().manual_seed(5))
    assert context >= 2 * pair.config.positions.original_context
    check("beyond", difference(pair.ours(ids)[:, TIME:], pair.theirs(ids).logits[:, TIME:]))


@each
@torch.no_grad()
def test_round_trip_is_bit_equal(family: str, shape: str, check: Check, tmp_path: Path) -> None:
    """What we write, ``from_pretrained`` opens as the same model."""
    transformers = pytest.importorskip("transformers")
    pair = twins(family, shape)
    folder = tmp_path / "written"
    write_huggingface(folder, pair.config, VOCABULARY, pair.ours.state_dict())
    again, report = transformers.AutoModelForCausalLM.from_pretrained(
        folder, attn_implementation="eager", output_loading_info=True
    )
    assert not any(report.values())
    if shape != "halves":  # those are written as neighbours, as all published models of that family are
        read = again.state_dict()
        assert all(torch.equal(read[name], tensor) for name, tensor in pair.theirs.state_dict().items())
    config, vocab_size, weights = open_huggingface(folder)
    assert (config, vocab_size) == (pair.config, VOCABULARY)
    assert all(torch.equal(weights[name], tensor) for name, tensor in pair.ours.state_dict().items())
    logits, expected = again(pair.ids).logits, pair.theirs(pair.ids).logits
    check("round trip", difference(logits, expected))
    assert torch.equal(logits, expected)


# --- what stands beside the weights


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return BytePairTokenizer.train([PROBE] * 3, 320)


PROBE = "Hello world! Don't they'll say 12345, or 3.14?  \n\n\tcafe\u0301 中文 <|unknown|> … " * 3


def spelled_like_qwen() -> Tokenizer:
    """As Qwen's own tokenizers are: cut like them, in NFC, with their special token."""
    trained = BytePairTokenizer.train([PROBE], 300, Pattern.named("qwen2"))
    content = trained.to_json()
    content["normalizer"] = {"type": "NFC"}
    content["added_tokens"].append(content["added_tokens"][0] | {"id": trained.vocab_size, "content": "<|endoftext|>"})
    return tokenizer_of(huggingface.read(content))


@pytest.mark.parametrize("family", SHAPES)
def test_auto_tokenizer_gives_equal_ids(family: str, tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = twins(family, next(iter(SHAPES[family]))).config
    ours = spelled_like_qwen() if family == "qwen2" else tokenizer
    model = Transformer(config, 320)
    write_huggingface(tmp_path / "out", config, 320, model.state_dict(), ours, JINJA_TEMPLATE)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert theirs.encode(PROBE, add_special_tokens=False) == ours.encode(PROBE)
    assert theirs.encode(PROBE) == [ours.special_tokens["<|document|>"], *ours.encode(PROBE)]
    assert len(theirs) == ours.vocab_size
    assert theirs.decode(ours.encode(PROBE)) == ours.decode(ours.encode(PROBE))
    special = ours.special_tokens
    roles = (theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id)
    assert roles == (special["<|document|>"], special["<|end|>"], special["<|pad|>"])
    conversation = Conversation((Message("user", "Hello world"),))
    asked = theirs.apply_chat_template([{"role": "user", "content": "Hello world"}], add_generation_prompt=True)
    assert asked["input_ids"] == ChatTemplate(ours).prompt(conversation)


@torch.no_grad()
def test_generate_from_text_to_text(tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    model = Transformer(ModelConfig(layers=2, width=32, heads=4, kv_heads=2, context=64, init="normal"), 320).eval()
    model.initialise(torch.Generator().manual_seed(0))
    write_huggingface(tmp_path / "out", model.config, 320, model.state_dict(), tokenizer, JINJA_TEMPLATE)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    prompt = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")("Hello world", return_tensors="pt")
    generated = theirs.generate(**prompt, max_new_tokens=12, do_sample=False)[0].tolist()
    ids = [tokenizer.special_tokens["<|document|>"], *tokenizer.encode("Hello world")]
    ends = {tokenizer.special_tokens["<|end|>"], tokenizer.special_tokens["<|document|>"]}
    for _ in range(12):
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
        if ids[-1] in ends:
            break
    assert generated == ids


@pytest.mark.parametrize("family", SHAPES)
def test_what_a_file_leaves_out_is_what_their_configuration_has(family: str) -> None:
    transformers = pytest.importorskip("transformers")
    said = {"num_experts_per_tok": 6, "moe_intermediate_size": 1408} if family == "deepseek_v2" else {}
    full = transformers.AutoConfig.for_model(family, **said).to_dict()
    assert read_config({"model_type": family, **said}) == read_config(full)
