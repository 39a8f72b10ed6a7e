"""What a device can do: multiply, attend, and give our model the gradients that the CPU gives it.

Enters: this machine. Leaves: findings, those of ``host.py`` among them.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.attention import SDPBackend

from groundup.core.device import choose_device
from groundup.core.progress import Progress
from groundup.core.seeding import torch_rng
from groundup.dataloader import Batch
from groundup.diagnosis import host
from groundup.diagnosis.finding import Check, Finding, guarded
from groundup.model import ModelConfig, Transformer
from groundup.objectives import next_token

#: Dtypes of matrix products, and the relative error (Frobenius) up to which a product is right.
TOLERANCES = {torch.float32: 2e-3, torch.bfloat16: 2e-2, torch.float16: 5e-3}
#: Rows of the matrices on a CPU and on an accelerator, and the seconds that are spent on their products.
SIZES, SECONDS = {"cpu": 512}, 0.15
LARGE = 4096
#: Rows, heads, tokens and size of a head of the attention that is tried.
ATTENTION = (1, 4, 128, 64)
#: A small model of ours, with grouped heads, and the share by which loss and gradients may differ from the CPU's.
MODEL = ModelConfig(layers=2, width=64, heads=4, kv_heads=2, hidden=96, context=32, init="normal")
VOCABULARY, PARITY = 128, 1e-3


@dataclass(frozen=True)
class Product:
    """A matrix product that was tried."""

    error: float
    """Relative to float64, by Frobenius norm."""
    gflops: float
    """Billions of floating-point operations a second."""


def examine_machine(folder: Path) -> list[Finding]:
    """Every check of the machine; ``folder`` is where runs are kept. No check can end the others."""
    steps: list[tuple[str, Check]] = [
        ("contention", host.check_contention),  # first: the others would compete with it
        ("versions", host.check_versions),
        *device_checks(),
        ("threads", host.check_threads),
        ("memory", host.check_memory),
        ("disk", partial(host.check_disk, folder)),
        ("compiler", host.check_compiler),
    ]
    findings = []
    with Progress("doctor: machine", len(steps), "check") as progress:
        for name, check in steps:
            findings += guarded(name, check)
            progress.advance(note=name)
    return findings


def device_checks() -> Iterator[tuple[str, Check]]:
    """For the CPU, and for the accelerator if there is one: products, attention, our model."""
    cpu = torch.device("cpu")
    for device in {cpu, choose_device()}:
        yield f"products on {device}", partial(check_products, device)
        yield f"attention on {device}", partial(check_attention, device)
        yield f"model on {device}", partial(check_parity, device)


def check_products(device: torch.device) -> Iterator[Finding]:
    """Multiply in every dtype, compare with float64, and time it."""
    tried = {dtype: multiply(device, dtype) for dtype in TOLERANCES}
    numbers: dict[str, float] = {}
    words, wrong = [], []
    for dtype, product in tried.items():
        name = str(dtype).removeprefix("torch.")
        if product is None:
            words.append(f"{name} not supported")
            continue
        numbers |= {f"{name}_gflops": product.gflops, f"{name}_error": product.error}
        words.append(f"{name} {product.gflops:,.0f} GFLOP/s (error {product.error:.0e})")
        if not product.error <= TOLERANCES[dtype]:
            wrong.append(name)
    evidence = ", ".join(words)
    if wrong:
        what, remedy = f"products in {' and '.join(wrong)} are wrong", "choose another --pretrain.precision or device"
        yield Finding("products", "failure", what, evidence, remedy, str(device), numbers)
    else:
        yield Finding("products", "ok", f"products on {device}", evidence, numbers=numbers)


def multiply(device: torch.device, dtype: torch.dtype) -> Product | None:
    """Try a matrix product; None where the device has none of that dtype."""
    size = SIZES.get(device.type, LARGE)
    generator = torch_rng(0, "product")
    left, right = (torch.randn(size, size, generator=generator) / size**0.5 for _ in range(2))
    try:
        a, b = left.to(device, dtype), right.to(device, dtype)
        product = a @ b
    except (RuntimeError, TypeError):
        return None
    rows = slice(0, 32)  # enough to tell, and float64 is slow on some devices
    exact = a[rows].cpu().double() @ b.cpu().double()
    error = float((product[rows].cpu().double() - exact).norm() / exact.norm())
    done, start = 0, time.perf_counter()
    while time.perf_counter() - start < SECONDS:
        product = a @ b
        done += 1
        if device.type != "cpu" and done % 8 == 0:
            torch.accelerator.synchronize()
    float(product[0, 0])  # waits for the device
    return Product(error, done * 2 * size**3 / (time.perf_counter() - start) / 1e9)


def check_attention(device: torch.device) -> Iterator[Finding]:
    """Launch the attention kernel forward and backward in every dtype, and compare with its definition in float64."""
    numbers: dict[str, float] = {}
    words, wrong = [], []
    for dtype, tolerance in TOLERANCES.items():
        name = str(dtype).removeprefix("torch.")
        generator = torch_rng(0, "attention")
        query, key, value = parts = [
            torch.randn(ATTENTION, generator=generator).to(device, dtype).requires_grad_() for _ in range(3)
        ]
        try:
            kernel = _backend(parts)
            result = F.scaled_dot_product_attention(query, key, value, is_causal=True)
            result.sum().backward()
        except RuntimeError as error:
            words.append(f"{name} none ({str(error).splitlines()[0][:60]})")
            wrong += [name] if dtype == torch.float32 else []
            continue
        exact = [part.detach().cpu().double().requires_grad_() for part in parts]
        expected = attention_by_definition(*exact)
        expected.sum().backward()
        pairs = [(result, expected), *((part.grad, other.grad) for part, other in zip(parts, exact, strict=True))]
        error_ = max(relative_error(found.detach().cpu(), wanted.detach()) for found, wanted in pairs)  # type: ignore[union-attr]
        numbers[f"{name}_error"] = error_
        words.append(f"{name} {kernel} (error {error_:.0e})")
        wrong += [] if error_ <= 4 * tolerance else [name]
    evidence = ", ".join(words)
    if wrong:
        what = f"attention in {' and '.join(wrong)} does not give what it should"
        remedy = "set --pretrain.device cpu, or install a PyTorch build for this device (https://pytorch.org)"
        yield Finding("attention", "failure", what, evidence, remedy, str(device), numbers)
    else:
        yield Finding("attention", "ok", f"attention on {device}", evidence, numbers=numbers)


def attention_by_definition(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention, [batch, heads, time, size] each, as Vaswani et al. (2017) write it."""
    time_ = query.shape[-2]
    scores = query @ key.mT / query.shape[-1] ** 0.5
    hidden = torch.ones(time_, time_, dtype=torch.bool, device=query.device).triu(1)
    return scores.masked_fill(hidden, -torch.inf).softmax(dim=-1) @ value


