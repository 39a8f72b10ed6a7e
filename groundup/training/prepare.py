"""A model and how it is to be trained → what takes its steps: on which device, in which precision, by which rules."""

import fnmatch
from collections.abc import Sequence

import torch

from groundup.core.device import Numerics, choose_device, choose_numerics
from groundup.core.errors import UsageError
from groundup.core.world import World, world
from groundup.distributed import ShardedMuon, Sharding, divide_by_grid, divide_state
from groundup.model import Transformer
from groundup.objectives import Objective
from groundup.optim import build_optimizers
from groundup.optim.muon import Muon
from groundup.training.config import TrainingConfig
from groundup.training.step import FIRST_SCALE, LossScale, Stepper
from groundup.training.working import Working


def prepare(
    model: Transformer, objective: Objective, config: TrainingConfig, seed: int
) -> tuple[Stepper, list[torch.optim.Optimizer]]:
    """Bring ``model`` to its device; what computes its gradients, and what updates it.

    Raises:
        UsageError: the device cannot compute as the configuration says, or nothing is left to train.
    """
    device = choose_device(config.device)
    numerics = choose_numerics(config.precision, device)
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if numerics.tf32 else "highest")
    freeze(model, config.freeze)
    here = world()
    _check(config, device, numerics, here)
    # Of several processes, each block goes to the device when it is divided: no device ever holds all of them.
    model.to(torch.device("cpu") if config.memory.offload or here.size > 1 else device).train()
    if here.size > 1 and here.parallel.engine == "deepspeed":
        return _with_deepspeed(model, objective, config, seed, device, numerics)
    sharding = Sharding.of(model, here, device, numerics)
    optimizers = build_optimizers(
        model, config.optimizer, numerics.dtype, ShardedMuon if sharding.mesh is not None else Muon
    )
    if sharding.mesh is not None:
        divide_by_grid(optimizers)
        if here.parallel.zero:
            divide_state(optimizers, sharding.mesh["data"])
    compiled = config.compile == "on" or (config.compile == "auto" and device.type == "cuda" and not _uncompiled(here))
    working = Working(model, device, numerics, config.memory.recompute, compiled, sharding)
    scale = LossScale(FIRST_SCALE) if numerics.scaled else None
    if here.replica:
        from groundup.distributed.replicas import Replicas
        from groundup.training.replicas import ReplicaStepper

        replicas = Replicas(here.rank)
        parts = (working, objective, numerics, device, config.clip, seed)
        return ReplicaStepper(*parts, scale=scale, replicas=replicas), optimizers
    stepper = Stepper(working, objective, numerics, device, config.clip, seed, config.memory.fit, scale=scale)
    return stepper, optimizers


def _with_deepspeed(
    model: Transformer,
    objective: Objective,
    config: TrainingConfig,
    seed: int,
    device: torch.device,
    numerics: Numerics,
) -> tuple[Stepper, list[torch.optim.Optimizer]]:
    """The same, with the state divided by DeepSpeed."""
    from groundup.distributed.deepspeed import Engine
    from groundup.training.deepspeed import DeepSpeedStepper, check

    here = world()
    check(config, numerics)
    optimizers = build_optimizers(model, config.optimizer)
    engine = Engine(model, optimizers[0], here, config.clip, config.memory.offload)
    working = Working(model, device, numerics, config.memory.recompute, sharding=Sharding(here))
    return DeepSpeedStepper(working, objective, numerics, device, config.clip, seed, engine=engine), optimizers


def _check(config: TrainingConfig, device: torch.device, numerics: Numerics, here: World) -> None:
    """Refuse what several processes cannot do, and those that would compute in different ways."""
    refused = {"memory.fit": config.memory.fit, "checkpoints.sharded on": config.checkpoints.sharded == "on"}
    if here.replica and any(refused.values()):
        what = next(name for name in refused if refused[name])
        raise UsageError(f"{what} does not go with --recovery torchft; leave one of them out")
    if here.size == 1:
        return
    if config.compile == "on" and (what := _uncompiled(here)):
        raise UsageError(f"--compile on cannot be with {what}; give another plan, or --compile off")
    told = here.gathered([device.type, str(numerics.dtype), str(here.parallel.resolved(here.size))])
    if differing := next((each for each in told if each != told[0]), None):
        raise UsageError(
            f"one process would compute in {', '.join(told[0])}, another in {', '.join(differing)}; give all the same "
            "--device, --precision and --parallel"
        )
    if config.memory.fit:
        raise UsageError("memory.fit is for one process, which sees its own memory only; lower rows instead")
    if config.memory.offload and here.parallel.engine == "torch":
        raise UsageError(
            "memory.offload is for one process; with several, --parallel.shard divides the state, and "
            "--parallel.engine deepspeed can keep it there"
        )
    if here.parallel.schedule == "zero-bubble" and config.memory.recompute == "selective":
        raise UsageError(
            "memory.recompute selective cannot be with --parallel.schedule zero-bubble; take recompute block, or 1f1b"
        )
    if numerics.float8:
        raise UsageError("precision float8 is for one process; use --precision bfloat16")


def _uncompiled(here: World) -> str:
    """What of the plan cannot be compiled; empty, if all can."""
    plan = here.parallel
    if plan.schedule == "zero-bubble":  # takes backward passes apart
        return "--parallel.schedule zero-bubble"
    if plan.expert > 1 and plan.tensor > 1:  # the gradients of routers came out wrong
        return "parallel.expert and parallel.tensor together"
    return ""


def freeze(model: Transformer, patterns: Sequence[str]) -> None:
    """Exclude the parameters whose names match a pattern from training.

    Raises:
        UsageError: a pattern matches none, or nothing is left to train.
    """
    names = [name for name, _ in model.named_parameters()]
    for pattern in patterns:
        if not fnmatch.filter(names, pattern):
            raise UsageError(f"freeze {pattern!r} matches no parameter; names are like {names[0]}, {names[-1]}")
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns))
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise UsageError("freeze leaves nothing to train; give fewer patterns")
