"""GGUF against its reference implementations: the package ``gguf`` and, where it is, llama.cpp.

llama.cpp comes with ``pip install llama-cpp-python``, which compiles it for some minutes; without it those tests are
skipped.
"""

import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from groundup.model import ModelConfig, Transformer
from groundup.model.config import AttentionConfig, ExpertConfig, PositionConfig
from groundup.model.formats.gguf import open_gguf, write_gguf
from groundup.model.formats.gguf_metadata_writing import write_config
from groundup.model.formats.gguf_names import links
from groundup.model.formats.links import write_links
from groundup.model.formats.quantisation import ENCODINGS, decode, encode
from groundup.model.presets import names, preset, shrunk
from groundup.tasks.conversation import Conversation
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.chat import JINJA_TEMPLATE, ChatTemplate
from groundup.tokenizer.pretokenize import NAMED, Pattern

reference = pytest.importorskip("gguf")

TEXTS = [
    "The theatre: it's 7 o'clock, 1234.56! DON'T they'LL we'Ve McDonald's camelCase XMLHttp",
    "\tif x != 0:\r\n\r\n  return  y\n\n\n   ",
    "中文 ひらがな한국어 ΑΒ Ёж ﬁ \t ٣٤ […]   émigré naïve Straße\u00a0x\u3000y",
    "  \n \n  a  b   ",
    "🙂👩‍👩‍👧 <|end|> <|document|> text a\u0300 \u200bz\ufeff",
    *("".join(letters) for letters in itertools.product("a' 1\n.中", repeat=4)),
]
SMALL: Mapping[str, Any] = {"layers": 2, "width": 64, "heads": 4, "kv_heads": 2, "context": 48}
REFUSED = ("mistral-7b", "gemma-2-27b", "gemma-3-27b", "deepseek-v2")
SHAPES = {
    **{name: shrunk(preset(name).config) for name in names() if name not in REFUSED},
    "default": ModelConfig(**SMALL),
    "biases of llama": ModelConfig(**SMALL, qk_norm="none", bias="all", tied=False),
    "wide heads": ModelConfig(**SMALL, qk_norm="none", bias="qkv", head_size=32),
    "biases of qwen3": ModelConfig(**SMALL, bias="qkv"),
    "linear": ModelConfig(**SMALL, qk_norm="none", positions=PositionConfig(scaling="linear", factor=4.0)),
    "yarn": ModelConfig(**SMALL, positions=PositionConfig(scaling="yarn", factor=4.0, magnitude=1.3)),
    "llama3": ModelConfig(
        **SMALL, qk_norm="none", positions=PositionConfig(scaling="llama3", factor=4.0, original_context=16)
    ),
    "mixtral": ModelConfig(**SMALL, qk_norm="none", experts=ExpertConfig(count=4, hidden=32)),
    "tied olmo2": ModelConfig(**SMALL, norm_place="output", qk_norm="all"),
    "olmo3": ModelConfig(
        **{**SMALL, "layers": 4},
        norm_place="output",
        qk_norm="all",
        attention=AttentionConfig(window=8, pattern="LLLG"),
        positions=PositionConfig(scaling="yarn", factor=4.0, local_base=10_000.0),
    ),
    "gemma 3 with its own pattern": ModelConfig(
        **{**SMALL, "layers": 4},
        norm_place="sandwich",
        norm_offset=True,
        feed_forward="geglu-tanh",
        embedding_scale=8.0,
        attention=AttentionConfig(window=8, pattern="LGG"),
        positions=PositionConfig(scaling="linear", factor=4.0, local_base=500.0),
    ),
}


def tokenizer_of(pattern: Pattern | None = None) -> BytePairTokenizer:
    return BytePairTokenizer.train([text for text in TEXTS for _ in range(2)], 400, pattern)


@pytest.fixture(scope="module")
def llama_cpp() -> Any:
    return pytest.importorskip("llama_cpp")


@pytest.fixture(scope="module")
def tokenizer() -> BytePairTokenizer:
    return tokenizer_of()


