"""First weights: the deviations each scheme promises, where zeros stand, and how large the stream is at depth."""

import math
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.core.seeding import torch_rng
from groundup.model import ModelConfig, Record, Transformer
from groundup.model.config import AttentionConfig, ExpertConfig, LatentConfig, PositionConfig

VOCABULARY, WIDTH, LAYERS = 300, 96, 3
#: Matrices and tables of every kind.
SHAPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tied": True},
    "tables": {"positions": PositionConfig("learned"), "value_embeddings": True, "residual_scalars": True, "ngrams": 3},
    "vectors": {"key_smear": True, "attention": AttentionConfig(sinks=True), "norm": "layer", "bias": "all"},
    "gemma": {"norm_offset": True, "norm_place": "sandwich"},
    "olmo": {"norm_place": "output", "qk_norm": "all"},
    "post": {"norm_place": "post"},
    "layer norm after": {"norm_place": "output", "norm": "layer", "bias": "all"},
    "experts": {"experts": ExpertConfig(count=4, active=2, shared=1, hidden=64, dense_layers=1, router="sigmoid")},
    "latent": {"latent": LatentConfig(key_rank=32, query_rank=48), "qk_norm": "none", "heads": 4},
}
SCHEMES = ("zero", "depth-scaled", "normal")
every_shape = pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
every_scheme = pytest.mark.parametrize("scheme", SCHEMES)


def initialised(scheme: str, seed: int = 0, **shape: Any) -> Transformer:
    sizes = {"layers": LAYERS, "width": WIDTH, "heads": 3, "context": 64, "tied": False}
    model = Transformer(ModelConfig(**{**sizes, **shape, "init": scheme}), VOCABULARY)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)  # so that whatever is left out shows
    return model.initialise(torch_rng(seed))


def writes(name: str) -> bool:
    """Whether the matrix writes to the residual stream."""
    return any(part in name for part in (".attention.output.", ".feed_forward.down", ".shared.down."))


def drawn(model: Transformer) -> Iterator[tuple[str, Tensor]]:
    """Matrices and tables but for value embeddings, which start at zero whatever the scheme."""
    for name, parameter in model.named_parameters():
        if parameter.ndim > 1 and name != "stream_scales" and not re.search(r"(value|ngram)_embedding\.", name):
            yield name, parameter.detach()


def assert_deviation(name: str, weights: Tensor, deviation: float) -> None:
    """Mean and deviation, as near as so many numbers come (five standard errors)."""
    size = weights.numel()
    assert abs(float(weights.mean())) < 5 * deviation / math.sqrt(size), name
    assert float(weights.std()) == pytest.approx(deviation, rel=5 / math.sqrt(2 * size)), name


@every_shape
def test_normal_is_the_same_everywhere(shape: dict[str, Any]) -> None:
    for name, weights in drawn(initialised("normal", **shape)):
        assert_deviation(name, weights, 0.02)


@every_shape
def test_depth_scaled_is_gpt2_s(shape: dict[str, Any]) -> None:
    for name, weights in drawn(initialised("depth-scaled", **shape)):
        assert_deviation(name, weights, 0.02 / math.sqrt(2 * LAYERS) if writes(name) else 0.02)


@every_shape
def test_zero_is_one_over_the_root_of_what_a_matrix_reads(shape: dict[str, Any]) -> None:
    model = initialised("zero", **shape)
    norm_after = model.config.norm_place in ("output", "sandwich")
    for name, weights in drawn(model):
        if writes(name) and not norm_after:
            assert not weights.any(), name
        else:
            table = name in ("embedding.weight", "position_embedding.weight")
            assert_deviation(name, weights, 0.02 if table else weights.shape[-1] ** -0.5)


