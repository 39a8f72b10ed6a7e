"""The checks of the machine: right where it is healthy, and each planted defect is told."""

from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from groundup.core.errors import DataError
from groundup.diagnosis import host, machine
from groundup.diagnosis.finding import Finding, guarded

CPU = torch.device("cpu")


def only(findings: Iterable[Finding]) -> Finding:
    (finding,) = findings
    return finding


def test_a_cpu_multiplies_rightly() -> None:
    found = only(machine.check_products(CPU))
    assert found.severity == "ok"
    assert found.numbers["float32_error"] < 1e-6 < found.numbers["bfloat16_error"] < 1e-2
    assert found.numbers["float32_gflops"] > 0


def test_wrong_products_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Tensor.__matmul__

    def broken(left: Tensor, other: Tensor) -> Tensor:
        product = right(left, other)
        return product * 1.1 if left.dtype == torch.bfloat16 else product

    monkeypatch.setattr(Tensor, "__matmul__", broken)
    found = only(machine.check_products(CPU))
    assert (found.severity, found.what) == ("failure", "products in bfloat16 are wrong")


def test_a_dtype_that_a_device_lacks_is_told_and_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    multiply = machine.multiply
    monkeypatch.setattr(
        machine, "multiply", lambda device, dtype: None if dtype.itemsize == 2 else multiply(device, dtype)
    )
    found = only(machine.check_products(CPU))
    assert found.severity == "ok"
    assert "float16 not supported" in found.evidence


def test_a_cpu_attends_rightly() -> None:
    found = only(machine.check_attention(CPU))
    assert found.severity == "ok"
    assert found.numbers["float32_error"] < 1e-5


def test_attention_without_its_mask_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    attend = F.scaled_dot_product_attention
    monkeypatch.setattr(F, "scaled_dot_product_attention", lambda *parts, is_causal: attend(*parts))
    found = only(machine.check_attention(CPU))
    assert found.severity == "failure"
    assert "float32" in found.what


def test_our_model_on_a_cpu_is_as_exact_as_float32() -> None:
    found = only(machine.check_parity(CPU))
    assert found.severity == "ok"
    assert found.numbers["gradient_error"] < 1e-5


def test_a_device_that_computes_wrong_gradients_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    compute = machine.loss_and_gradients

    def broken(device: torch.device, dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
        loss, gradients = compute(device, dtype)
        if dtype == torch.float32:
            gradients["blocks.1.attention.key.weight"] *= 1.01
        return loss, gradients

    monkeypatch.setattr(machine, "loss_and_gradients", broken)
    found = only(machine.check_parity(CPU))
    assert (found.severity, found.name) == ("failure", "parity")
    assert "blocks.1.attention.key.weight" in found.evidence


def test_the_disk_is_measured(tmp_path: Path) -> None:
    found = only(host.check_disk(tmp_path / "not" / "yet" / "there"))
    assert found.numbers["free_bytes"] > 0
    assert found.numbers["bytes_per_second"] > 0
    assert list(tmp_path.iterdir()) == []


class Usage(NamedTuple):
    """What psutil says of a disk."""

    total: int
    free: int


@pytest.mark.parametrize(("free", "severity"), [(10**8, "failure"), (2 * 10**9, "warning")])
def test_a_full_disk_is_told(free: int, severity: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.psutil, "disk_usage", lambda path: Usage(10**12, free))
    assert only(host.check_disk(tmp_path)).severity == severity


def test_a_disk_that_cannot_be_written_is_a_failure_and_no_crash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(**options: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(host.tempfile, "TemporaryFile", refuse)
    found = only(guarded("disk", partial(host.check_disk, tmp_path)))
    assert found.severity == "failure"
    assert "Permission denied (test_machine.py, line" in found.evidence


@pytest.mark.parametrize(
    ("threads", "cores", "what"),
    [(8, 4.0, "more threads than it has cores"), (1, 4.0, "fewer threads than it has cores"), (4, 4.0, "threads")],
)
def test_threads_are_compared_with_cores(
    threads: int, cores: float, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.setattr(host, "usable_cores", lambda: cores)
    monkeypatch.setattr(host.psutil, "cpu_count", lambda logical: 4)
    assert only(host.check_threads()).what.endswith(what)


def test_usable_cores_are_at_least_a_part_of_one() -> None:
    assert 0 < host.usable_cores() <= 4096


def test_little_memory_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host, "memory_limit", lambda: 10**9)
    assert only(host.check_memory()).severity == "warning"


@pytest.mark.parametrize(
    ("share", "steal", "load", "severity"),
    [(0.99, 0.0, 0.5, "ok"), (0.5, 0.0, 0.5, "warning"), (0.99, 30.0, 0.5, "warning"), (0.99, 0.0, 9.0, "warning")],
)
def test_competing_work_is_told(
    share: float, steal: float, load: float, severity: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Times(NamedTuple):
        steal: float

    clock = iter([0.0, 0.2, 0.5, 0.5, 0.5])
    monkeypatch.setattr(host.time, "perf_counter", lambda: next(clock))
    used = iter([0.0, 0.5 * share])
    monkeypatch.setattr(host.time, "process_time", lambda: next(used))
    monkeypatch.setattr(host.psutil, "cpu_times_percent", lambda: Times(steal))
    monkeypatch.setattr(host.psutil, "getloadavg", lambda: (load, load, load))
    monkeypatch.setattr(host, "usable_cores", lambda: 2.0)
    assert only(host.check_contention()).severity == severity


def test_the_compiler_is_asked_in_a_process_of_its_own() -> None:
    assert only(host.check_compiler("print(1.5)")).evidence.endswith("in 1.5 s")
    broken = only(host.check_compiler("raise RuntimeError('Error: no C++ compiler')"))
    assert broken.severity == "warning"
    assert "no C++ compiler" in broken.evidence
    assert "off" in only(host.check_compiler("while True: pass", limit=0.2)).remedy


def test_a_check_that_raises_is_a_finding_with_its_line() -> None:
    found = only(guarded("nothing", lambda: [1 / 0]))  # type: ignore[list-item]
    assert (found.severity, found.where) == ("failure", "nothing")
    assert "ZeroDivisionError: division by zero (test_machine.py, line" in found.evidence

    def unreadable() -> list[Finding]:
        raise DataError("tokens are damaged; delete them")

    assert only(guarded("tokens", unreadable)).evidence == "tokens are damaged; delete them"


def test_no_check_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[Finding]:
        raise RuntimeError("driver is gone")

    monkeypatch.setattr(machine, "device_checks", lambda: [("cuda", broken)])
    monkeypatch.setattr(host, "check_compiler", partial(host.check_compiler, "print(1)"))
    findings = machine.examine_machine(tmp_path)
    assert {"contention", "versions", "cuda", "threads", "memory", "disk", "compiler"} == {f.name for f in findings}
    assert next(finding for finding in findings if finding.name == "cuda").severity == "failure"
