"""Lion against the plain rule."""

import torch

from groundup.optim import Lion
from groundup.optim.plain import lion


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_it_equals_the_plain_rule() -> None:
    weights = [torch.nn.Parameter(random(*shape, seed=1)) for shape in [(4, 6), (5,)]]
    expected = [weight.detach().clone() for weight in weights]
    means = [torch.zeros_like(weight) for weight in expected]
    optimizer = Lion(weights, 0.01, (0.9, 0.98), weight_decay=0.3)
    for step in range(6):
        for number, weight in enumerate(weights):
            weight.grad = gradient = random(*weight.shape, seed=10 * step + number)
            expected[number], means[number] = lion(
                expected[number], gradient, means[number], rate=0.01, beta1=0.9, beta2=0.98, decay=0.3
            )
        optimizer.step()
    for weight, reference in zip(weights, expected, strict=True):
        torch.testing.assert_close(weight.detach(), reference, atol=1e-12, rtol=0.0)


def test_what_has_no_gradient_stays() -> None:
    moved, still = (torch.nn.Parameter(torch.ones(3)) for _ in range(2))
    optimizer = Lion([moved, still], 0.01, weight_decay=0.5)
    optimizer.step()
    moved.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(still, torch.ones(3)) and (moved < 1).all()