def random_model(config: ModelConfig, vocab_size: int) -> Transformer:
    """A model in which every tensor matters, and differences between its logits are large."""
    model = Transformer(config, vocab_size)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            spread = 0.2 if tensor.ndim == 1 else 1.2 * tensor.shape[-1] ** -0.5
            centre = 1.0 if name.endswith("scale") and not config.norm_offset else 0.0
            tensor.normal_(centre, 0.3 if name == "embedding.weight" else spread, generator=generator)
    return model.eval()


def ids_for(vocab_size: int) -> Tensor:
    return torch.randint(0, vocab_size, (1, 30), generator=torch.Generator().manual_seed(2))


def same_numbers(ours: Tensor, theirs: Any) -> bool:
    """Bit for bit, save that any NaN is as good as another."""
    return np.array_equal(ours.float().numpy(), np.asarray(theirs, np.float32), equal_nan=True)


@pytest.mark.parametrize("name", ENCODINGS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_blocks_decode_to_the_same_numbers(name: str) -> None:
    encoding, kind = ENCODINGS[name], reference.GGMLQuantizationType[name]
    assert (kind.value, reference.GGML_QUANT_SIZES[kind]) == (encoding.number, (encoding.weights, encoding.bytes))
    data = np.random.default_rng(0).integers(0, 256, (999, 3 * encoding.bytes), dtype=np.uint8)
    ours = decode(torch.from_numpy(data).view(-1), encoding, (999, 3 * encoding.weights))
    assert same_numbers(ours, reference.dequantize(data, kind))


@pytest.mark.parametrize("name", ["F32", "F16", "BF16", "Q8_0"])
@pytest.mark.parametrize("size", [1.0, 1e-9, 1e4])
def test_weights_are_encoded_to_the_same_bytes(name: str, size: float) -> None:
    weights = np.random.default_rng(0).standard_normal((200, 96)).astype(np.float32) * np.float32(size)
    weights[3] = 0
    weights[4] = [127.0, *np.arange(-23, 24) * 0.5] * 2  # halves, which are rounded away from zero
    theirs = reference.quantize(weights, reference.GGMLQuantizationType[name])
    assert encode(torch.from_numpy(weights), ENCODINGS[name]).numpy().tobytes() == theirs.tobytes()


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q8_0"])
def test_the_reference_reads_our_file(kind: str, tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
    model = random_model(ModelConfig(**SMALL, bias="qkv"), tokenizer.vocab_size)
    path = tmp_path / "model.gguf"
    write_gguf(path, model.config, tokenizer.vocab_size, model.state_dict(), tokenizer, JINJA_TEMPLATE, kind=kind)
    theirs = reference.GGUFReader(path)
    assert theirs.fields["tokenizer.chat_template"].contents() == JINJA_TEMPLATE
    assert theirs.fields["qwen3.block_count"].contents() == 2
    assert theirs.fields["tokenizer.ggml.tokens"].contents()[:3] == ["Ā", "ā", "Ă"]
    ours = open_gguf(path).weights
    found = {tensor.name: tensor for tensor in theirs.tensors}
    assert len(found) == len(ours)
    for name in ("embedding.weight", "norm.scale"):
        tensor = found[{"embedding.weight": "token_embd.weight", "norm.scale": "output_norm.weight"}[name]]
        decoded = reference.dequantize(tensor.data, tensor.tensor_type).reshape(ours[name].shape)
        assert same_numbers(ours[name], decoded)


def test_we_read_the_file_of_the_reference(tmp_path: Path) -> None:
    config = ModelConfig(**SMALL, tied=False)
    state = random_model(config, 300).state_dict()
    path = tmp_path / "model.gguf"
    writer = reference.GGUFWriter(path, "qwen3")
    for key, value in write_config(config.resolved(), 300).items():
        if isinstance(value, str):
            if key != "general.architecture":
                writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    for name, tensor in write_links(links(config.resolved(), "qwen3", state), state):
        kind = reference.GGMLQuantizationType.F32 if tensor.ndim == 1 else reference.GGMLQuantizationType.Q8_0
        writer.add_tensor(name, reference.quantize(tensor.numpy(), kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    opened = open_gguf(path)
    assert opened.config == config.resolved()
    for name, tensor in opened.weights.items():
        torch.testing.assert_close(tensor, state[name], rtol=0, atol=0.02)


class TestLlamaCpp:
    """The file runs there, with the same logits and the same ids."""

    def opened(self, llama_cpp: Any, path: Path) -> Any:
        return llama_cpp.Llama(
            str(path), n_ctx=64, n_threads=1, logits_all=True, verbose=False, type_k=0, type_v=0, flash_attn=False
        )

    @pytest.mark.parametrize("name", SHAPES)
    def test_logits(self, name: str, llama_cpp: Any, tokenizer: BytePairTokenizer, tmp_path: Path) -> None:
        model = random_model(SHAPES[name], tokenizer.vocab_size)
        path = tmp_path / "model.gguf"
        write_gguf(path, model.config, tokenizer.vocab_size, model.state_dict(), tokenizer, kind="F32")
        theirs = self.opened(llama_cpp, path)
        ids = ids_for(tokenizer.vocab_size)
        theirs.eval(ids[0].tolist())
        with torch.no_grad():
            ours = model(ids)[0]
        # There GELU is a table in float16.
        bound = 5e-3 if model.config.feed_forward.startswith("ge") else 5e-5
        torch.testing.assert_close(torch.from_numpy(theirs.scores[:30].copy()), ours, rtol=0, atol=bound)

    @pytest.mark.parametrize(("kind", "bound"), [("F16", 0.02), ("BF16", 0.2), ("Q8_0", 0.2)])
    def test_smaller_encodings(
        self, kind: str, bound: float, llama_cpp: Any, tokenizer: BytePairTokenizer, tmp_path: Path
    ) -> None:
        """There activations are rounded as the weights are; the deviations of the logits are about 1."""
        model = random_model(SHAPES["default"], tokenizer.vocab_size)
        path = tmp_path / "model.gguf"
        write_gguf(path, model.config, tokenizer.vocab_size, model.state_dict(), tokenizer, kind=kind)
        opened = open_gguf(path)
        weights = {name: tensor.float() for name, tensor in opened.weights.items()}
        ours = Transformer.from_weights(opened.config, opened.vocab_size, weights)
        ids, theirs = ids_for(tokenizer.vocab_size), self.opened(llama_cpp, path)
        theirs.eval(ids[0].tolist())
        with torch.no_grad():
            differences = torch.from_numpy(theirs.scores[:30].copy()) - ours(ids)[0]
        assert differences.square().mean().sqrt() < bound

    @pytest.mark.parametrize("pattern", ["groundup", "gpt2", "llama3", "qwen2", "o200k", "smollm"])
    def test_ids(self, pattern: str, llama_cpp: Any, tmp_path: Path) -> None:
        cutting = Pattern((r"\p{N}", NAMED["gpt2"])) if pattern == "smollm" else Pattern.named(pattern)
        tokenizer = tokenizer_of(cutting)
        model = random_model(ModelConfig(layers=1, width=32, heads=2, context=64), tokenizer.vocab_size + 5)
        path = tmp_path / "model.gguf"
        write_gguf(path, model.config, tokenizer.vocab_size + 5, model.state_dict(), tokenizer, JINJA_TEMPLATE)
        theirs = self.opened(llama_cpp, path)
        for text in TEXTS:
            assert theirs.tokenize(text.encode(), add_bos=False, special=False) == tokenizer.encode(text), text
        special = tokenizer.special_tokens
        assert (theirs.token_bos(), theirs.token_eos()) == (special["<|document|>"], special["<|document|>"])
        prompt = "<|document|><|user|> Hello it's 12<|end|><|assistant|>"
        conversation = Conversation.of(("user", "Hello it's 12"))
        asked = ChatTemplate(tokenizer).prompt(conversation)
        assert theirs.tokenize(prompt.encode(), add_bos=False, special=True) == asked
