"""DeepSpeed's ZeRO in the place of PyTorch's FSDP, for those whose cluster is set up for it.

It divides the optimizer's state (ZeRO-1), the gradients, too (ZeRO-2), or also the weights (ZeRO-3) among all processes
(Rajbhandari et al. 2020), and can keep and update them in the memory of the CPU (Ren et al. 2021, "ZeRO-Offload").

Enters: a model, whole and the same in every process, and its AdamW. Leaves: an :class:`Engine`, which computes
gradients and updates; and whole tensors again, so that a checkpoint is one like any other: what DeepSpeed trained goes
on with another plan, and the other way round. Nothing that it would pickle is used.
"""

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from groundup.core.errors import UsageError
from groundup.core.world import ParallelConfig, World
from groundup.dataloader import Batch
from groundup.distributed.shards import Stored
from groundup.model import Transformer
from groundup.model.experts import counting

if TYPE_CHECKING:
    from types import ModuleType

Value = TypeVar("Value")

#: What AdamW remembers of a parameter, beside the number of its steps.
_MOMENTS = ("exp_avg", "exp_avg_sq")


def zero_stage(parallel: ParallelConfig) -> int:
    """What is divided: 1 the optimizer's state, 2 gradients, too, 3 the weights as well."""
    if parallel.shard == 1:
        return 1
    return 3 if parallel.reshard else 2


