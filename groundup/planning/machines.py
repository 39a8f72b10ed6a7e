"""Machines by name: what their makers say, and what share of it training reaches elsewhere.

Enters: a name. Leaves: a :class:`Machine`, and how several of them are connected. Peaks are those of dense products of
bfloat16 matrices summed up in float32; makers like to print twice as much, for sparse ones.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from groundup.core.errors import UsageError


@dataclass(frozen=True)
class Machine:
    """One accelerator."""

    title: str
    """Its whole name."""
    peak: float
    """Operations per second in bfloat16."""
    memory: float
    """Bytes."""
    bandwidth: float
    """Bytes per second between its memory and its processors."""
    utilisation: float
    """Share of the peak that training is assumed to reach (model FLOPs utilisation, MFU)."""
    source: str
    """Of the first three."""
    utilisation_source: str
    """Of the last."""


_HOPPER = "torchtitan, Llama 3.1 8B on 8 to 512 H100: 33 to 39 %; nanochat, 20 to 32 layers on 8 H100: 46 to 50 %"
_AMPERE = "PaLM (Chowdhery et al. 2022), table 3: MT-NLG 30 %, Gopher 33 %, PaLM 46 %; TinyLlama on A100: about 52 %"
_NONE = "an assumption, for want of published figures"

MACHINES: Mapping[str, Machine] = {
    "h100": Machine("NVIDIA H100 SXM", 989e12, 80e9, 3.35e12, 0.40, "NVIDIA H100 datasheet", _HOPPER),
    "h200": Machine("NVIDIA H200 SXM", 989e12, 141e9, 4.8e12, 0.40, "NVIDIA H200 datasheet", _HOPPER),
    "b200": Machine("NVIDIA B200 SXM", 2250e12, 180e9, 7.7e12, 0.35, "NVIDIA DGX B200 datasheet, an eighth", _NONE),
    "a100": Machine("NVIDIA A100 SXM 80 GB", 312e12, 80e9, 2.039e12, 0.40, "NVIDIA A100 datasheet", _AMPERE),
    "a100-40": Machine("NVIDIA A100 SXM 40 GB", 312e12, 40e9, 1.555e12, 0.40, "NVIDIA A100 datasheet", _AMPERE),
    "l40s": Machine("NVIDIA L40S", 362e12, 48e9, 0.864e12, 0.30, "NVIDIA L40S datasheet", _NONE),
    "l4": Machine("NVIDIA L4", 121e12, 24e9, 0.3e12, 0.30, "NVIDIA L4 datasheet", _NONE),
    "5090": Machine("NVIDIA RTX 5090", 209.5e12, 32e9, 1.792e12, 0.35, "NVIDIA RTX Blackwell whitepaper", _NONE),
    "4090": Machine("NVIDIA RTX 4090", 165.2e12, 24e9, 1.008e12, 0.35, "NVIDIA Ada whitepaper", _NONE),
    "3090": Machine("NVIDIA RTX 3090", 71e12, 24e9, 0.936e12, 0.35, "NVIDIA GA102 whitepaper", _NONE),
    "mi300x": Machine("AMD Instinct MI300X", 1307e12, 192e9, 5.3e12, 0.30, "AMD MI300X datasheet", _NONE),
    "m3-max": Machine(
        "Apple M3 Max, 40 GPU cores",
        14.2e12,
        128e9,
        0.4e12,
        0.30,
        "Apple for memory and bandwidth; the peak is 40 cores × 128 units × 2 × 1.39 GHz, no faster in bfloat16",
        _NONE,
    ),
}


def machine(name: str) -> Machine:
    """The machine called ``name``.

    Raises:
        UsageError: there is none (with a suggestion).
    """
    if name not in MACHINES:
        close = difflib.get_close_matches(name, MACHINES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(MACHINES)}"
        raise UsageError(f"--device is {name!r}; {hint} (--probe measures this machine)")
    return MACHINES[name]


#: Those that multiply float8 twice as fast.
FLOAT8 = ("h100", "h200", "b200", "l40s", "l4", "5090", "4090", "mi300x")


@dataclass(frozen=True)
class Interconnect:
    """How devices of one kind reach each other; bytes per second, of one device, in one direction."""

    per_node: int
    """Devices in a node, as they are usually built."""
    inside: float
    """Between devices of a node."""
    between: float
    """Between nodes."""
    source: str
    """Of all three."""


_NDR = "NDR InfiniBand or RoCE at 400 Gb/s for each device"
_PCIE4, _PCIE5 = "PCIe 4.0 × 16", "PCIe 5.0 × 16"
_SHARED = "one network card of 100 Gb/s for eight, an assumption"

INTERCONNECTS: Mapping[str, Interconnect] = {
    "h100": Interconnect(8, 450e9, 50e9, f"NVIDIA H100 datasheet: NVLink 4, 900 GB/s both ways; DGX H100: {_NDR}"),
    "h200": Interconnect(8, 450e9, 50e9, f"NVIDIA H200 datasheet: NVLink 4, 900 GB/s both ways; DGX H200: {_NDR}"),
    "b200": Interconnect(8, 900e9, 50e9, f"NVIDIA DGX B200 datasheet: NVLink 5, 1.8 TB/s both ways; {_NDR}"),
    "a100": Interconnect(8, 300e9, 25e9, "NVIDIA DGX A100 datasheet: NVLink 3, 600 GB/s both ways; HDR, 200 Gb/s each"),
    "a100-40": Interconnect(
        8, 300e9, 25e9, "NVIDIA DGX A100 datasheet: NVLink 3, 600 GB/s both ways; HDR, 200 Gb/s each"
    ),
    "l40s": Interconnect(8, 32e9, 12.5e9, f"NVIDIA L40S datasheet: {_PCIE4}; 100 Gb/s for each, an assumption"),
    "l4": Interconnect(8, 32e9, 1.56e9, f"NVIDIA L4 datasheet: {_PCIE4}; {_SHARED}"),
    "5090": Interconnect(8, 64e9, 1.56e9, f"NVIDIA RTX Blackwell whitepaper: {_PCIE5}, no NVLink; {_SHARED}"),
    "4090": Interconnect(8, 32e9, 1.56e9, f"NVIDIA Ada whitepaper: {_PCIE4}, no NVLink; {_SHARED}"),
    "3090": Interconnect(8, 32e9, 1.56e9, f"NVIDIA GA102 whitepaper: {_PCIE4}, NVLink not counted; {_SHARED}"),
    "mi300x": Interconnect(8, 448e9, 50e9, f"AMD MI300X datasheet: seven links, 896 GB/s both ways in all; {_NDR}"),
    "m3-max": Interconnect(1, 1.25e9, 1.25e9, "Ethernet at 10 Gb/s, an assumption"),
}
