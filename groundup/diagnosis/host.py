"""What training stands on beside the device: processor time, threads, memory, disk, compiler, versions.

Enters: this machine. Leaves: a finding for each, healthy or not.
"""

import contextlib
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import torch

from groundup.core.run import environment
from groundup.diagnosis.finding import Finding

GIGABYTE = 1e9
#: Bytes written to measure the disk, and how often a small file is flushed.
WRITTEN, FLUSHES = 32 << 20, 5
#: Seconds that a loop runs to see how much of a processor it gets, and those that the compiler may take.
SAMPLE_SECONDS, COMPILE_SECONDS = 0.4, 60.0

COMPILED = """
import time, torch
def curve(x):
    return torch.nn.functional.gelu(x * 2 + 1).sum()
x = torch.linspace(-3, 3, 1000, requires_grad=True)
start = time.perf_counter()
compiled = torch.compile(curve)(x)
compiled.backward()
seconds = time.perf_counter() - start
gradient, x.grad = x.grad, None
plain = curve(x)
plain.backward()
assert torch.allclose(compiled, plain) and torch.allclose(gradient, x.grad, atol=1e-5), "compiled results differ"
print(f"{seconds:.1f}")
"""


def check_versions() -> Iterator[Finding]:
    """Which software this is."""
    found = environment()
    release = tuple(int(part) for part in torch.__version__.split("+")[0].split(".")[:2] if part.isdigit())
    evidence = (
        f"groundup {found['groundup']}, Python {found['python']}, PyTorch {found['torch']}, {found['platform']}, "
        f"{found['processor']}"
    )
    if release < (2, 10):
        yield Finding(
            "versions", "warning", "PyTorch is older than this package asks for", evidence,
            "pip install 'torch>=2.10'", "software",
        )  # fmt: skip
    else:
        yield Finding("versions", "ok", "software", evidence)


def check_contention() -> Iterator[Finding]:
    """How much of a processor a busy loop gets, and who else wants it."""
    psutil.cpu_times_percent()
    wall, used = time.perf_counter(), time.process_time()
    while time.perf_counter() - wall < SAMPLE_SECONDS:
        pass
    share = (time.process_time() - used) / (time.perf_counter() - wall)
    stolen = float(getattr(psutil.cpu_times_percent(), "steal", 0.0))
    load, cores = psutil.getloadavg()[0], usable_cores()
    numbers = {"share": share, "load": load, "cores": cores, "steal_percent": stolen}
    evidence = (
        f"a busy loop got {share:.0%} of a core; load {load:.1f} on {cores:g} cores; {stolen:.0f} % stolen by other "
        f"virtual machines{_clock()}"
    )
    if share < 0.85 or stolen > 10 or load > 1.25 * cores:
        remedy = "end other work (see `top`), or expect training to be slower by as much"
        yield Finding(
            "contention", "warning", "other work competes for the processor", evidence, remedy, "processor", numbers
        )
    else:
        yield Finding("contention", "ok", "processor time", evidence, numbers=numbers)


def _clock() -> str:
    with contextlib.suppress(Exception):  # not every system tells
        clock = psutil.cpu_freq()
        return (
            f"; clock {clock.current:.0f} of {clock.max:.0f} MHz" if clock.max else f"; clock {clock.current:.0f} MHz"
        )
    return ""


def usable_cores() -> float:
    """Cores that this process may use: those of the machine, of its affinity, and of its control group's quota."""
    cores: float = os.cpu_count() or 1
    if hasattr(os, "sched_getaffinity"):
        cores = min(cores, len(os.sched_getaffinity(0)))
    with contextlib.suppress(OSError, ValueError):
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text(encoding="ascii").split()
        cores = min(cores, float(quota) / float(period))  # "max" is no number: unlimited
    return cores


