import json
from collections.abc import Callable

import pytest
import torch

from groundup.core.errors import ArtifactError, UsageError
from groundup.inspection import Inspection, inspect
from groundup.inspection.inspection import MOST_TOKENS, significant
from groundup.model import Transformer
from groundup.model.config import PositionConfig
from groundup.model.presets import names, preset, shrunk
from groundup.tokenizer import BytePairTokenizer

Build = Callable[..., Transformer]

#: One preset of each family.
FAMILIES = {preset(name).family: name for name in reversed(list(names()))}


def test_the_last_layer_of_the_lens_is_the_models_prediction(build: Build, tokenizer: BytePairTokenizer) -> None:
    model = build()
    found = inspect(model, tokenizer, "what follows?", top=3)
    ids = torch.tensor([[token.id for token in found.tokens]])
    expected = model(ids)[0].softmax(-1)
    assert torch.equal(found.prediction.top_ids[-1], expected.topk(3).indices)
    assert torch.allclose(found.prediction.top_probabilities[-1], expected.topk(3).values, atol=1e-6)
    assert torch.equal(found.prediction.final.ids, expected.argmax(-1))
    assert (found.prediction.final.rank[-1] == 1).all()
    assert torch.equal(found.prediction.following.ids, ids[0, 1:])
    following = expected[:-1].gather(-1, ids[0, 1:, None])[:, 0]
    assert torch.allclose(found.prediction.following.probability[-1], following, atol=1e-6)


def test_the_first_layer_of_the_lens_is_the_embedding(build: Build, tokenizer: BytePairTokenizer) -> None:
    model = build(tied=True)
    found = inspect(model, tokenizer, "ab")
    embedded = model.embedding.weight[[token.id for token in found.tokens]]
    expected = model.logits(embedded).softmax(-1)
    assert torch.allclose(found.prediction.top_probabilities[0, :, 0], expected.amax(-1), atol=1e-6)
    assert torch.allclose(found.stream.norm[0], embedded.norm(dim=-1).double(), atol=1e-6)


def test_attention_looks_back_and_sums_to_one(inspected: Inspection) -> None:
    time = len(inspected.tokens)
    assert inspected.attention.shape == (3, 2, time, time)
    assert torch.equal(inspected.attention, inspected.attention.tril())
    assert torch.allclose(inspected.attention.sum(-1), torch.ones(3, 2, time), atol=1e-6)


def test_the_text_follows_the_document_token_and_never_is_special(build: Build, tokenizer: BytePairTokenizer) -> None:
    begin = [tokenizer.special_tokens["<|document|>"]]
    found = inspect(build(), tokenizer, "<|end|>\udcff", begin=begin)
    assert found.tokens[0].name == "<|document|>"
    assert [token.bytes for token in found.tokens[1:]] == [bytes([byte]) for byte in b"<|end|>\xff"]
    told = found.to_json([])
    assert told["text"] == "<|end|>\N{REPLACEMENT CHARACTER}"
    assert told["tokens"][-1]["token"] == "‹FF›"


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_can_be_inspected(family: str, build: Build, tokenizer: BytePairTokenizer) -> None:
    config = shrunk(preset(FAMILIES[family]).config)
    model = build(config)
    found = inspect(model, tokenizer, "to be or not")
    told = found.to_json(range(config.layers))
    json.dumps(told, allow_nan=False)
    assert [entry["layer"] - 1 for entry in told["experts"]] == [n for n in range(config.layers) if config.routed(n)]
    for load in found.experts.values():
        assert float(load.tokens.sum()) == pytest.approx(config.experts.active)
    assert ("nothing" in found.heads) == config.attention.sinks
    assert all(values.shape == (config.layers, config.heads) for values in found.heads.values())
    assert torch.allclose(
        found.attention.sum(-1) + (0 if not config.attention.sinks else 1 - found.attention.sum(-1)),
        torch.ones(config.layers, config.heads, len(found.tokens)),
        atol=1e-5,
    )
    if config.attention.window:
        local = next(layer for layer in range(config.layers) if config.windowed(layer))
        assert not found.attention[local].tril(-config.attention.window).any()


