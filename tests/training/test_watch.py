"""What is watched equals its closed form, costs nothing when it is not due, and leaves no trace on the model."""

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from groundup.core.device import Numerics
from groundup.model import Transformer
from groundup.optim import group_of
from groundup.training import throughput
from groundup.training.throughput import Energy, Throughput, memory_bytes, note, peak_operations
from groundup.training.watch import COMPARED, Watch, _compared
from groundup.training.working import Working

CPU = torch.device("cpu")
NUMERICS = Numerics(torch.float32, "a test")


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    return {"inputs": torch.randint(256, (3, 8), generator=torch.Generator().manual_seed(1))}


def step(model: Transformer, watch: Watch, tensors: dict[str, torch.Tensor], rate: float = 0.1) -> dict[str, float]:
    """Two micro-batches and a step of gradient descent, watched."""
    with watch.activations(tensors):
        for row in tensors["inputs"][:2]:
            model(row[None]).square().mean().backward()
    watch.before_update()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.grad is not None:
                parameter -= rate * parameter.grad
    return watch.after_update()


def test_what_is_due() -> None:
    watch = Watch.__new__(Watch)
    watch._every = 20
    assert [number for number in range(1, 61) if watch.due(number)] == [1, 20, 40, 60]
    watch._every = 0
    assert not any(watch.due(number) for number in range(100))


def test_gradients_and_updates_equal_their_closed_forms(
    new_model: Callable[..., Transformer], tensors: dict[str, torch.Tensor]
) -> None:
    model = new_model(layers=2)
    before = {name: parameter.detach().double().clone() for name, parameter in model.named_parameters()}
    found = step(model, Watch(Working(model, CPU, NUMERICS), 1), tensors)
    groups = {group_of(name) for name in before}
    assert {"embedding", "attention", "feed_forward", "norms", "head"} >= groups
    for group in groups:
        names = [name for name in before if group_of(name) == group]
        gradient = math.sqrt(sum(float(dict(model.named_parameters())[n].grad.double().square().sum()) for n in names))
        weights = math.sqrt(sum(float(before[name].square().sum()) for name in names))
        update = 0.1 * gradient
        assert found[f"gradient_norm/{group}"] == pytest.approx(gradient, rel=1e-5)
        if weights:
            assert found[f"update_ratio/{group}"] == pytest.approx(update / weights, rel=1e-3)
    whole = torch.nn.utils.get_total_norm([p.grad for p in model.parameters() if p.grad is not None])
    together = math.sqrt(sum(value**2 for name, value in found.items() if name.startswith("gradient_norm/")))
    assert together == pytest.approx(float(whole), rel=1e-5)


def test_activations_are_the_mean_over_all_passes(
    new_model: Callable[..., Transformer], tensors: dict[str, torch.Tensor]
) -> None:
    model = new_model(layers=2)
    outputs: dict[int, list[torch.Tensor]] = {0: [], 1: []}
    for number, block in enumerate(model.blocks):
        block.register_forward_hook(lambda module, inputs, output, number=number: outputs[number].append(output))
    found = step(model, Watch(Working(model, CPU, NUMERICS), 1), tensors)
    for number in (0, 1):
        expected = float(torch.cat(outputs[number]).detach().square().mean().sqrt())
        assert found[f"activation_rms/{number + 1}"] == pytest.approx(expected, rel=1e-6)


def test_nothing_stays_behind(new_model: Callable[..., Transformer], tensors: dict[str, torch.Tensor]) -> None:
    model = new_model()
    watch = Watch(Working(model, CPU, NUMERICS), 1)
    with pytest.raises(KeyboardInterrupt), watch.activations(tensors):
        raise KeyboardInterrupt
    assert not any(module._forward_hooks for module in model.modules())
    step(model, watch, tensors)
    assert not any(module._forward_hooks for module in model.modules())
    assert watch.after_update() == {}


def test_watching_does_not_change_the_step(
    new_model: Callable[..., Transformer], tensors: dict[str, torch.Tensor]
) -> None:
    watched, alone = new_model(layers=2), new_model(layers=2)
    step(watched, Watch(Working(watched, CPU, NUMERICS), 1), tensors)
    step(alone, Watch(Working(alone, CPU, NUMERICS), 0), tensors)
    for left, right in zip(watched.parameters(), alone.parameters(), strict=True):
        assert torch.equal(left, right)


