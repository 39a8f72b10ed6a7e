"""Our update rules and schedules against PyTorch's and those of ``transformers``."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from groundup.optim import Muon, ScheduleConfig, orthogonalise
from groundup.optim.orthogonal import polar_express, quintics
from groundup.optim.plain import adamw

SHAPES = [(16, 16), (24, 8), (8, 40), (16, 16)]


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def weights(dtype: torch.dtype = torch.float64) -> list[torch.nn.Parameter]:
    return [torch.nn.Parameter(random(*shape, seed=number).to(dtype)) for number, shape in enumerate(SHAPES)]


def step(optimizer: torch.optim.Optimizer, parameters: list[torch.nn.Parameter], seed: int) -> None:
    for number, parameter in enumerate(parameters):
        parameter.grad = random(*parameter.shape, seed=100 * seed + number).to(parameter.dtype)
    optimizer.step()


@pytest.mark.parametrize("options", [{"fused": True}, {"foreach": True}, {"foreach": False}])
def test_plain_adamw_equals_pytorchs(options: dict[str, bool]) -> None:
    """So that what we call in training, the fused one, is what the book prints."""
    theirs = weights()
    optimizer = torch.optim.AdamW(theirs, 0.03, (0.8, 0.95), eps=1e-10, weight_decay=0.2, **options)  # type: ignore[arg-type]
    ours: list[Any] = [weight.detach().clone() for weight in theirs]
    memories = [(torch.zeros_like(weight), torch.zeros_like(weight), 0) for weight in ours]
    for count in range(6):
        step(optimizer, theirs, count)
        for number, weight in enumerate(ours):
            gradient = random(*weight.shape, seed=100 * count + number)
            ours[number], memories[number] = adamw(
                weight, gradient, memories[number], rate=0.03, beta1=0.8, beta2=0.95, decay=0.2
            )
    for mine, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, reference.detach(), atol=1e-9, rtol=1e-9)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon of its own")
def test_muon_equals_pytorchs() -> None:
    """Both iterate in bfloat16, in different orders of rounding: updates agree to a few parts in a hundred."""
    ours, theirs = weights(torch.float32), weights(torch.float32)
    start = [weight.detach().clone() for weight in ours]
    mine = Muon(ours, 0.05, 0.9, 0.1, polynomials=quintics("newton-schulz", 5), dtype=torch.bfloat16)
    builtin = torch.optim.Muon(
        theirs, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True, adjust_lr_fn="match_rms_adamw"
    )
    for count in range(6):
        step(mine, ours, count)
        step(builtin, theirs, count)
    for weight, reference, before in zip(ours, theirs, start, strict=True):
        assert (weight - reference).norm() < 0.03 * (reference - before).norm()


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon of its own")
def test_muon_with_other_polynomials_equals_pytorchs() -> None:
    """One step of PyTorch's, whose polynomial is the same throughout."""
    quintic = polar_express(1)[0]
    ours, theirs = weights(torch.float32), weights(torch.float32)
    builtin = torch.optim.Muon(theirs, lr=0.1, ns_coefficients=quintic, ns_steps=3, adjust_lr_fn="match_rms_adamw")
    mine = Muon(ours, 0.1, 0.95, 0.1, polynomials=(quintic,) * 3, dtype=torch.bfloat16)
    step(mine, ours, 1)
    step(builtin, theirs, 1)
    for weight, reference in zip(ours, theirs, strict=True):
        torch.testing.assert_close(weight, reference, atol=0.01, rtol=0.0)


def test_polar_express_has_the_published_coefficients() -> None:
    """Of five steps for singular values from 0.001 on (Amsel et al. 2025), before their margin for rounding."""
    published = [
        (8.28721201814563, -23.595886519098837, 17.300387312530933),
        (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
        (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
        (3.3184196573706015, -2.488488024314874, 0.51004894012372),
        (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    ]
    margins = [1.01] * 4 + [1.0]
    for found, expected, margin in zip(polar_express(5, 1e-3), published, margins, strict=True):
        scaled = [value * margin**power for value, power in zip(found, (1, 3, 5), strict=True)]
        assert scaled == pytest.approx(expected, rel=1e-9)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this PyTorch has no Muon of its own")
def test_orthogonalise_equals_pytorchs_update() -> None:
    """The direction that PyTorch's Muon takes from zero in its first step without momentum."""
    for shape in SHAPES:
        weight = torch.nn.Parameter(torch.zeros(shape))
        weight.grad = random(*shape).float()
        torch.optim.Muon([weight], lr=1.0, momentum=0.0, weight_decay=0.0, adjust_lr_fn="match_rms_adamw").step()
        ours = orthogonalise(weight.grad, quintics("newton-schulz", 5)) * 0.2 * max(shape) ** 0.5
        assert (weight.detach() + ours).norm() < 0.03 * ours.norm()


def factors(schedule: Callable[[torch.optim.Optimizer], Any], steps: int) -> list[float]:
    """What a scheduler of PyTorch multiplies the rate by at each step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer)
    found = []
    for _ in range(steps):
        found.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    return found


STEPS, WARM = 80, 16


@pytest.mark.parametrize("floor", [0.0, 0.1])
@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "inverse-sqrt", "warmup-stable-decay"])
def test_schedules_equal_those_of_transformers(kind: Any, floor: float) -> None:
    """After the warm-up at the same step, in it one step earlier: the first of theirs has a rate of zero."""
    optimization = pytest.importorskip("transformers.optimization")
    from_floor = WARM / STEPS if kind == "warmup-stable-decay" else 0.0  # where theirs begins
    ours = ScheduleConfig(kind, WARM / STEPS, 0.25, floor, rewarm=from_floor)
    theirs = {
        "cosine": lambda o: optimization.get_cosine_with_min_lr_schedule_with_warmup(o, WARM, STEPS, min_lr_rate=floor),
        "linear": lambda o: optimization.get_linear_schedule_with_warmup(o, WARM, STEPS),
        "constant": lambda o: optimization.get_constant_schedule_with_warmup(o, WARM),
        "inverse-sqrt": lambda o: optimization.get_inverse_sqrt_schedule(o, WARM),
        "warmup-stable-decay": lambda o: optimization.get_wsd_schedule(
            o, WARM, STEPS // 4, num_training_steps=STEPS, min_lr_ratio=floor, decay_type="linear"
        ),
    }[kind]
    expected = factors(theirs, STEPS)
    found = [ours.factor(step, STEPS) for step in range(STEPS)]
    assert found[: WARM - 1] == pytest.approx(expected[1:WARM])
    if kind == "linear":  # theirs knows no floor
        expected = [floor + (1 - floor) * factor for factor in expected]
    assert found[WARM:] == pytest.approx(expected[WARM:])


@pytest.mark.parametrize("floor", [0.0, 0.2])
def test_schedules_equal_those_of_pytorch(floor: float) -> None:
    schedulers = torch.optim.lr_scheduler
    pairs: list[tuple[Any, Callable[[torch.optim.Optimizer], Any]]] = [
        ("cosine", lambda o: schedulers.CosineAnnealingLR(o, STEPS, eta_min=floor)),
        ("linear", lambda o: schedulers.LinearLR(o, 1.0, floor, STEPS)),
        ("constant", lambda o: schedulers.ConstantLR(o, 1.0)),
    ]
    for kind, theirs in pairs:
        found = [ScheduleConfig(kind, 0.0, floor=floor).factor(step, STEPS) for step in range(STEPS)]
        assert found == pytest.approx(factors(theirs, STEPS)), kind
