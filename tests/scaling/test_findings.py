"""What a sweep is taken to say, from planted laws; and that it can be drawn."""

import dataclasses
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from groundup.planning.laws import ParametricLaw
from groundup.pretraining.find_rate import RateCurve
from groundup.scaling.charts import draw_rates, draw_sweep
from groundup.scaling.findings import Findings, Result, table

LAW = ParametricLaw(0.6, 30.0, 60.0, 0.25, 0.28)
SIZES = (1e5, 2e5, 4e5, 8e5, 1.6e6, 3.2e6)


def result(value: str, size: float, tokens: float, budget: float | None, loss: float | None = None) -> Result:
    reached = LAW.loss(size, tokens) if loss is None else loss
    return Result(value, value, budget, int(size), int(tokens), 6 * size * tokens, 100, 0.5, reached, 1.0)


def at_budgets(*budgets: float, sizes: tuple[float, ...] = SIZES) -> Findings:
    runs = [
        result(str(number), size, budget / (6 * size), budget)
        for budget in budgets
        for number, size in enumerate(sizes)
    ]
    return Findings("model.depth", tuple(runs), sized=True)


def test_the_best_size_at_equal_operations() -> None:
    findings = at_budgets(3e13)
    best, interval = findings.optima[3e13]
    assert best == pytest.approx(LAW.optimum(3e13).parameters, rel=0.15)  # a parabola is not the law
    assert interval is not None
    assert interval[0] < best < interval[1]
    assert findings.growth is None
    assert findings.law is None
    assert "at 3e+13 operations the best size is" in table(findings)


def test_how_the_best_size_grows_and_the_whole_law() -> None:
    findings = at_budgets(1e13, 3e13, 9e13)
    assert findings.growth is not None
    assert findings.growth.exponent == pytest.approx(LAW.optimal_exponent, abs=0.05)
    low, high = findings.growth_interval or (0, 0)
    assert low < findings.growth.exponent < high
    assert findings.law is not None
    assert findings.law.law.parameter_exponent == pytest.approx(LAW.parameter_exponent, rel=0.05)
    figures = findings.to_json()
    assert figures["law"]["token_exponent"]["value"] == pytest.approx(LAW.token_exponent, rel=0.05)
    assert len(figures["best_sizes"]) == 3


def test_the_loss_against_operations_at_a_fixed_ratio() -> None:
    runs = [result(str(number), size, 20 * size, None) for number, size in enumerate(SIZES)]
    findings = Findings("model.depth", tuple(runs), sized=True)
    assert not findings.profiles
    assert findings.compute_law is not None
    law, _ = findings.compute_law
    assert law.exponent == pytest.approx(0.13, abs=0.02)
    assert "at ten times the largest run's operations" in table(findings)


def test_what_cannot_be_told_is_said() -> None:
    assert "the best size is above those that were tried" in table(at_budgets(1e16))
    assert "the best size is below those that were tried" in table(at_budgets(1e10))
    assert "too few sizes for a law" in table(at_budgets(1e13, sizes=SIZES[:2]))
    [only, *others] = at_budgets(3e13, sizes=(2e5, 8e5, 3.2e6)).optima.values()
    assert (only[1], others) == (None, [])
    # Of parameters that make no difference there is no law.
    alike = at_budgets(1e13, 3e13)
    useless = [dataclasses.replace(run, bits_per_byte=1 + 60 / run.tokens**0.28) for run in alike.results]
    assert "these trainings do not tell how much either helps" in table(Findings("model.depth", tuple(useless), True))
    repeated = Findings("seed", (Result("1", "1", None, 10, 10, 1.0, 1, 9.0, 2.0, 1.0),) * 2, sized=False)
    assert "read the text more than 4 times" in table(repeated)
    assert "one seed each" not in table(repeated)


def test_the_table_marks_the_least_loss() -> None:
    losses = {"0.01": 2.5, "0.02": 2.4, "0.03": 2.45}
    runs = tuple(result(value, 1e5, 1e6, None, loss) for value, loss in losses.items())
    lines = table(Findings("pretrain.optimizer.matrix-rate", runs, sized=False)).splitlines()
    assert [line.endswith("*") for line in lines[1:4]] == [False, True, False]
    assert "least loss: pretrain.optimizer.matrix-rate 0.02, 2.4000 bits per byte" in lines


@pytest.mark.parametrize("kind", ["profiles", "compute", "comparison", "rates"])
def test_pictures_are_drawn_alike_each_time(kind: str, tmp_path: Path) -> None:
    def draw(name: str) -> list[Path]:
        folder = tmp_path / name
        folder.mkdir()
        if kind == "rates":
            factors = np.geomspace(1e-3, 1e2, 60)
            curve = RateCurve(factors, 3 + np.log10(factors / 3) ** 2 / 5, False)
            return draw_rates(curve, {"rate": 0.004}, folder)
        if kind == "profiles":
            return draw_sweep(at_budgets(1e13, 9e13), folder)
        ratio = 20 if kind == "compute" else 0
        runs = [result(str(number), size, ratio * size or 1e6, None) for number, size in enumerate(SIZES)]
        return draw_sweep(Findings("model.depth", tuple(runs), sized=bool(ratio)), folder)

    first, second = draw("first"), draw("second")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert ElementTree.parse(first[0]).getroot().tag.endswith("svg")
