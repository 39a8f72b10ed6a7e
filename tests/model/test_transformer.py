"""The model against what a causal language model must satisfy, whatever its weights."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.errors import UsageError
from groundup.core.seeding import torch_rng
from groundup.model import KVCache, ModelConfig, Record, Transformer
from groundup.model.config import PositionConfig

VOCABULARY = 41
Make = Callable[..., Transformer]


def some_ids(*shape: int, seed: int = 0) -> Tensor:
    return torch.randint(VOCABULARY, shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def decoded(model: Transformer, ids: Tensor, pieces: list[int]) -> Tensor:
    """Logits of ids [rows, time], fed to the cache in pieces of the given lengths."""
    cache = KVCache.empty(model.config, ids.shape[0], ids.shape[1], model.embedding.weight)
    logits = []
    for piece in ids.split(pieces, dim=1):
        logits.append(model(piece, cache=cache))
        cache.advance(piece.shape[1])
    return torch.cat(logits, dim=1)


@settings(max_examples=25, deadline=None)
@given(pieces=st.lists(st.integers(1, 6), min_size=1, max_size=5), kv_heads=st.sampled_from([1, 2, 4]))
def test_cached_decoding_equals_the_full_pass(make_model: Make, pieces: list[int], kv_heads: int) -> None:
    model = make_model(kv_heads=kv_heads)
    ids = some_ids(3, sum(pieces))
    with torch.no_grad():
        torch.testing.assert_close(decoded(model, ids, pieces), model(ids), atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_rows_of_a_cache_may_differ_in_length_and_come_and_go(make_model: Make) -> None:
    model = make_model()
    long, short, late = some_ids(1, 9, seed=1), some_ids(1, 4, seed=2), some_ids(1, 6, seed=3)

    padded = torch.cat([long, torch.cat([short, torch.zeros(1, 5, dtype=torch.long)], dim=1)])
    cache = KVCache.empty(model.config, 2, 12, model.embedding.weight)
    model(padded, cache=cache)
    cache.advance(torch.tensor([9, 4]))
    newcomer = KVCache.empty(model.config, 1, 20, model.embedding.weight)
    model(late, cache=newcomer)
    newcomer.advance(6)
    cache = cache.join(newcomer).select([2, 1, 1])
    assert cache.capacity == 20
    assert cache.lengths.tolist() == [6, 4, 4]

    following = torch.tensor([[5], [7], [11]])
    logits = model(following, cache=cache)[:, 0]
    for row, before in enumerate((late, short, short)):
        expected = model(torch.cat([before, following[row : row + 1]], dim=1))[0, -1]
        torch.testing.assert_close(logits[row], expected, atol=1e-4, rtol=1e-4)


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 7), min_size=1, max_size=4), padding=st.integers(0, 3))
def test_packed_segments_equal_separate_sequences(make_model: Make, lengths: list[int], padding: int) -> None:
    model = make_model()
    parts = [some_ids(1, length, seed=number) for number, length in enumerate(lengths)]
    ids = torch.cat([*parts, torch.zeros(1, padding, dtype=torch.long)], dim=1)
    segments = torch.tensor([[number for number, n in enumerate(lengths) for _ in range(n)] + [-1] * padding])
    positions = torch.tensor([[place for n in lengths for place in range(n)] + [0] * padding])
    with torch.no_grad():
        packed = model(ids, positions=positions, segments=segments)[:, : sum(lengths)]
        separate = torch.cat([model(part) for part in parts], dim=1)
    torch.testing.assert_close(packed, separate, atol=1e-4, rtol=1e-4)


@settings(max_examples=15, deadline=None)
@given(place=st.integers(1, 15), other=st.integers(0, VOCABULARY - 1))
def test_the_future_changes_nothing_and_the_past_does(make_model: Make, place: int, other: int) -> None:
    model = make_model()
    ids = some_ids(1, 16)
    changed = ids.clone()
    changed[0, place] = other if other != ids[0, place] else (other + 1) % VOCABULARY
    with torch.no_grad():
        before, after = model(ids), model(changed)
    torch.testing.assert_close(after[:, :place], before[:, :place])
    assert (after[:, place:] - before[:, place:]).abs().amax(dim=-1).min() > 1e-4


@torch.no_grad()
def test_positions_count_only_relative_to_each_other(make_model: Make) -> None:
    model, ids = make_model(), some_ids(1, 10)
    shifted = torch.arange(10)[None] + 13
    torch.testing.assert_close(model(ids, positions=shifted), model(ids), atol=1e-4, rtol=1e-4)
    stretched = torch.arange(10)[None] * 2
    assert not torch.allclose(model(ids, positions=stretched), model(ids), atol=1e-2)


@torch.no_grad()
def test_grouped_queries_equal_full_heads_with_repeated_keys_and_values(make_model: Make) -> None:
    grouped, full = make_model(kv_heads=2), make_model(kv_heads=4)
    weights = grouped.state_dict()
    for name, tensor in weights.items():
        if name.endswith(("attention.key.weight", "attention.value.weight")):
            weights[name] = tensor.view(2, 8, 32).repeat_interleave(2, dim=0).reshape(32, 32)
    full.load_state_dict(weights)
    ids = some_ids(2, 12)
    torch.testing.assert_close(full(ids), grouped(ids), atol=1e-4, rtol=1e-4)


def test_the_context_is_the_limit(make_model: Make) -> None:
    model = make_model(context=8)
    model(some_ids(1, 8))
    with pytest.raises(UsageError, match="context of 8"):
        model(some_ids(1, 9))
    cache = KVCache.empty(model.config, 1, 9, model.embedding.weight)
    model(some_ids(1, 8), cache=cache)
    cache.advance(8)
    with pytest.raises(UsageError, match="context of 8"):
        model(some_ids(1, 1), cache=cache)


@pytest.mark.parametrize("tied", [True, False])
def test_initialise_is_a_function_of_the_seed(tied: bool) -> None:
    config = ModelConfig(layers=2, width=32, heads=2, kv_heads=1, hidden=64, context=16, tied=tied)
    first, again, other = (Transformer(config, VOCABULARY).initialise(torch_rng(seed)) for seed in (1, 1, 2))
    for (name, weight), same in zip(first.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(weight, same), name
    assert not torch.equal(first.embedding.weight, other.embedding.weight)
    assert (first.head.weight is first.embedding.weight) == tied


@torch.no_grad()
def test_an_initialised_model_is_the_identity_between_embedding_and_head() -> None:
    config = ModelConfig(layers=2, width=32, heads=2, kv_heads=2, hidden=64, context=16)
    model = Transformer(config, VOCABULARY).initialise(torch_rng(0))
    ids = some_ids(2, 16)
    record = Record()
    model(ids, record=record)
    for stream in record.residuals:
        torch.testing.assert_close(stream, model.embedding(ids))
    assert model(ids).abs().max() < 2  # close to uniform: no token is preferred before anything is learnt


@pytest.mark.parametrize(
    ("shape", "named"),
    [
        ({"width": 190, "heads": 6}, "model.width 190"),
        ({"width": 18, "heads": 6, "kv_heads": 6}, "even size"),
        ({"kv_heads": 4}, "model.kv-heads 4"),
        ({"layers": -2}, "model.layers is -2"),
        ({"hidden": -1}, "model.hidden is -1"),
        ({"context": 0}, "model.context is 0"),
        ({"positions": PositionConfig(base=1.0)}, "model.positions.base"),
    ],
)
def test_impossible_shapes_are_refused_by_name(shape: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named) as caught:
        ModelConfig(**shape)
    assert "\n" not in str(caught.value)
