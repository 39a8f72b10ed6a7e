"""Where and in which precision to compute: chosen once, applied from outside the model."""

from typing import Literal

import torch

from groundup.core.errors import UsageError

Precision = Literal["auto", "float32", "bfloat16"]


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


def choose_dtype(precision: Precision, device: torch.device) -> torch.dtype:
    """The dtype of matrix products: bfloat16 where the hardware multiplies it natively, else float32.

    Weights and optimizer state stay float32. float16 is not offered: on CPUs it is a hundred times
    slower, elsewhere it needs loss scaling.
    """
    if precision == "float32":
        return torch.float32
    if precision == "bfloat16":
        return torch.bfloat16
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float32
    if device.type == "cpu":
        supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
        return torch.bfloat16 if supported else torch.float32
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype) -> torch.autocast:
    """A context in which matrix products run in ``dtype``; does nothing for float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is not torch.float32)