@every_shape
@every_scheme
def test_vectors_start_as_if_they_were_not_there(shape: dict[str, Any], scheme: str) -> None:
    """Norms divide and no more, biases add nothing, the stream goes on as it is; only smearing starts in full."""
    model = initialised(scheme, **shape)
    silenced = scheme == "zero" and model.config.norm_place in ("output", "sandwich")
    for name, parameter in model.named_parameters():
        if name == "stream_scales":
            assert parameter.tolist() == [[1.0, 0.0]] * LAYERS
        elif name.endswith(("bias", "sinks")) or re.search(r"(value|ngram)_embedding\.", name):
            assert not parameter.any(), name
        elif name.endswith("scale"):
            factor = parameter + model.config.norm_offset
            assert (factor == (0.0 if silenced and "output_norm" in name else 1.0)).all(), name
        elif parameter.ndim < 2:
            assert (parameter == 1.0).all(), name
    assert not any(buffer.any() for buffer in model.buffers())


@every_shape
@every_scheme
def test_all_weights_are_a_function_of_the_seed(shape: dict[str, Any], scheme: str) -> None:
    first, again, other = (initialised(scheme, seed, **shape) for seed in (1, 1, 2))
    different = dict(drawn(other))
    for (name, weights), same in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.isfinite(weights).all(), name
        assert torch.equal(weights, same), name
        if name in different and weights.any():
            assert not torch.equal(weights, different[name]), name
    assert (first.head.weight is first.embedding.weight) == first.config.tied


def test_no_number_is_drawn_twice() -> None:
    """Neither for two parameters, nor for two experts of one."""
    model = initialised("normal", **SHAPES["experts"])
    everything = torch.cat([weights.flatten() for _, weights in drawn(model)])
    assert len(everything.unique()) > 0.95 * len(everything)


@pytest.mark.parametrize("option", [{"residual_scalars": True}, {"key_smear": True}, {"value_embeddings": True}])
def test_what_is_not_drawn_shifts_no_other_weights(option: dict[str, Any]) -> None:
    """An option is compared with the default from the same weights."""
    default, other = initialised("zero"), dict(initialised("zero", **option).named_parameters())
    assert all(torch.equal(weights, other[name]) for name, weights in default.named_parameters())


def stream(model: Transformer) -> list[Tensor]:
    ids = torch.randint(VOCABULARY, (2, 32), generator=torch.Generator().manual_seed(3))
    record = Record(wants_attention=False)
    with torch.no_grad():
        model(ids, record=record)
    return record.residuals


@pytest.mark.parametrize("place", ["pre", "output", "sandwich", "post"])
def test_blocks_of_zero_start_as_the_identity(place: str) -> None:
    residuals = stream(initialised("zero", layers=8, norm_place=place))
    for before, after in pairwise(residuals):
        if place == "post":
            before = before / before.square().mean(dim=-1, keepdim=True).sqrt()
            torch.testing.assert_close(after, before, atol=0.05, rtol=0.0)
        else:
            assert torch.equal(after, before)


@pytest.mark.parametrize("place", ["pre", "output", "sandwich", "post"])
def test_blocks_of_zero_learn_from_the_first_step(place: str) -> None:
    """What is silent has a gradient of ordinary size: the matrices that write, or the norms after them."""
    model = initialised("zero", norm_place=place)
    ids = torch.randint(VOCABULARY, (2, 33), generator=torch.Generator().manual_seed(3))
    logits = model(ids[:, :-1]).flatten(0, 1)
    torch.nn.functional.cross_entropy(logits, ids[:, 1:].flatten()).backward()
    opening = "output_norm.scale" if place in ("output", "sandwich") else ("output.weight", "down.weight")
    sizes = [float(p.grad.norm()) for name, p in model.named_parameters() if name.endswith(opening)]  # type: ignore[union-attr]
    assert len(sizes) == 2 * LAYERS
    assert all(1e-4 < size < 100 for size in sizes)


def test_depth_scaled_streams_stay_one_size_at_any_depth() -> None:
    """The variance that all blocks add together is independent of their number; undivided it grows with it."""

    def added(scheme: str, layers: int) -> float:
        residuals = stream(initialised(scheme, layers=layers))
        return float((residuals[-1] - residuals[0]).square().mean())

    assert added("depth-scaled", 32) == pytest.approx(added("depth-scaled", 4), rel=0.3)
    assert added("normal", 32) > 5 * added("normal", 4)
