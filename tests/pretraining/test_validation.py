"""Bits per byte against log-probabilities taken one at a time."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.device import choose_dtype
from groundup.model import ModelConfig, Transformer
from groundup.pretraining.validation import document_bits, windows_of
from groundup.tokenizer import BytePairTokenizer

TOKENIZER = BytePairTokenizer.from_merges([(ord("a"), ord("b"))])
MARK = TOKENIZER.special_tokens["<|document|>"]


@pytest.fixture(scope="module")
def model() -> Transformer:
    model = Transformer(ModelConfig(1, 16, 2, 1, 24, 8), TOKENIZER.vocab_size)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0 if parameter.ndim > 1 else 1, 0.3, generator=generator)
    return model.eval()


@settings(deadline=None)
@given(length=st.integers(0, 200), context=st.integers(1, 40), data=st.data())
def test_windows_predict_every_token_but_the_first_once(length: int, context: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, context))
    spans = windows_of(length, context, stride)
    assert [token for _, first, end in spans for token in range(first, end)] == list(range(1, length))
    for start, first, end in spans:
        assert 0 <= start < first < end
        assert end - 1 - start <= context
        assert start == 0 or first - start >= context - stride + (first == end)
    assert all(before[2] == after[1] for before, after in pairwise(spans))


def documents() -> list[list[int]]:
    return [[MARK, *TOKENIZER.encode(text)] for text in ("ab cab", "a longer text about cabs, abbeys and ábacus", "x")]


@torch.no_grad()
def bits_one_at_a_time(model: Transformer, ids: list[int], stride: int) -> float:
    """Every token predicted by its own forward pass over what its window shows."""
    total = 0.0
    for start, first, end in windows_of(len(ids), model.config.context, stride):
        for place in range(first, end):
            logits = model(torch.tensor([ids[start:place]]))[0, -1]
            total -= float(logits.double().log_softmax(dim=-1)[ids[place]]) / math.log(2)
    return total


@pytest.mark.parametrize("stride", [1, 4, 8])
def test_bits_equal_one_at_a_time(model: Transformer, stride: int) -> None:
    measured = document_bits(model, documents(), TOKENIZER, stride)
    expected = sum(bits_one_at_a_time(model, ids, stride) for ids in documents())
    rounding = 2e-2 if choose_dtype("auto", torch.device("cpu")) is torch.bfloat16 else 1e-4
    assert measured.bits.sum() == pytest.approx(expected, rel=rounding)
    size = sum(len(TOKENIZER.decode_bytes(ids)) for ids in documents())
    assert measured.bytes.sum() == size
    assert measured.per_byte == pytest.approx(measured.bits.sum() / size)


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_vocabulary() -> None:
    model = Transformer(ModelConfig(1, 16, 2, 1, 24, 8), TOKENIZER.vocab_size).eval()
    with torch.no_grad():
        model.embedding.weight.zero_()
    ids = documents()[1]
    measured = document_bits(model, [ids], TOKENIZER)
    assert measured.bits.sum() == pytest.approx((len(ids) - 1) * math.log2(TOKENIZER.vocab_size), rel=1e-3)


def test_a_limit_takes_windows_from_everywhere(model: Transformer) -> None:
    everything = document_bits(model, documents() * 4, TOKENIZER, 4)
    some = document_bits(model, documents() * 4, TOKENIZER, 4, limit=6)
    assert len(everything.bits) > 6 == len(some.bits)
    assert set(some.bits.round(3)) <= set(everything.bits.round(3))
