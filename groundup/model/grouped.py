"""Matrix products of groups of rows, each with a matrix of its own: what a layer of experts computes.

Enters: rows sorted by group, a stack of matrices, where each group ends. Leaves: the products. ``torch.compile`` takes
it as one operation, so that how many rows each group has may change from step to step.
"""

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import register_flop_formula


def grouped_product(rows: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
    """rows [n, in] · stack[group] [out, in]ᵀ → [n, out], in the dtype of rows, or in autocast's.

    Args:
        rows: sorted by group.
        stack: the matrices [groups, out, in].
        ends: int32 [groups]; group g's rows are those from ``ends[g - 1]`` (0 for the first) up to ``ends[g]``.
    """
    device = rows.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        rows = rows.to(torch.get_autocast_dtype(device))
    stack = stack.to(rows.dtype)
    if rows.dtype == torch.bfloat16 and rows.shape[1] % 8 == 0 and stack.shape[1] % 8 == 0:
        return F.grouped_mm(rows, stack.transpose(1, 2), offs=ends)  # one kernel, but only for this type
    return _product(rows, stack, ends)


@torch.library.custom_op("groundup::grouped_product", mutates_args=())
def _product(rows: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
    products = rows.new_empty(len(rows), stack.shape[1])
    start = 0
    for matrix, end in zip(stack, ends.tolist(), strict=True):
        torch.mm(rows[start:end], matrix.T, out=products[start:end])
        start = end
    return products


@torch.library.custom_op("groundup::grouped_outer", mutates_args=())
def _outer(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    """left[group]ᵀ · right[group] → [groups, out, in]: the gradient of the stack."""
    products = left.new_empty(len(ends), left.shape[1], right.shape[1])
    start = 0
    for product, end in zip(products, ends.tolist(), strict=True):
        torch.mm(left[start:end].T, right[start:end], out=product)
        start = end
    return products


@_product.register_fake
def _(rows: Tensor, stack: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(len(rows), stack.shape[1])


@_outer.register_fake
def _(left: Tensor, right: Tensor, ends: Tensor) -> Tensor:
    return left.new_empty(len(ends), left.shape[1], right.shape[1])


def _remember(ctx: torch.autograd.function.FunctionCtx, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: torch.autograd.function.FunctionCtx, above: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, stack, ends = ctx.saved_tensors  # type: ignore[attr-defined]
    above = above.contiguous()
    return _product(above, stack.transpose(1, 2), ends), _outer(above, rows, ends), None


_product.register_autograd(_backward, setup_context=_remember)


@register_flop_formula(torch.ops.groundup.grouped_product)
def _product_flops(rows: torch.Size, stack: torch.Size, *_: object, **__: object) -> int:
    return 2 * rows[0] * stack[1] * stack[2]


@register_flop_formula(torch.ops.groundup.grouped_outer)
def _outer_flops(left: torch.Size, right: torch.Size, *_: object, **__: object) -> int:
    return 2 * left[0] * left[1] * right[1]