def test_json_has_every_figure(inspected: Inspection) -> None:
    told = json.loads(json.dumps(inspected.to_json([2]), allow_nan=False))
    time = len(inspected.tokens)
    assert told["format"] == "groundup inspection 1"
    assert told["model"]["layers"] == 3
    assert len(told["prediction"]["top"]) == 4
    assert [len(layer) for layer in told["prediction"]["top"]] == [time] * 4
    best = told["prediction"]["top"][3][0][0]
    assert best["id"] == told["prediction"]["final"]["id"][0]
    assert best["probability"] == told["prediction"]["final"]["probability"][3][0]
    assert len(told["prediction"]["following"]["rank"][0]) == time - 1
    assert [len(told["stream"][name]) for name in ("norm", "added", "cosine")] == [4, 3, 4]
    assert told["stream"]["cosine"][3] == [1.0] * time
    [attention] = told["attention"]
    assert attention["layer"] == 3
    assert [len(row) for row in attention["weights"][0]] == list(range(1, time + 1))
    assert attention["weights"][1][0] == [1.0]
    assert len(told["neighbours"]) == len({token.id for token in inspected.tokens})


def test_looking_twice_shows_the_same(build: Build, tokenizer: BytePairTokenizer) -> None:
    model = build()
    once, again = (inspect(model, tokenizer, "same").to_json(range(3)) for _ in range(2))
    assert once == again


@torch.no_grad()
def test_a_head_made_to_look_up_is_found(build: Build, tokenizer: BytePairTokenizer) -> None:
    """Its keys say which token came before and its queries which token this is: they meet after an earlier mention."""
    size = tokenizer.vocab_size
    model = build(
        layers=1, width=size, heads=1, hidden=4, key_smear=True, qk_norm="none", positions=PositionConfig(kind="none")
    )
    model.embedding.weight.copy_(torch.eye(size))
    attention = model.blocks[0].attention
    attention.query.weight.copy_(torch.eye(size))
    attention.key.weight.copy_(torch.eye(size))
    attention.smear.fill_(1000.0)
    assert float(inspect(model, tokenizer, "x").heads["induction"]) > 0.9
    assert float(inspect(model, tokenizer, "x", begin=(258, 259) * 4).heads["induction"]) > 0.9
    attention.smear.fill_(0.0)
    assert float(inspect(model, tokenizer, "x").heads["induction"]) < 0.1


def test_one_token_is_enough(build: Build, tokenizer: BytePairTokenizer) -> None:
    found = inspect(build(), tokenizer, "x")
    assert len(found.tokens) == 1
    assert found.prediction.following.ids.tolist() == []
    json.dumps(found.to_json(range(3)), allow_nan=False)


def test_a_context_too_short_to_repeat_anything_has_no_induction_scores(
    build: Build, tokenizer: BytePairTokenizer
) -> None:
    found = inspect(build(context=3), tokenizer, "xyz")
    assert "induction" not in found.heads


def test_rows_that_pad_the_vocabulary_are_named_and_nobodys_neighbours(
    build: Build, tokenizer: BytePairTokenizer
) -> None:
    model = build(vocab_size=tokenizer.vocab_size + 50)
    with torch.no_grad():
        model.embedding.weight[tokenizer.vocab_size :] *= 100
    found = inspect(model, tokenizer, "pad")
    beyond = [token for token in found.known.values() if token.id >= tokenizer.vocab_size]
    assert beyond
    assert all(token.name == f"<|unused {token.id}|>" for token in beyond)
    assert all(token.id < tokenizer.vocab_size for one in found.neighbours for token, _ in one.nearest)


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        ("", 64, "the text is empty; give some words"),
        ("x" * 65, 64, "the text has 65 tokens, and the model's context is 64; give a shorter text"),
        ("x" * 500, 1000, f"the text has 500 tokens, and a picture has room for {MOST_TOKENS}; give a shorter text"),
    ],
)
def test_texts_that_cannot_be_are_refused(
    text: str, context: int, words: str, build: Build, tokenizer: BytePairTokenizer
) -> None:
    with pytest.raises(UsageError, match=words):
        inspect(build(context=context), tokenizer, text)


def test_damaged_weights_are_refused(build: Build, tokenizer: BytePairTokenizer) -> None:
    model = build()
    with torch.no_grad():
        model.head.weight[5, 0] = torch.nan
    with pytest.raises(ArtifactError, match="small computes numbers that are not finite"):
        inspect(model, tokenizer, "hm", name="small")


def test_numbers_keep_four_digits() -> None:
    assert significant([[1 / 3, 12345.678], 1e-9]) == [[0.3333, 12350.0], 1e-9]
