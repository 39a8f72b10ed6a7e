"""Where and in which precision to compute: chosen once, applied from outside the model."""

from dataclasses import dataclass
from typing import Literal

import torch

from groundup.core.errors import UsageError

Precision = Literal["auto", "float32", "tf32", "bfloat16", "bfloat16-weights", "float16", "float8"]


@dataclass(frozen=True)
class Numerics:
    """A choice of precision, with its reason."""

    dtype: torch.dtype
    """Of matrix products."""
    reason: str
    """Why, in words."""
    weights: torch.dtype = torch.float32
    """Of the weights that forward and backward read; the optimizer updates float32 ones."""
    scaled: bool = False
    """Whether the loss is scaled up, so that small gradients do not vanish (Micikevicius et al. 2018)."""
    tf32: bool = False
    """Whether float32 products may round their factors to 10 bits of mantissa."""
    float8: bool = False
    """Whether linear layers multiply in float8."""


def choose_device(name: str = "auto") -> torch.device:
    """The named device, or the best one there is.

    Raises:
        UsageError: the device is unknown or not available on this machine.
    """
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        return accelerator or torch.device("cpu")
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {name!r} cannot be used here ({reason}); use 'auto' or 'cpu'") from error


def choose_numerics(precision: Precision, device: torch.device) -> Numerics:
    """The precision that is meant, for this device.

    ``auto`` is bfloat16 where the hardware multiplies it natively, else float32 (on CUDA with TF32).

    Raises:
        UsageError: the device cannot compute so.
    """
    if precision == "auto":
        return _automatic(device)
    reason = "as the recipe says"
    if precision in ("float16", "tf32", "float8") and device.type != "cuda":
        raise UsageError(f"precision {precision} needs a CUDA device, this is {device.type}; use auto or bfloat16")
    if precision == "float8" and torch.cuda.get_device_capability(device) < (8, 9):
        raise UsageError(f"{torch.cuda.get_device_name(device)} has no float8; use --precision bfloat16")
    return {
        "float32": Numerics(torch.float32, reason),
        "tf32": Numerics(torch.float32, reason, tf32=True),
        "bfloat16": Numerics(torch.bfloat16, reason),
        "bfloat16-weights": Numerics(torch.bfloat16, reason, weights=torch.bfloat16),
        "float16": Numerics(torch.float16, reason, scaled=True),
        "float8": Numerics(torch.bfloat16, reason, weights=torch.bfloat16, float8=True),
    }[precision]


def _automatic(device: torch.device) -> Numerics:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if torch.cuda.is_bf16_supported():
            return Numerics(torch.bfloat16, f"{name} multiplies it natively")
        return Numerics(torch.float32, f"{name} has no bfloat16", tf32=True)
    if device.type == "cpu":
        if getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)():
            return Numerics(torch.bfloat16, "this CPU multiplies it natively")
        return Numerics(torch.float32, "this CPU has no fast bfloat16")
    return Numerics(torch.float32, f"the safe choice on {device.type}")


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of matrix products that :func:`choose_numerics` chooses."""
    return choose_numerics(precision, device).dtype


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which matrix products run in ``dtype``; does nothing for float32."""
    enabled = dtype is not torch.float32
    return torch.autocast(device.type, dtype=dtype if enabled else torch.bfloat16, enabled=enabled)


def means_no_memory(error: BaseException) -> bool:
    """Whether an error says that memory ran out: PyTorch has no error of its own for this on every device."""
    words = ("out of memory", "allocate memory", "calculation overflowed")
    return isinstance(error, MemoryError | RuntimeError) and any(word in str(error) for word in words)