def relative_error(found: Tensor, expected: Tensor) -> float:
    """|found − expected| / |expected|, by Frobenius norm."""
    return float((found.double() - expected).norm() / expected.norm())


def _backend(parts: list[Tensor]) -> str:
    """The kernel that PyTorch chooses, where it tells."""
    choose = getattr(torch, "_fused_sdp_choice", None)
    if choose is None:
        return "some kernel"
    number = int(choose(*parts, is_causal=True))
    names = {backend.value: name for name, backend in SDPBackend.__members__.items()}
    return names.get(number, f"kernel {number}").removesuffix("_ATTENTION").lower().replace("_", " ")


def check_parity(device: torch.device) -> Iterator[Finding]:
    """Loss and gradients of a small model on the device in float32, and on the CPU in float64."""
    expected_loss, expected = loss_and_gradients(torch.device("cpu"), torch.float64)
    loss, gradients = loss_and_gradients(device, torch.float32)
    errors = {name: relative_error(gradients[name], gradient) for name, gradient in expected.items()}
    worst = max(errors, key=lambda name: errors[name])
    difference = abs(loss - expected_loss) / expected_loss
    evidence = (
        f"against float64 the loss is off by {difference:.1g} of itself, the gradient by {errors[worst]:.1g} at most "
        f"({worst})"
    )
    numbers = {"loss_error": difference, "gradient_error": errors[worst]}
    if not max(difference, errors[worst]) <= PARITY:
        what, remedy = (
            f"{device} computes our model wrongly",
            "set --pretrain.device cpu, and update driver and PyTorch",
        )
        yield Finding("parity", "failure", what, evidence, remedy, str(device), numbers)
    else:
        yield Finding("parity", "ok", f"model on {device}", evidence, numbers=numbers)


def loss_and_gradients(device: torch.device, dtype: torch.dtype) -> tuple[float, dict[str, Tensor]]:
    """Mean loss of the small model and its gradients, by parameter, on the CPU."""
    model = Transformer(MODEL, VOCABULARY).initialise(torch_rng(0, "doctor")).to(device, dtype)
    ids = torch.randint(VOCABULARY, (4, MODEL.context + 1), generator=torch_rng(0, "ids")).to(device)
    batch = Batch({"inputs": ids[:, :-1], "targets": ids[:, 1:]}, weight=ids[:, 1:].numel())
    loss = next_token(model, batch) / batch.weight
    loss.backward()
    gradients = {name: p.grad.cpu() for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), gradients
