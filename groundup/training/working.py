"""The model that computes, beside the model that is trained.

Most often they are one. With weights in half precision, or an optimizer whose state stays in the CPU's memory, forward
and backward run on a copy: its gradients come to the float32 model, whose new weights go back (Micikevicius et al.
2018, "Mixed precision training"; Ren et al. 2021, "ZeRO-Offload"). Recomputation and compilation are applied here, too,
from outside: the model knows nothing of them.
"""

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

from groundup.core.device import Numerics
from groundup.core.errors import UsageError
from groundup.core.world import ALONE
from groundup.distributed import Sharding
from groundup.distributed.pipeline import Staged
from groundup.model import Transformer

#: What selective recomputation keeps: the results that are dear to compute, or to exchange.
_KEPT = {
    torch.ops.aten.mm.default,
    torch.ops.aten.addmm.default,
    torch.ops.aten.bmm.default,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu.default,
    torch.ops.aten._scaled_dot_product_flash_attention.default,
    torch.ops.aten._scaled_dot_product_efficient_attention.default,
    torch.ops.aten._scaled_dot_product_cudnn_attention.default,
}


class Working:
    """Runs forward and backward for ``master``, the float32 model that the optimizer updates.

    Args:
        master: the model that is trained; with ``offload`` it is on the CPU, otherwise on ``device``.
        device: where forward and backward run.
        numerics: the dtype of the weights that they read.
        recompute: which activations are computed again in the backward pass.
        compiled: whether ``torch.compile`` fuses the operations.
        sharding: how the master's parameters lie among processes. Those of several compute with the master itself, in
            the dtype and on the device that the sharding was told.
    """

    def __init__(
        self,
        master: Transformer,
        device: torch.device,
        numerics: Numerics,
        recompute: Literal["none", "block", "selective"] = "none",
        compiled: bool = False,
        sharding: Sharding | None = None,
    ) -> None:
        self.master = master
        self.sharding = sharding or Sharding(ALONE)
        alike = numerics.weights is torch.float32 and master.embedding.weight.device == device
        self.is_master = alike or self.sharding.mesh is not None
        self.model = master if self.is_master else _copy_of(master, device, numerics)
        if recompute != "none":
            _recompute(self.model, recompute, compiled and self.sharding.world.parallel.tensor > 1)
        self.compiled = compiled
        self._compiled = compile_model(self.model) if compiled else None
        self.pairs = list(zip(master.parameters(), self.model.parameters(), strict=True))

    @property
    def callable(self) -> Transformer:
        """What an objective calls."""
        return self.model if self._compiled is None else self._compiled

    @torch.no_grad()
    def bring_gradients(self) -> None:
        """Add the copy's gradients to the master's, in float32."""
        if self.is_master:
            return
        for master, working in self.pairs:
            if working.grad is not None:
                gradient = working.grad.to(master.device, torch.float32)
                master.grad = gradient if master.grad is None else master.grad.add_(gradient)
                working.grad = None

    @torch.no_grad()
    def take_weights(self) -> None:
        """After an update: the routers are rebalanced, and the copy gets the new weights."""
        self.sharding.sum_loads(self.model)
        self.model.rebalance()
        if self.is_master:
            return
        for master, working in self.pairs:
            working.copy_(master)
        for master_buffer, buffer in zip(self.master.buffers(), self.model.buffers(), strict=True):
            master_buffer.copy_(buffer)

    @torch.no_grad()
    def restored(self) -> None:
        """The master's weights were replaced: the copy gets them, and the routers' biases with them."""
        self.sharding.forget(self.model)
        if self.is_master:
            return
        for master, working in self.pairs:
            working.copy_(master)
        for master_buffer, buffer in zip(self.master.buffers(), self.model.buffers(), strict=True):
            buffer.copy_(master_buffer)

    def clear(self) -> None:
        """Forget all gradients."""
        for pair in self.pairs:
            for parameter in pair:
                parameter.grad = None

    def train(self, mode: bool = True) -> None:
        """Switch both models between training and evaluation."""
        self.master.train(mode)
        self.model.train(mode)

    def release(self) -> None:
        """Take recomputation off again, and forget what was compiled: the next stage's model finds room for its own."""
        for block in self.model.blocks:
            block.__dict__.pop("forward", None)
        if self.compiled:
            torch.compiler.reset()


def compile_model(model: Transformer) -> Any:
    """The compiled model, called like the model itself.

    Raises:
        UsageError: there is no compiler.
    """
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler

        if next(model.parameters()).device.type == "cpu":
            get_cpp_compiler()
    except RuntimeError as error:
        raise UsageError(f"cannot compile: {str(error).splitlines()[0]}; install one, or --compile off") from error
    if not isinstance(model, Staged):
        return torch.compile(model)
    for stage in model.stages:
        stage.compute = torch.compile(stage.compute)
    return model


def _copy_of(master: Transformer, device: torch.device, numerics: Numerics) -> Transformer:
    """Parameters in another dtype or place; buffers, which count and balance, stay exact."""
    working = copy.deepcopy(master)
    for module in working.modules():
        for parameter in module._parameters.values():
            if parameter is not None:
                parameter.data = parameter.data.to(device, numerics.weights)
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)
    if numerics.float8:
        _to_float8(working)
    return working


def _to_float8(model: nn.Module) -> None:
    try:
        from torchao.float8 import convert_to_float8_training
    except ImportError as error:
        raise UsageError("precision float8 needs torchao; pip install torchao, or use --precision bfloat16") from error
    convert_to_float8_training(model, module_filter_fn=lambda module, name: name != "head")


def _recompute(model: Transformer, which: Literal["block", "selective"], apart: bool = False) -> None:
    """Replace every block's forward by one whose activations are computed again.

    ``apart``: what is compiled is the block only. The compiler (PyTorch 2.13) loses count of what recomputation keeps
    of weights that are DTensors.
    """
    options: dict[str, Any] = {"use_reentrant": False}
    if which == "selective":
        options["context_fn"] = partial(create_selective_checkpoint_contexts, _policy)
    keep = torch.compiler.disable(checkpoint, recursive=False) if apart else checkpoint
    for block in model.blocks:
        block.forward = _recomputed(block.forward, keep, options)


def _recomputed(
    forward: Callable[..., Tensor], keep: Callable[..., Any], options: dict[str, Any]
) -> Callable[..., Tensor]:
    def run(x: Tensor, shared: Any) -> Tensor:
        if not torch.is_grad_enabled() or shared.cache is not None:
            return forward(x, shared)
        result: Tensor = keep(forward, x, shared, **options)
        return result

    return run


def _policy(context: Any, operation: Any, *arguments: Any, **options: Any) -> CheckpointPolicy:
    kept = operation in _KEPT or operation.name() == "groundup::ring_attention"
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE
