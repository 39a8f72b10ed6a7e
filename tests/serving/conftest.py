"""A real model, tokenizer and engine that say known words: each token is followed by a fixed next one."""

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch

from groundup.inference.engine import Engine
from groundup.model.config import ModelConfig
from groundup.model.transformer import Transformer
from groundup.tokenizer.bpe import BytePairTokenizer
from groundup.tokenizer.chat import ChatTemplate

CONTEXT = 128


@pytest.fixture(scope="session")
def template() -> ChatTemplate:
    return ChatTemplate(BytePairTokenizer.from_merges([]))


@pytest.fixture
def saying(template: ChatTemplate) -> Callable[..., Engine]:
    """``saying("abc")``: an engine whose greedy reply is abc, no byte twice; with ``ends=False`` over and over."""

    def build(text: str, ends: bool = True, context: int = CONTEXT, max_rows: int = 64) -> Engine:
        tokenizer = template.tokenizer
        special = tokenizer.special_tokens
        said = tokenizer.encode(text)
        assert len(set(said)) == len(said)
        width = tokenizer.vocab_size + tokenizer.vocab_size % 2
        config = ModelConfig(1, width, 1, 1, 8, context, tied=False)
        model = Transformer(config, tokenizer.vocab_size).initialise(torch.Generator().manual_seed(0))
        chain = [special["<|assistant|>"], *said, special["<|end|>"] if ends else said[0]]
        with torch.no_grad():  # a fresh block adds nothing, so the logits are a table of what follows what
            model.embedding.weight.copy_(torch.eye(tokenizer.vocab_size, width))
            model.head.weight.zero_()
            for token, following in pairwise(chain):
                model.head.weight[following, token] = 1.0
        return Engine(model, template.stop_ids, max_rows)

    return build


@pytest.fixture
def babbling(template: ChatTemplate) -> Callable[..., Engine]:
    """An engine with random weights, whose replies depend on the whole prompt."""

    def build(context: int = CONTEXT, max_rows: int = 8) -> Engine:
        vocab_size = template.tokenizer.vocab_size
        model = Transformer(ModelConfig(2, 32, 4, 2, 48, context), vocab_size)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(0, 0.5 if parameter.ndim > 1 else 1.0, generator=generator)
        return Engine(model, template.stop_ids, max_rows)

    return build
