"""What the memory of this process is and was. Imports next to nothing, so that it measures others."""

import sys
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident_bytes() -> int | None:
    """Resident now; None: not known on this system."""
    return _read("VmRSS", "rss")


def peak_bytes() -> int | None:
    """Resident at most until now; None: not known on this system."""
    return _read("VmHWM", "peak_wset")  # getrusage would count the parent's memory too


def _read(linux: str, windows: str) -> int | None:
    if _STATUS.exists():
        lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines() if ":" in line)
        return int(lines[linux].split()[0]) * 1024 if linux in lines else None
    if sys.platform == "win32" or windows == "rss":
        import psutil

        return int(getattr(psutil.Process().memory_info(), windows))
    return None