def memory_limit() -> int:
    """Bytes that this process may use: the machine's, or its control group's limit."""
    total = int(psutil.virtual_memory().total)
    with contextlib.suppress(OSError, ValueError):
        total = min(total, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return total


def check_threads() -> Iterator[Finding]:
    """Threads of PyTorch against the cores that there are."""
    threads, cores = torch.get_num_threads(), usable_cores()
    physical = psutil.cpu_count(logical=False) or os.cpu_count() or 1
    asked = {name: os.environ[name] for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS") if name in os.environ}
    evidence = f"{threads} threads; {os.cpu_count()} processors, {physical} cores, {cores:g} usable"
    evidence += "".join(f"; {name}={value}" for name, value in asked.items())
    numbers = {"threads": threads, "usable_cores": cores, "cores": physical}
    if threads > cores + 0.5:
        what, remedy = "PyTorch starts more threads than it has cores", f"export OMP_NUM_THREADS={max(1, int(cores))}"
    elif threads < min(cores, physical) / 1.5:
        what = "PyTorch uses fewer threads than it has cores"
        remedy = f"unset {' '.join(asked)}" if asked else f"export OMP_NUM_THREADS={int(min(cores, physical))}"
    else:
        yield Finding("threads", "ok", "threads", evidence, numbers=numbers)
        return
    yield Finding("threads", "warning", what, evidence, remedy, "processor", numbers)


def check_memory() -> Iterator[Finding]:
    """Memory that is free, and the limit on it."""
    memory, limit = psutil.virtual_memory(), memory_limit()
    available = min(memory.available, limit)
    evidence = f"{available / GIGABYTE:.1f} GB available of {memory.total / GIGABYTE:.1f} GB"
    if limit < memory.total:
        evidence += f", {limit / GIGABYTE:.1f} GB allowed"
    with contextlib.suppress(Exception):
        if swapped := psutil.swap_memory().used:
            evidence += f"; {swapped / GIGABYTE:.1f} GB swapped out"
    numbers = {"available_bytes": available, "limit_bytes": limit}
    if available < 1.5 * GIGABYTE:
        remedy = "end other programs; or lower pretrain.rows and raise pretrain.accumulation by as much"
        yield Finding("memory", "warning", "little memory is free", evidence, remedy, "memory", numbers)
    else:
        yield Finding("memory", "ok", "memory", evidence, numbers=numbers)


def check_disk(folder: Path) -> Iterator[Finding]:
    """Free space, speed of writing and of flushing where runs are kept."""
    folder = next(place for place in (folder, *folder.resolve().parents) if place.is_dir())
    usage = psutil.disk_usage(str(folder))
    speed, flush = _write_speed(folder), 1000 * _flush_seconds(folder)
    evidence = (
        f"{usage.free / GIGABYTE:.1f} GB free of {usage.total / GIGABYTE:.0f} GB, written and flushed at "
        f"{speed / 1e6:.0f} MB/s, a small file flushed in {flush:.1f} ms"
    )
    numbers = {"free_bytes": usage.free, "bytes_per_second": speed, "flush_milliseconds": flush}
    where = f"disk of {folder}"
    if usage.free < 0.5 * GIGABYTE:
        remedy = "free some space, or keep runs elsewhere with --out"
        yield Finding("disk", "failure", "the disk is as good as full", evidence, remedy, where, numbers)
    elif usage.free < 3 * GIGABYTE:
        remedy = "free some space; `groundup plan` says what a run needs"
        yield Finding("disk", "warning", "the disk is nearly full", evidence, remedy, where, numbers)
    elif speed < 20e6 or flush > 500:
        remedy = "keep runs on a local disk (--out), or save less often (pretrain.save-every)"
        yield Finding("disk", "warning", "the disk is slow to write checkpoints", evidence, remedy, where, numbers)
    else:
        yield Finding("disk", "ok", "disk", evidence, numbers=numbers)


def _write_speed(folder: Path) -> float:
    """Bytes a second that reach the disk."""
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=folder) as handle:
        start = time.perf_counter()
        for _ in range(WRITTEN // len(block)):
            handle.write(block)
        handle.flush()
        os.fsync(handle.fileno())
        return WRITTEN / (time.perf_counter() - start)


def _flush_seconds(folder: Path) -> float:
    """Seconds in which a few bytes reach the disk: median."""
    seconds = []
    with tempfile.TemporaryFile(dir=folder) as handle:
        for _ in range(FLUSHES):
            start = time.perf_counter()
            handle.write(b"groundup")
            handle.flush()
            os.fsync(handle.fileno())
            seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def check_compiler(program: str = COMPILED, limit: float = COMPILE_SECONDS) -> Iterator[Finding]:
    """Whether torch.compile gives what the same function gives without it, in a process of its own with a fresh cache.

    Args:
        program: prints the seconds that compiling took.
        limit: seconds after which it is given up.
    """
    remedy = (
        "install a C++ compiler (Linux: gcc or clang, macOS: xcode-select --install), or set --pretrain.compile off"
    )
    where = f"torch.compile on {platform.system()}"
    with tempfile.TemporaryDirectory() as cache:
        environ = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
        try:
            ended = subprocess.run(
                [sys.executable, "-c", program],
                env=environ, timeout=limit, capture_output=True, encoding="utf-8", errors="replace",
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            what = "torch.compile takes long"
            evidence = f"a function of three operations was not compiled after {limit:.0f} s"
            yield Finding("compiler", "warning", what, evidence, "set --pretrain.compile off here", where)
            return
    if ended.returncode != 0:
        said = [line.strip() for line in ended.stderr.splitlines() if "Error" in line or "error:" in line]
        evidence = (said or ended.stderr.splitlines() or ["no message"])[-1][:300]
        yield Finding("compiler", "warning", "torch.compile does not work", evidence, remedy, where)
        return
    seconds = float(ended.stdout.split()[-1])
    evidence = f"torch.compile works: a small function and its gradient in {seconds:.1f} s"
    yield Finding("compiler", "ok", "compiler", evidence, numbers={"seconds": seconds})
