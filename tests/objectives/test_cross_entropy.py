"""Cross-entropy without all logits, against PyTorch's over all of them: values, gradients, and what is kept."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from groundup.core.device import autocast
from groundup.dataloader import IGNORED
from groundup.objectives import cross_entropy
from groundup.objectives.cross_entropy import head_cross_entropy


def operands(tokens: int, width: int, vocabulary: int, ignored: float = 0.3, seed: int = 0) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(tokens, width, generator=generator).requires_grad_()
    weight = torch.randn(vocabulary, width, generator=generator).requires_grad_()
    targets = torch.randint(vocabulary, (tokens,), generator=generator)
    return hidden, weight, targets.masked_fill(torch.rand(tokens, generator=generator) < ignored, IGNORED)


def plain(hidden: Tensor, weight: Tensor, targets: Tensor, scale: float = 1.0, softcap: float = 0.0) -> Tensor:
    logits = F.linear(hidden, weight).float() * scale
    if softcap:
        logits = softcap * torch.tanh(logits / softcap)
    return F.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")


def small_pieces(patch: pytest.MonkeyPatch, tokens: int) -> None:
    """As if ``tokens`` were the most whose logits are made at once."""
    patch.setattr(cross_entropy, "LOGITS", 0)
    patch.setattr(cross_entropy, "LEAST_TOKENS", tokens)


@settings(max_examples=60)
@given(
    tokens=st.integers(0, 23),
    vocabulary=st.integers(1, 40),
    ignored=st.sampled_from([0.0, 0.4, 1.0]),
    piece=st.integers(1, 24),
    scale=st.sampled_from([1.0, 0.25, 3.0]),
    softcap=st.sampled_from([0.0, 2.0, 30.0]),
    above=st.sampled_from([1.0, -0.5, 0.0, 1e-3]),
    seed=st.integers(0, 99),
)
def test_value_and_gradients_are_those_of_all_logits(
    tokens: int, vocabulary: int, ignored: float, piece: int, scale: float, softcap: float, above: float, seed: int
) -> None:
    hidden, weight, targets = operands(tokens, 6, vocabulary, ignored, seed)
    with pytest.MonkeyPatch.context() as patch:
        small_pieces(patch, piece)
        ours = head_cross_entropy(hidden, weight, targets, scale, softcap)
    theirs = plain(hidden, weight, targets, scale, softcap)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    gradients = [torch.autograd.grad(above * loss, (hidden, weight)) for loss in (ours, theirs)]
    torch.testing.assert_close(*gradients, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("options", [{}, {"scale": 0.5}, {"softcap": 5.0}, {"scale": 0.5, "softcap": 5.0}])
def test_under_autocast_products_are_bfloat16_and_sums_are_not(options: dict[str, Any]) -> None:
    """As near to float32 as what PyTorch's own operations give under the same autocast."""
    hidden, weight, targets = operands(300, 32, 700)
    exact = plain(hidden, weight, targets, **options)
    with autocast(torch.device("cpu"), torch.bfloat16):
        ours, theirs = (f(hidden, weight, targets, **options) for f in (head_cross_entropy, plain))
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=0.0)
    reference = torch.autograd.grad(exact, (hidden, weight))
    for mine, other, right in zip(
        torch.autograd.grad(ours, (hidden, weight)),
        torch.autograd.grad(theirs, (hidden, weight)),
        reference,
        strict=True,
    ):
        assert mine.dtype == torch.float32
        assert (mine - right).norm() < 0.01 * right.norm()
        assert (mine - right).norm() < 1.2 * (other - right).norm()


def test_huge_logits_stay_finite() -> None:
    hidden, weight, targets = operands(20, 8, 30)
    loss = head_cross_entropy(hidden, weight, targets, 1e4)
    torch.testing.assert_close(loss, plain(hidden, weight, targets, 1e4))
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, (hidden, weight)))


def test_nothing_to_learn_costs_nothing() -> None:
    hidden, weight, targets = operands(9, 4, 11, ignored=1.0)
    loss = head_cross_entropy(hidden, weight, targets)
    assert loss.item() == 0.0
    assert not any(gradient.any() for gradient in torch.autograd.grad(loss, (hidden, weight)))


@pytest.mark.parametrize("learns", [(True, False), (False, True)])
def test_either_may_be_frozen(learns: tuple[bool, bool]) -> None:
    hidden, weight, targets = operands(9, 4, 11)
    expected = torch.autograd.grad(plain(hidden, weight, targets), (hidden, weight))
    head_cross_entropy(hidden.requires_grad_(learns[0]), weight.requires_grad_(learns[1]), targets).backward()
    for tensor, gradient, wanted in zip((hidden, weight), expected, learns, strict=True):
        if wanted:
            torch.testing.assert_close(tensor.grad, gradient)
        else:
            assert tensor.grad is None


def test_without_gradients_only_the_sum_is_made() -> None:
    hidden, weight, targets = operands(9, 4, 11)
    with torch.no_grad():
        loss = head_cross_entropy(hidden, weight, targets)
    assert not loss.requires_grad
    torch.testing.assert_close(loss, plain(hidden, weight, targets).detach())
    assert not head_cross_entropy(hidden.detach(), weight.detach(), targets).requires_grad


def test_operands_are_left_as_they_are() -> None:
    operands_ = operands(9, 4, 11)
    before = [tensor.detach().clone() for tensor in operands_]
    head_cross_entropy(*operands_, 0.5, 4.0).backward()
    assert all(torch.equal(tensor.detach(), same) for tensor, same in zip(operands_, before, strict=True))


def test_the_gradient_can_be_asked_for_again_but_no_other() -> None:
    """Backward gives away what forward made; another one must fail rather than give something else."""
    hidden, weight, targets = operands(9, 4, 11)
    loss = head_cross_entropy(hidden, weight, targets)
    (expected,) = torch.autograd.grad(3 * loss, hidden, retain_graph=True)
    expected = expected.clone()
    (again,) = torch.autograd.grad(3 * loss, hidden, retain_graph=True)
    assert torch.equal(again, expected)
    with pytest.raises(RuntimeError):
        (2 * loss).backward()


def test_there_is_no_second_derivative() -> None:
    """Not even the part of it that could be had without one of the logits."""
    hidden, weight, targets = operands(9, 4, 11)
    (gradient,) = torch.autograd.grad(head_cross_entropy(hidden, weight, targets).square(), hidden, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()


def test_no_tensor_of_all_logits_is_ever_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither kept for backward nor on the way: the largest is of one piece, or of the size of an operand."""
    tokens, width, vocabulary, piece = 256, 8, 512, 16
    hidden, weight, targets = operands(tokens, width, vocabulary)
    small_pieces(monkeypatch, piece)

    class Largest(torch.utils._python_dispatch.TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = function(*args, **(kwargs or {}))
            for tensor in result if isinstance(result, tuple) else (result,):
                if isinstance(tensor, Tensor):
                    self.numbers = max(self.numbers, tensor.numel())
            return result

    sizes, kept = [], []
    for function in (head_cross_entropy, plain):
        saved: list[int] = []
        with (
            Largest() as largest,
            torch.autograd.graph.saved_tensors_hooks(
                lambda tensor, saved=saved: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
            ),
        ):
            function(hidden, weight, targets).backward()
        sizes.append(largest.numbers)
        kept.append(max(saved))
    assert sizes == [max(piece * vocabulary, tokens * width, vocabulary * width), tokens * vocabulary]
    assert kept == [vocabulary * width, tokens * vocabulary]
