"""Products of groups of rows against a loop, with groups that are empty, in every dtype that is used."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from groundup.core.device import autocast
from groundup.model.grouped import grouped_product


def operands(sizes: list[int], inputs: int, outputs: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(len(sizes))
    rows = torch.randn(sum(sizes), inputs, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    stack = torch.randn(len(sizes), outputs, inputs, generator=generator, dtype=torch.float64).to(dtype)
    return rows, stack.requires_grad_(), torch.tensor(sizes).cumsum(0, dtype=torch.int32)


def loop(rows: Tensor, stack: Tensor, sizes: list[int]) -> Tensor:
    return torch.cat([part @ matrix.T for part, matrix in zip(rows.split(sizes), stack, strict=True)])


some_sizes = st.lists(st.integers(0, 5), min_size=1, max_size=6)


@settings(max_examples=30)
@given(sizes=some_sizes, inputs=st.integers(1, 9), outputs=st.integers(1, 9))
def test_product_and_gradients_are_the_loop_s(sizes: list[int], inputs: int, outputs: int) -> None:
    rows, stack, ends = operands(sizes, inputs, outputs, torch.float64)
    results = [grouped_product(rows, stack, ends), loop(rows, stack, sizes)]
    torch.testing.assert_close(*results)
    above = torch.randn(results[0].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = (torch.autograd.grad(result, (rows, stack), above) for result in results)
    torch.testing.assert_close(ours, theirs)


def test_the_gradient_is_that_of_differences() -> None:
    rows, stack, ends = operands([2, 0, 3], 4, 3, torch.float64)
    assert torch.autograd.gradcheck(lambda rows, stack: grouped_product(rows, stack, ends), (rows, stack))


def test_a_group_without_rows_has_a_gradient_of_zero() -> None:
    rows, stack, ends = operands([0, 4, 0], 8, 8, torch.float32)
    grouped_product(rows, stack, ends).square().sum().backward()
    assert stack.grad is not None
    assert [bool(gradient.any()) for gradient in stack.grad] == [False, True, False]


@pytest.mark.parametrize("size", [16, 12], ids=["one kernel", "sizes that it does not take"])
def test_bfloat16(size: int) -> None:
    """Both ways round as a loop in bfloat16 does: eight bits of a product's largest terms."""
    sizes = [3, 0, 7, 1]
    rows, stack, ends = operands(sizes, size, size, torch.bfloat16)
    results = [grouped_product(rows, stack, ends), loop(rows, stack, sizes)]
    assert results[0].dtype == torch.bfloat16
    torch.testing.assert_close(*results, atol=0.05, rtol=0.02)
    ours, theirs = (torch.autograd.grad(result.square().sum(), (rows, stack)) for result in results)
    torch.testing.assert_close(ours, theirs, atol=0.5, rtol=0.05)


@pytest.mark.parametrize("size", [16, 12])
def test_autocast_multiplies_in_its_dtype_as_it_does_in_any_layer(size: int) -> None:
    rows, stack, ends = operands([3, 0, 7], size, size, torch.float32)
    with autocast(torch.device("cpu"), torch.bfloat16):
        product = grouped_product(rows, stack, ends)
    assert product.dtype == torch.nn.functional.linear(rows.bfloat16(), stack[0].bfloat16()).dtype == torch.bfloat16
    torch.testing.assert_close(product.float(), grouped_product(rows, stack, ends), atol=0.2, rtol=0.02)
    product.float().sum().backward()
    assert rows.grad is not None and rows.grad.dtype == torch.float32
    assert stack.grad is not None and stack.grad.dtype == torch.float32


@pytest.mark.parametrize("sizes", [[2, 0, 3], [0, 0], [5]])
@pytest.mark.parametrize("name", ["grouped_product", "grouped_outer"])
def test_pytorch_may_compile_it(name: str, sizes: list[int]) -> None:
    """Schema, shapes without data, autograd and dynamic shapes, as PyTorch's own checks see them."""
    rows, stack, ends = operands(sizes, 4, 3, torch.float32)
    other = stack if name == "grouped_product" else torch.randn(sum(sizes), 3)
    if name == "grouped_outer":  # which is only called in backward
        rows = rows.detach()
    torch.library.opcheck(getattr(torch.ops.groundup, name).default, (rows, other, ends))