class Engine:
    """A model whose state DeepSpeed divides. All processes call it alike.

    Args:
        model: on the CPU; it comes to the device of this process.
        optimizer: of all its parameters, and without state.
        world: the processes, and what they divide.
        clip: largest norm of the gradient.
        offload: whether the state is kept and updated in the memory of the CPU.

    Raises:
        UsageError: DeepSpeed is not installed.
    """

    def __init__(
        self, model: Transformer, optimizer: torch.optim.Optimizer, world: World, clip: float, offload: bool
    ) -> None:
        self.model, self.optimizer, self.world = model, optimizer, world
        self._stage = zero_stage(world.parallel)
        self._pending = False
        zero: dict[str, Any] = {"stage": self._stage}
        if offload:
            zero["offload_optimizer"] = {"device": "cpu"}
            if self._stage == 3:
                zero["offload_param"] = {"device": "cpu"}
        config = {
            "train_micro_batch_size_per_gpu": 1,  # micro-batches and their sums are ours; it only counts them
            "gradient_accumulation_steps": 1,
            "gradient_clipping": clip,
            "zero_optimization": zero,
            "zero_allow_untested_optimizer": True,
            "zero_force_ds_cpu_optimizer": False,  # whose kernel would be compiled here
        }
        with _quiet():
            self._deepspeed = _imported()
            self._engine = self._deepspeed.initialize(model=_Worked(model), optimizer=optimizer, config=config)[0]
        # It calls PyTorch by names that are going to change, and PyTorch says so in every step.
        warnings.filterwarnings("ignore", message=r"`torch\.distributed\.\w+` is deprecated", category=FutureWarning)
        # In its first step DeepSpeed notes where the state is, but of the first group only, unless all have theirs.
        for flat in (flat for group in optimizer.param_groups for flat in group["params"]):
            moments = {key: torch.zeros_like(flat) for key in _MOMENTS}
            optimizer.state[flat] = {"step": torch.zeros((), device=flat.device), **moments}
        model.__dict__["engine"] = self  # not a part of it

    def compute_gradients(self, work: Callable[[Transformer], Tensor], last: bool) -> Tensor:
        """Add the gradients of what ``work`` makes of the model, a part of the loss of a step; that part.

        ``last``: the next one belongs to another step.
        """
        self._engine.set_gradient_accumulation_boundary(last)
        self._pending = True
        loss = self._engine(work)
        self._engine.backward(loss * self.world.size, scale_wrt_gas=False)  # of all processes it takes the mean
        return cast(Tensor, loss.detach())

    def update(self) -> float:
        """Clip and step; the norm before clipping. Where that is not finite nothing was updated."""
        self._engine.step()
        self._pending = False
        norm = self._engine.get_global_grad_norm()
        return float(norm) if norm is not None and self._engine.was_step_applied() else math.inf

    def discard(self) -> None:
        """Forget the gradients of a step that is not to be taken: one that changes no weight takes them away."""
        if not self._pending:
            return
        rates = [group["lr"] for group in self.optimizer.param_groups]
        for group in self.optimizer.param_groups:
            group["lr"] = 0.0
        self.update()
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate

    @torch.no_grad()
    def evaluate(self, objective: Callable[[Transformer, Batch], Tensor], batch: Batch) -> Tensor:
        """What an objective, which may read weights, makes of a batch."""
        return cast(Tensor, self._engine(lambda model: objective(model, batch)))

    def whole(self) -> dict[str, dict[str, Tensor]]:
        """The tensors of a checkpoint, "model" and "optimizer", in the memory of the first process; the others have
        none."""
        from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

        weights, state = dict[str, Tensor](), dict[str, Tensor]()
        steps = self._steps()
        for name, parameter in self.model.named_parameters():
            if not parameter.requires_grad:
                with self._gathered(parameter):
                    self._keep(weights, {name: parameter.detach()})
                continue
            self._keep(weights, {name: safe_get_full_fp32_param(parameter)})
            if steps is not None:
                found = {f"{name}.{key}": safe_get_full_optimizer_state(parameter, key) for key in _MOMENTS}
                self._keep(state, {f"{name}.step": steps, **found})
        self._keep(weights, self._buffers())
        return {"model": weights, "optimizer": state}

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Of the model's weights and buffers, also where this process has but a part of them."""
        tensors = [*self.model.named_parameters(), *self._buffers().items()]
        return {name: tuple(getattr(tensor, "ds_shape", tensor.shape)) for name, tensor in tensors}

    @torch.no_grad()
    def restore(self, weights: Stored, state: Stored) -> None:
        """Go on from what a checkpoint has of weights and optimizer, whoever wrote it."""
        self.discard()
        if state.shapes and self._steps() is None:
            self._begin()
        for name, parameter in self.model.named_parameters():
            value = weights.read(name)
            with self._gathered(parameter, write=True):
                if self._stage < 3 or self.world.leads:
                    parameter.copy_(value)
            if not parameter.requires_grad:
                continue
            self._put(parameter, value)
            for key in _MOMENTS:
                if f"{name}.{key}" in state.shapes:
                    self._put(parameter, state.read(f"{name}.{key}"), key)
        for name, buffer in self._buffers().items():
            weights.fill(name, buffer)
        steps = next((state.read(name) for name in state.shapes if name.endswith(".step")), None)
        for each in self.optimizer.state.values():
            if steps is not None:
                each["step"].copy_(steps)

    def release(self) -> None:
        """Take DeepSpeed off the model again; its weights stay as they are."""
        self._engine.destroy()

    @property
    def _device(self) -> torch.device:
        return torch.device(self._engine.device)

    def _steps(self) -> Tensor | None:
        """Those that AdamW has counted; None before the first."""
        steps = next((each["step"] for each in self.optimizer.state.values()), None)
        return steps if steps is not None and steps > 0 else None

    def _begin(self) -> None:
        """Have DeepSpeed find the state, as it does in its first step: one that changes nothing."""
        ids = torch.zeros(1, 1, dtype=torch.int64, device=self._device)
        with torch.enable_grad(), counting(self.model, 0):
            self.compute_gradients(lambda model: 0.0 * model(ids).float().sum(), last=True)
        self.discard()

    def _buffers(self) -> dict[str, Tensor]:
        own = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        return {name: tensor for name, tensor in self.model.state_dict().items() if name not in own}

    def _gathered(self, parameter: nn.Parameter, write: bool = False) -> Any:
        """A context in which the processes have a parameter whole; what the first one writes to it is everybody's."""
        found = [parameter] if self._stage == 3 else []
        return self._deepspeed.zero.GatheredParameters(found, modifier_rank=0 if write else None)

    def _put(self, parameter: nn.Parameter, value: Tensor, key: str = "") -> None:
        """Give a parameter its float32 weights, or what AdamW keeps of it under ``key``."""
        from deepspeed import utils

        value = value.to(self._device, torch.float32)
        put, put_state = utils.safe_set_full_fp32_param, utils.safe_set_full_optimizer_state
        if self._stage == 3:  # the last process's part is filled up, which those for whole tensors forget
            put, put_state = utils.safe_set_local_fp32_param, utils.safe_set_local_optimizer_state
            size: int = parameter.ds_tensor.numel()  # type: ignore[attr-defined]
            filled = functional.pad(value.flatten(), (0, size * self.world.size - value.numel()))
            value = filled.narrow(0, size * self.world.rank, size)
        if key:
            put_state(parameter, value, key)
        else:
            put(parameter, value)

    def _keep(self, found: dict[str, Tensor], tensors: Mapping[str, Tensor]) -> None:
        if self.world.leads:
            found |= {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


class _Worked(nn.Module):
    """Has work done with a model in its own forward pass, so that DeepSpeed gathers what is read outside of layers."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, work: Callable[[Transformer], Value]) -> Value:
        return work(self.model)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within, what DeepSpeed has to say of itself is not heard."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with redirect_stdout(StringIO()):
            yield
    finally:
        logging.disable(before)


def _imported() -> "ModuleType":
    try:
        import deepspeed
    except ImportError as error:
        raise UsageError(
            "parallel.engine deepspeed needs DeepSpeed; pip install --no-build-isolation 'groundup[deepspeed]', or "
            "leave it out"
        ) from error
    return deepspeed