def test_a_compiled_model_is_looked_at_without_hooks(
    new_model: Callable[..., Transformer], tensors: dict[str, torch.Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    model = new_model(layers=2, dropout=0.5)
    working = Working(model, CPU, NUMERICS)
    working._compiled = lambda *arguments, **options: model(*arguments, **options)  # a call that is not the model's
    working.compiled = True
    watch = Watch(working, 1)
    noise = torch.get_rng_state()
    with watch.activations(tensors):
        assert not any(module._forward_hooks for module in model.modules())
    assert torch.equal(torch.get_rng_state(), noise)
    assert model.training
    found = watch.after_update()
    one = watch_eagerly(new_model(layers=2, dropout=0.5).eval(), tensors["inputs"][:1])
    assert [found[f"activation_rms/{number}"] for number in (1, 2)] == pytest.approx(one)
    with watch.activations(tensors):
        pass
    assert capsys.readouterr().err.count("a compiled model runs no hooks") == 1


def watch_eagerly(model: Transformer, ids: torch.Tensor) -> list[float]:
    outputs: list[float] = []
    for block in model.blocks:
        block.register_forward_hook(
            lambda module, inputs, out: outputs.append(float(out.detach().square().mean().sqrt()))
        )
    model(ids)
    return outputs


def test_frozen_parameters_are_not_watched(
    new_model: Callable[..., Transformer], tensors: dict[str, torch.Tensor]
) -> None:
    model = new_model()
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("attention" not in name)
    found = step(model, Watch(Working(model, CPU, NUMERICS), 1), tensors)
    assert not any(key.endswith("/attention") for key in found)
    assert any(key.endswith("/feed_forward") for key in found)


def test_what_is_not_finite_is_left_out(
    new_model: Callable[..., Transformer], tensors: dict[str, torch.Tensor]
) -> None:
    model = new_model()
    with torch.no_grad():
        model.blocks[0].feed_forward.up.weight.fill_(float("nan"))
    found = step(model, Watch(Working(model, CPU, NUMERICS), 1), tensors)
    assert all(math.isfinite(value) for value in found.values())
    assert "activation_rms/1" not in found


def test_of_a_large_matrix_rows_are_compared() -> None:
    large = torch.empty(COMPARED // 64 * 3, 64)
    assert _compared(large).shape == (COMPARED // 64, 64)
    assert _compared(large).data_ptr() == large.data_ptr()
    assert _compared(torch.empty(5, 4, 3)).shape == (20, 3)
    assert _compared(torch.empty(7)).shape == (1, 7)


def test_mfu_counts_what_pytorch_counts(new_model: Callable[..., Transformer], monkeypatch: pytest.MonkeyPatch) -> None:
    model = new_model(layers=2)
    ids = torch.randint(256, (2, 16))
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):  # fused attention is not counted
        model(ids).sum().backward()
    monkeypatch.setattr(throughput, "peak_operations", lambda device, dtype: 1e9)
    found = Throughput(model.config, model.vocab_size, CPU, torch.float32).numbers(2, 16, 0.5)["mfu"]
    counted = counter.get_total_flops()
    rows, layers, passes, multiply_add = 2, 2, 3, 2
    hidden_pairs = 16 * 16 - 16 * 17 // 2  # computed, but of no use: the mask hides them
    per_pair = multiply_add * model.config.heads * 2 * model.config.head_size
    useful = counted - rows * layers * passes * per_pair * hidden_pairs
    assert found * 0.5 * 1e9 == pytest.approx(useful, rel=0.01)


@pytest.mark.parametrize(
    ("name", "peak"),
    [
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA A100-PCIE-40GB", 312e12),
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H200", 989e12),
        ("NVIDIA B200", 2250e12),
        ("NVIDIA L4", 121e12),
        ("NVIDIA GeForce RTX 4090", 165.2e12),
        ("AMD Instinct MI300X", 1307e12),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA A100-SXM4-80GB MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", None),
        ("NVIDIA L40", None),
        ("Some other device", None),
    ],
)
def test_known_devices(name: str, peak: float | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    assert peak_operations(torch.device("cuda"), torch.bfloat16) == peak


def test_the_speed_of_this_cpu_is_measured_once() -> None:
    peak = peak_operations(CPU, torch.float32)
    assert peak is not None
    assert peak > 1e8
    assert peak_operations(CPU, torch.float32) == peak
    assert peak_operations(torch.device("meta"), torch.float32) is None


def test_memory_is_what_the_process_has_resident() -> None:
    resident = psutil.Process().memory_info().rss
    assert memory_bytes(CPU) == pytest.approx(resident, rel=0.2)


def test_energy_of_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for zone, start in {"intel-rapl:0": 900, "intel-rapl:1": 50, "intel-rapl:0:0": 7}.items():
        (tmp_path / zone).mkdir()
        (tmp_path / zone / "max_energy_range_uj").write_text("1000\n")
        (tmp_path / zone / "energy_uj").write_text(f"{start}\n")
    monkeypatch.setattr(throughput, "_POWERCAP", tmp_path)
    energy = Energy(CPU)
    assert energy.joules() == 0
    (tmp_path / "intel-rapl:0" / "energy_uj").write_text("100\n")  # round its limit: 200 µJ more
    (tmp_path / "intel-rapl:1" / "energy_uj").write_text("70\n")
    (tmp_path / "intel-rapl:0:0" / "energy_uj").write_text("700\n")  # inside the package, which has it already
    assert energy.joules() == pytest.approx(220e-6)
    assert energy.joules() == pytest.approx(220e-6)


def test_energy_that_nobody_may_read_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_model: Callable[..., Transformer]
) -> None:
    monkeypatch.setattr(throughput, "_POWERCAP", tmp_path)
    assert Energy(CPU).joules() is None
    model = new_model()
    assert "joules_per_token" not in Throughput(model.config, 262, CPU, torch.float32).numbers(1, 16, 1.0)
    (tmp_path / "intel-rapl:0").mkdir()  # a zone whose files cannot be read
    assert Energy(CPU).joules() is None


@pytest.mark.parametrize(
    ("loss", "record", "expected"),
    [
        (None, {}, ""),
        (3.21349, {}, "loss 3.213"),
        (1.5, {"tokens_per_second": 12_345.0, "mfu": 0.414}, "loss 1.500  12.3k tokens/s  MFU 41 %"),
        (1.5, {"skipped": 1}, "loss 1.500"),
    ],
)
def test_the_note_of_the_progress_line(loss: float | None, record: dict[str, Any], expected: str) -> None:
    assert note(loss, record) == expected
    assert not re.search(r"[\r\n]", expected)
