"""Sampling: the vectorised draw against the plain one, and the laws it must keep."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from groundup.core.errors import TrainingError, UsageError
from groundup.inference.sampling import Sampling, kept, pick, plain_pick

# Logits on a grid: ties are common, and sums never fall within rounding of a threshold by construction of the options.
logit = st.integers(-6, 6).map(lambda n: n / 2)
option = st.tuples(
    st.sampled_from([0.0, 0.5, 1.0, 1.7]),
    st.sampled_from([0, 1, 2, 5, 1000]),
    st.sampled_from([0.0371, 0.4913, 0.9177, 1.0]),
    st.floats(0, 1, exclude_max=True, width=32).map(lambda u: 0.001 + 0.998 * u),
)


def draw(rows: list[list[float]], options: list[tuple[float, int, float, float]]) -> list[int]:
    temperature, top_k, top_p, uniforms = (torch.tensor(column) for column in zip(*options, strict=True))
    return pick(torch.tensor(rows), uniforms.double(), temperature, top_k, top_p).tolist()


@settings(max_examples=150, deadline=None)
@given(st.data(), st.integers(2, 300), st.integers(1, 4))
def test_equals_the_plain_version(data: st.DataObject, vocabulary: int, count: int) -> None:
    # Distinct parts of the number line per token would hide ties; equal ones test that the smaller id ranks first.
    seed = data.draw(st.lists(logit, min_size=1, max_size=12))
    rows = [[seed[(token * (row + 3)) % len(seed)] for token in range(vocabulary)] for row in range(count)]
    options = data.draw(st.lists(option, min_size=count, max_size=count))
    expected = [plain_pick(row, u, t, k, p) for row, (t, k, p, u) in zip(rows, options, strict=True)]
    for row, got, want, (t, k, p, u) in zip(rows, draw(rows, options), expected, options, strict=True):
        # Within rounding of a boundary both neighbours are right.
        near = {plain_pick(row, min(max(u + shift, 0), 1 - 1e-9), t, k, p) for shift in (-1e-5, 1e-5)}
        assert got == want or got in near


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**31), st.lists(option, min_size=2, max_size=6))
def test_a_row_does_not_depend_on_its_neighbours(seed: int, options: list[tuple[float, int, float, float]]) -> None:
    rows = torch.randn(len(options), 700, generator=torch.Generator().manual_seed(seed)).mul(3).tolist()
    together = draw(rows, options)
    alone = [draw([row], [own])[0] for row, own in zip(rows, options, strict=True)]
    assert together == alone


def test_draws_follow_the_distribution() -> None:
    logits = torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    n = 20_000
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(1))
    ids = pick(logits.expand(n, 4), uniforms, torch.ones(n), torch.zeros(n, dtype=torch.long), torch.ones(n))
    shares = ids.bincount(minlength=4) / n
    assert torch.allclose(shares, torch.tensor([0.1, 0.2, 0.3, 0.4]), atol=0.015)


def test_temperature_sharpens() -> None:
    logits = torch.tensor([[0.0, 1.0]]).expand(10_000, 2)
    uniforms = torch.rand(10_000, generator=torch.Generator().manual_seed(2))
    off = torch.zeros(10_000, dtype=torch.long), torch.ones(10_000)
    share = [pick(logits, uniforms, torch.full((10_000,), t), *off).float().mean().item() for t in (0.5, 1.0, 2.0)]
    assert share == pytest.approx([0.881, 0.731, 0.622], abs=0.02)


def test_nucleus_is_the_smallest_set_that_reaches_p() -> None:
    probabilities = torch.tensor([[0.15, 0.5, 0.05, 0.3]])
    for p, expected in ((0.45, [1]), (0.5001, [1, 3]), (0.79, [1, 3]), (0.9, [0, 1, 3]), (0.96, [0, 1, 2, 3])):
        survivors = kept(probabilities, torch.tensor([0]), torch.tensor([p]))[0].nonzero()[:, 0].tolist()
        assert survivors == expected


def test_wide_nucleus_is_found_beyond_the_head_of_the_ranking() -> None:
    probabilities = torch.full((1, 5000), 1 / 5000)
    assert kept(probabilities, torch.tensor([0]), torch.tensor([0.50003])).sum() == 2501


def test_zero_probability_is_never_drawn() -> None:
    logits = torch.tensor([[-200.0, 0.0, -200.0, 0.0, -200.0]]).expand(3, 5)
    uniforms = torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.double)
    ids = pick(logits, uniforms, torch.ones(3), torch.zeros(3, dtype=torch.long), torch.ones(3))
    assert ids.tolist() == [1, 3, 3]


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_not_numbers_are_refused(bad: float, temperature: float) -> None:
    with pytest.raises(TrainingError, match="not finite"):
        draw([[0.0, bad]], [(temperature, 0, 1.0, 0.5)])


@pytest.mark.parametrize(
    "wrong",
    [
        {"temperature": -0.1},
        {"temperature": float("nan")},
        {"temperature": float("inf")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"top_p": float("nan")},
        {"max_tokens": 0},
    ],
)
def test_impossible_options_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(UsageError) as error:
        Sampling(**wrong)  # type: ignore[arg-type]
    assert next(iter(wrong)).replace("_", "-") in str(error.value)
