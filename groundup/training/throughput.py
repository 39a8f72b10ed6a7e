"""How fast, with how much memory and energy.

Enters: tokens and seconds of a step. Leaves: what share of the device's speed they used (model FLOPs utilisation, MFU,
Chowdhery et al. 2022, appendix B), the memory in use, and the energy; each is left out where it cannot be known.
"""

import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import torch

from groundup.core.progress import quantity
from groundup.model.config import ModelConfig
from groundup.planning.count import operations
from groundup.planning.machines import MACHINES

#: How PyTorch names the devices whose peak is known. A part of a device (MIG) or a mobile one has another.
_NAMES = {
    r"A100.*80GB": "a100",
    r"A100.*40GB": "a100-40",
    r"H100( 80GB HBM3| SXM\w*)?": "h100",
    r"G?H200( .*)?": "h200",
    r"B200( .*)?": "b200",
    r"L40S": "l40s",
    r"L4": "l4",
    r"GeForce RTX 5090": "5090",
    r"GeForce RTX 4090": "4090",
    r"GeForce RTX 3090": "3090",
    r"Instinct MI300X( .*)?": "mi300x",
}
#: Side of the matrices that a CPU's speed is measured with, and for how many seconds.
_SIDE, _MEASURING = 1024, 0.25
#: Linux's energy counters of whole processor packages.
_POWERCAP = Path("/sys/class/powercap")


def peak_operations(device: torch.device, dtype: torch.dtype) -> float | None:
    """Floating-point operations per second that ``device`` could execute at most; None where nobody says.

    Of an accelerator it is its maker's figure for dense bfloat16 products, whatever ``dtype`` is: against that, MFU is
    compared everywhere. Of a CPU it is what a product of two matrices of ``dtype`` reaches here, measured once.
    """
    if device.type == "cpu":
        return _measured(dtype, torch.get_num_threads())
    known = known_device(device)
    return None if known is None else MACHINES[known].peak


def known_device(device: torch.device) -> str | None:
    """Its name among the machines whose makers' figures are known."""
    return _named(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def _named(name: str) -> str | None:
    name = re.sub(r"^(NVIDIA|AMD) ", "", name)
    found = [key for pattern, key in _NAMES.items() if re.fullmatch(pattern, name) and "MIG" not in name]
    return found[0] if found else None


@cache
def _measured(dtype: torch.dtype, threads: int) -> float:
    """Operations per second of a matrix product on this CPU; the best counts, as others may be at work."""
    left, right = (torch.ones(_SIDE, _SIDE, dtype=dtype) for _ in range(2))
    torch.mm(left, right)  # the first one starts the threads
    best, first = float("inf"), time.perf_counter()
    while (started := time.perf_counter()) < first + _MEASURING:
        torch.mm(left, right)
        best = min(best, time.perf_counter() - started)
    return 2 * _SIDE**3 / best


def memory_bytes(device: torch.device) -> int:
    """The most that was allocated on an accelerator so far; on a CPU what this process has resident now."""
    if device.type != "cpu":
        with suppress(RuntimeError):  # not every kind of accelerator counts
            return int(torch.accelerator.memory.max_memory_allocated(device))
    return int(psutil.Process().memory_info().rss)


class Energy:
    """Joules since it was made: of an NVIDIA device, or of the CPU's packages and all that runs on them."""

    def __init__(self, device: torch.device) -> None:
        self._counters = _nvidia_counters(device) if device.type == "cuda" else _package_counters(_POWERCAP)

    def joules(self) -> float | None:
        """None where there is no counter that may be read."""
        return sum(counter() for counter in self._counters) if self._counters else None


def _package_counters(folder: Path) -> list[Callable[[], float]]:
    """One per processor package (``intel-rapl:0``; AMD's have the same name); the zones inside count again."""
    counters = []
    for zone in sorted(folder.glob("intel-rapl:*")):
        with suppress(OSError, ValueError):  # only root may read them on most systems
            if zone.name.count(":") == 1:
                limit = int((zone / "max_energy_range_uj").read_text())
                counters.append(_Wrapping(zone / "energy_uj", limit).joules)
    return counters


class _Wrapping:
    """A counter of microjoules that starts again at its limit."""

    def __init__(self, path: Path, limit: int) -> None:
        self._path, self._limit, self._total = path, limit, 0
        self._last = int(path.read_text())

    def joules(self) -> float:
        now = int(self._path.read_text())
        self._total += now - self._last if now >= self._last else now + self._limit - self._last
        self._last = now
        return self._total / 1e6


def _nvidia_counters(device: torch.device) -> list[Callable[[], float]]:
    try:
        import pynvml

        pynvml.nvmlInit()
        identity = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{identity}")
        start = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # not installed, no right to ask, a device that does not count
        return []
    return [lambda: (pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) - start) / 1e3]


class Throughput:
    """What a step used, for its line of the log.

    Args:
        config: of the model, whose operations are counted.
        vocab_size: of the model.
        device: where it computes.
        dtype: of its matrix products.
        devices: how many such devices work together.
    """

    def __init__(
        self, config: ModelConfig, vocab_size: int, device: torch.device, dtype: torch.dtype, devices: int = 1
    ) -> None:
        self._device = device
        self._devices = devices if device.type == "cuda" else 1  # the counters of a CPU are those of all on it
        peak = peak_operations(device, dtype)
        self._peak = peak * devices if peak is not None else None
        self._operations = cache(lambda time: operations(config, vocab_size, time).useful_training)
        self._energy = Energy(device)
        self._joules = 0.0

    def numbers(self, rows: float, time: int, seconds: float) -> dict[str, float]:
        """Of a step that trained on ``rows`` sequences of ``time`` tokens in ``seconds``.

        ``memory_bytes``; ``mfu`` where the peak speed is known: one forward and one backward pass are counted, neither
        recomputation nor what a stage computes to get its batches; ``joules_per_token`` where energy can be read.
        """
        numbers: dict[str, float] = {"memory_bytes": memory_bytes(self._device)}
        if self._peak is not None:
            reached = rows * self._operations(time) / seconds
            if self._device.type == "cpu":  # other work slowed the measurement of the peak down
                self._peak = max(self._peak, reached)
            numbers["mfu"] = round(reached / self._peak, 5)
        if (joules := self._energy.joules()) is not None:
            numbers["joules_per_token"] = self._devices * (joules - self._joules) / (rows * time)
            self._joules = joules
        return numbers


def note(loss: float | None, record: dict[str, Any]) -> str:
    """What a progress line says of the last step: ``loss 3.213  12.3k tokens/s  MFU 41 %``.

    Args:
        loss: smoothed; None before the first update.
        record: the step's line of the log.
    """
    parts = [] if loss is None else [f"loss {loss:.3f}"]
    if "tokens_per_second" in record:
        parts.append(f"{quantity(record['tokens_per_second'])} tokens/s")
    if "mfu" in record:
        parts.append(f"MFU {100 * record['mfu']:.0f} %")
    return "  ".join(parts)
