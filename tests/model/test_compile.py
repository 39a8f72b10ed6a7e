"""Every family compiles whole: no graph break, in training and in decoding, and the compiled answers are the same."""

import pytest
import torch

from groundup.model import KVCache, Transformer
from groundup.model.presets import preset, shrunk

FAMILIES = (
    "gpt2", "llama-2-7b", "llama-3.1-8b", "mistral-7b", "qwen2.5-0.5b", "qwen3-0.6b", "gemma-2-2b", "gemma-3-1b",
    "olmo-2-1b", "smollm2-135m", "mixtral-8x7b", "qwen3-30b-a3b", "deepseek-v2-lite", "deepseek-v3",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_training_and_decoding_compile_without_a_graph_break(name: str) -> None:
    model = Transformer(shrunk(preset(name).config), 64)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0.0, 0.2, generator=generator)
    ids = torch.randint(64, (2, 6), generator=generator)
    torch._dynamo.reset()
    # A graph break raises; where it may come from is the same for every backend, and this one is fast.
    compiled = torch.compile(model, fullgraph=True, backend="eager")

    expected = model.train()(ids)
    expected.square().sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    model.zero_grad()
    logits = compiled(ids)
    logits.square().sum().backward()
    torch.testing.assert_close(logits, expected)
    for part, parameter in model.named_parameters():
        rounding = 1e-4 * max(1.0, float(gradients[part].abs().max()))
        torch.testing.assert_close(parameter.grad, gradients[part], rtol=1e-4, atol=rounding)

    model.eval()
    cache = KVCache.empty(model.config, 2, 8, model.embedding.weight)
    with torch.no_grad():
        decoded = []
        for token in ids.split(1, dim=1):
            decoded.append(compiled(token, cache=cache))
            cache.advance(1)
    torch.testing.assert_close(torch.cat(decoded, dim=1), expected, rtol=1e-4, atol=1e-4)
